//! Coalescing: messages wait a moment so that more of them go out together.
//!
//! A message goes out as soon as nothing more is ready. Where messages come one by one, thousands a second,
//! that costs the server and the client a wake-up each; gathered for a millisecond they cost one together. It
//! is done only for a client that has left output buffering on, and only while as many messages come as did
//! before: where the publishers wait for what the consumer does, gathering would slow both, and ends at once.

use std::time::Duration;

use tokio::time::Instant;

/// Time over which messages are coalesced; less than any output buffer timeout that can be agreed on.
pub(super) const GATHERED: Duration = Duration::from_millis(1);

/// Deliveries that are looked at before messages are gathered: what a wrong guess costs is spread over them.
const DELIVERIES: u32 = 1024;

/// They must have taken less than that: 3,400 a second.
const DELIVERIES_WITHIN: Duration = Duration::from_millis(300);

/// Messages of a delivery from which on gathering saves nothing worth a delay.
const MESSAGES_MAX: u64 = 16;

/// Times messages were gathered before it is looked at whether they are as many as without.
const ROUND: u32 = 16;

/// Rhythm of a subscription's recent deliveries.
#[derive(Debug)]
pub(super) struct Gather {
    /// Start of the span of deliveries that is looked at.
    since: Instant,
    /// Deliveries and messages since.
    deliveries: u32,
    messages: u64,
    /// While messages are gathered: how many came a second before, and when the last went out.
    gathering: Option<(f64, Instant)>,
}

impl Gather {
    pub(super) fn new(now: Instant) -> Self {
        Self { since: now, deliveries: 0, messages: 0, gathering: None }
    }

    /// Takes note of a delivery of `count` messages, all there were, to a subscriber that could have taken
    /// `spare` more. Returns whether the next are to be gathered.
    pub(super) fn delivered(&mut self, count: u64, spare: u64, now: Instant) -> bool {
        self.deliveries += 1;
        self.messages += count;
        let took = (now - self.since).as_secs_f64();
        if let Some((usual, last)) = &mut self.gathering {
            // With as little to spare, its credit would soon bound the flow.
            let is_bound = spare < count;
            let has_stopped = (count as f64) < *usual * (now - *last).as_secs_f64() / 4.0;
            let ends = self.deliveries == ROUND;
            let is_slower = ends && (self.messages as f64) < *usual * took * 0.75;
            *last = now;
            if is_bound || has_stopped || is_slower {
                *self = Self::new(now);
            } else if ends {
                *self = Self { gathering: self.gathering, ..Self::new(now) };
            }
        } else if took > DELIVERIES_WITHIN.as_secs_f64() {
            *self = Self::new(now);
        } else if self.deliveries == DELIVERIES {
            let is_small = self.messages < MESSAGES_MAX * u64::from(self.deliveries);
            let usual = self.messages as f64 / took.max(1e-6);
            *self = Self { gathering: is_small.then_some((usual, now)), ..Self::new(now) };
        }
        self.gathering.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Deliveries of `count` messages every `gap`, and whether the last of them ends with gathering.
    fn deliver(gather: &mut Gather, now: &mut Instant, times: u32, gap: Duration, count: u64) -> bool {
        let mut gathers = false;
        for _ in 0..times {
            *now += gap;
            gathers = gather.delivered(count, 100, *now);
        }
        gathers
    }

    const OFTEN: Duration = Duration::from_micros(100);

    fn gathering() -> (Gather, Instant) {
        let mut now = Instant::now();
        let mut gather = Gather::new(now);
        assert!(!deliver(&mut gather, &mut now, DELIVERIES - 1, OFTEN, 1));
        assert!(deliver(&mut gather, &mut now, 1, OFTEN, 1));
        (gather, now)
    }

    #[test]
    fn a_flow_of_single_messages_is_gathered_while_it_lasts() {
        let (mut gather, mut now) = gathering();
        let often = Duration::from_millis(2);
        assert!(deliver(&mut gather, &mut now, 50 * ROUND, often, 20));
        for _ in 0..50 * ROUND {
            assert!(deliver(&mut gather, &mut now, 1, often, 8), "it varies");
            assert!(deliver(&mut gather, &mut now, 1, often, 28));
        }
        assert!(deliver(&mut gather, &mut now, ROUND - 1, often, 14));
        assert!(!deliver(&mut gather, &mut now, 1, often, 14), "fewer came for long");
        assert!(!deliver(&mut gather, &mut now, DELIVERIES - 1, OFTEN, 1), "it begins anew");
        assert!(deliver(&mut gather, &mut now, 1, OFTEN, 1));
    }

    #[test]
    fn what_waits_for_each_message_is_not_gathered_again_soon() {
        let (mut gather, mut now) = gathering();
        assert!(!deliver(&mut gather, &mut now, 1, GATHERED, 1), "its publisher waits for it");
        assert!(!deliver(&mut gather, &mut now, DELIVERIES - 1, OFTEN, 1));
    }

    #[test]
    fn a_slow_flow_and_one_of_many_messages_go_out_at_once() {
        let mut now = Instant::now();
        let mut gather = Gather::new(now);
        assert!(!deliver(&mut gather, &mut now, 3 * DELIVERIES, Duration::from_micros(500), 1));
        gather = Gather::new(now);
        for _ in 0..3 * DELIVERIES {
            now += OFTEN;
            assert!(!gather.delivered(MESSAGES_MAX, 100, now));
        }
    }

    #[test]
    fn gathering_ends_where_credit_would_bound_the_flow() {
        let (mut gather, now) = gathering();
        assert!(!gather.delivered(10, 9, now + GATHERED));
    }
}

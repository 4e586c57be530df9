//! Coalescing: messages wait a moment so that more of them go out together.
//!
//! A message goes out as soon as nothing more is ready. Where messages come one by one, thousands a second,
//! that costs the server and the client a wake-up each; coalesced for a millisecond they cost one together.
//! It is done only for a client that has left output buffering on, and only while as many messages come as
//! did before: where the publishers wait for what the consumer does, coalescing would slow both, and ends at
//! once.

use std::time::Duration;

use tokio::time::Instant;

/// Time over which messages are coalesced; less than any output buffer timeout that can be agreed on.
pub(super) const COALESCE_TIME: Duration = Duration::from_millis(1);

/// Deliveries that are looked at before messages are coalesced: what a wrong guess costs is spread over them.
const DELIVERIES: u32 = 1024;

/// Longest time for that many deliveries: 3,400 a second.
const DELIVERIES_WITHIN: Duration = Duration::from_millis(300);

/// Messages of a delivery from which on coalescing saves nothing worth a delay.
const MESSAGES_MAX: u64 = 16;

/// Times messages were coalesced before it is looked at whether they are as many as without.
const ROUND: u32 = 16;

/// Rhythm of a subscription's recent deliveries.
#[derive(Debug)]
pub(super) struct Coalescer {
    /// Start of the span of deliveries that is looked at.
    since: Instant,
    /// Deliveries and messages since.
    deliveries: u32,
    messages: u64,
    /// While messages are coalesced: how many came a second before, and when the last went out.
    coalescing: Option<(f64, Instant)>,
}

impl Coalescer {
    pub(super) fn new(now: Instant) -> Self {
        Self { since: now, deliveries: 0, messages: 0, coalescing: None }
    }

    /// Takes note of a delivery of `count` messages, all there were, to a subscriber that could have taken
    /// `spare` more. Returns whether the next are to be coalesced.
    pub(super) fn delivered(&mut self, count: u64, spare: u64, now: Instant) -> bool {
        self.deliveries += 1;
        self.messages += count;
        let took = (now - self.since).as_secs_f64();
        if let Some((usual, last)) = &mut self.coalescing {
            // With as little to spare, its credit would soon bound the flow.
            let is_bound = spare < count;
            let has_stopped = (count as f64) < *usual * (now - *last).as_secs_f64() / 4.0;
            let ends = self.deliveries == ROUND;
            let is_slower = ends && (self.messages as f64) < *usual * took * 0.75;
            *last = now;
            if is_bound || has_stopped || is_slower {
                *self = Self::new(now);
            } else if ends {
                *self = Self { coalescing: self.coalescing, ..Self::new(now) };
            }
        } else if took > DELIVERIES_WITHIN.as_secs_f64() {
            *self = Self::new(now);
        } else if self.deliveries == DELIVERIES {
            let is_small = self.messages < MESSAGES_MAX * u64::from(self.deliveries);
            let usual = self.messages as f64 / took.max(1e-6);
            *self = Self { coalescing: is_small.then_some((usual, now)), ..Self::new(now) };
        }
        self.coalescing.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Deliveries of `count` messages every `gap`, and whether the last of them ends with coalescing.
    fn deliver(coalescer: &mut Coalescer, now: &mut Instant, times: u32, gap: Duration, count: u64) -> bool {
        let mut coalesces = false;
        for _ in 0..times {
            *now += gap;
            coalesces = coalescer.delivered(count, 100, *now);
        }
        coalesces
    }

    const OFTEN: Duration = Duration::from_micros(100);

    fn coalescing() -> (Coalescer, Instant) {
        let mut now = Instant::now();
        let mut coalescer = Coalescer::new(now);
        assert!(!deliver(&mut coalescer, &mut now, DELIVERIES - 1, OFTEN, 1));
        assert!(deliver(&mut coalescer, &mut now, 1, OFTEN, 1));
        (coalescer, now)
    }

    #[test]
    fn a_flow_of_single_messages_is_coalesced_while_it_lasts() {
        let (mut coalescer, mut now) = coalescing();
        let often = Duration::from_millis(2);
        assert!(deliver(&mut coalescer, &mut now, 50 * ROUND, often, 20));
        for _ in 0..50 * ROUND {
            assert!(deliver(&mut coalescer, &mut now, 1, often, 8), "it varies");
            assert!(deliver(&mut coalescer, &mut now, 1, often, 28));
        }
        assert!(deliver(&mut coalescer, &mut now, ROUND - 1, often, 14));
        assert!(!deliver(&mut coalescer, &mut now, 1, often, 14), "fewer came for long");
        assert!(!deliver(&mut coalescer, &mut now, DELIVERIES - 1, OFTEN, 1), "it begins anew");
        assert!(deliver(&mut coalescer, &mut now, 1, OFTEN, 1));
    }

    #[test]
    fn a_flow_whose_publisher_waits_for_each_message_is_not_coalesced_again_soon() {
        let (mut coalescer, mut now) = coalescing();
        assert!(!deliver(&mut coalescer, &mut now, 1, COALESCE_TIME, 1), "its publisher waits for it");
        assert!(!deliver(&mut coalescer, &mut now, DELIVERIES - 1, OFTEN, 1));
    }

    #[test]
    fn a_slow_flow_and_one_of_many_messages_go_out_at_once() {
        let mut now = Instant::now();
        let mut coalescer = Coalescer::new(now);
        assert!(!deliver(&mut coalescer, &mut now, 3 * DELIVERIES, Duration::from_micros(500), 1));
        coalescer = Coalescer::new(now);
        for _ in 0..3 * DELIVERIES {
            now += OFTEN;
            assert!(!coalescer.delivered(MESSAGES_MAX, 100, now));
        }
    }

    #[test]
    fn coalescing_ends_where_credit_would_bound_the_flow() {
        let (mut coalescer, now) = coalescing();
        assert!(!coalescer.delivered(10, 9, now + COALESCE_TIME));
    }
}

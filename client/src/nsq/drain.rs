//! The end of a consumer. Pure, with the time as an argument.

use std::time::Instant;

/// The way from running to the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Drain {
    Running,
    /// No more messages come; those in flight may be answered until then.
    Draining {
        deadline: Instant,
    },
    Over,
}

impl Drain {
    /// Begins to drain, unless that began before.
    pub(super) fn stop(&mut self, deadline: Instant) {
        if *self == Self::Running {
            *self = Self::Draining { deadline };
        }
    }

    /// Ends once nothing is in flight, or at the deadline. Returns whether it ended now.
    pub(super) fn tick(&mut self, in_flight: u32, now: Instant) -> bool {
        match *self {
            Self::Draining { deadline } if in_flight == 0 || deadline <= now => {
                *self = Self::Over;
                true
            }
            _ => false,
        }
    }

    /// The time of the next [`Drain::tick`], if nothing is answered before.
    pub(super) fn wake(&self) -> Option<Instant> {
        match *self {
            Self::Draining { deadline } => Some(deadline),
            Self::Running | Self::Over => None,
        }
    }

    pub(super) fn is_running(self) -> bool {
        self == Self::Running
    }

    pub(super) fn is_over(self) -> bool {
        self == Self::Over
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn it_ends_once_with_the_last_answer_or_at_the_first_deadline() {
        let now = Instant::now();
        let (soon, late) = (now + Duration::from_secs(1), now + Duration::from_secs(2));
        let mut drain = Drain::Running;
        assert!(!drain.tick(0, late) && drain.is_running());
        drain.stop(soon);
        drain.stop(late);
        assert_eq!(drain.wake(), Some(soon));
        assert!(!drain.tick(1, now));
        assert!(drain.tick(0, now) && !drain.tick(0, now) && drain.is_over());
        let mut drain = Drain::Running;
        drain.stop(soon);
        assert!(drain.tick(1, soon) && drain.wake().is_none());
    }
}

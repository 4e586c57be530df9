//! The order of publishes of one client, and the bound on what it has in the crate. Pure.

use std::collections::VecDeque;

/// Publishes that wait their turn. The crate has room for all that a gate lets through: it counts the same
/// bytes as the gate, which is told later that they are free.
pub(crate) struct Gate<T> {
    max: usize,
    held: usize,
    /// Subscriptions being opened: publishes wait for them, so that what is published after a call of
    /// `subscribe` is in its channel.
    opening: usize,
    waiting: VecDeque<(u32, usize, T)>,
}

impl<T> Gate<T> {
    pub(crate) fn new(max: usize) -> Self {
        Self { max, held: 0, opening: 0, waiting: VecDeque::new() }
    }

    pub(crate) fn push(&mut self, task: u32, bytes: usize, publish: T) {
        self.waiting.push_back((task, bytes, publish));
    }

    /// The next that may go on, if it may. [`Gate::leave`] gives its bytes back.
    pub(crate) fn pass(&mut self) -> Option<(u32, usize, T)> {
        let bytes = self.waiting.front()?.1;
        // One that is larger than the bound goes alone, as in the crate.
        if self.opening > 0 || self.held > 0 && self.held.saturating_add(bytes) > self.max {
            return None;
        }
        self.held += bytes;
        self.waiting.pop_front()
    }

    pub(crate) fn leave(&mut self, bytes: usize) {
        self.held -= bytes;
    }

    /// Takes back one that still waits.
    pub(crate) fn withdraw(&mut self, task: u32) -> Option<T> {
        let at = self.waiting.iter().position(|waiting| waiting.0 == task)?;
        Some(self.waiting.remove(at)?.2)
    }

    pub(crate) fn begin_opening(&mut self) {
        self.opening += 1;
    }

    pub(crate) fn end_opening(&mut self) {
        self.opening -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn publishes_pass_in_order_and_within_the_bound() {
        let mut gate = Gate::new(10);
        for (task, bytes) in [(1, 6), (2, 20), (3, 1)] {
            gate.push(task, bytes, "");
        }
        assert_eq!(gate.pass(), Some((1, 6, "")));
        // The third has room, and still waits for the second.
        assert_eq!(gate.pass(), None);
        gate.leave(6);
        assert_eq!(gate.pass(), Some((2, 20, "")));
        assert_eq!(gate.pass(), None);
        gate.leave(20);
        assert_eq!(gate.pass(), Some((3, 1, "")));
        assert_eq!(gate.pass(), None);
    }

    #[test]
    fn publishes_wait_for_subscriptions_and_can_be_withdrawn() {
        let mut gate = Gate::new(10);
        gate.begin_opening();
        gate.push(1, 1, "a");
        gate.push(2, 1, "b");
        assert_eq!(gate.pass(), None);
        assert_eq!((gate.withdraw(1), gate.withdraw(1)), (Some("a"), None));
        gate.end_opening();
        assert_eq!(gate.pass(), Some((2, 1, "b")));
    }
}

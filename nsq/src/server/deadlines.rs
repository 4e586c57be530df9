//! The one timer of a session: heartbeats, the first message, and how long the other end may be silent or
//! stuck.

use std::future::Future;
use std::task::Context;

use tokio::time::{Instant, sleep_until};

use super::output::DELIVERY_BYTES;
use super::phase::{End, Phase};
use super::session::Session;
use crate::wire::frame::{HEARTBEAT, put_response};
use crate::wire::identify::HEARTBEAT_INTERVAL;

impl Session {
    /// Lets no message out before `at`.
    pub(super) fn deliver_at(&mut self, at: Instant) {
        self.delivering = false;
        self.delivers_at = Some(at);
        self.set_timer(Some(at));
    }

    /// Starts heartbeats and deadlines by the settings.
    pub(super) fn start_timer(&mut self, now: Instant) {
        self.last_command = now;
        let next = self.settings.heartbeat_interval.map(|interval| now + interval);
        self.next_heartbeat = next.unwrap_or(now);
        self.set_timer(next);
    }

    /// A large command began. Without heartbeats it has a deadline all the same: what is held of it is memory
    /// that others wait for.
    pub(super) fn expect_rest(&mut self) {
        if self.settings.heartbeat_interval.is_none() && self.phase == Phase::Open {
            self.last_command = Instant::now();
            if self.timer.is_none() {
                self.set_timer(Some(self.last_command + 2 * HEARTBEAT_INTERVAL));
            }
        }
    }

    pub(super) fn set_timer(&mut self, at: Option<Instant>) {
        self.timer_moved = true;
        match (at, &mut self.timer) {
            (Some(at), Some(timer)) => timer.as_mut().reset(at),
            (Some(at), timer @ None) => *timer = Some(Box::pin(sleep_until(at))),
            (None, timer) => *timer = None,
        }
    }

    pub(super) fn poll_timer(&mut self, cx: &mut Context<'_>) -> Option<End> {
        while let Some(timer) = &mut self.timer {
            if timer.as_mut().poll(cx).is_pending() {
                break;
            }
            match self.check_deadlines(Instant::now()) {
                Ok(next) => self.set_timer(next),
                Err(end) => return Some(end),
            }
        }
        self.timer_moved = false;
        None
    }

    /// Sends a heartbeat that is due. Returns the next deadline.
    fn check_deadlines(&mut self, now: Instant) -> Result<Option<Instant>, End> {
        if let Phase::Draining(end, deadline) = self.phase {
            return if now < deadline { Ok(Some(deadline)) } else { Err(end) };
        }
        if let Some(at) = self.delivers_at {
            if now < at {
                return Ok(Some(at));
            }
            self.delivers_at = None;
            self.delivering = true;
        }
        if !self.may_read() {
            // It may have sent what is not read: that is no silence.
            self.last_command = now;
        }
        let Some(interval) = self.settings.heartbeat_interval else {
            let silent_at = self.last_command + 2 * HEARTBEAT_INTERVAL;
            return match self.input.is_large() {
                true if now >= silent_at => Err(End::Silent),
                large => Ok(large.then_some(silent_at)),
            };
        };
        let silent_at = self.last_command + 2 * interval;
        if now >= silent_at {
            return Err(End::Silent);
        }
        let stuck_at = self.output.stuck_since().map(|since| since + interval);
        if stuck_at.is_some_and(|at| now >= at) {
            return Err(End::Stuck);
        }
        if now >= self.next_heartbeat {
            self.next_heartbeat = now + interval;
            if self.phase == Phase::Open && self.output.unsent() < DELIVERY_BYTES {
                put_response(self.output.buf(), HEARTBEAT);
            }
        }
        Ok(Some(self.next_heartbeat.min(silent_at).min(stuck_at.unwrap_or(silent_at))))
    }
}

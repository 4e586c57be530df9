//! A topic's settings: one value, changed by one frame of the log.

use std::sync::atomic::Ordering;

use crate::config::{Dedup, Durability, Limits};
use crate::error::{Error, ErrorKind, Result};
use crate::message::Offset;
use crate::store::format::event::Event;
use crate::store::log::Ticket;
use crate::topic::limits::Allowance;
use crate::topic::{Topic, TopicState};

/// The settings of a topic, in force for every publish from their change on.
///
/// ```
/// # use mq_core::{Broker, Durability, Options};
/// # fn main() -> mq_core::Result<()> {
/// # let folder = tempfile::tempdir().unwrap();
/// # let broker = Broker::open(Options { data_path: folder.path().into(), ..Options::default() })?;
/// let orders = broker.topic(&"orders".parse()?)?;
/// orders.update(|settings| settings.durability = Durability::Sync)?.wait(&broker)?;
/// assert_eq!(orders.settings().durability, Durability::Sync);
/// # broker.close()
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopicSettings {
    /// Level that is met when a publish is acknowledged. An ephemeral topic is always at `memory`.
    pub durability: Durability,
    /// Bounds of what may wait. An ephemeral topic has no limits.
    pub limits: Limits,
    /// The topic's own settings for publishers' ids; see [`Topic::dedup_in_force`].
    pub dedup: Dedup,
}

impl TopicSettings {
    /// Makes the level at least `level`.
    pub(crate) fn raise(&mut self, level: Durability) {
        if (self.durability as u8) < level as u8 {
            self.durability = level;
        }
    }
}

impl Topic {
    /// The topic's settings.
    pub fn settings(&self) -> TopicSettings {
        self.state.lock().settings()
    }

    /// Changes the topic's settings, all at once, for every publish after the call, and over restarts: what
    /// `change` makes of them is written in one frame. Leaving level `memory` spills what is pending
    /// first; publishers never wait for it.
    ///
    /// # Errors
    /// `InvalidArgument` for what the topic can't have, which changes nothing; `Closed`, `Damaged`.
    pub fn update(&self, change: impl FnOnce(&mut TopicSettings)) -> Result<Ticket> {
        let mut state = self.state.lock();
        self.check(&state)?;
        let before = state.settings();
        let mut after = before;
        change(&mut after);
        self.check_settings(&after)?;
        let mut events = Vec::new();
        if after.durability != before.durability {
            self.spill(&mut state, Offset(u64::MAX));
            state.level = after.durability;
            events.push(self.event(&state));
        }
        if after.limits != before.limits {
            let limits = after.limits;
            state.limits = limits;
            state.allowance = Allowance::default();
            self.note_age(&limits);
            events.push(Event::Limits { topic: self.no, limits });
        }
        if after.dedup != before.dedup {
            state.dedup = after.dedup;
            self.forget(&mut state);
            events.push(Event::Dedup { topic: self.no, dedup: after.dedup });
        }
        if events.is_empty() || !self.is_logged() {
            return Ok(Ticket::DONE);
        }
        let ticket = self.shared.log_events(&events, state.level, None);
        drop(state);
        self.shared.commit();
        Ok(ticket)
    }

    /// Begins a new topic, with what `settings` makes of the broker's settings: one frame records
    /// both.
    ///
    /// # Errors
    /// `InvalidArgument` for what the topic can't have.
    pub(crate) fn begin(&self, settings: impl FnOnce(&mut TopicSettings)) -> Result<()> {
        let mut state = self.state.lock();
        let mut own = state.settings();
        settings(&mut own);
        self.check_settings(&own)?;
        let TopicSettings { durability, limits, dedup } = own;
        (state.level, state.limits, state.dedup) = (durability, limits, dedup);
        if !self.is_logged() {
            return Ok(());
        }
        let mut events = vec![self.event(&state)];
        if limits != Limits::default() {
            self.note_age(&limits);
            events.push(Event::Limits { topic: self.no, limits });
        }
        if dedup != Dedup::default() {
            events.push(Event::Dedup { topic: self.no, dedup });
        }
        state.created = self.shared.log_events(&events, Durability::Flush, None);
        Ok(())
    }

    /// Has the log's thread look at ages, where there is a limit of them.
    fn note_age(&self, limits: &Limits) {
        if !limits.max_age.is_zero() {
            self.shared.ages.store(true, Ordering::Relaxed);
            self.shared.log.log_thread.unpark();
        }
    }

    fn check_settings(&self, settings: &TopicSettings) -> Result<()> {
        settings.dedup.check()?;
        let refused = |why| Err(Error::new(ErrorKind::InvalidArgument, why));
        if self.name.is_ephemeral() && settings.durability != Durability::Memory {
            return refused("an ephemeral topic is always at level memory");
        }
        if !self.is_logged() && settings.limits != Limits::default() {
            return refused("an ephemeral topic has no limits: its channels keep the newest messages");
        }
        Ok(())
    }
}

impl TopicState {
    fn settings(&self) -> TopicSettings {
        TopicSettings { durability: self.level, limits: self.limits, dedup: self.dedup }
    }
}

//! Changes by administrators. Each is in the log before it is answered: wait for the ticket.

use std::sync::Arc;

use crate::config::Durability;
use crate::error::{Error, ErrorKind, Result};
use crate::name::ChannelName;
use crate::store::format::event::Event;
use crate::store::log::Ticket;
use crate::topic::Topic;
use crate::watch::TopicNames;

impl Topic {
    /// Stops the pump: publishes wait in the topic.
    ///
    /// # Errors
    /// `Closed`; `Full`, `Io`.
    pub fn pause(&self) -> Result<Ticket> {
        self.set_paused(true)
    }

    /// Lets the pump go on.
    ///
    /// # Errors
    /// `Closed`; `Full`, `Io`.
    pub fn unpause(&self) -> Result<Ticket> {
        self.set_paused(false)
    }

    fn set_paused(&self, paused: bool) -> Result<Ticket> {
        let mut state = self.state.lock();
        self.check(&state)?;
        state.paused = paused;
        let wakes = self.flow(&mut state, None);
        let ticket = self.log_self(&state);
        drop(state);
        self.shared.commit();
        wakes.iter().for_each(|w| w.wake());
        Ok(ticket)
    }

    /// Lets a topic go on that was created while the broker holds new ones: see
    /// [`Broker::hold_new_topics`](crate::Broker::hold_new_topics).
    pub fn release(&self) {
        let mut state = self.state.lock();
        if !std::mem::take(&mut state.is_held) {
            return;
        }
        let wakes = self.flow(&mut state, None);
        drop(state);
        wakes.iter().for_each(|w| w.wake());
    }

    /// The topic by its names.
    pub(crate) fn names(&self) -> TopicNames {
        let state = self.state.lock();
        let mut channels: Vec<_> = state.channels.iter().map(|c| c.name().clone()).collect();
        let is_held = state.is_held;
        drop(state);
        channels.sort_unstable();
        let is_unannounced = self.announcement.is_due();
        TopicNames { no: self.no, name: self.name().clone(), channels, is_held, is_unannounced }
    }

    /// Whether the topic is paused.
    pub fn is_paused(&self) -> bool {
        self.state.lock().paused
    }

    /// Drops what waits in the topic (see [`Topic::depth`]); its channels' messages stay.
    ///
    /// # Errors
    /// `Closed`; `Full`, `Io`.
    pub fn empty(&self) -> Result<Ticket> {
        let mut state = self.state.lock();
        self.check(&state)?;
        let (to, skipped) = (state.end, state.skipped);
        self.drop_waiting(&mut state, to);
        // Asked for, not forced by a limit.
        state.skipped = skipped;
        let ticket = self.log_self(&state);
        drop(state);
        self.shared.commit();
        self.trim();
        Ok(ticket)
    }

    /// The topic's level.
    pub fn durability(&self) -> Durability {
        self.state.lock().level
    }

    /// Deletes a channel and all that waits in it.
    ///
    /// # Errors
    /// `NotFound`; `Closed`; `Full`, `Io`.
    pub fn delete_channel(&self, name: &ChannelName) -> Result<Ticket> {
        let mut state = self.state.lock();
        let Some(at) = state.channels.iter().position(|c| c.name() == name) else {
            return Err(Error::new(
                ErrorKind::NotFound,
                format!("topic {} has no channel {name}", self.name),
            ));
        };
        let channel = state.channels.remove(at);
        let wakes = channel.close();
        let mut ticket = Ticket::DONE;
        if self.is_logged() {
            let mut events = Vec::new();
            if !channel.is_ephemeral() {
                events.push(Event::ChannelDeleted { channel: channel.no });
            }
            if state.channels.is_empty() {
                events.push(self.event(&state));
                state.pump_logged = state.pump.offset;
            }
            ticket = self.shared.log_events(&events, state.level, None);
        }
        let last_of_ephemeral = self.name.is_ephemeral() && state.channels.is_empty();
        drop(state);
        self.shared.commit();
        wakes.iter().for_each(|w| w.wake());
        self.trim();
        self.shared.watch.changed();
        if last_of_ephemeral {
            // Of an ephemeral topic nothing is stored.
            let _ = self.shared.remove_topic(self);
        }
        Ok(ticket)
    }

    /// Deletes an ephemeral channel whose last subscriber has left.
    pub(crate) fn leave_ephemeral(&self, name: &ChannelName) {
        let idle = self.find_channel(name).is_some_and(|c| c.is_ephemeral() && c.subscribers() == 0);
        if idle {
            // Nothing is lost but an ephemeral channel, whatever the log says.
            let _ = self.delete_channel(name);
        }
    }

    /// Ends the topic. Returns who is to be woken.
    pub(crate) fn close(&self) -> Vec<Arc<dyn crate::Wake>> {
        let mut state = self.state.lock();
        state.deleted = true;
        let channels = std::mem::take(&mut state.channels);
        state.ring.clear();
        drop(state);
        self.set_announced();
        channels.iter().flat_map(|c| c.close()).collect()
    }

    fn log_self(&self, state: &crate::topic::TopicState) -> Ticket {
        if !self.is_logged() {
            return Ticket::DONE;
        }
        self.shared.log_events(&[self.event(state)], state.level, None)
    }
}

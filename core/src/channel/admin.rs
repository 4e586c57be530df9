//! Changes by administrators.

use std::sync::Arc;

use crate::channel::Channel;
use crate::config::Durability;
use crate::error::{Error, ErrorKind, Result};
use crate::message::Offset;
use crate::store::format::event::Event;
use crate::store::format::numbers::TopicNo;
use crate::store::log::Ticket;
use crate::topic::Topic;

impl Channel {
    /// Stops delivery.
    ///
    /// # Errors
    /// `Closed`.
    pub fn pause(&self) -> Result<Ticket> {
        self.set_paused(true)
    }

    /// Lets delivery go on.
    ///
    /// # Errors
    /// `Closed`.
    pub fn unpause(&self) -> Result<Ticket> {
        self.set_paused(false)
    }

    /// Whether delivery is stopped.
    pub fn is_paused(&self) -> bool {
        self.inner.lock().state.is_paused()
    }

    fn set_paused(&self, paused: bool) -> Result<Ticket> {
        let topic = self.open_topic()?;
        let level = topic.durability();
        let mut inner = self.inner.lock();
        inner.state.pause(paused);
        let mut ticket = Ticket::DONE;
        if topic.is_logged() && !self.is_ephemeral() {
            ticket = self.shared.log_events(&[self.event(topic.no, paused)], level, None);
        }
        self.notify_and_unlock(inner);
        self.shared.commit();
        Ok(ticket)
    }

    /// The event that records the channel as it is; `start` counts only where it is new.
    pub(super) fn event(&self, topic: TopicNo, paused: bool) -> Event {
        Event::Channel { channel: self.no, topic, name: self.name().to_string(), paused, start: Offset(0) }
    }

    /// Records the channel in the log once more.
    pub(crate) fn log_self(&self, topic: TopicNo, level: Durability) -> Ticket {
        let event = self.event(topic, self.is_paused());
        let ticket = self.shared.log_events(&[event], level, None);
        self.set_created(ticket);
        ticket
    }

    /// Drops all that waits in the channel, what is in flight and deferred too.
    ///
    /// # Errors
    /// `Closed`.
    pub fn empty(&self) -> Result<Ticket> {
        let topic = self.open_topic()?;
        let level = topic.durability();
        let mut inner = self.inner.lock();
        let end = inner.end;
        inner.state.empty(end);
        inner.samples.clear();
        inner.lost.clear();
        let mut ticket = Ticket::DONE;
        if topic.is_logged() && !self.is_ephemeral() && end.offset.0 > 0 {
            let ranges = vec![(Offset(0), Offset(end.offset.0 - 1))];
            ticket = self.shared.log_events(&[Event::Finished { channel: self.no, ranges }], level, None);
        }
        self.notify_and_unlock(inner);
        topic.trim();
        self.shared.commit();
        Ok(ticket)
    }

    pub(super) fn open_topic(&self) -> Result<Arc<Topic>> {
        self.topic
            .upgrade()
            .filter(|_| !self.inner.lock().closed)
            .ok_or_else(|| Error::new(ErrorKind::Closed, format!("channel {} is closed", self.name())))
    }
}

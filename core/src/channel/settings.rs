//! A channel's settings: one value, changed by one frame of the log.

use crate::channel::Channel;
use crate::config::ChannelSettings;
use crate::error::{Error, ErrorKind, Result};
use crate::name::TopicName;
use crate::store::format::event::Event;
use crate::store::log::Ticket;

impl ChannelSettings {
    /// Whether a channel of `topic` can have them; `InvalidArgument` says why not.
    pub(crate) fn check(&self, topic: &TopicName) -> Result<()> {
        let refused = |why: String| Err(Error::new(ErrorKind::InvalidArgument, why));
        match (&self.dead_letter_topic, self.max_attempts) {
            (None, 0) => Ok(()),
            (None, max) => refused(format!(
                "max_attempts is {max} and there is no dead_letter_topic: set both, so that nothing is lost"
            )),
            (Some(dead), 0) => refused(format!(
                "dead_letter_topic is {dead} and max_attempts is 0, no limit: set both, or neither"
            )),
            (Some(dead), _) if dead == topic => {
                refused(format!("dead_letter_topic is {dead}, the channel's own topic: name another one"))
            }
            (Some(dead), _) if dead.is_ephemeral() => refused(format!(
                "dead_letter_topic {dead} is ephemeral and would drop what nobody reads: name one that is kept"
            )),
            (Some(_), _) => Ok(()),
        }
    }
}

impl Channel {
    /// The channel's settings.
    pub fn settings(&self) -> ChannelSettings {
        self.inner.lock().settings.clone()
    }

    /// Changes the channel's settings, all at once and over restarts: what `change` makes of them is written
    /// in one frame. The dead letter topic is created if it is new, at the level of the
    /// channel's topic or above.
    ///
    /// # Errors
    /// `InvalidArgument` for what the channel can't have, which changes nothing; `LimitReached`, `Draining`
    /// if the dead letter topic can't be created; `Closed`.
    pub fn update(&self, change: impl FnOnce(&mut ChannelSettings)) -> Result<Ticket> {
        let topic = self.open_topic()?;
        let _changing = self.changing.lock();
        let before = self.settings();
        let mut after = before.clone();
        change(&mut after);
        after.check(topic.name())?;
        if after == before {
            return Ok(Ticket::DONE);
        }
        let level = topic.durability();
        if let Some(dead) = &after.dead_letter_topic {
            self.shared.dead_letter_topic(dead, level)?;
        }
        let mut inner = self.inner.lock();
        inner.set(after);
        let mut ticket = Ticket::DONE;
        if topic.is_logged() && !self.is_ephemeral() {
            let events: Vec<_> = self.settings_event(&inner.settings, true).into_iter().collect();
            ticket = self.shared.log_events(&events, level, None);
        }
        self.notify_and_unlock(inner);
        self.shared.commit();
        Ok(ticket)
    }

    /// The event that records the settings; `None` for the default ones, unless `always`.
    pub(crate) fn settings_event(&self, settings: &ChannelSettings, always: bool) -> Option<Event> {
        let is_logged = always || *settings != ChannelSettings::default();
        is_logged.then(|| Event::ChannelSettings { channel: self.no, settings: settings.clone() })
    }
}

//! A topic's channels: found, created, and where a new one begins.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::channel::{Channel, ChannelSetup};
use crate::clock::Wall;
use crate::config::{ChannelSettings, Durability};
use crate::error::{Error, ErrorKind, Result};
use crate::message::{Offset, Pos};
use crate::name::ChannelName;
use crate::store::format::event::Event;
use crate::store::format::numbers::{ChannelNo, TopicNo};
use crate::store::log::{Outcome, Ticket};
use crate::store::read::reader;
use crate::topic::{Topic, TopicState};
use crate::wake::Wake;

/// The first message of a channel that is created. A channel that exists stays where it is.
///
/// A message is kept as long as some channel has not finished it or, while the topic has no channel or is
/// paused, as it waits in the topic. What all channels have finished is gone, though the disk may hold it for
/// a while.
///
/// ```
/// # use mq_core::{Broker, Options, Start};
/// # fn main() -> mq_core::Result<()> {
/// # let folder = tempfile::tempdir().unwrap();
/// # let broker = Broker::open(Options { data_path: folder.path().into(), ..Options::default() })?;
/// let orders = broker.topic(&"orders".parse()?)?;
/// orders.channel(&"billing".parse()?, None)?;
/// orders.publish_one(b"one pizza")?.wait(&broker)?;
/// // What no channel has finished is still there for a new one.
/// let audit = orders.channel_at(&"audit".parse()?, Start::Earliest, None)?;
/// assert_eq!((audit.is_new, audit.channel.depth()), (true, 1));
/// # broker.close()
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// At the oldest message that is kept.
    Earliest,
    /// Behind all that is published: at the next message. As a topic's first channel it drops what waits in
    /// the topic.
    Latest,
    /// At what waits in the topic (see [`Topic::depth`]), or the next message if nothing does.
    #[default]
    Now,
    /// At the first message kept that stands at this offset or after it; at the next message if there is none
    /// yet.
    Offset(Offset),
    /// At the first message kept that was published at this wall time or later; at the next message if there
    /// is none yet.
    Time(Wall),
}

/// A channel that was found or created.
///
/// ```
/// # use mq_core::{Broker, Options, Start};
/// # fn main() -> mq_core::Result<()> {
/// # let folder = tempfile::tempdir().unwrap();
/// # let broker = Broker::open(Options { data_path: folder.path().into(), ..Options::default() })?;
/// let orders = broker.topic(&"orders".parse()?)?;
/// let first = orders.channel_at(&"billing".parse()?, Start::Now, None)?;
/// first.ticket.wait(&broker)?;
/// let again = orders.channel_at(&"billing".parse()?, Start::Earliest, None)?;
/// assert_eq!((first.is_new, again.is_new), (true, false));
/// # broker.close()
/// # }
/// ```
pub struct OpenedChannel {
    /// The channel.
    pub channel: Arc<Channel>,
    /// Done when its creation is in the log, for those who answer for it.
    pub ticket: Ticket,
    /// Whether it is new. One that existed stands where it stood.
    pub is_new: bool,
}

/// The messages of a new channel that were published before it.
struct Beginning {
    /// Its cursor.
    next: Pos,
    /// Messages below the cursor that it has too, in order.
    below: Vec<Offset>,
    /// Ranges from the cursor on that it has not: rising.
    gaps: Vec<(Pos, Pos)>,
}

impl Topic {
    /// Finds or creates a channel. A new one starts at the pump position. The ticket is done when the
    /// creation is in the log, for those who answer for it; `wake`, where one is given, is called when
    /// another thread has decided that.
    ///
    /// # Errors
    /// `Closed`; `LimitReached` at the limit of channels; `Full`, `Io`.
    pub fn channel<'a>(
        &self,
        name: &ChannelName,
        wake: impl Into<Option<&'a Arc<dyn Wake>>>,
    ) -> Result<(Arc<Channel>, Ticket)> {
        self.channel_at(name, Start::Now, wake).map(|opened| (opened.channel, opened.ticket))
    }

    /// [`Topic::channel`], with a say in where a new one begins. [`Start::Time`] may wait for a disk: call it
    /// where that hurts nobody.
    ///
    /// # Errors
    /// The same as [`Topic::channel`]; `Damaged` if the messages published around that time can't be read.
    pub fn channel_at<'a>(
        &self,
        name: &ChannelName,
        start: Start,
        wake: impl Into<Option<&'a Arc<dyn Wake>>>,
    ) -> Result<OpenedChannel> {
        self.create_channel(name, start, |_| {}, wake)
    }

    /// [`Topic::channel_at`], with settings that a new channel has from its beginning. The dead letter topic
    /// is created if it is new, as by [`Channel::update`].
    ///
    /// # Errors
    /// The same as [`Topic::channel_at`]; `InvalidArgument` for settings that the channel can't have.
    pub fn create_channel<'a>(
        &self,
        name: &ChannelName,
        start: Start,
        settings: impl FnOnce(&mut ChannelSettings),
        wake: impl Into<Option<&'a Arc<dyn Wake>>>,
    ) -> Result<OpenedChannel> {
        let wake = wake.into();
        let mut own = ChannelSettings::default();
        settings(&mut own);
        own.check(&self.name)?;
        let is_new = || self.find_channel(name).is_none();
        if let Some(dead) = &own.dead_letter_topic
            && is_new()
        {
            self.shared.dead_letter_topic(dead, self.durability())?;
        }
        let from = match start {
            Start::Earliest => Some(Offset(0)),
            Start::Latest => Some(Offset(u64::MAX)),
            Start::Now => None,
            Start::Offset(offset) => Some(offset),
            Start::Time(time) if is_new() => Some(self.offset_at(time)?),
            Start::Time(_) => None,
        };
        let mut state = self.state.lock();
        if let Some(channel) = state.channels.iter().find(|c| c.name() == name) {
            let ticket = self.created_before(channel, state.level, wake);
            return Ok(OpenedChannel { channel: channel.clone(), ticket, is_new: false });
        }
        self.check(&state)?;
        let max = self.shared.options.max_channels;
        if state.channels.len() >= max {
            return Err(Error::new(
                ErrorKind::LimitReached,
                format!("topic {} has {max} channels, the limit", self.name),
            ));
        }
        let no = ChannelNo(self.shared.next_channel.fetch_add(1, Ordering::Relaxed));
        let setup =
            ChannelSetup { no, name: name.clone(), topic: self.me.clone(), shared: self.shared.clone() };
        let beginning = match from {
            None => Beginning { next: state.pump, below: Vec::new(), gaps: Vec::new() },
            Some(from) => Beginning::at(from, &state),
        };
        let mut events = beginning.events(no, self.no, name);
        let channel = Channel::beginning(setup, beginning.next, &beginning.below, &beginning.gaps, own);
        events.extend(channel.settings_event(&channel.settings(), false));
        let mut ticket = Ticket::DONE;
        if self.is_logged() && !name.is_ephemeral() {
            ticket = self.shared.log_events(&events, state.level, wake);
            channel.set_created(ticket);
        }
        channel.advance(&state, None);
        state.channels.push(channel.clone());
        let wakes = self.flow(&mut state, None);
        drop(state);
        self.shared.commit();
        wakes.iter().for_each(|w| w.wake());
        self.shared.watch.changed();
        Ok(OpenedChannel { channel, ticket, is_new: true })
    }

    /// The ticket of a channel's creation, for one who asks for it again.
    fn created_before(&self, channel: &Channel, level: Durability, wake: Option<&Arc<dyn Wake>>) -> Ticket {
        let mut created = channel.created();
        if let Outcome::Failed(_) = self.shared.log.outcome(created) {
            // The log learns of it all the same, before this, which gives those who ask again a ticket that
            // is not decided.
            created = channel.log_self(self.no, level);
        }
        match wake {
            Some(wake) => self.shared.log.follow(created, self.shared.clock.wall(), wake),
            None => created,
        }
    }

    /// The channel of that name, if there is one.
    pub fn find_channel(&self, name: &ChannelName) -> Option<Arc<Channel>> {
        self.state.lock().channels.iter().find(|c| c.name() == name).cloned()
    }

    /// All channels, sorted by name.
    pub fn channels(&self) -> Vec<Arc<Channel>> {
        let mut channels = self.state.lock().channels.clone();
        channels.sort_by(|a, b| a.name().cmp(b.name()));
        channels
    }

    /// Offset of the first message kept that was published at `time` or later; of the next to come if there
    /// is none. May wait for a disk.
    ///
    /// # Errors
    /// `Damaged`, `Io`.
    fn offset_at(&self, time: Wall) -> Result<Offset> {
        let (mut low, end) = {
            let state = self.state.lock();
            (state.extents.seek(Self::low(&state), state.end).rank, state.end)
        };
        // Times of a topic never go back. All ranks below `low` are of earlier messages, from `high` on of
        // none.
        let mut high = end.rank;
        while low < high {
            let middle = low + (high - low) / 2;
            if self.time_from(middle)?.is_none_or(|at| at >= time) {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        let state = self.state.lock();
        Ok(state.extents.at_rank(low, state.end).offset)
    }

    /// Publish time of the message of `rank`, or of the first after it that is still there.
    fn time_from(&self, rank: u64) -> Result<Option<Wall>> {
        let from = {
            let state = self.state.lock();
            let from = state.extents.at_rank(rank, state.end).offset;
            if let Some(frame) = state.ring.find(from) {
                return Ok(Some(frame.time));
            }
            from
        };
        let frames = reader::read(&self.shared.catalog, None, self.no, from, 1, false)?.unwrap_or_default();
        let on_disk = frames.first().map(|frame| (frame.first, frame.time));
        let in_memory = self.state.lock().ring.after(from).map(|frame| (frame.first, frame.time));
        Ok(on_disk.into_iter().chain(in_memory).min().map(|(_, time)| time))
    }
}

impl Beginning {
    /// The messages that are kept from `from` on, and only these: the cleaner may be about to remove
    /// everything else.
    fn at(from: Offset, state: &TopicState) -> Self {
        let pending = state.pending();
        let from = from.min(state.end.offset);
        let next = state.extents.seek(pending.from.max(from), state.end);
        let below = pending.below.into_iter().filter(|offset| *offset >= from).collect();
        // Messages emptied from the topic are a gap of the channel that is behind all others.
        let last = state.channels.iter().map(|channel| channel.ahead()).min_by_key(|(next, _)| next.rank);
        let gaps = last.map(|(_, gaps)| gaps).unwrap_or_default();
        Self { next, below, gaps }
    }

    /// The events that record the channel. Recording them twice changes nothing.
    fn events(&self, no: ChannelNo, topic: TopicNo, name: &ChannelName) -> Vec<Event> {
        let Self { next, below, gaps } = self;
        let (name, start) = (name.to_string(), below.first().copied().unwrap_or(next.offset));
        let mut events = vec![Event::Channel { channel: no, topic, name, paused: false, start }];
        let mut ranges = Vec::new();
        let mut from = start;
        for offset in below.iter().copied().chain([next.offset]) {
            if from < offset {
                ranges.push((from, Offset(offset.0 - 1)));
            }
            from = offset.plus(1);
        }
        let ahead = gaps.iter().filter(|(_, to)| to.rank > next.rank);
        ranges.extend(ahead.map(|(from, to)| (from.offset, Offset(to.offset.0 - 1))));
        if !ranges.is_empty() {
            events.push(Event::Finished { channel: no, ranges });
        }
        events
    }
}

//! Numbers of topics and channels that were in use, as far as a damaged folder shows.

use std::collections::BTreeSet;

use crate::message::{Offset, SEQ_BITS};
use crate::store::format::event::Event;
use crate::store::format::numbers::{ChannelNo, TopicNo};

/// Numbers that frames and entries mention.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) topics: BTreeSet<TopicNo>,
    pub(crate) topics_gone: BTreeSet<TopicNo>,
    pub(crate) channels: BTreeSet<ChannelNo>,
    /// Channels whose creation was read.
    pub(crate) channels_known: BTreeSet<ChannelNo>,
    /// Next numbers at the time of the checkpoint, if that is whole: what it lacks of those below was
    /// deleted.
    pub(crate) counted: Option<(TopicNo, ChannelNo)>,
    /// Greatest block of any offset.
    pub(crate) block: u64,
}

impl Seen {
    pub(super) fn offset(&mut self, offset: Offset) {
        self.block = self.block.max(offset.0 >> SEQ_BITS);
    }

    pub(super) fn note(&mut self, event: &Event) {
        match event {
            Event::Topic { topic, pump, end, .. } => {
                self.topics.insert(*topic);
                self.offset(*pump);
                self.offset(*end);
            }
            Event::TopicDeleted { topic } => {
                self.topics_gone.insert(*topic);
            }
            Event::Channel { channel, topic, .. } => {
                self.topics.insert(*topic);
                self.channels.insert(*channel);
                self.channels_known.insert(*channel);
            }
            Event::ChannelDeleted { channel } => {
                self.channels.insert(*channel);
                self.channels_known.insert(*channel);
            }
            Event::Cursor { channel, .. }
            | Event::Finished { channel, .. }
            | Event::ChannelSettings { channel, .. }
            | Event::Requeued { channel, .. } => {
                self.channels.insert(*channel);
            }
            Event::Counters { .. }
            | Event::Hole { .. }
            | Event::Limits { .. }
            | Event::Dedup { .. }
            | Event::Ids { .. } => {}
        }
    }
}

//! Reads from disk for a channel.

use std::sync::Arc;

use crate::channel::Channel;
use crate::message::Offset;
use crate::store::log::Frame;
use crate::store::read::reader;
use crate::topic::{Topic, TopicDamage};

/// A read that a channel waits for.
pub(crate) struct Load {
    pub(crate) channel: Arc<Channel>,
    pub(crate) from: Offset,
    /// For redelivery, rather than for first deliveries.
    pub(crate) again: bool,
}

impl Load {
    /// Reads, and hands the channel what was read. `false` if `nowait` and a disk would have to be waited for.
    pub(crate) fn run(&self, nowait: bool) -> bool {
        let channel = &self.channel;
        let shared = &channel.shared;
        let Some(topic) = channel.topic() else { return true };
        let read = reader::read(&shared.catalog, topic.no, self.from, shared.read_bytes(), nowait);
        let frames = match read {
            Ok(None) => return false,
            Ok(Some(frames)) => frames,
            Err(error) => {
                topic.stop(TopicDamage::met(self.from, &error.to_string()));
                Vec::new()
            }
        };
        if frames.first().is_none_or(|f| f.first > self.from) {
            channel.missing(&topic, self.from);
        }
        channel.loaded(self.again, frames);
        true
    }
}

impl Channel {
    /// `offset` was to be delivered but stands in no file. An ephemeral channel goes on after it; for any other it is
    /// damage, unless it was emptied meanwhile.
    fn missing(&self, topic: &Topic, offset: Offset) {
        let state = topic.state.lock();
        if state.ring.find(offset).is_some() {
            return;
        }
        if self.is_ephemeral() || !topic.is_logged() {
            let from = state.ring.after(offset).map_or(state.end.offset, |f| f.first);
            self.jump(state.extents.seek(from, state.end));
            return;
        }
        let mut below = Vec::new();
        let pending = self.pending(&mut below) <= offset || below.contains(&offset);
        drop(state);
        if pending {
            let why = format!("message {:#x} stands in no file", offset.0);
            topic.stop(TopicDamage::met(offset, &why));
        }
    }

    /// Takes in what was read for the channel.
    pub(crate) fn loaded(&self, again: bool, frames: Vec<Frame>) {
        let mut inner = self.inner.lock();
        inner.loading = false;
        let window = if again { &mut inner.again } else { &mut inner.fresh };
        window.fill(frames, &self.shared.pool);
        let waiting = std::mem::take(&mut inner.waiting);
        drop(inner);
        waiting.iter().for_each(|w| w.wake());
    }
}

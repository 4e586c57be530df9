//! The snapshot of the whole state that a checkpoint stores, so that the log before it need not be replayed.

use std::sync::atomic::Ordering;

use crate::config::{Dedup, Limits};
use crate::error::{Error, ErrorKind, Result};
use crate::shared::Shared;
use crate::store::format::checkpoint;
use crate::store::format::event::Event;
use crate::store::format::file::checkpoint_name;
use crate::store::format::log_pos::LogPos;
use crate::store::format::numbers::ChannelNo;
use crate::store::log::Epoch;
use crate::store::open::replay::ids_events;
use crate::topic::Topic;

/// A snapshot, taken topic by topic while the broker goes on.
///
/// The log from the position noted first is replayed over it: what the snapshot holds of that already does no
/// harm, as every event is absolute.
pub(crate) struct Snapshot {
    /// Epoch of the log when it was begun: one that is over refused some of what the snapshot may speak of.
    epoch: Epoch,
    /// Log position before any topic was looked at.
    position: LogPos,
    bytes: Vec<u8>,
}

/// Log position and size of a checkpoint that is on disk.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StoredCheckpoint {
    pub(crate) position: LogPos,
    pub(crate) bytes: u64,
}

impl Snapshot {
    /// Notes where the log is, and the counters.
    pub(crate) fn begin(shared: &Shared) -> Self {
        let epoch = shared.log.epoch();
        // Behind whoever is at a write that failed: topics have then dropped what was refused before
        // this epoch. What is refused later ends it.
        shared.log.wait_written();
        let position = shared.log.end();
        let mut bytes = Vec::new();
        Event::Counters {
            topic: shared.next_topic_no(),
            channel: ChannelNo(shared.next_channel.load(Ordering::Relaxed)),
            block: shared.blocks.lock().ceiling(),
        }
        .encode(&mut bytes);
        Self { epoch, position, bytes }
    }

    /// Adds a topic as it is now, with its channels.
    pub(crate) fn add(&mut self, shared: &Shared, topic: &Topic) {
        let state = topic.state.lock();
        topic.event(&state).encode(&mut self.bytes);
        if state.limits != Limits::default() {
            Event::Limits { topic: topic.no, limits: state.limits }.encode(&mut self.bytes);
        }
        if state.dedup != Dedup::default() {
            Event::Dedup { topic: topic.no, dedup: state.dedup }.encode(&mut self.bytes);
        }
        let ids = topic.logged_ids(&state);
        let channels = state.channels.clone();
        drop(state);
        ids_events(topic.no, &ids).for_each(|event| event.encode(&mut self.bytes));
        for channel in channels.iter().filter(|c| !c.is_ephemeral()) {
            channel.snapshot(topic.no).iter().for_each(|event| event.encode(&mut self.bytes));
        }
        shared.catalog.holes(topic.no).iter().for_each(|event| event.encode(&mut self.bytes));
    }

    /// Stores it, names it in the manifest, and removes the one before.
    ///
    /// # Errors
    /// `Io` or `Full` if it could not be stored, or if the log refused something meanwhile: the checkpoint
    /// before stays in force.
    pub(crate) fn store(self, shared: &Shared, clean_stop: bool) -> Result<StoredCheckpoint> {
        let Self { epoch, position, bytes } = self;
        let log = &shared.log;
        // It may speak of messages that are only queued: all of them must be durable before it is named.
        log.write_queued();
        let spoken_of = log.end();
        while log.written() < spoken_of && log.epoch() == epoch {
            log.wait_written();
        }
        log.sync()?;
        if log.epoch() != epoch {
            return Err(Error::new(ErrorKind::Io, "writing failed during a checkpoint; the next one holds"));
        }
        let no = checkpoint::store(&*shared.disk, || log.take_file_no(), position, &bytes)?;
        let named = log.change_manifest(|manifest| {
            manifest.clean_stop = clean_stop;
            Ok(manifest.checkpoint.replace((no, position)))
        });
        let old = named.inspect_err(|_| log.leave_over(checkpoint_name(no)))?;
        log.counters.checkpoint_taken();
        if let Some((old, _)) = old {
            let name = checkpoint_name(old);
            // It is not named any more: at worst it is removed at the next open.
            if let Err(error) = shared.disk.remove(&name) {
                tracing::warn!("could not remove {name}, which nothing needs any more: {error}");
            }
        }
        Ok(StoredCheckpoint { position, bytes: bytes.len() as u64 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Durability;
    use crate::testkit::{World, drain, finish, pull, texts};

    /// I1: a broker that was killed has what was acknowledged while the snapshot was taken.
    #[test]
    fn what_changes_while_the_picture_is_taken_is_replayed_over_it() {
        let world = World::new(Durability::Flush);
        let mut sub = world.subscribe("t", "c", 10);
        world.publish("t", &["finished before", "finished meanwhile"]);
        let got = pull(&mut sub);
        finish(&mut sub, &got[..1]);
        world.steps(&[crate::maintenance::Step::State]);

        let shared = world.broker.shared();
        let mut snapshot = Snapshot::begin(shared);
        snapshot.add(shared, &world.topic("t"));
        world.publish("t", &["published meanwhile"]);
        finish(&mut sub, &got[1..]);
        world.steps(&[crate::maintenance::Step::State]);
        world.publish("new", &["of a topic that the snapshot lacks"]);
        snapshot.store(shared, false).unwrap();
        drop(sub);

        let world = world.kill();
        assert_eq!(texts(&drain(&mut world.subscribe("t", "c", 10))), ["published meanwhile"]);
        let of_new = drain(&mut world.subscribe("new", "c", 10));
        assert_eq!(texts(&of_new), ["of a topic that the snapshot lacks"]);
    }
}

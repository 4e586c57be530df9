//! The state of a topic: plain data behind its lock.

use std::sync::Arc;

use crate::channel::Channel;
use crate::clock::Wall;
use crate::config::{Dedup, Durability, Limits};
use crate::message::{Offset, Pos};
use crate::shared::Shared;
use crate::store::log::{Epoch, Ticket};
use crate::store::memory::frame::Frame;
use crate::topic::TopicDamage;
use crate::topic::cache::{Extents, RingFrames, Volume};
use crate::topic::dedup::DedupState;
use crate::topic::limits::Allowance;

/// State of a topic, guarded by its lock.
pub(crate) struct TopicState {
    pub(crate) level: Durability,
    /// Ticket of the frame that records the topic.
    pub(crate) created: Ticket,
    pub(crate) paused: bool,
    /// See [`Broker::hold_new_topics`](crate::Broker::hold_new_topics). Never outlives the process.
    pub(crate) is_held: bool,
    pub(crate) deleted: bool,
    /// The reason why the topic is stopped, if it is.
    pub(crate) damage: Option<TopicDamage>,
    /// Time of the newest message: a topic's time never goes back (I10).
    pub(super) time: Wall,
    /// Next offset to hand out, and where its block ends; equal if a block must be drawn first.
    pub(super) next: Offset,
    pub(super) block_end: Offset,
    /// The log's epoch when the block was drawn: after a failed write offsets are lost, and a fresh block
    /// makes the gap one that no reader takes for damage.
    pub(super) epoch: Epoch,
    /// Frames in the log's queue that are not committed. Level `memory` starts when there are none: order
    /// (I2).
    pub(super) queued: u32,
    /// The part of them that is committed only once it is fsync'd; with any, later ones are too, whatever the
    /// level is by then.
    pub(super) syncing: u32,
    /// Messages and bytes in frames that are queued.
    pub(super) queued_messages: u64,
    pub(super) queued_bytes: u64,
    pub(crate) limits: Limits,
    pub(crate) dedup: Dedup,
    /// Ids of messages with an id; `None` while there are none.
    pub(super) ids: Option<Box<DedupState>>,
    pub(super) allowance: Allowance,
    /// After the last message that channels may see.
    pub(crate) end: Pos,
    /// Position at which a new channel starts. Equals `end` where the topic flows.
    pub(crate) pump: Pos,
    /// The pump position that the log knows, for topics without a lasting channel.
    pub(crate) pump_logged: Offset,
    pub(crate) ring: RingFrames,
    pub(crate) extents: Extents,
    pub(crate) volume: Volume,
    pub(crate) channels: Vec<Arc<Channel>>,
    /// Offsets from here on stand in no file: at level `memory`, their finishes need not be logged.
    pub(crate) spilled_end: Offset,
    pub(crate) message_count: u64,
    pub(crate) message_bytes: u64,
    /// Messages dropped at a limit before any channel had them.
    pub(crate) skipped: u64,
    /// Messages not stored because one with their id was.
    pub(crate) duplicates: u64,
    /// Ids forgotten before their time, since there were too many.
    pub(crate) ids_evicted: u64,
}

impl TopicState {
    /// A frame has left the log's queue.
    pub(super) fn dequeue(&mut self, frame: &Frame) {
        self.queued -= 1;
        self.queued_messages -= u64::from(frame.count);
        self.queued_bytes -= frame.payload.len() as u64;
    }

    /// The state of a topic without messages.
    pub(super) fn new(level: Durability, shared: &Shared) -> Self {
        Self {
            level,
            created: Ticket::DONE,
            paused: false,
            is_held: false,
            deleted: false,
            damage: None,
            time: Wall(0),
            next: Offset(0),
            block_end: Offset(0),
            epoch: shared.log.epoch(),
            queued: 0,
            syncing: 0,
            queued_messages: 0,
            queued_bytes: 0,
            limits: Limits::default(),
            dedup: Dedup::default(),
            ids: None,
            allowance: Allowance::default(),
            end: Pos::default(),
            pump: Pos::default(),
            pump_logged: Offset(0),
            ring: RingFrames::new(shared.pool.clone()),
            extents: Extents::default(),
            volume: Volume::default(),
            channels: Vec::new(),
            spilled_end: Offset(0),
            message_count: 0,
            message_bytes: 0,
            skipped: 0,
            duplicates: 0,
            ids_evicted: 0,
        }
    }
}

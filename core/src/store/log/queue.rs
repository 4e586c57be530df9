//! The log's queue: frames that have a position and are not written, and positions to be handed out.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use crate::clock::Wall;
use crate::message::Offset;
use crate::store::format::frame::{Header, Kind};
use crate::store::format::log_pos::LogPos;
use crate::store::format::numbers::TopicNo;
use crate::store::memory::frame::Frame;
use crate::wake::Wake;

/// Takes the frames of one topic as they are written, or fail to be.
pub(crate) trait CommitListener: Send + Sync {
    /// `frames` were written, or fsync'd where they waited for that, in order. The call empties the list.
    fn on_committed(&self, frames: &mut Vec<QueuedFrame>);
    /// `frames` were not written and never will be. The call empties the list.
    fn on_failed(&self, frames: &mut Vec<QueuedFrame>);
}

/// A data frame on its way through the log.
pub(crate) struct QueuedFrame {
    pub(crate) frame: Frame,
    /// The chunk whose memory the frame uses.
    pub(crate) chunk: u64,
    /// Whether it was published at level `memory` and is only now written, as all or part of a frame in
    /// memory.
    pub(crate) spilled: bool,
    /// Whether it is committed only once it is fsync'd.
    pub(crate) synced: bool,
}

/// Numbers to be handed out next.
pub(super) struct Assign {
    /// Position after the last queued frame.
    pub(super) end: LogPos,
    /// Base of the file that frame went to.
    pub(super) base: LogPos,
    pub(super) queue: VecDeque<Item>,
    /// Position after the last queued frame that is no mark.
    pub(super) data_end: LogPos,
    /// Greatest `synced_to` that a queued frame carries.
    pub(super) marked: LogPos,
}

/// One thing for the writer to do.
pub(super) enum Item {
    /// Go on in a new file.
    Roll { base: LogPos },
    /// Write a frame.
    Frame(Entry),
}

pub(super) struct Entry {
    pub(super) header: Header,
    pub(super) payload: Bytes,
    /// Position of the frame.
    pub(super) position: LogPos,
    /// Whether it is acknowledged only once it is fsync'd.
    pub(super) synced: bool,
    /// The frame's messages, and the listener for its outcome; `None` for a state frame or a mark.
    pub(super) data: Option<(Arc<dyn CommitListener>, QueuedFrame)>,
    pub(super) wake: Option<Arc<dyn Wake>>,
}

/// A written frame that waits for an fsync.
pub(super) struct Unsynced {
    /// Position after the frame.
    pub(super) end: LogPos,
    /// Its bytes.
    pub(super) len: u64,
    pub(super) data: Option<(Arc<dyn CommitListener>, QueuedFrame)>,
    pub(super) wake: Option<Arc<dyn Wake>>,
}

impl Entry {
    pub(super) fn len(&self) -> u64 {
        self.header.frame_len()
    }
}

/// A frame that holds nothing.
pub(super) fn mark(time: Wall) -> Header {
    Header {
        kind: Kind::Mark,
        payload_len: 0,
        count: 0,
        topic: TopicNo::NONE,
        payload_crc: 0,
        first: Offset(0),
        time,
        has_ids: false,
        synced_to: LogPos(0),
    }
}

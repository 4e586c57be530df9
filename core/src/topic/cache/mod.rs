//! A topic's messages in memory.
//!
//! - `ring`: the frames in memory, and the dense runs of the topic's offsets
//! - `spill`: eviction from memory; pending messages that are only there are written to the log
//! - `volume`: bytes and publish times by rank, in samples

mod ring;
mod spill;
mod volume;

pub(crate) use ring::{CachedFrame, Extents, RingFrames};
pub(crate) use volume::Volume;

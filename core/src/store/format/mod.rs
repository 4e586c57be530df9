//! The bytes on disk, as `docs/format.md` lays them out. Nothing here reads a clock.
//!
//! - [`frame`]: headers and records; [`event`]: the entries of state frames, and `fields` their bytes;
//!   [`ids`]: publishers' ids of messages; [`numbers`]: of topics and channels
//! - `file`: names and headers of files; `file_index`: the index that ends a full one; `frame_file`: fills a
//!   file with frames of others
//! - `log_pos`: positions in the log; `manifest`: which files count; `checkpoint`: the whole state at one
//!   position
//! - `own`: the store's files among others in the folder
//! - `range_set`: sets of offsets

pub(crate) mod checkpoint;
pub mod event;
mod fields;
pub(crate) mod file;
pub(crate) mod file_index;
pub mod frame;
pub(crate) mod frame_file;
pub(crate) mod ids;
pub(crate) mod log_pos;
pub(crate) mod manifest;
pub(crate) mod numbers;
pub(crate) mod own;
pub(crate) mod range_set;

//! Reading the log back.
//!
//! - `catalog`: which file holds what
//! - `reader`: frames by offset, and all frames of a file in turn
//! - `records`: single messages, wherever they stand; `record_index`: where that is
//! - `prefetch`: files read and checked by several threads while a folder is opened

pub(crate) mod catalog;
pub(crate) mod prefetch;
pub(crate) mod reader;
pub(crate) mod record_index;
pub(crate) mod records;

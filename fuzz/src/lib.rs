//! Properties that hold for any bytes, one function for each fuzz target.
//!
//! `tests/replay.rs` runs them on the seeds in `seeds/` and on changed copies of those, with stable Rust; the
//! programs in `fuzz_targets/` hand them to the fuzzer. They panic where a property does not hold.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a property fails by panicking")]

mod answers;
mod auth_answer;
mod commands;
mod data_folder;
mod deflate;
mod folder;
mod frames;
mod identify;
mod lookup;
mod repair;
mod snappy;

pub use answers::answers;
pub use auth_answer::auth_answer;
pub use commands::commands;
pub use deflate::deflate;
pub use folder::folder;
pub use frames::{frames, frames_seeds};
pub use identify::identify;
pub use lookup::lookup;
pub use repair::repair;
pub use snappy::snappy;

/// A fuzz target.
pub type Target = fn(&[u8]);

/// All fuzz targets by name.
pub const TARGETS: [(&str, Target); 10] = [
    ("answers", answers),
    ("auth_answer", auth_answer),
    ("commands", commands),
    ("deflate", deflate),
    ("folder", folder),
    ("frames", frames),
    ("identify", identify),
    ("lookup", lookup),
    ("repair", repair),
    ("snappy", snappy),
];

/// Splits the first bytes off an input, as many as `N`: parameters of the property. `None` if there are
/// fewer.
fn parameters<const N: usize>(bytes: &[u8]) -> Option<([u8; N], &[u8])> {
    let (first, rest) = bytes.split_first_chunk()?;
    Some((*first, rest))
}

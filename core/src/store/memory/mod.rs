//! Memory for frames.
//!
//! - `batch`: messages being encoded; `marks`: positions of some of them in a large batch
//! - `chunk`: chunks under one budget; `free`: chunks to be used again; `fresh`: new ones, from the system

pub(crate) mod batch;
pub(crate) mod chunk;
mod free;
mod fresh;
pub(crate) mod marks;

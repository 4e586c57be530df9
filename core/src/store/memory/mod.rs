//! Memory for frames.
//!
//! - `batch`: messages being encoded
//! - `chunk`: chunks under one budget; `free`: chunks to be used again; `fresh`: new ones, from the system

pub(crate) mod batch;
pub(crate) mod chunk;
mod free;
mod fresh;

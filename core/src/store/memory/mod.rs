//! Memory for frames.
//!
//! - `batch`: messages being encoded; `frame`: encoded ones; `marks`: positions of some records in a large
//!   frame
//! - `chunk`: chunks under one budget; `free_list`: chunks to be used again; `prefault`: new ones, from the
//!   system

pub(crate) mod batch;
pub(crate) mod chunk;
pub(crate) mod frame;
mod free_list;
pub(crate) mod marks;
mod prefault;

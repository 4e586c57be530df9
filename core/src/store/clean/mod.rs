//! Space given back.
//!
//! - `cleaner`: removes files of which nothing is pending, and copies what is pending out of those of which
//!   little is
//! - `pending`: which messages those are

pub(crate) mod cleaner;
pub(crate) mod pending;

//! The tools, under their own names and under NSQ's, beside NSQ's own on the same broker.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod archive;
mod diagnosis;
mod forward;
mod steps;
mod streams;

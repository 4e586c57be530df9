//! The addon of the npm package `libmq`: the crate [`libmq`] for JavaScript, which wraps it once more
//! (`lib/`). No thread but JavaScript's calls into V8: futures of the crate are polled there, after one
//! thread-safe function for each environment has woken it.
//!
//! - `runtime`: tasks of an environment, and its end; `tasks`: their futures; `ready`: which of them to poll
//! - `client`: publishing, in order and within a bound; `gate`: that bound; `settings`: of
//!   channels
//! - `subscription`: messages in batches, and their answers; `pack`: a batch as bytes
//! - `event`: what happens to connections
//! - `command`: the program `mq`
//! - `blocking`: calls that wait, on threads; `value`: JavaScript's values; `problem`: errors

// Calls of Node-API are unsafe. Each says why it is sound.
#![allow(unsafe_code)]

mod blocking;
mod client;
mod command;
mod drained;
mod event;
mod gate;
mod pack;
mod problem;
mod ready;
mod runtime;
mod settings;
mod subscription;
mod tasks;
mod value;

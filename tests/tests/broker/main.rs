//! The real binary, its commands and its crashes.
#![allow(missing_docs)]

mod clients;
mod commands;
mod crash;
mod lifecycle;
mod real_input;

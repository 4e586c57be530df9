//! The page over brokers and lookup servers in this process.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod access;
mod actions;
mod common;
mod fleet;
mod nsqadmin;
mod views;

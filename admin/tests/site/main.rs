//! The page over brokers and lookup servers in this process.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod access;
mod actions;
mod audit;
mod common;
mod fleet;
mod large;
mod nsqadmin;
mod views;

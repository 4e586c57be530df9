//! The real binary, its commands and its crashes.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod admin;
mod bench;
mod browser;
mod clients;
mod commands;
mod crash;
mod drain;
mod failover;
mod grpc;
mod grpcurl;
mod hostile;
mod lifecycle;
mod lookup;
mod memory_attacks;
mod nsqadmin;
mod order;
mod peers;
mod reach;
mod real_input;
mod repair;
mod signals;
mod tools;

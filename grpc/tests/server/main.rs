//! The services, called as clients call them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod admin;
#[path = "../../../nsq/tests/auth/auth_server.rs"]
#[allow(dead_code, unreachable_pub)]
mod auth_server;
mod cancel;
mod client;
mod delays;
mod discovery;
mod half_sent;
mod hostile;
mod kills;
mod leases;
mod limits;
mod permissions;
mod publish;
mod raw;
mod refusals;
mod requests;
mod security;
mod stack;
mod starts;
mod subscribe;
mod web;
mod wire;

//! The services, called as clients call them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod admin;
mod client;
mod discovery;
mod half_sent;
mod hostile;
mod publish;
mod security;
mod stack;
mod subscribe;
mod wire;

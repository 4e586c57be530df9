//! The services, called as clients call them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod publish;
mod stack;
mod subscribe;

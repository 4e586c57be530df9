//! The lookup server, and a broker that announces itself, as brokers and clients see it, byte for byte as
//! nsqlookupd where that is right.
//!
//! With `MQ_PEERS` naming a folder with the real nsqlookupd in it, the transcripts are held against that too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod announced;
mod announcer;
mod http;
mod peers;
mod server;
mod tcp;

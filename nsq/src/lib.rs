//! Both ends of NSQ's protocols.
//!
//! - [`wire`]: bytes to enums and back, no I/O
//! - [`transport`]: what carries them
//! - [`lookupd`]: a lookup server; [`announcer`]: how a broker registers at them
//! - [`server`]: the server's end; [`client`]: the client's; [`http`]: a small HTTP server

pub mod announcer;
pub mod client;
pub mod http;
pub mod lookupd;
pub mod server;
pub mod transport;
pub mod wire;

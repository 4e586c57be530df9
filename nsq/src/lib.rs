//! Both ends of NSQ's protocols.
//!
//! - [`wire`]: bytes to enums and back, no I/O
//! - [`lookupd`]: a lookup server; [`announcer`]: how a broker registers at them
//! - [`server`]: the server's end; [`client`]: the client's

pub mod announcer;
pub mod client;
pub mod lookupd;
pub mod server;
pub mod wire;

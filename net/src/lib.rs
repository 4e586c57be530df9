//! The ground that every protocol of libmq stands on: NSQ's, HTTP and gRPC. It knows none of them but HTTP.
//!
//! - [`transport`]: listening, sockets, TLS and compression; [`accept`]: the loop that takes connections in,
//!   their limit and their end; [`linger`]: closing a socket whose peer still sends
//! - [`http`]: a small HTTP/1 server, and one request's client
//! - [`access`]: the decision who may do what; [`secret`]: values that are never printed; [`secret_file`]:
//!   files of them
//! - [`budget`]: memory held for peers, in and out
//! - [`clients`]: the list of connections and consumers that statistics show
//! - [`directory`]: the core's registry of discovery, shared by connections
//! - [`signal`]: the core wakes a task; [`log_wait`]: waiting until the broker's log has something

pub mod accept;
pub mod access;
pub mod budget;
mod client;
pub mod clients;
pub mod directory;
pub mod http;
pub mod linger;
pub mod log_wait;
pub mod secret;
pub mod secret_file;
pub mod signal;
pub mod transport;

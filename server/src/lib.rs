//! Serves: a broker or a lookup server as a process. Knows no client.
//!
//! - [`config`]: the settings of both, and where they are read from
//! - [`serve`]: the broker; `features` it offers, `grpc` beside them; `reload` at SIGHUP; `options` that HTTP
//!   shows; [`startup_banner`] it prints when ready
//! - `pages`: the admin page beside a server's API and on its own port; [`admin`]: the page as a process
//! - `discovery`: registration at lookup servers; [`lookup`]: a lookup server; `host`: this machine's name
//! - `new_folder`: a data folder that held nothing; `nsqd_metadata`: one that was nsqd's
//! - [`ServedBroker`]: listeners on a broker that a program has open
//! - `drain`: emptying a broker before it stops; [`Ended`]: what is left of a server at its end
//! - [`log`]: lines on stderr; `signals`: what stops a process, and what must not

pub mod admin;
pub mod config;
mod discovery;
mod drain;
mod ended;
mod features;
mod grpc;
mod host;
mod invoked_as;
pub mod log;
pub mod lookup;
mod new_folder;
mod nsqd_metadata;
mod options;
mod pages;
mod reload;
pub mod serve;
mod served_broker;
mod signals;
pub mod startup_banner;

pub use ended::Ended;
pub use served_broker::ServedBroker;
pub use startup_banner::Addresses;

/// The version of this program, whatever the name it was started under.
const VERSION: &str = env!("CARGO_PKG_VERSION");

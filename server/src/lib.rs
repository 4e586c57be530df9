//! Serves: a broker or a lookup server as a process. Knows no client.
//!
//! - [`config`]: the settings of both, and where they are read from
//! - [`serve`]: the broker; `features` it offers, `grpc` beside them; `reload` at SIGHUP; `options` that HTTP shows;
//!   [`startup_banner`] it prints when ready
//! - `discovery`: registration at lookup servers; [`lookup`]: a lookup server; `host`: this machine's name
//! - `drain`: emptying a broker before it stops
//! - `telemetry`: the log; `log_throttle`: repeated lines

pub mod config;
mod discovery;
mod drain;
mod features;
mod grpc;
mod host;
mod log_throttle;
pub mod lookup;
mod options;
mod reload;
pub mod serve;
pub mod startup_banner;
mod telemetry;

//! The workloads, and the threads that carry them out.
//!
//! - `flow`, `latency`, `delayed`, `idle`: the workloads; `options`: their flags
//! - `phase` runs threads side by side: `publisher`, `consumer`, each a `connection`: a `socket` and
//!   `frames`, or `http`; `run`: what they share
//! - `commands`: what is sent, with a stamp in each `body`; `seen`: which of them came
//! - `process`: CPU and memory; `report`: the results

mod body;
mod commands;
mod connection;
mod consumer;
pub(crate) mod delayed;
pub(crate) mod flow;
mod frames;
mod http;
pub(crate) mod idle;
pub(crate) mod latency;
mod options;
mod phase;
mod process;
mod publisher;
pub(crate) mod report;
mod run;
mod seen;
mod socket;

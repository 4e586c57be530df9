//! Load for any server that speaks NSQ's protocol, and its cost to that server. `mq bench` is the front of
//! it; the binary `bench-table` compares servers under it, and `floor` measures the least that a workload can
//! cost.
//!
//! - [`run`]: one workload, with the flags of [`Bench`], on a [`Front`]
//! - `load`: the workloads
//! - [`broker_flags`]: flags by which a client reaches a broker, the same on every command of `mq`;
//!   [`plain_words`]: its errors for people

pub mod broker_flags;
mod front;
mod load;
pub mod plain_words;

use clap::Subcommand;

pub use self::front::{Bar, Front, Unit};
use self::load::{delayed, flow, idle, latency};

/// Arguments of `mq bench`.
#[derive(clap::Args)]
pub struct Bench {
    #[command(subcommand)]
    workload: Workload,
}

#[derive(Subcommand)]
enum Workload {
    /// Publishes as fast as the server acknowledges
    Publish(flow::Publish),
    /// Consumes what waits, a FIN for each message
    Consume(flow::Consume),
    /// Publishes and consumes at once, also to several channels
    Both(flow::Both),
    /// Publishes a backlog, then consumes it
    Backlog(flow::Backlog),
    /// Publishes at a fixed rate and measures how long messages take, from when each was to be sent
    Latency(latency::Latency),
    /// Publishes messages with random delays
    Defer(delayed::Defer),
    /// Consumes messages with delays, or requeues each once with one, and measures how late they come
    Due(delayed::ConsumeDue),
    /// Makes topics with a channel each and leaves them alone
    Topics(idle::Topics),
    /// Subscribes connections that get nothing
    Connections(idle::Connections),
}

/// Results of a load.
pub struct Results {
    /// A table for people, or JSON.
    pub text: String,
    /// Messages that did not come.
    pub lost: u64,
}

/// Runs the workload.
///
/// # Errors
/// Says why there are no results.
pub fn run(options: &Bench, front: Front<'_>) -> Result<Results, String> {
    let (server, report) = match &options.workload {
        Workload::Publish(workload) => (&workload.server, workload.run(front)?),
        Workload::Consume(workload) => (&workload.server, workload.run(front)?),
        Workload::Both(workload) => (&workload.server, workload.run(front)?),
        Workload::Backlog(workload) => (&workload.server, workload.run(front)?),
        Workload::Latency(workload) => (&workload.server, workload.run(front)?),
        Workload::Defer(workload) => (&workload.server, workload.run(front)?),
        Workload::Due(workload) => (&workload.server, workload.run(front)?),
        Workload::Topics(workload) => (&workload.server, workload.run(front)?),
        Workload::Connections(workload) => (&workload.server, workload.run(front)?),
    };
    let text = match server.json {
        true => serde_json::to_string(&report).map_err(|error| format!("JSON: {error}"))? + "\n",
        false => report.show(front),
    };
    Ok(Results { text, lost: report.check.map_or(0, |check| check.lost) })
}

//! `mq bench`: load for any server that speaks NSQ's protocol, and what it cost that server.
//!
//! - [`options`]: flags; [`flow`], [`latency`], [`idle`]: the workloads
//! - [`phase`] runs threads side by side: [`publisher`], [`consumer`], each a [`connection`]: a [`socket`] and
//!   [`frames`], or [`http`]; [`run`]: what they share
//! - [`commands`]: what is sent, with a stamp in each [`body`]; [`seen`]: which of them came
//! - [`process`]: CPU and memory; [`report`]: the results

mod body;
mod commands;
mod connection;
mod consumer;
mod flow;
mod frames;
mod http;
mod idle;
mod latency;
mod options;
mod phase;
mod process;
mod publisher;
mod report;
mod run;
mod seen;
mod socket;

use std::io::Write;

use clap::Subcommand;

use self::report::Check;
use crate::Outcome;

/// Arguments of `mq bench`.
#[derive(clap::Args)]
pub(crate) struct Bench {
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
    /// Makes topics with a channel each and leaves them alone
    Topics(idle::Topics),
    /// Subscribes connections that get nothing
    Connections(idle::Connections),
}

/// Runs the workload and prints what was measured.
///
/// # Errors
/// Also where messages were lost, after the results.
pub(crate) fn run(options: Bench) -> Outcome {
    let (server, report) = match &options.workload {
        Workload::Publish(workload) => (&workload.server, workload.run()?),
        Workload::Consume(workload) => (&workload.server, workload.run()?),
        Workload::Both(workload) => (&workload.server, workload.run()?),
        Workload::Backlog(workload) => (&workload.server, workload.run()?),
        Workload::Latency(workload) => (&workload.server, workload.run()?),
        Workload::Topics(workload) => (&workload.server, workload.run()?),
        Workload::Connections(workload) => (&workload.server, workload.run()?),
    };
    let text = if server.json {
        serde_json::to_string(&report).map_err(|error| format!("JSON: {error}"))? + "\n"
    } else {
        report.show()
    };
    // Who reads the results may have seen enough.
    let _ = std::io::stdout().write_all(text.as_bytes());
    match report.check {
        Some(Check { lost: lost @ 1.., .. }) => Err(format!("{lost} messages did not come")),
        _ => Ok(0),
    }
}

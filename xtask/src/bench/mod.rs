//! `cargo xtask bench`: the broker beside nsqd, and the clients of each language beside NSQ's.

mod broker;
mod clients;
mod node;

use clap::{Args, Subcommand};

/// Arguments of `cargo xtask bench`.
#[derive(Args)]
pub(crate) struct Bench {
    /// One of the three; without it all of them run, with their defaults
    #[command(subcommand)]
    part: Option<Part>,
}

#[derive(Subcommand)]
enum Part {
    /// Measures mq beside nsqd and writes docs/benchmarks.md
    Broker(broker::Broker),
    /// Measures what a message costs clients in Rust, C and Python, beside go-nsq and pynsq
    Clients(clients::Clients),
    /// Measures what a message costs programs in Node, beside nsqjs
    Node(node::Node),
}

impl Bench {
    pub(crate) fn run(self) -> Result<(), String> {
        match self.part {
            Some(Part::Broker(part)) => part.run(),
            Some(Part::Clients(part)) => part.run(),
            Some(Part::Node(part)) => part.run(),
            None => {
                broker::Broker::default().run()?;
                clients::Clients::default().run()?;
                node::Node::default().run()
            }
        }
    }
}

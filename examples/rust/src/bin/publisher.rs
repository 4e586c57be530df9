//! Publishes each line of standard input as a message, and ends when the broker has stored all of them.

use std::collections::VecDeque;
use std::error::Error;
use std::process::ExitCode;

use clap::Parser;
use mq_examples::Connection;
use mq_grpc::client::{Header, OutgoingMessage, Publisher, PublisherOptions, Receipt};
use tokio::io::{AsyncBufReadExt, BufReader, Stdin, stdin};

const BATCH_MESSAGES: usize = 100;
const BATCH_BYTES: usize = 64 << 10;
/// Batches whose answers we have not looked at. How many may be without one is the publisher's affair.
const RECEIPTS: usize = 64;

#[derive(Parser)]
#[command(about = "Publishes each line of standard input")]
struct Arguments {
    #[command(flatten)]
    connection: Connection,
}

/// Lines, as messages.
struct Messages {
    lines: BufReader<Stdin>,
    /// A random number that makes this run's ids differ from those of other runs.
    run: u64,
    count: u64,
}

impl Messages {
    /// The next batch; empty at the end of the lines.
    async fn next(&mut self) -> std::io::Result<Vec<OutgoingMessage>> {
        let (mut batch, mut size) = (Vec::new(), 0);
        while batch.len() < BATCH_MESSAGES && size < BATCH_BYTES {
            let mut line = Vec::new();
            if self.lines.read_until(b'\n', &mut line).await? == 0 {
                break;
            }
            let body = line.trim_ascii_end();
            if body.is_empty() {
                // A message has at least one byte.
                continue;
            }
            self.count += 1;
            size += body.len();
            let value = b"text/plain".as_slice().into();
            batch.push(OutgoingMessage {
                body: body.to_vec().into(),
                delay_ms: 0,
                headers: vec![Header { name: "content-type".to_owned(), value }],
                // A message that the publisher sends again keeps its id, and is stored once.
                dedup_id: format!("{:016x}-{}", self.run, self.count),
            });
        }
        Ok(batch)
    }
}

async fn run(connection: Connection) -> Result<usize, Box<dyn Error>> {
    let publisher = Publisher::new(vec![connection.target()?], PublisherOptions::default());
    let mut messages = Messages { lines: BufReader::new(stdin()), run: fastrand::u64(..), count: 0 };
    let mut receipts: VecDeque<(usize, Receipt)> = VecDeque::new();
    let (mut stored, mut more) = (0, true);
    while more || !receipts.is_empty() {
        if more {
            let batch = messages.next().await?;
            more = !batch.is_empty();
            if more {
                let count = batch.len();
                receipts.push_back((count, publisher.send(&connection.topic, batch).await?));
            }
        }
        if (!more || receipts.len() == RECEIPTS)
            && let Some((count, receipt)) = receipts.pop_front()
        {
            receipt.await.map_err(|error| format!("{stored} messages are stored, then: {error}"))?;
            stored += count;
        }
    }
    Ok(stored)
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Arguments::parse().connection).await {
        Ok(stored) => {
            eprintln!("published {stored} messages");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("publisher: {error}");
            ExitCode::FAILURE
        }
    }
}

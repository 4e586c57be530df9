//! One load by the crate `libmq`, and what it cost this process.

use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};
use libmq::{Client, Config, Error, SubscribeOptions};
use rustix::time::{ClockId, clock_gettime};

/// Bytes of a message.
const BODY: [u8; 100] = [b'x'; 100];
/// Messages of a batch.
const BATCH: usize = 100;
/// No step takes longer, unless something is wrong.
const PATIENCE: Duration = Duration::from_secs(60);

/// Publishes or consumes by the crate libmq, and prints the microseconds of CPU time that a message cost this
/// process
#[derive(Parser)]
#[command(name = "client-load")]
struct Load {
    #[arg(value_enum)]
    case: Case,
    /// The URL of the broker
    url: String,
    /// Number of messages
    messages: usize,
}

#[derive(Clone, Copy, ValueEnum)]
enum Case {
    /// Sends one message after the other
    Send,
    /// Sends batches of 100
    SendBatches,
    /// Takes one message after the other, and finishes each
    Finish,
    /// Takes batches of at most 100, and finishes each as one
    FinishBatches,
}

fn main() -> Result<(), Error> {
    let load = Load::parse();
    let config = Config { max_buffered_bytes: 8 << 20, ..Config::default() };
    let client = libmq::connect_with(&load.url, config)?;
    let used = match load.case {
        Case::Send => send(&client, load.messages)?,
        Case::SendBatches => send_batches(&client, load.messages)?,
        Case::Finish => finish(&client, load.messages)?,
        Case::FinishBatches => finish_batches(&client, load.messages)?,
    };
    println!("{:.3}", used.as_secs_f64() * 1e6 / load.messages as f64);
    client.close(PATIENCE)?;
    Ok(())
}

/// Time that all threads of this process have used.
fn own_cpu() -> Duration {
    let used = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(used.tv_sec.unsigned_abs(), u32::try_from(used.tv_nsec).unwrap_or(0))
}

fn send(client: &Client, messages: usize) -> Result<Duration, Error> {
    client.publish("t", &BODY[..])?;
    let began = own_cpu();
    for _ in 0..messages {
        while let Err(error) = client.send("t", &BODY[..]) {
            wait_for_room(client, error)?;
        }
    }
    client.flush(PATIENCE)?;
    Ok(own_cpu() - began)
}

fn send_batches(client: &Client, messages: usize) -> Result<Duration, Error> {
    client.publish("t", &BODY[..])?;
    let began = own_cpu();
    for _ in 0..messages / BATCH {
        while let Err(error) = client.send_many("t", [&BODY[..]; BATCH]) {
            wait_for_room(client, error)?;
        }
    }
    client.flush(PATIENCE)?;
    Ok(own_cpu() - began)
}

fn wait_for_room(client: &Client, error: Error) -> Result<(), Error> {
    match error {
        Error::BufferFull => client.flush(PATIENCE).map(drop),
        error => Err(error),
    }
}

fn finish(client: &Client, messages: usize) -> Result<Duration, Error> {
    let options = SubscribeOptions { max_in_flight: 2000, ..SubscribeOptions::default() };
    let subscription = client.subscribe("t", "c", options)?;
    let (began, deadline) = (own_cpu(), Instant::now() + PATIENCE);
    for _ in 0..messages {
        let message = subscription.next(deadline - Instant::now())?;
        message.ok_or_else(late)?.finish();
    }
    Ok(own_cpu() - began)
}

fn finish_batches(client: &Client, messages: usize) -> Result<Duration, Error> {
    let options = SubscribeOptions { max_in_flight: 2000, ..SubscribeOptions::default() };
    let subscription = client.subscribe("t", "c", options)?;
    let (began, mut left) = (own_cpu(), messages);
    while left > 0 {
        let batch = subscription.next_batch(BATCH, PATIENCE)?;
        if batch.is_empty() {
            return Err(late());
        }
        batch.finish(..);
        left = left.saturating_sub(batch.len());
    }
    Ok(own_cpu() - began)
}

fn late() -> Error {
    Error::Timeout("the messages do not come".to_owned())
}

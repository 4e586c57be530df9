//! One load by the crate `libmq`, and what it cost this process.

use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};
use libmq::{Client, Config, Error, SubscribeOptions, Subscription};
use rustix::time::{ClockId, clock_gettime};

/// Bytes of a message.
const BODY: [u8; 100] = [b'x'; 100];
/// Messages of a batch.
const BATCH: usize = 100;
/// Bytes of messages that wait for their answer at most: enough for the way there and back, and few enough to
/// stay in the processor's cache. The load by go-nsq has 1,000 calls on their way.
const UNANSWERED_BYTES: usize = 256 << 10;
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
    /// Publishes batches of 100 on one thread and consumes them on another; prints time of the clock
    Embedded,
    /// Publishes one message after the other, and waits for each; prints time of the clock
    PublishOne,
}

fn main() -> Result<(), Error> {
    let load = Load::parse();
    let config = Config { max_buffered_bytes: UNANSWERED_BYTES, ..Config::default() };
    let client = libmq::connect_with(&load.url, config)?;
    let used = match load.case {
        Case::Send => send(&client, load.messages)?,
        Case::SendBatches => send_batches(&client, load.messages)?,
        Case::Finish => finish(&client, load.messages)?,
        Case::FinishBatches => finish_batches(&client, load.messages)?,
        Case::Embedded => pipe_through(&client, load.messages)?,
        Case::PublishOne => publish_one(&client, load.messages)?,
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
    let began = own_cpu();
    take_batches(&subscription, messages)?;
    Ok(own_cpu() - began)
}

/// Takes messages in batches, and finishes each batch as one.
fn take_batches(subscription: &Subscription, mut left: usize) -> Result<(), Error> {
    while left > 0 {
        let batch = subscription.next_batch(BATCH, PATIENCE)?;
        if batch.is_empty() {
            return Err(late());
        }
        batch.finish(..);
        left = left.saturating_sub(batch.len());
    }
    Ok(())
}

fn pipe_through(client: &Client, messages: usize) -> Result<Duration, Error> {
    let options = SubscribeOptions { max_in_flight: 2000, ..SubscribeOptions::default() };
    let subscription = client.subscribe("t", "c", options)?;
    let began = Instant::now();
    std::thread::scope(|scope| {
        let publisher = scope.spawn(|| {
            (0..messages / BATCH).try_for_each(|_| client.publish_many("t", [&BODY[..]; BATCH]).map(drop))
        });
        take_batches(&subscription, messages)?;
        publisher.join().unwrap_or(Err(Error::Closed))
    })?;
    Ok(began.elapsed())
}

fn publish_one(client: &Client, messages: usize) -> Result<Duration, Error> {
    client.publish("t", &BODY[..])?;
    let began = Instant::now();
    for _ in 0..messages {
        client.publish("t", &BODY[..])?;
    }
    Ok(began.elapsed())
}

fn late() -> Error {
    Error::Timeout("the messages do not come".to_owned())
}

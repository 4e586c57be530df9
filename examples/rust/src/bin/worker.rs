//! Prints the messages of a channel, one a line, and finishes them. Ends cleanly on SIGINT and SIGTERM.

use std::error::Error;
use std::future::Future;
use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use mq_examples::Connection;
use mq_grpc::client::{Brokers, Consumer, ConsumerOptions, ReceivedMessage};
use tokio::signal::unix::{SignalKind, signal};

const RETRY_AFTER: Duration = Duration::from_millis(500);

#[derive(Parser)]
#[command(about = "Prints the messages of a channel")]
struct Arguments {
    #[command(flatten)]
    connection: Connection,
    /// The channel
    #[arg(long)]
    channel: String,
    /// Messages unfinished at a time
    #[arg(long, default_value_t = 16)]
    credit: u32,
    /// End after this many messages; 0: never
    #[arg(long, default_value_t = 0)]
    count: u64,
}

/// Your work: what fails is delivered again later. A message may come more than once in any case.
async fn process(message: &ReceivedMessage) -> Result<(), Box<dyn Error>> {
    if &message.body[..] == b"fail-once" && message.attempts == 1 {
        return Err("this one fails at its first attempt".into());
    }
    if message.body.starts_with(b"slow") {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let mut out = std::io::stdout().lock();
    out.write_all(&message.body)?;
    out.write_all(b"\n")?;
    Ok(())
}

/// Completes on SIGINT or SIGTERM.
fn stop() -> std::io::Result<impl Future<Output = ()>> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

async fn run(Arguments { connection, channel, credit, count }: Arguments) -> Result<(), Box<dyn Error>> {
    let mut stop = std::pin::pin!(stop()?);
    // The consumer connects again by itself, and extends what waits or is at work.
    let options = ConsumerOptions {
        client_name: "example worker (Rust)".to_owned(),
        in_flight: credit,
        ..ConsumerOptions::default()
    };
    let brokers = Brokers::Fixed(vec![connection.target()?]);
    let mut consumer = Consumer::new(brokers, &connection.topic, &channel, options);
    let mut finished = 0;
    while count == 0 || finished < count {
        let delivery = tokio::select! {
            () = &mut stop => break,
            delivery = consumer.next() => match delivery {
                Some(delivery) => delivery?,
                None => return Err("no broker is left".into()),
            },
        };
        match process(delivery.message()).await {
            Ok(()) => {
                finished += 1;
                delivery.finish();
            }
            Err(error) => {
                eprintln!("to be tried again: {error}");
                delivery.requeue(RETRY_AFTER);
            }
        }
    }
    // What we have not taken goes back, and counts as no attempt.
    consumer.close().await;
    Ok(())
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("worker: {error}");
            ExitCode::FAILURE
        }
    }
}

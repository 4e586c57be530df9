//! A publisher over libmq: publishes each line of its input, to a folder or to brokers, as the URL says.

use std::collections::VecDeque;
use std::io::BufRead;
use std::time::Duration;

use clap::Parser;
use libmq::PublishState;

#[derive(Parser)]
struct Arguments {
    /// ./FOLDER, mq://host:4150[,host:4150...] or mq+lookup://host:4161
    #[arg(long, default_value = "mq://127.0.0.1:4150")]
    url: String,
    /// The topic
    #[arg(long)]
    topic: String,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let Arguments { url, topic } = Arguments::parse();
    let client = libmq::connect(&url)?;
    let mut pending = VecDeque::new();
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        if line.is_empty() {
            continue;
        }
        // Goes on at once; only a full buffer is waited for.
        match client.send(&topic, line.clone()) {
            Err(libmq::Error::BufferFull) => drop(client.publish(&topic, line)?),
            sent => pending.push_back(sent?),
        }
        // Outcomes come in the order of the lines. One that failed ends the program.
        while pending
            .front()
            .is_some_and(|sent| !matches!(sent.state(), PublishState::Queued | PublishState::Sent))
            && let Some(sent) = pending.pop_front()
        {
            sent.wait(Duration::ZERO)?;
        }
    }
    client.flush(Duration::from_secs(30))?;
    for sent in pending {
        sent.wait(Duration::ZERO)?;
    }
    Ok(())
}

//! A worker over libmq: prints each message and finishes it, from a folder or from brokers, as the URL says.

use std::time::Duration;

use clap::Parser;
use libmq::SubscribeOptions;

#[derive(Parser)]
struct Arguments {
    /// ./FOLDER, mq://host:4150[,host:4150...] or mq+lookup://host:4161
    #[arg(long, default_value = "mq://127.0.0.1:4150")]
    url: String,
    /// The topic
    #[arg(long)]
    topic: String,
    /// The channel: its workers share the messages
    #[arg(long)]
    channel: String,
    /// Ends after so many messages; 0: never
    #[arg(long, default_value_t = 0)]
    count: u64,
}

fn main() -> libmq::Result<()> {
    let Arguments { url, topic, channel, count } = Arguments::parse();
    let client = libmq::connect(&url)?;
    let subscription = client.subscribe(&topic, &channel, SubscribeOptions::default())?;
    let mut handled = 0;
    for message in subscription.iter() {
        let message = message?;
        println!("{}", String::from_utf8_lossy(message.body()));
        // Without it, as after a panic, the message goes back to its channel.
        message.finish();
        handled += 1;
        if handled == count {
            break;
        }
        for failure in subscription.failures() {
            eprintln!("{}", failure.error);
        }
    }
    // Whoever ends waits until its last answers are on their way.
    subscription.close(Duration::from_secs(5));
    Ok(())
}

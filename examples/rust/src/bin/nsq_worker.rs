//! A worker in the manner of go-nsq: handlers on threads of its own, brokers by address or by lookup server.

use std::time::Duration;

use clap::Parser;
use libmq::nsq::{Config, Consumer, Handler, HandlerError, Message};

#[derive(Parser)]
struct Arguments {
    /// host:port of a broker; more than once for several
    #[arg(long)]
    nsqd: Vec<String>,
    /// host:port of a lookup server; more than once for several
    #[arg(long)]
    lookupd: Vec<String>,
    /// The topic
    #[arg(long)]
    topic: String,
    /// The channel: its workers share the messages
    #[arg(long)]
    channel: String,
    /// A setting of libmq::nsq::Config, as max_attempts=10; more than once for several
    #[arg(long = "set", value_name = "KEY=VALUE")]
    settings: Vec<String>,
    /// Threads that handle messages
    #[arg(long, default_value_t = 4)]
    threads: u32,
    /// Ends after so many messages; 0: never
    #[arg(long, default_value_t = 0)]
    count: u64,
}

/// Prints orders.
struct Print;

impl Handler for Print {
    fn handle_message(&self, message: &Message) -> Result<(), HandlerError> {
        // An error, here of a body that is no text, lets the message come again, later each time.
        println!("{}", std::str::from_utf8(message.body())?);
        Ok(())
    }

    fn log_failed_message(&self, message: &Message) {
        eprintln!("{} given up after {} attempts", message.id(), message.attempts() - 1);
    }
}

fn main() -> libmq::Result<()> {
    let Arguments { nsqd, lookupd, topic, channel, settings, threads, count } = Arguments::parse();
    let mut config = Config { max_in_flight: threads, ..Config::default() };
    for setting in settings {
        let (key, value) = setting.split_once('=').unwrap_or((&setting, "true"));
        config.set(key, value)?;
    }
    let consumer = Consumer::new(&topic, &channel, &config)?;
    consumer.add_concurrent_handlers(Print, threads as usize)?;
    consumer.connect_to_nsqds(nsqd)?;
    consumer.connect_to_nsqlookupds(lookupd)?;
    while count == 0 || consumer.stats().messages_finished < count {
        std::thread::sleep(Duration::from_millis(100));
        for failure in consumer.failures() {
            eprintln!("{}", failure.error);
        }
    }
    // What is here is still handled.
    consumer.stop();
    consumer.wait(Duration::MAX)?;
    Ok(())
}

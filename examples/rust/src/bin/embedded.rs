//! A broker inside a program: publishes an order, then handles what comes.

use std::time::Duration;

use mq_core::{Broker, Options, SubscribeOptions};

fn main() -> mq_core::Result<()> {
    let broker = Broker::open(Options { data_path: "data".into(), ..Options::default() })?;
    let (topic, channel) = ("orders".parse()?, "billing".parse()?);
    let mut billing = broker.subscribe(&topic, &channel, SubscribeOptions::default())?;
    // Returns once the message is stored as the topic's durability level wants it.
    broker.topic(&topic)?.publish_one(b"one pizza")?.wait(&broker)?;
    while let Some(message) = billing.recv(Duration::from_secs(1))? {
        println!("{}", String::from_utf8_lossy(message.body()));
        message.finish()?;
    }
    broker.close()
}

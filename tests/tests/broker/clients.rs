//! Steps that the tests take on a connection.

use std::time::Duration;

use mq_core::{ChannelName, TopicName};
use mq_nsq::client::{Connection, Identify, Message};
use mq_tests::{Broker, PATIENCE};

pub(crate) fn topic(name: &str) -> TopicName {
    TopicName::parse(name).unwrap()
}

pub(crate) async fn connect(broker: &Broker) -> Connection {
    Connection::connect(broker.address(), Identify::default()).await.unwrap()
}

/// A connection that consumes with `rdy` messages in flight at most.
pub(crate) async fn subscribe(broker: &Broker, topic_name: &str, channel: &str, rdy: u32) -> Connection {
    let mut connection = connect(broker).await;
    let channel = ChannelName::parse(channel).unwrap();
    connection.subscribe(&topic(topic_name), &channel, rdy).await.unwrap();
    connection
}

/// Makes a channel, and leaves it.
pub(crate) async fn create_channel(broker: &Broker, topic_name: &str, channel: &str) {
    subscribe(broker, topic_name, channel, 0).await.close().await.unwrap();
}

/// The next message; fails if none comes.
pub(crate) async fn next(connection: &mut Connection) -> Message {
    tokio::time::timeout(PATIENCE, connection.next())
        .await
        .expect("a message in time")
        .unwrap()
        .expect("not closed")
}

/// Whether nothing comes for a while: long enough to see what should not come, short enough to be run often.
pub(crate) async fn is_quiet(connection: &mut Connection) -> bool {
    tokio::time::timeout(Duration::from_millis(100), connection.next()).await.is_err()
}

//! A destination of messages: a web server, or brokers.

use std::time::Duration;

use bytes::Bytes;
use libmq::{Client, Error, NewMessage};
use tokio::time::timeout;

use super::http::Web;

/// A destination.
pub(super) enum Destination {
    Web(Box<Web>),
    Brokers(ToBrokers),
}

/// Brokers that messages are published to.
pub(super) struct ToBrokers {
    pub(super) name: String,
    pub(super) client: Client,
    /// Longest wait for the answer.
    pub(super) timeout: Duration,
}

impl Destination {
    /// The destination, for people.
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Web(web) => web.name(),
            Self::Brokers(brokers) => &brokers.name,
        }
    }

    /// Delivers a message. Returns once the destination has taken it.
    ///
    /// # Errors
    /// The reason why it did not, or may not have.
    pub(super) async fn deliver(
        &self,
        topic: &str,
        body: Bytes,
        headers: &[(String, Bytes)],
    ) -> Result<(), String> {
        match self {
            Self::Web(web) => web.send(&body, headers).await,
            Self::Brokers(ToBrokers { client, timeout: time, .. }) => {
                let message = NewMessage::new(body);
                let message = headers.iter().cloned().fold(message, |message, (k, v)| message.header(k, v));
                match timeout(*time, client.publish_async(topic, message)).await {
                    Ok(Err(error @ Error::Unsupported { .. })) if !headers.is_empty() => {
                        Err(format!("{error}: --drop-headers leaves them out"))
                    }
                    Ok(published) => published.map(drop).map_err(|error| error.to_string()),
                    Err(_) => Err(format!("no answer within {time:?}")),
                }
            }
        }
    }
}

//! A connection that looks at topics.

use std::sync::Arc;

use mq_core::{MessageId, TopicName};
use mq_nsq::client::{Connection, Error as WireError, Message, Peeked as WirePeeked};

use super::{Brokers, addresses};
use crate::delivery::{Delivery, DeliveryKey};
use crate::error::{Error, Result};
use crate::peeked::Peeked;

/// The connection that looks at topics, from one look to the next.
#[derive(Default)]
pub(crate) struct Peeker {
    connection: Option<(Connection, Arc<str>)>,
}

impl Peeker {
    /// Looks at a topic. A connection that was kept may have ended meanwhile: then there is another one.
    pub(crate) async fn peek(
        &mut self,
        brokers: &Brokers,
        topic: &TopicName,
        from: Option<MessageId>,
        max: usize,
    ) -> Result<Peeked> {
        let max = u16::try_from(max).unwrap_or(u16::MAX);
        if let Some((mut connection, broker)) = self.connection.take() {
            match connection.peek(topic, from, max).await {
                Err(error) if !matches!(error, WireError::Server { .. }) => {}
                answer => return self.answer(connection, broker, answer),
            }
        }
        let mut failed = Error::Invalid("there is no broker to look at".to_owned());
        for address in addresses(brokers).await {
            match brokers.dial(&address, None).await {
                Ok(mut connection) => {
                    let answer = connection.peek(topic, from, max).await;
                    return self.answer(connection, address.into(), answer);
                }
                Err(error) => failed = Error::Unreachable { why: error.to_string(), broker: address },
            }
        }
        Err(failed)
    }

    /// The broker's answer in the client's words. The connection is kept if it goes on.
    fn answer(
        &mut self,
        connection: Connection,
        broker: Arc<str>,
        answer: std::result::Result<WirePeeked, WireError>,
    ) -> Result<Peeked> {
        let name = broker.to_string();
        let WirePeeked { channels, next, messages } = match answer {
            Ok(peeked) => peeked,
            // It does not know the command.
            Err(WireError::Server { code, .. }) if code == "E_INVALID" => {
                return Err(Error::Unsupported { what: "to show a topic".to_owned(), broker: name });
            }
            Err(error @ WireError::Server { .. }) => {
                return Err(Error::Refused { why: error.to_string(), broker: name, retry: true });
            }
            Err(error) => return Err(Error::Unreachable { why: error.to_string(), broker: name }),
        };
        let messages = messages.into_iter().map(|message| {
            let Message { id, timestamp, attempts, body, offset, headers, .. } = message;
            let key = DeliveryKey { id, token: None, connection: 0 };
            Delivery { key, body, headers, attempts, timestamp, offset, broker: Arc::clone(&broker) }
        });
        let messages = messages.collect();
        self.connection = Some((connection, broker));
        Ok(Peeked { messages, next, channels: channels as usize })
    }
}

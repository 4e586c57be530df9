//! Messages as JSON objects.

use bytes::Bytes;
use libmq::Delivery;
use mq_core::MessageId;
use serde::Serialize;

use crate::hex;

/// A message, with its body as text where it is UTF-8, else as hexadecimal digits.
#[derive(Serialize)]
pub(crate) struct Line<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    topic: Option<&'a str>,
    id: String,
    /// Nanoseconds since 1970.
    timestamp: u64,
    attempts: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    broker: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    headers: Vec<Header<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body_hex: Option<String>,
}

/// A header, with its value as a body is.
#[derive(Serialize)]
struct Header<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value_hex: Option<String>,
}

impl<'a> Line<'a> {
    pub(crate) fn new(id: MessageId, timestamp: u64, attempts: u16, body: &'a [u8]) -> Self {
        let text = std::str::from_utf8(body).ok();
        Self {
            topic: None,
            id: String::from_utf8_lossy(&id.to_hex()).into_owned(),
            timestamp,
            attempts,
            broker: None,
            headers: Vec::new(),
            body: text,
            body_hex: text.is_none().then(|| hex::encode(body)),
        }
    }

    /// A message of a subscription, with its headers and its broker.
    pub(crate) fn of(message: &'a Delivery) -> Self {
        let header = |(name, value): &'a (String, Bytes)| {
            let text = std::str::from_utf8(value).ok();
            Header { name, value: text, value_hex: text.is_none().then(|| hex::encode(value)) }
        };
        Self {
            broker: Some(message.broker()),
            headers: message.headers().iter().map(header).collect(),
            ..Self::new(message.id(), message.timestamp(), message.attempts(), message.body())
        }
    }

    /// The same with its topic.
    pub(crate) fn in_topic(self, topic: &'a str) -> Self {
        Self { topic: Some(topic), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_text_or_digits() {
        let of = |body| serde_json::to_string(&Line::new(MessageId(255), 7, 2, body)).unwrap();
        let head = r#"{"id":"00000000000000ff","timestamp":7,"attempts":2,"#;
        assert_eq!(of(b"a\n"), format!("{head}\"body\":\"a\\n\"}}"));
        assert_eq!(of(b"\xff"), format!("{head}\"body_hex\":\"ff\"}}"));
    }
}

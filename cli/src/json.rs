//! Messages as JSON objects.

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
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body_hex: Option<String>,
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
            body: text,
            body_hex: text.is_none().then(|| hex::encode(body)),
        }
    }

    /// The same with its broker.
    pub(crate) fn of(self, broker: &'a str) -> Self {
        Self { broker: Some(broker), ..self }
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

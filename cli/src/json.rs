//! Messages as JSON objects, and their headers.

use libmq::Delivery;
use mq_core::MessageId;
use serde::Serialize;

use crate::hex;
use crate::words::printable;

/// A message, with its body as text where it is UTF-8, else as hexadecimal digits.
#[derive(Serialize)]
pub(crate) struct Line<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    topic: Option<&'a str>,
    id: String,
    /// Place in its topic.
    #[serde(skip_serializing_if = "Option::is_none")]
    offset: Option<u64>,
    /// Nanoseconds since 1970.
    timestamp: u64,
    attempts: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    broker: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    headers: Vec<Header<'a>>,
    /// Place in its channel.
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<&'a str>,
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
            offset: None,
            timestamp,
            attempts,
            broker: None,
            headers: Vec::new(),
            state: None,
            body: text,
            body_hex: text.is_none().then(|| hex::encode(body)),
        }
    }

    /// A message of a subscription, with its headers and its broker.
    pub(crate) fn of(message: &'a Delivery) -> Self {
        let headers = message.headers().iter().map(|(name, value)| (name.as_str(), &value[..]));
        Self {
            broker: Some(message.broker()),
            offset: message.offset(),
            ..Self::new(message.id(), message.timestamp(), message.attempts(), message.body())
                .with_headers(headers)
        }
    }

    /// The same with headers.
    pub(crate) fn with_headers(self, headers: impl Iterator<Item = (&'a str, &'a [u8])>) -> Self {
        let header = |(name, value): (&'a str, &'a [u8])| {
            let text = std::str::from_utf8(value).ok();
            Header { name, value: text, value_hex: text.is_none().then(|| hex::encode(value)) }
        };
        Self { headers: headers.map(header).collect(), ..self }
    }

    /// The same with its place in a channel.
    pub(crate) fn in_state(self, state: Option<&'a str>) -> Self {
        Self { state, ..self }
    }

    /// The same with its place in its topic.
    pub(crate) fn at_offset(self, offset: u64) -> Self {
        Self { offset: Some(offset), ..self }
    }

    /// The same with its topic.
    pub(crate) fn in_topic(self, topic: &'a str) -> Self {
        Self { topic: Some(topic), ..self }
    }
}

/// A header on a line below its message, for people.
pub(crate) fn header_line(name: &str, value: &[u8]) -> String {
    format!("    {}: {}", printable(name), printable(&String::from_utf8_lossy(value)))
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

    #[test]
    fn a_header_is_an_object_with_its_value_as_a_body_is() {
        let headers = [("a", &b"x"[..]), ("b", &b"\xff"[..])];
        let line = Line::new(MessageId(1), 7, 2, b"").with_headers(headers.into_iter());
        let json = serde_json::to_value(&line).unwrap();
        let want = serde_json::json!([{"name": "a", "value": "x"}, {"name": "b", "value_hex": "ff"}]);
        assert_eq!(json["headers"], want);
        assert_eq!(header_line("a\n", b"\x1b[2J"), "    a\\n: \\u{1b}[2J");
    }
}

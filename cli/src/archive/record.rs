//! The bytes of a message in a file. Pure.

use libmq::Delivery;

use crate::json;

/// Form of a message in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// The body and a newline
    Lines,
    /// A JSON object a line: id, timestamp in nanoseconds, attempts, broker, headers, and body or, if that is
    /// not UTF-8, body_hex
    Json,
    /// The body's length in 4 bytes, the highest first, and the body: for bodies with newlines
    Length,
}

impl Format {
    /// Puts a message behind what is in `out`.
    pub(super) fn put(self, message: &Delivery, out: &mut Vec<u8>) {
        match self {
            Self::Lines => {
                out.extend_from_slice(message.body());
                out.push(b'\n');
            }
            Self::Json => {
                // Strings and numbers into memory: nothing fails.
                let _ = serde_json::to_writer(&mut *out, &json::Line::of(message));
                out.push(b'\n');
            }
            Self::Length => {
                // Brokers take no message of 4 GiB.
                let length = u32::try_from(message.body().len()).unwrap_or(u32::MAX);
                out.extend_from_slice(&length.to_be_bytes());
                out.extend_from_slice(message.body());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_message_has_three_forms() {
        let client = libmq::connect("mq:memory").unwrap();
        let subscription = client.subscribe("t", "c", libmq::SubscribeOptions::default()).unwrap();
        client.publish_many("t", [&b"a\nb"[..], &b"\xff"[..]]).unwrap();
        let mut put = |format: Format| {
            let message = subscription.next(Duration::from_secs(10)).unwrap().unwrap();
            let mut out = b"before ".to_vec();
            format.put(&message, &mut out);
            message.requeue(Duration::ZERO);
            out
        };
        let all: Vec<_> =
            [Format::Lines, Format::Lines, Format::Length, Format::Length, Format::Json, Format::Json]
                .into_iter()
                .map(&mut put)
                .collect();
        assert_eq!(all[0], b"before a\nb\n");
        assert_eq!(all[1], b"before \xff\n");
        assert_eq!(all[2], b"before \0\0\0\x03a\nb");
        assert_eq!(all[3], b"before \0\0\0\x01\xff");
        let json = |line: &[u8]| serde_json::from_slice::<serde_json::Value>(&line[7..]).unwrap();
        let (text, bytes) = (json(&all[4]), json(&all[5]));
        assert_eq!((text["body"].as_str(), text["attempts"].as_u64()), (Some("a\nb"), Some(3)));
        assert!(text.get("body_hex").is_none() && bytes.get("body").is_none());
        assert_eq!(bytes["body_hex"], "ff");
    }
}

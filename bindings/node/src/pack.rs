//! A batch of messages as two arrays for JavaScript, which makes its objects from them on first use: an
//! object for each message would cost twenty times as much.

use libmq::Delivery;

/// Words of a message in the first array: position and length of the body in the second; attempts with the
/// broker's number in the upper half; time, id and offset, the lower half first; position of the headers.
const WORDS: usize = 10;

/// An offset or a position that is not there.
const NONE: u32 = u32::MAX;

/// Bytes of a batch beyond which the rest of it goes back: positions have 32 bits.
const BYTES_MAX: usize = 1 << 30;

/// A batch, without its bytes.
pub(crate) struct Packed {
    pub(crate) words: Vec<u32>,
    /// Length of the second array.
    pub(crate) bytes: usize,
    pub(crate) brokers: Vec<String>,
}

/// The number of messages, from the first on, that one batch can hold: at least one.
pub(crate) fn fitting(messages: &[Delivery]) -> usize {
    let mut bytes = 0_usize;
    let fits = |message: &&Delivery| {
        bytes = bytes.saturating_add(message.body().len() + headers_length(message));
        bytes <= BYTES_MAX
    };
    messages.iter().take_while(fits).count().max(1)
}

/// Lays out the messages.
pub(crate) fn pack(messages: &[Delivery]) -> Packed {
    let mut packed =
        Packed { words: Vec::with_capacity(messages.len() * WORDS), bytes: 0, brokers: Vec::new() };
    for message in messages {
        let known = packed.brokers.iter().position(|broker| broker == message.broker());
        let broker = known.unwrap_or_else(|| {
            packed.brokers.push(message.broker().to_owned());
            packed.brokers.len() - 1
        });
        let body = packed.place(message.body().len());
        let headers = match headers_length(message) {
            0 => NONE,
            length => packed.place(length),
        };
        let [time_low, time_high] = halves(message.timestamp());
        let [id_low, id_high] = halves(message.id().0);
        let [offset_low, offset_high] = message.offset().map_or([NONE, NONE], halves);
        let broker = u32::from(u16::try_from(broker).unwrap_or(u16::MAX));
        packed.words.extend([
            body,
            length(message.body()),
            u32::from(message.attempts()) | broker << 16,
            time_low,
            time_high,
            id_low,
            id_high,
            offset_low,
            offset_high,
            headers,
        ]);
    }
    packed
}

/// Writes the bytes of the messages, in the order of [`pack`]: the body, then headers if there are any: their
/// number, and for each the length of name and value and both, in words of 32 bits, lower byte first.
pub(crate) fn fill(messages: &[Delivery], mut bytes: &mut [u8]) {
    let mut put = |from: &[u8]| {
        if let Some((into, rest)) = std::mem::take(&mut bytes).split_at_mut_checked(from.len()) {
            into.copy_from_slice(from);
            bytes = rest;
        }
    };
    for message in messages {
        put(message.body());
        if !message.headers().is_empty() {
            put(&u32::try_from(message.headers().len()).unwrap_or(NONE).to_le_bytes());
        }
        for (name, value) in message.headers() {
            put(&length(name.as_bytes()).to_le_bytes());
            put(&length(value).to_le_bytes());
            put(name.as_bytes());
            put(value);
        }
    }
}

impl Packed {
    /// The place of so many bytes.
    fn place(&mut self, bytes: usize) -> u32 {
        let place = self.bytes;
        self.bytes += bytes;
        u32::try_from(place).unwrap_or(NONE)
    }
}

fn headers_length(message: &Delivery) -> usize {
    if message.headers().is_empty() {
        return 0;
    }
    4 + message.headers().iter().map(|(name, value)| 8 + name.len() + value.len()).sum::<usize>()
}

fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(NONE)
}

/// The lower and the upper half.
fn halves(number: u64) -> [u32; 2] {
    [number as u32, (number >> 32) as u32]
}

#[cfg(test)]
mod tests {
    use super::*;
    use libmq::{NewMessage, SubscribeOptions};
    use std::time::Duration;

    #[test]
    fn bodies_and_headers_stand_where_the_words_say() {
        let client = libmq::connect("mq:memory").unwrap();
        let subscription = client.subscribe("t", "c", SubscribeOptions::default()).unwrap();
        let second = NewMessage::new("two").header("a", "b").header("a", "");
        client.publish_many("t", [NewMessage::new("one"), second, NewMessage::new("three")]).unwrap();
        let batch = subscription.next_batch(3, Duration::from_secs(60)).unwrap();
        let messages = batch.iter().as_slice();
        let packed = pack(messages);
        let mut bytes = vec![0; packed.bytes];
        fill(messages, &mut bytes);
        let headers = b"\x02\0\0\0\x01\0\0\0\x01\0\0\0ab\x01\0\0\0\0\0\0\0a";
        assert_eq!(bytes, [b"onetwo", &headers[..], b"three"].concat());
        let after = 6 + u32::try_from(headers.len()).unwrap();
        let places: Vec<_> = packed.words.chunks(WORDS).map(|words| (words[0], words[1], words[9])).collect();
        assert_eq!(places, [(0, 3, NONE), (3, 3, 6), (after, 5, NONE)]);
        assert_eq!(packed.words[2], 1);
        assert_eq!(packed.brokers, ["mq:memory"]);
        assert_eq!(fitting(messages), 3);
    }
}

//! Commands to publish, encoded once and stamped anew each time around.

use std::ops::Range;

use super::body::{STAMP_BYTES, Stamp, filler};
use super::http;

/// Most bytes of commands one connection keeps.
const RING_BYTES_MAX: usize = 256 << 20;
/// Bytes of a body's size before it.
const SIZE_BYTES: usize = 4;

/// A ring of commands: one after the other in memory, so that many go out in one write.
pub(crate) struct Commands {
    bytes: Vec<u8>,
    slots: Vec<Slot>,
    next: usize,
    batch: usize,
    size: usize,
    run: u32,
    connection: u32,
    sequence: u64,
}

struct Slot {
    range: Range<usize>,
    first_body: usize,
}

/// Shape of the commands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape<'a> {
    /// The header lines of each, if they are requests of HTTP.
    pub(crate) http: Option<&'a str>,
    /// Messages of a command: 1 is a PUB, more an MPUB.
    pub(crate) batch: usize,
    /// Bytes of a message.
    pub(crate) size: usize,
    /// Commands that may go out at once.
    pub(crate) window: usize,
}

impl Commands {
    /// Commands to each of `topics` in turn.
    ///
    /// # Errors
    /// If a message is too small for its stamp, or the commands take more memory than the load may.
    pub(crate) fn new(
        topics: &[String],
        shape: Shape<'_>,
        run: u32,
        connection: u32,
    ) -> Result<Self, String> {
        let Shape { http, batch, size, window } = shape;
        if size < STAMP_BYTES {
            return Err(format!(
                "--size {size} is too small: a message carries {STAMP_BYTES} bytes of its own"
            ));
        }
        let length = window.max(1).div_ceil(topics.len().max(1)) * topics.len();
        let total = (batch as u128) * ((size + SIZE_BYTES) as u128) * (length as u128);
        if total > RING_BYTES_MAX as u128 {
            return Err(format!(
                "{batch} messages of {size} bytes in each of {length} commands are more than {} MiB: lower --batch, \
                 --window or --topics",
                RING_BYTES_MAX >> 20
            ));
        }
        let body = filler(size);
        let (mut bytes, mut slots) = (Vec::new(), Vec::with_capacity(length));
        for topic in topics.iter().cycle().take(length) {
            let start = bytes.len();
            let batch_bytes = SIZE_BYTES + batch * (SIZE_BYTES + size);
            match (http, batch) {
                (Some(headers), 1) => bytes.extend_from_slice(http::head(headers, topic, 1, size).as_bytes()),
                (Some(headers), _) => {
                    bytes.extend_from_slice(http::head(headers, topic, batch, batch_bytes).as_bytes());
                    put_size(&mut bytes, batch);
                }
                (None, 1) => bytes.extend_from_slice(format!("PUB {topic}\n").as_bytes()),
                (None, _) => {
                    bytes.extend_from_slice(format!("MPUB {topic}\n").as_bytes());
                    put_size(&mut bytes, batch_bytes);
                    put_size(&mut bytes, batch);
                }
            }
            let has_sizes = batch > 1 || http.is_none();
            let first_body = bytes.len() + if has_sizes { SIZE_BYTES } else { 0 };
            for _ in 0..batch {
                if has_sizes {
                    put_size(&mut bytes, size);
                }
                bytes.extend_from_slice(&body);
            }
            slots.push(Slot { range: start..bytes.len(), first_body });
        }
        Ok(Self { bytes, slots, next: 0, batch, size, run, connection, sequence: 0 })
    }

    /// Bytes of a message.
    pub(crate) fn message_bytes(&self) -> u64 {
        self.size as u64
    }

    /// The next commands, at most `max`, one after the other: fewer where the ring ends. With how many there
    /// are.
    pub(crate) fn take(&mut self, max: u64, intended_ns: u64) -> (&[u8], u64) {
        let count = usize::try_from(max).unwrap_or(usize::MAX).min(self.slots.len() - self.next);
        let slots = self.slots.get(self.next..self.next + count).unwrap_or_default();
        let mut range = 0..0;
        for slot in slots {
            for body in 0..self.batch {
                let at = slot.first_body + body * (self.size + SIZE_BYTES);
                let stamp = Stamp {
                    run: self.run,
                    connection: self.connection,
                    sequence: self.sequence,
                    intended_ns,
                };
                stamp.put(self.bytes.get_mut(at..at + STAMP_BYTES).unwrap_or_default());
                self.sequence += 1;
            }
            range = if range.is_empty() { slot.range.clone() } else { range.start..slot.range.end };
        }
        self.next = (self.next + count) % self.slots.len();
        (self.bytes.get(range).unwrap_or_default(), count as u64)
    }
}

fn put_size(out: &mut Vec<u8>, size: usize) {
    out.extend_from_slice(&u32::try_from(size).unwrap_or(u32::MAX).to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(count: usize) -> Vec<String> {
        (0..count).map(|n| format!("t{n}")).collect()
    }

    #[test]
    fn commands_go_around_with_new_stamps() {
        let shape = Shape { http: None, batch: 1, size: STAMP_BYTES, window: 2 };
        let mut commands = Commands::new(&names(1), shape, 7, 9).unwrap();
        let stamp = |bytes: &[u8]| Stamp::get(&bytes[bytes.len() - STAMP_BYTES..]).unwrap();
        let (bytes, count) = commands.take(5, 0);
        assert_eq!((count, bytes.len()), (2, 2 * (7 + 4 + STAMP_BYTES)));
        assert!(bytes.starts_with(b"PUB t0\n\0\0\0\x1cmqb1"));
        assert_eq!(stamp(bytes), Stamp { run: 7, connection: 9, sequence: 1, intended_ns: 0 });
        let (bytes, count) = commands.take(1, 5);
        assert_eq!((count, stamp(bytes).sequence, stamp(bytes).intended_ns), (1, 2, 5));
        let (bytes, count) = commands.take(2, 0);
        assert_eq!((count, stamp(bytes).sequence), (1, 3));
    }

    #[test]
    fn batches_and_topics_take_turns() {
        let shape = Shape { http: None, batch: 3, size: 30, window: 2 };
        let mut commands = Commands::new(&names(3), shape, 1, 1).unwrap();
        for topic in [b"MPUB t0\n", b"MPUB t1\n", b"MPUB t2\n", b"MPUB t0\n"] {
            let (bytes, _) = commands.take(1, 0);
            assert!(bytes.starts_with(topic));
            assert_eq!(bytes.len(), 8 + 4 + 4 + 3 * 34);
            assert_eq!(bytes[8..16], [0, 0, 0, 4 + 3 * 34, 0, 0, 0, 3]);
        }
        assert_eq!(commands.sequence, 12);
    }

    #[test]
    fn requests_are_stamped_too() {
        for (batch, path, before) in [(1, "/pub?", 0), (2, "/mpub?binary=true&", 8)] {
            let shape = Shape { http: Some("Host: h:1\r\n"), batch, size: 30, window: 1 };
            let mut commands = Commands::new(&names(1), shape, 7, 9).unwrap();
            let length = if batch == 1 { 30 } else { 4 + 2 * 34 };
            let head =
                format!("POST {path}topic=t0 HTTP/1.1\r\nHost: h:1\r\nContent-Length: {length}\r\n\r\n");
            for sequence in [0, batch as u64] {
                let (bytes, _) = commands.take(1, 0);
                assert!(bytes.starts_with(head.as_bytes()), "{}", bytes.escape_ascii());
                assert_eq!(bytes.len(), head.len() + length);
                let stamp = Stamp::get(&bytes[head.len() + before..]).unwrap();
                assert_eq!(stamp, Stamp { run: 7, connection: 9, sequence, intended_ns: 0 });
            }
        }
    }

    #[test]
    fn what_can_not_be_is_said() {
        let shape = Shape { http: None, batch: 1, size: 10, window: 1 };
        assert!(Commands::new(&names(1), shape, 0, 0).err().unwrap().contains("--size 10 is too small"));
        let shape = Shape { http: None, batch: 1000, size: 1 << 20, window: 1 };
        assert!(Commands::new(&names(1), shape, 0, 0).err().unwrap().contains("more than 256 MiB"));
    }
}

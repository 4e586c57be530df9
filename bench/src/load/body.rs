//! Bodies of the load's messages, by which a consumer recognises each message and its age.
//!
//! ```text
//! body = "mqb1", u32 run, u32 connection, u64 sequence, u64 intended time (ns since the run began), filler
//! ```
//! Integers are big-endian. A run's number is random: a topic may hold messages of earlier runs.

/// Bytes before the filler, and so of the smallest message.
pub(crate) const STAMP_BYTES: usize = 28;

const MAGIC: [u8; 4] = *b"mqb1";

/// The message's identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) run: u32,
    /// The publisher's connection.
    pub(crate) connection: u32,
    /// Counts that connection's messages, from 0.
    pub(crate) sequence: u64,
    /// Time at which it was to be sent; 0 if latency is not measured.
    pub(crate) intended_ns: u64,
}

impl Stamp {
    /// Writes it to the front of `body`; a shorter one is left as it is.
    pub(crate) fn put(&self, body: &mut [u8]) {
        let Some(front) = body.first_chunk_mut::<STAMP_BYTES>() else { return };
        front[..4].copy_from_slice(&MAGIC);
        front[4..8].copy_from_slice(&self.run.to_be_bytes());
        front[8..12].copy_from_slice(&self.connection.to_be_bytes());
        front[12..20].copy_from_slice(&self.sequence.to_be_bytes());
        front[20..].copy_from_slice(&self.intended_ns.to_be_bytes());
    }

    /// Reads it; `None` where the body is nobody's load.
    pub(crate) fn get(body: &[u8]) -> Option<Self> {
        let rest = body.strip_prefix(&MAGIC)?;
        let (run, rest) = rest.split_first_chunk()?;
        let (connection, rest) = rest.split_first_chunk()?;
        let (sequence, rest) = rest.split_first_chunk()?;
        let (intended_ns, _) = rest.split_first_chunk()?;
        Some(Self {
            run: u32::from_be_bytes(*run),
            connection: u32::from_be_bytes(*connection),
            sequence: u64::from_be_bytes(*sequence),
            intended_ns: u64::from_be_bytes(*intended_ns),
        })
    }
}

/// A body of `size` bytes: letters that do not compress to nothing, the same in every run.
pub(crate) fn filler(size: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(1);
    (0..size).map(|_| random.alphanumeric() as u8).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_read_back_and_others_bodies_are_not() {
        let stamp = Stamp { run: 1, connection: 2, sequence: 3, intended_ns: u64::MAX };
        let mut body = filler(STAMP_BYTES + 5);
        assert_eq!(Stamp::get(&body), None);
        stamp.put(&mut body);
        assert_eq!(Stamp::get(&body), Some(stamp));
        assert_eq!(Stamp::get(&body[..STAMP_BYTES]), Some(stamp));
        assert_eq!(Stamp::get(&body[..STAMP_BYTES - 1]), None);
    }
}

//! A raw DEFLATE stream, bytes to bytes: no I/O. Each flush ends on a byte, so that what was written can be
//! read.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

/// Bytes that a flush makes room for at a time.
const FLUSH_BYTES: usize = 4096;

/// The error of a stream that is not deflate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a deflate stream")]
pub struct DeflateError;

/// Compresses into one stream. Holds some 270 KiB.
#[derive(Debug)]
pub struct Encoder {
    stream: Compress,
    /// Whether there is something to flush.
    unflushed: bool,
    finished: bool,
}

impl Encoder {
    /// `level`: 1, fast, to 9, small.
    pub fn new(level: u8) -> Self {
        let stream = Compress::new(Compression::new(level.clamp(1, 9).into()), false);
        Self { stream, unflushed: false, finished: false }
    }

    /// Takes `bytes`; appends to `out` what is full of them.
    ///
    /// # Errors
    /// If there is no memory for it.
    pub fn encode(&mut self, mut bytes: &[u8], out: &mut Vec<u8>) -> Result<(), DeflateError> {
        while !bytes.is_empty() {
            self.unflushed = true;
            out.reserve(bytes.len() / 2 + 64);
            let before = self.stream.total_in();
            self.stream.compress_vec(bytes, out, FlushCompress::None).map_err(|_| DeflateError)?;
            bytes = &bytes[delta(before, self.stream.total_in(), bytes.len())..];
        }
        Ok(())
    }

    /// Appends to `out` all that is not in it yet.
    ///
    /// # Errors
    /// If there is no memory for it.
    pub fn flush(&mut self, out: &mut Vec<u8>) -> Result<(), DeflateError> {
        while self.unflushed {
            out.reserve(FLUSH_BYTES);
            self.stream.compress_vec(&[], out, FlushCompress::Sync).map_err(|_| DeflateError)?;
            self.unflushed = out.len() == out.capacity();
        }
        Ok(())
    }

    /// Appends to `out` what is left, and the mark that nothing more comes. Nothing may.
    ///
    /// # Errors
    /// If there is no memory for it.
    pub fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), DeflateError> {
        while !self.finished {
            out.reserve(FLUSH_BYTES);
            let status = self.stream.compress_vec(&[], out, FlushCompress::Finish);
            self.finished = status.map_err(|_| DeflateError)? == Status::StreamEnd;
        }
        Ok(())
    }
}

/// Reads a stream. Holds some 50 KiB.
#[derive(Debug)]
pub struct Decoder {
    stream: Decompress,
    ended: bool,
}

impl Default for Decoder {
    fn default() -> Self {
        Self { stream: Decompress::new(false), ended: false }
    }
}

impl Decoder {
    /// Takes bytes from `input` and puts what they hold to `output` until one of them is used up, or the
    /// stream ends. Returns how much of each was. With the output full there may be more, even without
    /// input.
    ///
    /// # Errors
    /// If the stream is none. Nothing can be read after it.
    pub fn decode(&mut self, input: &[u8], output: &mut [u8]) -> Result<(usize, usize), DeflateError> {
        let (mut used, mut written) = (0, 0);
        while !self.ended && written < output.len() {
            let (rest, room) = (&input[used..], &mut output[written..]);
            let (before_in, before_out) = (self.stream.total_in(), self.stream.total_out());
            let status =
                self.stream.decompress(rest, room, FlushDecompress::None).map_err(|_| DeflateError)?;
            let took = delta(before_in, self.stream.total_in(), rest.len());
            let gave = delta(before_out, self.stream.total_out(), room.len());
            used += took;
            written += gave;
            self.ended = status == Status::StreamEnd;
            if took == 0 && gave == 0 {
                break;
            }
        }
        Ok((used, written))
    }

    /// Whether the stream said that nothing more comes.
    pub fn ended(&self) -> bool {
        self.ended
    }
}

/// The rise of a total; it can't be more than `max`.
fn delta(before: u64, after: u64, max: usize) -> usize {
    usize::try_from(after - before).map_or(max, |n| n.min(max))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Decodes `stream` in pieces of this size.
    fn decode(stream: &[u8], size: usize, room: usize) -> Result<Vec<u8>, DeflateError> {
        let mut decoder = Decoder::default();
        let mut out = Vec::new();
        let mut buf = vec![0; room];
        for mut piece in stream.chunks(size) {
            loop {
                let (used, written) = decoder.decode(piece, &mut buf)?;
                piece = &piece[used..];
                out.extend_from_slice(&buf[..written]);
                if written < room {
                    break;
                }
            }
            assert!(piece.is_empty() || decoder.ended());
        }
        Ok(out)
    }

    #[test]
    fn what_is_flushed_can_be_read_and_an_idle_flush_adds_nothing() {
        for level in 0..=10 {
            let mut encoder = Encoder::new(level);
            let mut stream = Vec::new();
            for (i, text) in ["a", "the quick brown fox", &"x".repeat(100_000)].iter().enumerate() {
                encoder.encode(text.as_bytes(), &mut stream).unwrap();
                encoder.flush(&mut stream).unwrap();
                assert!(stream.ends_with(b"\0\0\xff\xff"));
                let len = stream.len();
                encoder.flush(&mut stream).unwrap();
                assert_eq!(stream.len(), len);
                let want = ["a", "athe quick brown fox"].get(i).map_or(100_020, |text| text.len());
                assert_eq!(decode(&stream, 3, 50).unwrap().len(), want);
            }
        }
    }

    #[test]
    fn a_stream_may_end_and_may_be_none() {
        assert_eq!(decode(b"\x03\0CLS\n", 2, 10), Ok(vec![]));
        assert_eq!(decode(&[0xff; 10], 3, 10), Err(DeflateError));
        // What real clients write at the end, uncompressed.
        assert_eq!(decode(b"CLS\n", 10, 100), Err(DeflateError));
    }

    proptest! {
        #[test]
        fn what_goes_in_comes_out(
            parts in prop::collection::vec((prop_oneof![
                prop::collection::vec(any::<u8>(), 0..300),
                (any::<u8>(), 0..200_000usize).prop_map(|(byte, len)| vec![byte; len]),
            ], any::<bool>()), 0..6),
            level in 1..10u8,
            size in 1..5000usize,
            room in 1..100_000usize,
        ) {
            let mut encoder = Encoder::new(level);
            let mut stream = Vec::new();
            let mut want = Vec::new();
            for (part, flush) in parts {
                encoder.encode(&part, &mut stream).unwrap();
                want.extend_from_slice(&part);
                if flush {
                    encoder.flush(&mut stream).unwrap();
                }
            }
            encoder.finish(&mut stream).unwrap();
            let len = stream.len();
            encoder.finish(&mut stream).unwrap();
            prop_assert_eq!(stream.len(), len);
            stream.extend_from_slice(b"not read");
            prop_assert_eq!(decode(&stream, size, room).unwrap(), want);
        }

        #[test]
        fn any_bytes_end_well(bytes in prop::collection::vec(any::<u8>(), 0..600), size in 1..50usize) {
            let _ = decode(&bytes, size, 64);
        }
    }
}

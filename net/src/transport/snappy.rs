//! Snappy's framing format, bytes to bytes: no I/O.
//!
//! ```text
//! stream   = identifier { chunk }
//! chunk    = u8 kind, u24 length, data                       integers are little-endian
//! data     = u32 checksum, snappy block                      kind 0x00
//!          | u32 checksum, bytes                             kind 0x01
//!          | "sNaPpY"                                        kind 0xff: the identifier, as often as it likes
//!          | anything                                        kind 0x80 to 0xfe: padding, skipped
//! ```
//! A block holds at most 64 KiB before compression. The checksum is a masked CRC-32C of that.

use std::cell::RefCell;

/// Bytes that one chunk holds, before compression.
pub const CHUNK_BYTES: usize = 64 * 1024;

const COMPRESSED: u8 = 0x00;
const UNCOMPRESSED: u8 = 0x01;
const PADDING_MIN: u8 = 0x80;
const IDENTIFIER: u8 = 0xff;

const IDENTIFIER_DATA: [u8; 6] = *b"sNaPpY";
const IDENTIFIER_CHUNK: [u8; 10] = *b"\xff\x06\0\0sNaPpY";

const HEADER_BYTES: usize = 4;
const CHECKSUM_BYTES: usize = 4;

thread_local! {
    /// Its tables take 32 KiB and hold nothing between two chunks: no connection needs its own.
    static BLOCKS: RefCell<snap::raw::Encoder> = RefCell::new(snap::raw::Encoder::new());
}

/// The fault of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SnappyError {
    /// The stream does not begin with the identifier.
    #[error("not a snappy stream")]
    NoIdentifier,
    /// The stream has a kind of chunk that may not be skipped.
    #[error("snappy chunk of the unknown kind {0:#04x}")]
    UnknownKind(u8),
    /// The stream has a chunk of a length that its kind can't have.
    #[error("snappy chunk of {0} bytes")]
    BadLength(usize),
    /// A block can't be decompressed.
    #[error("bad snappy block")]
    BadBlock,
    /// A checksum is wrong.
    #[error("wrong checksum in a snappy chunk")]
    BadChecksum,
}

fn checksum(bytes: &[u8]) -> [u8; CHECKSUM_BYTES] {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes()
}

/// Encodes one stream of chunks.
#[derive(Debug, Default)]
pub struct Encoder {
    started: bool,
}

impl Encoder {
    /// Appends `bytes` to `out`, as chunks that can be read at once.
    pub fn encode(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        if !self.started {
            self.started = true;
            out.extend_from_slice(&IDENTIFIER_CHUNK);
        }
        for block in bytes.chunks(CHUNK_BYTES) {
            put_chunk(block, out);
        }
    }
}

fn put_chunk(block: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    let data = start + HEADER_BYTES + CHECKSUM_BYTES;
    out.resize(data + snap::raw::max_compress_len(block.len()), 0);
    let compressed = BLOCKS.with_borrow_mut(|blocks| blocks.compress(block, &mut out[data..]));
    let kind = match compressed {
        Ok(len) if len < block.len() - block.len() / 8 => {
            out.truncate(data + len);
            COMPRESSED
        }
        // Not worth the other end's time.
        _ => {
            out.truncate(data);
            out.extend_from_slice(block);
            UNCOMPRESSED
        }
    };
    let len = (out.len() - start - HEADER_BYTES).to_le_bytes();
    out[start..start + HEADER_BYTES].copy_from_slice(&[kind, len[0], len[1], len[2]]);
    out[start + HEADER_BYTES..data].copy_from_slice(&checksum(block));
}

/// Reads a stream. Holds at most one chunk and what it decompresses to.
#[derive(Debug, Default)]
pub struct Decoder {
    started: bool,
    state: State,
    /// Data of a chunk, until it is whole.
    chunk: Vec<u8>,
    /// Bytes that did not fit into the output.
    rest: Vec<u8>,
    rest_at: usize,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// In a header, with the number of its bytes that have come.
    Header([u8; HEADER_BYTES], usize),
    /// In the data of a chunk of this kind and length.
    Data(u8, usize),
    /// In data of no interest, with the number of bytes to come.
    Skip(usize),
}

impl Default for State {
    fn default() -> Self {
        Self::Header([0; HEADER_BYTES], 0)
    }
}

impl Decoder {
    /// Takes bytes from `input` and puts what they hold to `output` until one of them is used up. Returns how
    /// much of each was. With the output full there may be more, even without input.
    ///
    /// # Errors
    /// The fault of the stream. Nothing can be read after it.
    pub fn decode(&mut self, input: &[u8], output: &mut [u8]) -> Result<(usize, usize), SnappyError> {
        let (mut used, mut written) = (0, 0);
        loop {
            written += self.take_rest(&mut output[written..]);
            let input = &input[used..];
            if input.is_empty() || written == output.len() {
                return Ok((used, written));
            }
            match &mut self.state {
                State::Header(header, len) => {
                    let n = input.len().min(HEADER_BYTES - *len);
                    header[*len..*len + n].copy_from_slice(&input[..n]);
                    *len += n;
                    used += n;
                    if *len == HEADER_BYTES {
                        let [kind, len @ ..] = *header;
                        self.begin(
                            kind,
                            usize::from(len[0]) | usize::from(len[1]) << 8 | usize::from(len[2]) << 16,
                        )?;
                    }
                }
                State::Skip(left) => {
                    let n = input.len().min(*left);
                    *left -= n;
                    used += n;
                    if *left == 0 {
                        self.state = State::default();
                    }
                }
                State::Data(kind, len) => {
                    let (kind, len) = (*kind, *len);
                    let n = input.len().min(len - self.chunk.len());
                    self.chunk.extend_from_slice(&input[..n]);
                    used += n;
                    if self.chunk.len() == len {
                        written += self.end(kind, &mut output[written..])?;
                    }
                }
            }
        }
    }

    /// Bytes that it holds of a chunk that is not whole, or not taken.
    pub fn held(&self) -> usize {
        self.chunk.capacity() + self.rest.capacity()
    }

    /// Whether there is more to come without input.
    fn take_rest(&mut self, output: &mut [u8]) -> usize {
        let rest = &self.rest[self.rest_at..];
        let n = rest.len().min(output.len());
        output[..n].copy_from_slice(&rest[..n]);
        self.rest_at += n;
        if n > 0 && self.rest_at == self.rest.len() {
            self.rest = Vec::new();
            self.rest_at = 0;
        }
        n
    }

    fn begin(&mut self, kind: u8, len: usize) -> Result<(), SnappyError> {
        if !self.started && kind != IDENTIFIER {
            return Err(SnappyError::NoIdentifier);
        }
        let lens = match kind {
            IDENTIFIER => IDENTIFIER_DATA.len()..=IDENTIFIER_DATA.len(),
            COMPRESSED => CHECKSUM_BYTES + 1..=CHECKSUM_BYTES + snap::raw::max_compress_len(CHUNK_BYTES),
            UNCOMPRESSED => CHECKSUM_BYTES..=CHECKSUM_BYTES + CHUNK_BYTES,
            PADDING_MIN.. => {
                self.state = if len == 0 { State::default() } else { State::Skip(len) };
                return Ok(());
            }
            _ => return Err(SnappyError::UnknownKind(kind)),
        };
        if !lens.contains(&len) {
            return Err(SnappyError::BadLength(len));
        }
        self.state = State::Data(kind, len);
        Ok(())
    }

    /// Takes a whole chunk. Returns how much of it went to `output`.
    fn end(&mut self, kind: u8, output: &mut [u8]) -> Result<usize, SnappyError> {
        // An idle connection holds no memory.
        let chunk = std::mem::take(&mut self.chunk);
        self.state = State::default();
        if kind == IDENTIFIER {
            self.started = true;
            return if chunk == IDENTIFIER_DATA { Ok(0) } else { Err(SnappyError::NoIdentifier) };
        }
        let (sum, data) = chunk.split_at(CHECKSUM_BYTES);
        let check =
            |bytes: &[u8]| if checksum(bytes) == sum { Ok(()) } else { Err(SnappyError::BadChecksum) };
        if kind == UNCOMPRESSED {
            check(data)?;
            let n = data.len().min(output.len());
            output[..n].copy_from_slice(&data[..n]);
            self.rest = data[n..].to_vec();
            return Ok(n);
        }
        let bad = |_| SnappyError::BadBlock;
        let len = snap::raw::decompress_len(data).map_err(bad)?;
        if len > CHUNK_BYTES {
            return Err(SnappyError::BadLength(len));
        }
        if let Some(to) = output.get_mut(..len) {
            snap::raw::Decoder::new().decompress(data, to).map_err(bad)?;
            check(to)?;
            return Ok(len);
        }
        self.rest = vec![0; len];
        snap::raw::Decoder::new().decompress(data, &mut self.rest).map_err(bad)?;
        check(&self.rest)?;
        Ok(self.take_rest(output))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Decodes `stream` in pieces of these sizes.
    fn decode(stream: &[u8], sizes: &[usize], room: usize) -> Result<Vec<u8>, SnappyError> {
        let mut decoder = Decoder::default();
        let mut out = Vec::new();
        let mut buf = vec![0; room];
        let mut sizes = sizes.iter().cycle();
        let mut rest = stream;
        while !rest.is_empty() {
            let size = (*sizes.next().unwrap()).min(rest.len());
            let (mut piece, more) = rest.split_at(size);
            loop {
                let (used, written) = decoder.decode(piece, &mut buf)?;
                piece = &piece[used..];
                out.extend_from_slice(&buf[..written]);
                if written < room {
                    break;
                }
            }
            assert!(piece.is_empty());
            rest = more;
        }
        Ok(out)
    }

    #[test]
    fn the_format_is_the_published_one() {
        let mut out = Vec::new();
        let mut encoder = Encoder::default();
        encoder.encode(b"abc", &mut out);
        encoder.encode(&[b'a'; 100], &mut out);
        let mut want = b"\xff\x06\0\0sNaPpY\x01\x07\0\0".to_vec();
        want.extend_from_slice(&checksum(b"abc"));
        want.extend_from_slice(b"abc");
        assert!(out.starts_with(&want), "{}", out.escape_ascii());
        assert_eq!(out[want.len()], COMPRESSED);
        // The checksum of the format's description: CRC-32C of nine digits is 0xe3069283.
        assert_eq!(
            u32::from_le_bytes(checksum(b"123456789")),
            0xe306_9283_u32.rotate_right(15).wrapping_add(0xa282_ead8)
        );
        assert_eq!(decode(&out, &[1], 7).unwrap(), [&b"abc"[..], &[b'a'; 100]].concat());
    }

    #[test]
    fn what_other_encoders_write_is_read() {
        use std::io::Write;
        let text = b"the quick brown fox ".repeat(20_000);
        let mut encoder = snap::write::FrameEncoder::new(Vec::new());
        encoder.write_all(&text).unwrap();
        let stream = encoder.into_inner().unwrap();
        assert_eq!(decode(&stream, &[1000], 333).unwrap(), text);

        let mut ours = Vec::new();
        Encoder::default().encode(&text, &mut ours);
        let mut read = Vec::new();
        std::io::Read::read_to_end(&mut snap::read::FrameDecoder::new(&ours[..]), &mut read).unwrap();
        assert_eq!(read, text);
    }

    #[test]
    fn identifiers_and_padding_may_come_anywhere() {
        let mut stream = Vec::new();
        let mut chunk = Vec::new();
        put_chunk(b"x", &mut chunk);
        for _ in 0..3 {
            stream.extend_from_slice(&IDENTIFIER_CHUNK);
            stream.extend_from_slice(b"\xfe\x03\0\0abc\x80\0\0\0\xfd\0\0\x01");
            stream.extend_from_slice(&[7; 65536]);
            stream.extend_from_slice(&chunk);
        }
        for size in [1, 5, 70_000] {
            assert_eq!(decode(&stream, &[size], 2).unwrap(), b"xxx");
        }
    }

    #[test]
    fn bad_streams_are_refused() {
        let with = |bytes: &[u8]| [&IDENTIFIER_CHUNK[..], bytes].concat();
        let mut lies = Vec::new();
        put_chunk(&[b'a'; 1000], &mut lies);
        lies[4] ^= 1;
        // A block that claims 4 GiB.
        let bomb = with(b"\0\x0a\0\0\0\0\0\0\xff\xff\xff\xff\x0f\0");
        for (stream, want) in [
            (b"CLS\n".to_vec(), SnappyError::NoIdentifier),
            (b"\xff\x06\0\0sNaPpy".to_vec(), SnappyError::NoIdentifier),
            (b"\xff\x07\0\0".to_vec(), SnappyError::BadLength(7)),
            (with(b"CLS\n"), SnappyError::UnknownKind(b'C')),
            (with(b"\x7f\0\0\0"), SnappyError::UnknownKind(0x7f)),
            (with(b"\0\xff\xff\xff"), SnappyError::BadLength(0xff_ffff)),
            (with(b"\x01\x03\0\0"), SnappyError::BadLength(3)),
            (with(b"\x01\x05\0\x01"), SnappyError::BadLength(65541)),
            (with(b"\x01\x05\0\0\0\0\0\0x"), SnappyError::BadChecksum),
            (with(&lies), SnappyError::BadChecksum),
            (with(b"\0\x06\0\0\0\0\0\0\x05\xff"), SnappyError::BadBlock),
            (bomb, SnappyError::BadLength(0xffff_ffff)),
        ] {
            assert_eq!(decode(&stream, &[3], 100), Err(want), "{}", stream.escape_ascii());
        }
    }

    proptest! {
        #[test]
        fn what_goes_in_comes_out(
            parts in prop::collection::vec(prop_oneof![
                prop::collection::vec(any::<u8>(), 0..300),
                (any::<u8>(), 0..200_000usize).prop_map(|(byte, len)| vec![byte; len]),
            ], 0..6),
            sizes in prop::collection::vec(1..5000usize, 1..5),
            room in 1..100_000usize,
        ) {
            let mut encoder = Encoder::default();
            let mut stream = Vec::new();
            parts.iter().for_each(|part| encoder.encode(part, &mut stream));
            prop_assert_eq!(decode(&stream, &sizes, room).unwrap(), parts.concat());
        }

        #[test]
        fn any_bytes_end_well(
            bytes in prop::collection::vec(prop_oneof![0..3u8, 0..255u8, Just(0xff)], 0..600),
            sizes in prop::collection::vec(1..50usize, 1..5),
        ) {
            let _ = decode(&bytes, &sizes, 64);
            let _ = decode(&[&IDENTIFIER_CHUNK[..], &bytes].concat(), &sizes, 64);
        }
    }
}

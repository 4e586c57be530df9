//! Streams in Snappy's framing.

use mq_net::transport::snappy::{Decoder, Encoder, SnappyError};

use crate::parameters;

/// The content of `stream`, which comes in pieces of `size` bytes and is decoded into `room` bytes at a time.
fn decoded(stream: &[u8], size: usize, room: usize) -> Result<Vec<u8>, SnappyError> {
    let mut decoder = Decoder::default();
    let (mut out, mut buf) = (Vec::new(), vec![0; room]);
    for mut piece in stream.chunks(size) {
        loop {
            let (used, written) = decoder.decode(piece, &mut buf)?;
            assert!(used <= piece.len() && written <= room);
            piece = &piece[used..];
            out.extend_from_slice(&buf[..written]);
            // A short stream can hold gigabytes: 4 MiB prove the point.
            if written < room || out.len() > 1 << 22 {
                break;
            }
        }
    }
    Ok(out)
}

const IDENTIFIER: &[u8] = b"\xff\x06\0\0sNaPpY";

fn encoded(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    Encoder::default().encode(bytes, &mut out);
    out
}

/// Any bytes as a stream, whole and in pieces, end the same way; what was encoded comes back; a changed
/// stream never gives more than there is room for.
///
/// The first six bytes of the input are the size of pieces, the room (two bytes), the place of a change (two
/// bytes) and the bits that it flips.
pub fn snappy(input: &[u8]) {
    let Some(([size, room, room_high, at, at_high, flip], bytes)) = parameters(input) else { return };
    let (size, room) = (usize::from(size).max(1), usize::from(u16::from_le_bytes([room, room_high])).max(1));
    let whole = decoded(&[IDENTIFIER, bytes].concat(), usize::MAX, 1 << 23);
    // In pieces, content before an error is decoded first.
    let pieces = decoded(&[IDENTIFIER, bytes].concat(), size, room);
    if whole.as_ref().is_ok_and(|whole| whole.len() < 1 << 22) {
        assert_eq!(pieces, whole);
    } else if whole.is_err() {
        assert!(pieces.is_err() || pieces.is_ok_and(|pieces| pieces.len() > 1 << 22));
    }

    let mut stream = encoded(bytes);
    assert_eq!(decoded(&stream, size, room).as_deref(), Ok(bytes));
    let at = usize::from(u16::from_le_bytes([at, at_high])) % stream.len().max(1);
    if let Some(byte) = stream.get_mut(at) {
        *byte ^= flip;
        let _ = decoded(&stream, size, room);
    }
}

//! Snappy's framing: any bytes as a stream, whole and in pieces, end the same way; what was encoded comes back; what was changed
//! on its way is never more than there was room for.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mq_net::transport::snappy::{Decoder, Encoder, SnappyError};

/// What `stream` holds, read in pieces of this size into this much room at a time.
fn decoded(stream: &[u8], size: usize, room: usize) -> Result<Vec<u8>, SnappyError> {
    let mut decoder = Decoder::default();
    let (mut out, mut buf) = (Vec::new(), vec![0; room]);
    for mut piece in stream.chunks(size) {
        loop {
            let (used, written) = decoder.decode(piece, &mut buf)?;
            assert!(used <= piece.len() && written <= room);
            piece = &piece[used..];
            out.extend_from_slice(&buf[..written]);
            // A little input may hold a lot: enough is enough.
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

fuzz_target!(|input: (u8, u16, u16, u8, Vec<u8>)| {
    let (size, room, at, flip, bytes) = input;
    let (size, room) = (usize::from(size).max(1), usize::from(room).max(1));
    let whole = decoded(&[IDENTIFIER, &bytes].concat(), usize::MAX, 1 << 23);
    // An error may come later than what is read before it, but it comes.
    let pieces = decoded(&[IDENTIFIER, &bytes].concat(), size, room);
    if whole.as_ref().is_ok_and(|whole| whole.len() < 1 << 22) {
        assert_eq!(pieces, whole);
    } else if whole.is_err() {
        assert!(pieces.is_err() || pieces.is_ok_and(|pieces| pieces.len() > 1 << 22));
    }

    let mut stream = encoded(&bytes);
    assert_eq!(decoded(&stream, size, room).as_deref(), Ok(&bytes[..]));
    let at = usize::from(at) % stream.len().max(1);
    if let Some(byte) = stream.get_mut(at) {
        *byte ^= flip;
        let _ = decoded(&stream, size, room);
    }
});

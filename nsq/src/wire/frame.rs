//! Frames of a server.
//!
//! ```text
//! frame    = u32 size, u32 type, data       size = 4 + length of data; type: 0 response, 1 error, 2 message
//! message  = i64 timestamp (ns since 1970), u16 attempts, 16 hex digits, body
//! ```
//! Integers are big-endian. Types 3 and 4 are those of the [`extension`](super::extension).

use std::fmt;

use mq_core::{Delivery, DeliveryToken, MessageId};

use super::error::WireError;
use super::extension::{Run, put_delivered, put_run};

/// The response to what went well.
pub const OK: &[u8] = b"OK";
/// The response to CLS.
pub const CLOSE_WAIT: &[u8] = b"CLOSE_WAIT";
/// The response nobody asked for; to be answered by any command.
pub const HEARTBEAT: &[u8] = b"_heartbeat_";

/// A whole frame with an `OK`.
pub const OK_FRAME: [u8; 10] = *b"\0\0\0\x06\0\0\0\0OK";

/// Bytes before the data of a frame.
pub const FRAME_HEADER_BYTES: usize = 8;
/// Bytes before the body of a message.
pub const MESSAGE_HEADER_BYTES: usize = 26;

/// Largest frame a client takes in, in bytes: far above any sane `max-msg-size`, far below a length read from
/// a peer that does not speak this protocol.
pub const FRAME_BYTES_MAX: usize = 64 * 1024 * 1024;

const TYPE_RESPONSE: u32 = 0;
const TYPE_ERROR: u32 = 1;
const TYPE_MESSAGE: u32 = 2;
const TYPE_DELIVERY: u32 = 3;
const TYPE_RESULTS: u32 = 4;

/// Appends a response.
pub fn put_response(out: &mut Vec<u8>, data: &[u8]) {
    put_header(out, TYPE_RESPONSE, data.len());
    out.extend_from_slice(data);
}

/// Makes a response of `data` with `head` before it, without a second copy of what may be much.
pub fn put_response_before(data: &mut Vec<u8>, head: &[u8]) {
    let mut frame = Vec::with_capacity(FRAME_HEADER_BYTES + head.len());
    put_header(&mut frame, TYPE_RESPONSE, head.len() + data.len());
    frame.extend_from_slice(head);
    data.splice(..0, frame);
}

/// Appends an error.
pub fn put_error(out: &mut Vec<u8>, error: &WireError) {
    put_sized(out, TYPE_ERROR, |out| error.write_to(out));
}

/// Appends a message frame. `time` is nanoseconds since 1970.
pub fn put_message(out: &mut Vec<u8>, id: MessageId, time: u64, attempts: u16, body: &[u8]) {
    out.reserve(FRAME_HEADER_BYTES + MESSAGE_HEADER_BYTES + body.len());
    put_header(out, TYPE_MESSAGE, MESSAGE_HEADER_BYTES + body.len());
    put_message_data(out, id, time, attempts, body);
}

/// Appends a delivery of the extension.
pub fn put_delivery(out: &mut Vec<u8>, delivery: &Delivery<'_>, token: DeliveryToken) {
    put_sized(out, TYPE_DELIVERY, |out| put_delivered(out, delivery, token));
}

/// Appends results of the extension.
pub fn put_results<'r>(out: &mut Vec<u8>, runs: impl IntoIterator<Item = Run<'r>>) {
    put_sized(out, TYPE_RESULTS, |out| runs.into_iter().for_each(|run| put_run(out, &run)));
}

/// Appends a frame whose length is known only when its data is there.
fn put_sized(out: &mut Vec<u8>, kind: u32, put: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    put_header(out, kind, 0);
    put(out);
    let size = u32::try_from(out.len() - start - 4).unwrap_or(u32::MAX);
    out[start..start + 4].copy_from_slice(&size.to_be_bytes());
}

/// Appends a message as it is in a message frame, without the frame.
pub fn put_message_data(out: &mut Vec<u8>, id: MessageId, time: u64, attempts: u16, body: &[u8]) {
    let mut header = [0; MESSAGE_HEADER_BYTES];
    header[..8].copy_from_slice(&time.to_be_bytes());
    header[8..10].copy_from_slice(&attempts.to_be_bytes());
    header[10..].copy_from_slice(&id.to_hex());
    out.extend_from_slice(&header);
    out.extend_from_slice(body);
}

fn put_header(out: &mut Vec<u8>, kind: u32, len: usize) {
    let size = u32::try_from(len + 4).unwrap_or(u32::MAX);
    let mut header = [0; FRAME_HEADER_BYTES];
    header[..4].copy_from_slice(&size.to_be_bytes());
    header[4..].copy_from_slice(&kind.to_be_bytes());
    out.extend_from_slice(&header);
}

/// A frame, borrowed from the buffer it was read to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    /// A response.
    Response(&'a [u8]),
    /// An error: `CODE description`.
    Error(&'a [u8]),
    /// A message.
    Message(Message<'a>),
}

/// A message as it is on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// Nanoseconds since 1970.
    pub timestamp: u64,
    /// 1 on the first delivery.
    pub attempts: u16,
    /// Any 16 bytes; hexadecimal digits from any server known.
    pub id: &'a [u8; 16],
    /// Its body.
    pub body: &'a [u8],
}

impl<'a> Message<'a> {
    /// Decodes the data of a message frame.
    pub fn decode(data: &'a [u8]) -> Result<Self, FrameError> {
        let (timestamp, rest) = data.split_first_chunk().ok_or(FrameError::ShortMessage)?;
        let (attempts, rest) = rest.split_first_chunk().ok_or(FrameError::ShortMessage)?;
        let (id, body) = rest.split_first_chunk().ok_or(FrameError::ShortMessage)?;
        let timestamp = u64::from_be_bytes(*timestamp);
        Ok(Self { timestamp, attempts: u16::from_be_bytes(*attempts), id, body })
    }
}

/// Reason why bytes are no frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameError {
    /// A size below 4 or over [`FRAME_BYTES_MAX`].
    Size(u32),
    /// An unknown type.
    Type(u32),
    /// A message without room for its header.
    ShortMessage,
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Size(size) => write!(f, "a frame can't have {size} bytes"),
            Self::Type(kind) => write!(f, "frame type {kind} is unknown"),
            Self::ShortMessage => f.write_str("a message frame is too short for its header"),
        }
    }
}

impl std::error::Error for FrameError {}

/// Length of the frame at the front of `buf` with its header, be it one of the extension's; or how many bytes
/// it needs, where it is not whole.
pub fn length(buf: &[u8]) -> Result<Result<usize, usize>, FrameError> {
    let Some((size, rest)) = buf.split_first_chunk::<4>() else {
        return Ok(Err(FRAME_HEADER_BYTES));
    };
    let size = u32::from_be_bytes(*size);
    let length = size as usize;
    if !(4..=FRAME_BYTES_MAX).contains(&length) {
        return Err(FrameError::Size(size));
    }
    let Some(kind) = rest.first_chunk::<4>() else {
        return Ok(Err(FRAME_HEADER_BYTES));
    };
    let kind = u32::from_be_bytes(*kind);
    if kind > TYPE_RESULTS {
        return Err(FrameError::Type(kind));
    }
    Ok(if rest.len() < length { Err(4 + length) } else { Ok(4 + length) })
}

/// Decodes the frame of V2 at the front of `buf`: the frame and how many bytes it took, or how many bytes it
/// needs.
pub fn decode(buf: &[u8]) -> Result<Result<(Frame<'_>, usize), usize>, FrameError> {
    let length = match length(buf)? {
        Ok(length) => length,
        Err(need) => return Ok(Err(need)),
    };
    let (header, data) = buf[..length].split_at(FRAME_HEADER_BYTES);
    let frame = match u32::from(header[FRAME_HEADER_BYTES - 1]) {
        TYPE_RESPONSE => Frame::Response(data),
        TYPE_ERROR => Frame::Error(data),
        TYPE_MESSAGE => Frame::Message(Message::decode(data)?),
        extended => return Err(FrameError::Type(extended)),
    };
    Ok(Ok((frame, length)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::error::Code;
    use proptest::prelude::*;

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text.bytes().filter(|b| *b != b' ').collect();
        digits
            .chunks(2)
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect()
    }

    #[test]
    fn frames_are_nsqds_to_the_byte() {
        let mut out = Vec::new();
        put_response(&mut out, OK);
        assert_eq!(out, hex("00000006 00000000 4f4b"));
        assert_eq!(out, OK_FRAME);

        out.clear();
        put_response(&mut out, HEARTBEAT);
        assert_eq!(out, hex("0000000f 00000000 5f6865617274626561745f"));

        out.clear();
        let id = MessageId::from_hex(b"18a38950e2690000").unwrap();
        put_message(&mut out, id, 0x18ea_2b24_3c84_918a, 1, b"hi");
        assert_eq!(out, hex("00000020 00000002 18ea2b243c84918a 0001 31386133383935306532363930303030 6869"));

        out.clear();
        put_error(&mut out, &WireError::new(Code::Invalid, "invalid command x"));
        assert_eq!(out, [&hex("0000001f 00000001")[..], b"E_INVALID invalid command x"].concat());
        assert_eq!(out.len(), 4 + 0x1f);
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded_whatever_the_split(
            id: u64, time: u64, attempts: u16, body in prop::collection::vec(any::<u8>(), 0..300), cut: prop::sample::Index,
        ) {
            let mut out = Vec::new();
            put_message(&mut out, MessageId(id), time, attempts, &body);
            let want = Message { timestamp: time, attempts, id: &MessageId(id).to_hex(), body: &body };
            prop_assert_eq!(decode(&out), Ok(Ok((Frame::Message(want), out.len()))));
            let part = &out[..cut.index(out.len())];
            let need = decode(part).unwrap().unwrap_err();
            prop_assert!(need > part.len() && need <= out.len());
        }

        #[test]
        fn any_bytes_are_a_frame_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            if let Ok(Ok((_, consumed))) = decode(&bytes) {
                prop_assert!(consumed <= bytes.len());
            }
        }
    }
}

//! Encoding of delivered messages, from the broker's memory. The layout is drawn in `batch`.

use bytes::{BufMut, BytesMut};
use mq_core::{Delivery, DeliveryToken, Headers};
use prost::encoding::{encode_varint, encoded_len_varint};

/// Bytes of a message's fields of fixed size: id, offset and time, each with its key.
const FIXED_BYTES: usize = 3 * 9;

/// Appends a message to an encoded batch.
pub(crate) fn put(batch: &mut BytesMut, delivery: &Delivery<'_>) {
    let headers = Headers::new(delivery.attributes.headers);
    let header_len = |(name, value): (&str, &[u8])| field_len(name.len()) + field_len(value.len());
    let headers_len: usize = headers.clone().map(|header| field_len(header_len(header))).sum();
    let attempts = u64::from(delivery.attempts);
    let attempts_len = if attempts == 0 { 0 } else { 1 + encoded_len_varint(attempts) };
    let body_len = if delivery.body.is_empty() { 0 } else { field_len(delivery.body.len()) };
    let token_len = if delivery.token.is_some() { field_len(DeliveryToken::BYTES) } else { 0 };
    let len = body_len + FIXED_BYTES + attempts_len + headers_len + token_len;
    batch.reserve(field_len(len));
    batch.put_u8(0x0a);
    encode_varint(len as u64, batch);
    if !delivery.body.is_empty() {
        put_field(batch, 0x0a, delivery.body);
    }
    batch.put_u8(0x11);
    batch.put_u64_le(delivery.id.0);
    batch.put_u8(0x19);
    batch.put_u64_le(delivery.id.offset().0);
    batch.put_u8(0x21);
    batch.put_u64_le(delivery.time.0);
    if attempts > 0 {
        batch.put_u8(0x28);
        encode_varint(attempts, batch);
    }
    for (name, value) in headers {
        batch.put_u8(0x32);
        encode_varint(header_len((name, value)) as u64, batch);
        put_field(batch, 0x0a, name.as_bytes());
        put_field(batch, 0x12, value);
    }
    if let Some(token) = delivery.token {
        put_field(batch, 0x3a, &token.to_bytes());
    }
}

/// Bytes of a field that has a length: its key (of a number below 16), the length, and what follows.
fn field_len(len: usize) -> usize {
    1 + encoded_len_varint(len as u64) + len
}

fn put_field(out: &mut BytesMut, key: u8, value: &[u8]) {
    out.put_u8(key);
    encode_varint(value.len() as u64, out);
    out.put_slice(value);
}

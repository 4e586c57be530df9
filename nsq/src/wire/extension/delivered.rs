//! A message as it comes to a subscriber.

use std::time::Duration;

use mq_core::{Delivery, DeliveryToken, Headers};

use super::{Attributes, HeaderList, Malformed, TOKEN_BYTES, put_attributes, sized};

/// Bytes of a delivery before its attributes, and the length of those.
pub const DELIVERED_HEADER_BYTES: usize = TOKEN_BYTES + 8 + 8 + 2 + 4;

/// A delivery, borrowed from the buffer it was read to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivered<'a> {
    /// Token that an acknowledgement names; its first 8 bytes are the message's id.
    pub token: &'a [u8; TOKEN_BYTES],
    /// The message's place in its topic.
    pub offset: u64,
    /// Nanoseconds since 1970.
    pub timestamp: u64,
    /// 1 on the first delivery.
    pub attempts: u16,
    /// Its headers.
    pub headers: HeaderList<'a>,
    /// Its body.
    pub body: &'a [u8],
}

impl<'a> Delivered<'a> {
    /// Decodes the data of a frame.
    ///
    /// # Errors
    /// If it is too short, or its attributes are malformed.
    pub fn decode(data: &'a [u8]) -> Result<Self, Malformed> {
        let (token, rest) = data.split_first_chunk().ok_or(Malformed::Length)?;
        let (offset, rest) = rest.split_first_chunk().ok_or(Malformed::Length)?;
        let (timestamp, rest) = rest.split_first_chunk().ok_or(Malformed::Length)?;
        let (attempts, mut body) = rest.split_first_chunk().ok_or(Malformed::Length)?;
        let attributes = sized::<4>(&mut body)?;
        let headers = match attributes {
            [] => HeaderList::default(),
            some => Attributes::decode(some)?.headers,
        };
        Ok(Self {
            token,
            offset: u64::from_be_bytes(*offset),
            timestamp: u64::from_be_bytes(*timestamp),
            attempts: u16::from_be_bytes(*attempts),
            headers,
            body,
        })
    }
}

/// Appends the data of a frame.
pub fn put_delivered(out: &mut Vec<u8>, delivery: &Delivery<'_>, token: DeliveryToken) {
    let mut header = [0; DELIVERED_HEADER_BYTES];
    header[..16].copy_from_slice(&token.to_bytes());
    header[16..24].copy_from_slice(&delivery.id.offset().0.to_be_bytes());
    header[24..32].copy_from_slice(&delivery.time.0.to_be_bytes());
    header[32..34].copy_from_slice(&delivery.attempts.to_be_bytes());
    match delivery.attributes.headers {
        None => out.extend_from_slice(&header),
        some => {
            out.extend_from_slice(&header[..DELIVERED_HEADER_BYTES - 4]);
            put_attributes(out, Duration::ZERO, None, Headers::new(some));
        }
    }
    out.extend_from_slice(delivery.body);
}

#[cfg(test)]
mod tests {
    use super::*;
    use mq_core::clock::Wall;
    use mq_core::{HeadersBuf, MessageId};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_put_is_decoded(
            id: u64, time: u64, attempts: u16, tag: u64, body in prop::collection::vec(any::<u8>(), 0..100),
            header in prop::option::of(("[a-z]{1,9}", prop::collection::vec(any::<u8>(), 0..50))),
        ) {
            let token = [id.to_be_bytes(), tag.to_be_bytes()].concat();
            let token = DeliveryToken::from_bytes(&token).unwrap();
            let mut headers = HeadersBuf::new();
            if let Some((name, value)) = &header {
                headers.push(name, value).unwrap();
            }
            let attributes = mq_core::Attributes { headers: headers.as_attribute(), ..mq_core::Attributes::NONE };
            let id = MessageId(id);
            let delivery = Delivery { id, token: Some(token), time: Wall(time), attempts, attributes, body: &body };
            let mut out = Vec::new();
            put_delivered(&mut out, &delivery, token);
            let got = Delivered::decode(&out).unwrap();
            prop_assert_eq!((*got.token, got.offset), (token.to_bytes(), id.offset().0));
            prop_assert_eq!((got.timestamp, got.attempts, got.body), (time, attempts, body.as_slice()));
            let headers: Vec<_> = got.headers.iter().map(Result::unwrap).collect();
            let want: Vec<_> = header.iter().map(|(name, value)| (name.as_str(), value.as_slice())).collect();
            prop_assert_eq!(headers, want);
        }

        #[test]
        fn any_bytes_are_a_delivery_or_malformed(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = Delivered::decode(&bytes);
        }
    }
}

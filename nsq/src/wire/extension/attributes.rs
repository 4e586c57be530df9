//! Attributes of a message.

use std::time::Duration;

use super::{Malformed, put_length, sized};

const DELAY: u8 = 1;
const ID: u8 = 2;
const HEADERS: u8 = 3;
/// Kinds from here on may be passed over.
const OPTIONAL: u8 = 128;

/// Longest id in bytes.
const ID_BYTES_MAX: usize = 255;

/// A message's attributes, borrowed from the buffer they were read to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attributes<'a> {
    /// Delivered no earlier than so long after the publish.
    pub delay: Duration,
    /// The publisher's id, 1 to 255 bytes.
    pub id: Option<&'a [u8]>,
    /// Its headers.
    pub headers: HeaderList<'a>,
}

impl<'a> Attributes<'a> {
    /// Decodes a list of attributes, without the length before it.
    ///
    /// # Errors
    /// If a length does not fit, a value is not what its kind has, a kind must be known and is not, or one is
    /// there twice.
    pub fn decode(mut bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut attributes = Self::default();
        let mut seen = [false; HEADERS as usize + 1];
        while let Some((kind, rest)) = bytes.split_first() {
            bytes = rest;
            let value = sized::<4>(&mut bytes)?;
            if seen.get_mut(usize::from(*kind)).is_some_and(|seen| std::mem::replace(seen, true)) {
                return Err(Malformed::Twice(*kind));
            }
            match *kind {
                DELAY => {
                    let ms = value.try_into().map_err(|_| Malformed::Value(DELAY))?;
                    attributes.delay = Duration::from_millis(u64::from_be_bytes(ms));
                }
                ID if value.is_empty() || value.len() > ID_BYTES_MAX => return Err(Malformed::Value(ID)),
                ID => attributes.id = Some(value),
                HEADERS => {
                    attributes.headers = HeaderList(value);
                    attributes.headers.iter().try_for_each(|header| header.map(drop))?;
                }
                OPTIONAL.. => {}
                unknown => return Err(Malformed::Attribute(unknown)),
            }
        }
        Ok(attributes)
    }
}

/// Headers as they are on the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeaderList<'a>(&'a [u8]);

impl<'a> HeaderList<'a> {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Names and values, in order; the first fault is the last.
    pub fn iter(&self) -> impl Iterator<Item = Result<(&'a str, &'a [u8]), Malformed>> + use<'a> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            let header = sized::<1>(&mut rest).and_then(|name| {
                let name = std::str::from_utf8(name).map_err(|_| Malformed::Headers)?;
                Ok((name, sized::<2>(&mut rest)?))
            });
            if header.is_err() {
                rest = &[];
            }
            Some(header.map_err(|_| Malformed::Headers))
        })
    }
}

/// Appends a list of attributes with the length before it. Names take at most 255 bytes and values 64 KiB, as
/// the broker takes them; of longer ones the end is cut off.
pub fn put_attributes<'h>(
    out: &mut Vec<u8>,
    delay: Duration,
    id: Option<&[u8]>,
    headers: impl Iterator<Item = (&'h str, &'h [u8])>,
) {
    let start = out.len();
    put_length(out, 0);
    if !delay.is_zero() {
        put(out, DELAY, &u64::try_from(delay.as_millis()).unwrap_or(u64::MAX).to_be_bytes());
    }
    if let Some(id) = id {
        put(out, ID, id);
    }
    let list = out.len();
    for (name, value) in headers {
        if out.len() == list {
            out.push(HEADERS);
            put_length(out, 0);
        }
        let name = &name.as_bytes()[..name.len().min(usize::from(u8::MAX))];
        let value = &value[..value.len().min(usize::from(u16::MAX))];
        out.push(name.len() as u8);
        out.extend_from_slice(name);
        out.extend_from_slice(&(value.len() as u16).to_be_bytes());
        out.extend_from_slice(value);
    }
    if out.len() > list {
        set_length(out, list + 1);
    }
    set_length(out, start);
}

fn put(out: &mut Vec<u8>, kind: u8, value: &[u8]) {
    out.push(kind);
    put_length(out, value.len());
    out.extend_from_slice(value);
}

/// Sets the length at `at` to that of all behind it.
fn set_length(out: &mut [u8], at: usize) {
    let length = u32::try_from(out.len() - at - 4).unwrap_or(u32::MAX);
    out[at..at + 4].copy_from_slice(&length.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decode(bytes: &[u8]) -> Result<Attributes<'_>, Malformed> {
        let mut bytes = bytes;
        let list = sized::<4>(&mut bytes).unwrap();
        assert!(bytes.is_empty());
        Attributes::decode(list)
    }

    #[test]
    fn unknown_kinds_are_refused_below_128_and_passed_over_above() {
        for kind in [0, 4] {
            assert_eq!(Attributes::decode(&[kind, 0, 0, 0, 0]), Err(Malformed::Attribute(kind)));
        }
        assert_eq!(Attributes::decode(&[127, 0, 0, 0, 1, 9]), Err(Malformed::Attribute(127)));
        let known = Attributes::decode(&[128, 0, 0, 0, 1, 9, 2, 0, 0, 0, 1, b'x']).unwrap();
        assert_eq!(known.id, Some(&b"x"[..]));
    }

    #[test]
    fn values_of_the_wrong_length_are_refused() {
        assert_eq!(Attributes::decode(&[1, 0, 0, 0, 1, 9]), Err(Malformed::Value(1)));
        assert_eq!(Attributes::decode(&[2, 0, 0, 0, 0]), Err(Malformed::Value(2)));
        let long = [&[2, 0, 0, 1, 0][..], &[b'i'; 256]].concat();
        assert_eq!(Attributes::decode(&long), Err(Malformed::Value(2)));
        assert_eq!(Attributes::decode(&[2, 0, 0, 0, 2, b'x']), Err(Malformed::Length));
        assert_eq!(Attributes::decode(&[3, 0, 0, 0, 2, 1, b'n']), Err(Malformed::Headers));
        assert_eq!(Attributes::decode(&[3, 0, 0, 0, 4, 1, 0xff, 0, 0]), Err(Malformed::Headers));
    }

    #[test]
    fn an_attribute_that_is_there_twice_is_refused_and_an_optional_one_is_not() {
        let delay = [1, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 9];
        let (id, headers) = ([2, 0, 0, 0, 1, b'x'], [3, 0, 0, 0, 4, 1, b'n', 0, 0]);
        let all = [&delay[..], &id, &headers].concat();
        assert!(Attributes::decode(&all).is_ok());
        for again in [&delay[..], &id, &headers] {
            assert_eq!(Attributes::decode(&[&all, again].concat()), Err(Malformed::Twice(again[0])));
        }
        let optional = [200, 0, 0, 0, 0];
        assert!(Attributes::decode(&[&all[..], &optional, &optional].concat()).is_ok());
    }

    proptest! {
        #[test]
        fn what_is_put_is_decoded(
            ms: u64,
            id in prop::option::of(prop::collection::vec(any::<u8>(), 1..255)),
            headers in prop::collection::vec((".{0,20}", prop::collection::vec(any::<u8>(), 0..300)), 0..5),
        ) {
            let delay = Duration::from_millis(ms);
            let mut out = Vec::new();
            let list = headers.iter().map(|(name, value)| (name.as_str(), value.as_slice()));
            put_attributes(&mut out, delay, id.as_deref(), list);
            let attributes = decode(&out).unwrap();
            prop_assert_eq!((attributes.delay, attributes.id), (delay, id.as_deref()));
            let got: Vec<_> = attributes.headers.iter().map(Result::unwrap).collect();
            prop_assert_eq!(got.len(), headers.len());
            for ((name, value), (want, bytes)) in got.into_iter().zip(&headers) {
                prop_assert_eq!((name, value), (want.as_str(), bytes.as_slice()));
            }
        }

        #[test]
        fn any_bytes_are_attributes_or_malformed(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            if let Ok(attributes) = Attributes::decode(&bytes) {
                prop_assert!(attributes.headers.iter().all(|header| header.is_ok()));
            }
        }
    }
}

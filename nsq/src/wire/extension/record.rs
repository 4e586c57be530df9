//! Messages of a PUBLISH.

use super::{Attributes, Malformed, put_attributes, put_length, sized};

/// Records of a PUBLISH, whose lengths were checked: all of them are whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Records<'a> {
    rest: &'a [u8],
    count: u32,
}

/// A message to store. Borrowed from the buffer it was read to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Its attributes, or what is wrong with them.
    pub attributes: Result<Attributes<'a>, Malformed>,
    /// Its body.
    pub body: &'a [u8],
}

impl<'a> Records<'a> {
    /// The records that `bytes` consist of.
    ///
    /// # Errors
    /// If the last does not end where they do.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let (mut rest, mut count) = (bytes, 0);
        while !rest.is_empty() {
            parts(&mut rest)?;
            count += 1;
        }
        Ok(Self { rest: bytes, count })
    }

    /// Number of records left.
    pub fn left(&self) -> u32 {
        self.count
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Record<'a>;

    fn next(&mut self) -> Option<Record<'a>> {
        let (attributes, body) = parts(&mut self.rest).ok()?;
        self.count -= 1;
        Some(Record { attributes: Attributes::decode(attributes), body })
    }
}

/// Attributes and body of the next record.
fn parts<'a>(rest: &mut &'a [u8]) -> Result<(&'a [u8], &'a [u8]), Malformed> {
    let (length, mut behind) = rest.split_first_chunk::<4>().ok_or(Malformed::Length)?;
    let length = u32::from_be_bytes(*length) as usize;
    let attributes = sized::<4>(&mut behind)?;
    let (body, behind) = behind.split_at_checked(length).ok_or(Malformed::Length)?;
    *rest = behind;
    Ok((attributes, body))
}

/// Appends a record.
pub fn put_record<'h>(
    out: &mut Vec<u8>,
    delay: std::time::Duration,
    id: Option<&[u8]>,
    headers: impl Iterator<Item = (&'h str, &'h [u8])>,
    body: &[u8],
) {
    put_length(out, body.len());
    put_attributes(out, delay, id, headers);
    out.extend_from_slice(body);
}

/// Appends a record that has no attributes.
pub fn put_plain_record(out: &mut Vec<u8>, body: &[u8]) {
    out.reserve(8 + body.len());
    put_length(out, body.len());
    put_length(out, 0);
    out.extend_from_slice(body);
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_record_is_drawn_to_the_byte() {
        let mut out = Vec::new();
        put_record(&mut out, Duration::ZERO, None, std::iter::empty(), b"hi");
        assert_eq!(out, b"\0\0\0\x02\0\0\0\0hi");
        out.clear();
        put_plain_record(&mut out, b"hi");
        assert_eq!(out, b"\0\0\0\x02\0\0\0\0hi");
        out.clear();
        let headers = [("k", &b"vw"[..])];
        put_record(&mut out, Duration::from_millis(258), Some(b"id"), headers.into_iter(), b"!");
        let attributes = b"\x01\0\0\0\x08\0\0\0\0\0\0\x01\x02\x02\0\0\0\x02id\x03\0\0\0\x06\x01k\0\x02vw";
        assert_eq!(out, [&b"\0\0\0\x01\0\0\0\x1f"[..], attributes, b"!"].concat());
    }

    proptest! {
        #[test]
        fn records_are_decoded_one_by_one(
            bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..50), 0..10), cut: prop::sample::Index,
        ) {
            let mut out = Vec::new();
            for body in &bodies {
                put_record(&mut out, Duration::ZERO, Some(b"x"), std::iter::empty(), body);
            }
            let records = Records::decode(&out).unwrap();
            prop_assert_eq!(records.left() as usize, bodies.len());
            prop_assert!(records.map(|record| record.body).eq(bodies.iter().map(Vec::as_slice)));
            if !out.is_empty() {
                let part = &out[..cut.index(out.len())];
                if let Ok(records) = Records::decode(part) {
                    prop_assert!((records.left() as usize) < bodies.len(), "it ends between two");
                }
            }
        }

        #[test]
        fn any_bytes_are_records_or_malformed(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            if let Ok(records) = Records::decode(&bytes) {
                let left = records.left() as usize;
                prop_assert_eq!(records.count(), left);
            }
        }
    }
}

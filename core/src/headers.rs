//! Headers of a message: names with values, stored with it in
//! [`Attributes::headers`](crate::Attributes::headers).
//!
//! ```text
//! header (little-endian):  u8 name length, name (UTF-8), u16 value length, value;  one after the other
//! ```

use crate::error::{Error, ErrorKind, Result};

/// Headers of one message at most.
pub const HEADERS_MAX: usize = 128;
/// Bytes of a name at most; at least 1.
pub const NAME_BYTES_MAX: usize = 255;
/// Bytes of all headers of one message at most, with 3 for each. The other attributes take of the same 65,535
/// bytes of a record, so this leaves them 1 KiB.
pub const HEADERS_BYTES_MAX: usize = 65_535 - 1024;

/// Bytes of a header besides its name and value.
const OVERHEAD_BYTES: usize = 3;

/// Encodes headers: each name as often as is wanted, in the order they are added. Keep it for the next
/// message: clearing it keeps its memory.
///
/// ```
/// # use mq_core::{Attributes, Headers, HeadersBuf};
/// let mut headers = HeadersBuf::new();
/// headers.push("content-type", b"application/json")?;
/// headers.push("retries", b"3")?;
/// let attributes = Attributes { headers: headers.as_attribute(), ..Attributes::NONE };
///
/// let read: Vec<_> = Headers::new(attributes.headers).collect();
/// assert_eq!(read[0], ("content-type", &b"application/json"[..]));
/// assert_eq!(read[1], ("retries", &b"3"[..]));
/// # Ok::<(), mq_core::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeadersBuf {
    bytes: Vec<u8>,
    count: usize,
}

impl HeadersBuf {
    /// An empty set of headers.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a header.
    ///
    /// # Errors
    /// `InvalidArgument` if the name is empty or longer than [`NAME_BYTES_MAX`]; `TooBig` above
    /// [`HEADERS_MAX`] headers or [`HEADERS_BYTES_MAX`] bytes. It is then as before.
    pub fn push(&mut self, name: &str, value: &[u8]) -> Result<()> {
        let name_len = u8::try_from(name.len()).ok().filter(|len| *len > 0).ok_or_else(|| {
            Error::new(
                ErrorKind::InvalidArgument,
                format!("a header's name takes {} bytes, it may take 1 to {NAME_BYTES_MAX}", name.len()),
            )
        })?;
        if self.count == HEADERS_MAX {
            return Err(Error::new(
                ErrorKind::TooBig,
                format!("a message takes at most {HEADERS_MAX} headers"),
            ));
        }
        let len = self.bytes.len() + OVERHEAD_BYTES + name.len() + value.len();
        let value_len = u16::try_from(value.len()).ok().filter(|_| len <= HEADERS_BYTES_MAX);
        let value_len = value_len.ok_or_else(|| {
            Error::new(
                ErrorKind::TooBig,
                format!("the headers take {len} bytes with {name:?}, at most {HEADERS_BYTES_MAX} fit"),
            )
        })?;
        self.bytes.push(name_len);
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.extend_from_slice(&value_len.to_le_bytes());
        self.bytes.extend_from_slice(value);
        self.count += 1;
        Ok(())
    }

    /// Number of headers.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there is no header.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The value of [`Attributes::headers`](crate::Attributes::headers): `None` without headers, since an
    /// empty attribute would cost its three bytes.
    pub fn as_attribute(&self) -> Option<&[u8]> {
        (self.count > 0).then_some(&self.bytes[..])
    }

    /// Removes all headers.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.count = 0;
    }
}

/// Walks encoded headers in the order they were given. Ends at the first that is malformed, which only
/// another encoder can have written.
///
/// ```
/// # use mq_core::{Headers, HeadersBuf};
/// let mut headers = HeadersBuf::new();
/// headers.push("retries", b"3")?;
/// let retries = Headers::new(headers.as_attribute()).find(|(name, _)| *name == "retries");
/// assert_eq!(retries, Some(("retries", &b"3"[..])));
/// # Ok::<(), mq_core::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Headers<'a> {
    rest: &'a [u8],
}

impl<'a> Headers<'a> {
    /// The headers in [`Attributes::headers`](crate::Attributes::headers), or none.
    pub fn new(attribute: Option<&'a [u8]>) -> Self {
        Self { rest: attribute.unwrap_or_default() }
    }
}

impl<'a> Iterator for Headers<'a> {
    type Item = (&'a str, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let next = || {
            let (len, rest) = self.rest.split_first()?;
            let (name, rest) = rest.split_at_checked(usize::from(*len))?;
            let (len, rest) = rest.split_first_chunk()?;
            let (value, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes(*len)))?;
            let name = std::str::from_utf8(name).ok()?;
            Some(((name, value), rest))
        };
        let found = next();
        self.rest = found.map(|(_, rest)| rest).unwrap_or_default();
        found.map(|(header, _)| header)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn limits_are_named_and_leave_it_as_it_was() {
        let mut headers = HeadersBuf::new();
        assert_eq!(headers.as_attribute(), None);
        let kind = |result: Result<()>| result.unwrap_err().kind();
        assert_eq!(kind(headers.push("", b"x")), ErrorKind::InvalidArgument);
        assert_eq!(kind(headers.push(&"n".repeat(256), b"x")), ErrorKind::InvalidArgument);
        assert_eq!(kind(headers.push("n", &vec![0; HEADERS_BYTES_MAX - 3])), ErrorKind::TooBig);
        assert!(headers.is_empty());
        headers.push("n", &vec![7; HEADERS_BYTES_MAX - 4]).unwrap();
        assert_eq!(kind(headers.push("m", b"")), ErrorKind::TooBig);
        assert_eq!(Headers::new(headers.as_attribute()).count(), 1);
        headers.clear();
        for _ in 0..HEADERS_MAX {
            headers.push("again", b"").unwrap();
        }
        assert_eq!(kind(headers.push("again", b"")), ErrorKind::TooBig);
        assert_eq!(Headers::new(headers.as_attribute()).count(), HEADERS_MAX);
    }

    proptest! {
        #[test]
        fn headers_come_back_in_their_order(given in proptest::collection::vec(("\\PC{1,40}", proptest::collection::vec(any::<u8>(), 0..50)), 0..20)) {
            let mut headers = HeadersBuf::new();
            for (name, value) in &given {
                headers.push(name, value).unwrap();
            }
            prop_assert_eq!(headers.len(), given.len());
            let got: Vec<_> = Headers::new(headers.as_attribute()).map(|(n, v)| (n.to_owned(), v.to_vec())).collect();
            prop_assert_eq!(got, given);
        }

        /// I7, I8: any bytes are read as far as they make sense, and what is read was there.
        #[test]
        fn any_bytes_are_read_or_passed_over(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let read: usize = Headers::new(Some(&bytes)).map(|(name, value)| OVERHEAD_BYTES + name.len() + value.len()).sum();
            prop_assert!(read <= bytes.len());
        }
    }
}

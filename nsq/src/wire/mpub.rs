//! The bodies of an MPUB.

/// Bodies of an MPUB, checked: `count` times a big-endian `u32` length and that many bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bodies<'a> {
    bytes: &'a [u8],
    count: u32,
}

impl<'a> Bodies<'a> {
    /// `bytes` hold exactly `count` bodies: the parser walked over them.
    pub(super) fn new(bytes: &'a [u8], count: u32) -> Self {
        Self { bytes, count }
    }

    /// Number of bodies left.
    pub fn count(&self) -> u32 {
        self.count
    }
}

impl<'a> Iterator for Bodies<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (length, rest) = self.bytes.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
        let (body, rest) = rest.split_at_checked(length)?;
        self.bytes = rest;
        self.count -= 1;
        Some(body)
    }
}

//! The words of a command's line, and the numbers and names among them.

use super::error::{Code, WireError};
use super::name::Name;
use super::stop::{Stop, invalid};

/// A line's words: split at single spaces, so two spaces hold an empty one between them.
pub(super) struct Words<'a>(pub(super) Option<&'a [u8]>);

impl<'a> Words<'a> {
    /// All words that are left.
    pub(super) fn rest(self) -> &'a [u8] {
        self.0.unwrap_or_default()
    }
}

impl<'a> Iterator for Words<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let line = self.0?;
        match line.iter().position(|&b| b == b' ') {
            Some(space) => {
                self.0 = Some(&line[space + 1..]);
                Some(&line[..space])
            }
            None => {
                self.0 = None;
                Some(line)
            }
        }
    }
}

pub(super) fn topic_of<'a>(command: &'static str, word: Option<&'a [u8]>) -> Result<Name<'a>, Stop<'a>> {
    let Some(word) = word else {
        return Err(invalid(format!("{command} insufficient number of parameters")).into());
    };
    Name::parse(word).ok_or_else(|| WireError::bad_name(Code::BadTopic, command, "topic", word).into())
}

pub(super) fn message_id(word: &[u8]) -> Result<&[u8; 16], Stop<'_>> {
    word.try_into().map_err(|_| invalid("invalid message ID").into())
}

/// Digits only; none are 0; too many wrap around.
pub(super) fn number(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0u64, |n, digit| {
        let value = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        Some(n.wrapping_mul(10).wrapping_add(value))
    })
}

/// Digits only, at least one; too many are the largest number.
pub(super) fn saturating_number(digits: &[u8]) -> Option<u64> {
    let is_number = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    let add = |n: u64, digit: &u8| n.saturating_mul(10).saturating_add(u64::from(digit - b'0'));
    is_number.then(|| digits.iter().fold(0, add))
}

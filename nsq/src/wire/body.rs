//! The body of a command, behind its line.

use super::error::{Code, WireError};
use super::stop::{Stage, Stop, too_big};

/// The body that follows a line.
#[derive(Clone, Copy)]
pub(super) struct Body<'a> {
    pub(super) buf: &'a [u8],
    pub(super) at: usize,
}

impl<'a> Body<'a> {
    /// The length that stands `skip` bytes on: signed, as nsqd reads it.
    pub(super) fn length(&self, skip: usize, stage: Stage) -> Result<i32, Stop<'a>> {
        let at = self.at + skip;
        match self.buf.get(at..).and_then(|rest| rest.first_chunk::<4>()) {
            Some(bytes) => Ok(i32::from_be_bytes(*bytes)),
            None => Err(Stop::Incomplete { need: at + 4, stage }),
        }
    }

    /// `length` bytes behind the length, and where they end.
    pub(super) fn take(&self, length: i32, stage: Stage) -> Result<(&'a [u8], usize), Stop<'a>> {
        let start = self.at + 4;
        let end = start + usize_of(length.unsigned_abs());
        match self.buf.get(start..end) {
            Some(bytes) => Ok((bytes, end)),
            None => Err(Stop::Incomplete { need: end, stage }),
        }
    }

    /// The body of an IDENTIFY or AUTH.
    pub(super) fn bounded(&self, command: &'static str, max: u32) -> Result<(&'a [u8], usize), Stop<'a>> {
        let length = self.length(0, Stage::Size(command))?;
        if i64::from(length) > i64::from(max) {
            return Err(too_big(Code::BadBody, &format!("{command} body"), i64::from(length), max).into());
        }
        if length <= 0 {
            let text = format!("{command} invalid body size {length}");
            return Err(WireError::new(Code::BadBody, text).into());
        }
        self.take(length, Stage::Body(command))
    }

    /// The body of a PUB or DPUB.
    pub(super) fn message(&self, command: &'static str, max: u32) -> Result<(&'a [u8], usize), Stop<'a>> {
        let length = self.length(0, Stage::Size(command))?;
        if length <= 0 {
            let text = format!("{command} invalid message body size {length}");
            return Err(WireError::new(Code::BadMessage, text).into());
        }
        if i64::from(length) > i64::from(max) {
            let what = format!("{command} message");
            return Err(too_big(Code::BadMessage, &what, i64::from(length), max).into());
        }
        self.take(length, Stage::Body(command))
    }
}

/// Lossless: no target of this crate has pointers under 32 bits.
pub(super) fn usize_of(n: u32) -> usize {
    n as usize
}

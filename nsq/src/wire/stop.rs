//! Reasons why a buffer holds no command: the rest of one is missing, or something is wrong with it.

use super::error::{Code, WireError};
use super::name::Name;

/// The part of an incomplete command that is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// In the line, or before it.
    Line,
    /// The length of the body of the command `.0`.
    Size(&'static str),
    /// In the body of the command `.0`.
    Body(&'static str),
    /// The number of bodies of an MPUB.
    Count,
    /// The length of the body numbered `.0` of an MPUB.
    ItemSize(u32),
    /// In a body of an MPUB.
    ItemBody,
}

impl Stage {
    /// The error if the client stopped sending here. `None` between commands, or in a line.
    pub fn at_end(self) -> Option<WireError> {
        let (code, text) = match self {
            Self::Line => return None,
            Self::Size(command @ ("IDENTIFY" | "AUTH")) => {
                (Code::BadBody, format!("{command} failed to read body size"))
            }
            Self::Body(command @ ("IDENTIFY" | "AUTH")) => {
                (Code::BadBody, format!("{command} failed to read body"))
            }
            Self::Size("MPUB") => (Code::BadBody, "MPUB failed to read body size".to_owned()),
            Self::Size(command) => (Code::BadMessage, format!("{command} failed to read message body size")),
            Self::Body(command) => (Code::BadMessage, format!("{command} failed to read message body")),
            Self::Count => (Code::BadBody, "MPUB failed to read message count".to_owned()),
            Self::ItemSize(i) => (Code::BadMessage, format!("MPUB failed to read message({i}) body size")),
            Self::ItemBody => (Code::BadMessage, "MPUB failed to read message body".to_owned()),
        };
        Some(WireError::new(code, text))
    }
}

/// Reason why there is no command.
pub(super) enum Stop<'a> {
    Check(Name<'a>),
    Incomplete { need: usize, stage: Stage },
    Error(WireError),
    LineTooLong,
}

impl Stop<'_> {
    /// The same, with `more` bytes certain to follow.
    pub(super) fn and(self, more: usize) -> Self {
        match self {
            Self::Incomplete { need, stage } => Self::Incomplete { need: need + more, stage },
            stop => stop,
        }
    }
}

impl From<WireError> for Stop<'_> {
    fn from(error: WireError) -> Self {
        Self::Error(error)
    }
}

pub(super) fn too_big(code: Code, what: &str, size: i64, max: u32) -> WireError {
    WireError::new(code, format!("{what} too big {size} > {max}"))
}

pub(super) fn invalid(text: impl Into<Vec<u8>>) -> WireError {
    WireError::new(Code::Invalid, text)
}

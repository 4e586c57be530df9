//! Errors as JavaScript gets them: a stable code, a message, and whether the same may succeed later.

use libmq::Error;

/// An error for JavaScript. `lib/error.js` lists the codes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) code: &'static str,
    pub(crate) message: String,
    pub(crate) retry: bool,
}

impl Problem {
    /// A topic or channel whose name is not valid.
    pub(crate) fn name(error: impl std::fmt::Display) -> Self {
        Self { code: "INVALID_NAME", message: error.to_string(), retry: false }
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let code = match &error {
            Error::Invalid(_) => "INVALID_ARGUMENT",
            Error::Locked { .. } => "LOCKED",
            Error::BufferFull => "BUFFER_FULL",
            Error::Timeout(_) => "TIMEOUT",
            Error::Closed => "CLOSED",
            Error::Forked => "FORKED",
            Error::Unsupported { .. } => "UNSUPPORTED",
            Error::Refused { .. } => "REFUSED",
            Error::Unknown { .. } => "UNKNOWN_OUTCOME",
            Error::Unreachable { .. } => "UNREACHABLE",
            _ => "FAILED",
        };
        Self { code, message: error.to_string(), retry: error.retry() }
    }
}

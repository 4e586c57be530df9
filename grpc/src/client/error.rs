//! Errors of clients.

use tonic::{Code, Status};

use crate::v1::Failure;

/// The reason why something was not done.
#[derive(Clone, Debug)]
pub enum Error {
    /// The server refused it: its code and what was wrong.
    Refused(Code, String),
    /// The connection was lost, or the time was over, before an answer came: it may have been stored, or not.
    /// Send it again only if storing it twice is no harm, or its messages have ids for deduplication.
    Unknown,
    /// No server could be reached in time. It was not stored.
    Unreachable(String),
    /// An address is none, or TLS can't be set up.
    Address(String),
    /// The publisher or consumer was closed.
    Closed,
}

impl Error {
    /// Whether the same can never succeed, whenever and wherever it is tried.
    pub(super) fn is_final(&self) -> bool {
        match self {
            Self::Refused(code, _) => matches!(
                code,
                Code::InvalidArgument
                    | Code::Unauthenticated
                    | Code::PermissionDenied
                    | Code::Unimplemented
                    | Code::OutOfRange
                    | Code::FailedPrecondition
            ),
            Self::Address(_) | Self::Closed => true,
            Self::Unknown | Self::Unreachable(_) => false,
        }
    }
}

impl From<Status> for Error {
    fn from(status: Status) -> Self {
        Self::Refused(status.code(), status.message().to_owned())
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        let code = i32::try_from(failure.code).unwrap_or(i32::MAX);
        let message = match failure.field.as_str() {
            "" => failure.message,
            field => format!("{field}: {}", failure.message),
        };
        Self::Refused(Code::from_i32(code), message)
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Refused(code, message) => write!(f, "{code:?}: {message}"),
            Self::Unknown => f.write_str("the connection was lost before an answer: it may have been stored"),
            Self::Unreachable(why) => write!(f, "no server can be reached: {why}"),
            Self::Address(why) => write!(f, "bad address: {why}"),
            Self::Closed => f.write_str("closed"),
        }
    }
}

impl std::error::Error for Error {}

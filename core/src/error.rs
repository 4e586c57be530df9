//! The one error type. Each surface maps [`ErrorKind`] to its own codes in one exhaustive `match`.

use std::borrow::Cow;
use std::fmt;
use std::io;

/// The kind of an error. Numbers are stable and never used again; a gap is a retired kind.
///
/// Not `#[non_exhaustive]`: core and surfaces ship together, and a new kind must fail to compile until every
/// surface has an answer for it.
///
/// ```
/// # use mq_core::{ErrorKind, TopicName};
/// let error = "no spaces, please".parse::<TopicName>().unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::InvalidName);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum ErrorKind {
    /// A topic or channel name breaks the naming rule.
    InvalidName = 1,
    /// A setting or argument is out of its range.
    InvalidArgument = 2,
    /// A message or batch is larger than a frame can be.
    TooBig = 3,
    /// A topic, channel or data folder that does not exist.
    NotFound = 4,
    /// A limit on topics, channels or consumers is reached.
    LimitReached = 5,
    /// The message is not in flight: unknown, finished, timed out or emptied.
    NotInFlight = 6,
    /// The message is in flight for another subscriber.
    NotOwner = 7,
    /// The topic or channel was deleted, or the broker is closing.
    Closed = 8,
    /// The disk is full or its budget is spent. Retry later.
    Full = 9,
    /// A read or write failed.
    Io = 10,
    /// Stored bytes are damaged; `mq repair` salvages what is whole.
    Damaged = 11,
    /// The data folder is open elsewhere.
    Locked = 12,
    /// The data folder was written by a version this one does not know.
    Version = 13,
    /// The broker is being emptied and takes no more messages. Another broker does.
    Draining = 14,
}

impl ErrorKind {
    /// Whether the same call can succeed later without a change by the caller.
    pub fn is_retryable(self) -> bool {
        match self {
            Self::LimitReached | Self::Full | Self::Io | Self::Locked => true,
            Self::InvalidName
            | Self::InvalidArgument
            | Self::TooBig
            | Self::NotFound
            | Self::NotInFlight
            | Self::NotOwner
            | Self::Closed
            | Self::Damaged
            | Self::Version
            | Self::Draining => false,
        }
    }
}

/// An error: its kind, what was being done, and the cause where there is one.
///
/// ```
/// # use mq_core::{ErrorKind, TopicName};
/// let error = "no spaces".parse::<TopicName>().unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::InvalidName);
/// assert!(!error.is_retryable());
/// assert!(error.to_string().starts_with("topic name \"no spaces\" is not valid"));
/// ```
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    message: Cow<'static, str>,
    source: Option<io::Error>,
}

/// `Result` with [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error of `kind`; `message` names what was wrong and what would be right.
    pub fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Inner { kind, message: message.into(), source: None }))
    }

    /// An I/O failure; a full disk becomes [`ErrorKind::Full`], and so does the limit on a process's files
    /// (`ulimit -f`).
    pub fn io(message: impl Into<Cow<'static, str>>, source: io::Error) -> Self {
        let full = matches!(
            source.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
        );
        let kind = if full { ErrorKind::Full } else { ErrorKind::Io };
        Self(Box::new(Inner { kind, message: message.into(), source: Some(source) }))
    }

    /// The error's kind.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// See [`ErrorKind::is_retryable`].
    pub fn is_retryable(&self) -> bool {
        self.0.kind.is_retryable()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)?;
        match &self.0.source {
            Some(source) => write!(f, ": {source}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {self}", self.0.kind)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_ref().map(|e| e as _)
    }
}

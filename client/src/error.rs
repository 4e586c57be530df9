//! The one error type.

use std::fmt;
use std::path::PathBuf;

/// `Result` with [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Reason why a call failed.
///
/// ```
/// let client = libmq::connect("mq:memory")?;
/// match client.publish("no spaces in names", "one pizza") {
///     Err(error @ libmq::Error::Invalid(_)) => assert!(!error.retry(), "it fails again: {error}"),
///     other => panic!("{other:?}"),
/// }
/// # Ok::<(), libmq::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// A URL, setting, name or message that is not valid. Nothing was done.
    Invalid(String),
    /// The data folder is open elsewhere, or a second time in this process.
    Locked {
        /// The folder.
        folder: PathBuf,
        /// The process that has it open, where its lock names one.
        pid: Option<u32>,
    },
    /// The client's buffer has no room for the message: see [`Config::max_buffered_bytes`](crate::Config).
    BufferFull,
    /// The time of a wait is over. A publish that fails so was never sent.
    Timeout(String),
    /// The handle comes from a parent process: a child of `fork` connects anew.
    Forked,
    /// The client or subscription is closed. A publish that fails so was never sent.
    Closed,
    /// The broker can't do what was asked for.
    Unsupported {
        /// The request.
        what: String,
        /// The broker, or all that the client has.
        broker: String,
    },
    /// The broker refused: nothing was stored.
    Refused {
        /// The broker's reason.
        why: String,
        /// The broker.
        broker: String,
        /// Whether the same can succeed later.
        retry: bool,
    },
    /// A publish was sent and not answered: it may be stored or not.
    Unknown {
        /// The reason why there is no answer.
        why: String,
        /// The broker.
        broker: String,
    },
    /// A broker or lookup server can't be reached, or ended the connection.
    Unreachable {
        /// The reason.
        why: String,
        /// The server.
        broker: String,
    },
}

impl Error {
    /// Whether the same call can succeed later without a change by the caller. After [`Error::Unknown`] it
    /// may store a message twice, and is therefore not among them.
    pub fn retry(&self) -> bool {
        match self {
            Self::Locked { .. } | Self::BufferFull | Self::Timeout(_) | Self::Unreachable { .. } => true,
            Self::Refused { retry, .. } => *retry,
            Self::Invalid(_)
            | Self::Forked
            | Self::Closed
            | Self::Unsupported { .. }
            | Self::Unknown { .. } => false,
        }
    }

    pub(crate) fn invalid(error: impl fmt::Display) -> Self {
        Self::Invalid(error.to_string())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(what) => f.write_str(what),
            Self::Locked { folder, pid: Some(pid) } => {
                write!(f, "data folder {} is open already, by process {pid}", folder.display())
            }
            Self::Locked { folder, pid: None } => {
                write!(f, "data folder {} is open already, by another process", folder.display())
            }
            Self::BufferFull => f.write_str("the client's buffer is full: see max_buffered_bytes"),
            Self::Timeout(what) => write!(f, "out of time: {what}"),
            Self::Forked => f.write_str("this handle is of the parent process: connect anew in the child"),
            Self::Closed => f.write_str("the client or subscription is closed"),
            Self::Unsupported { what, broker } => write!(f, "{broker} can't do this: {what}"),
            Self::Refused { why, broker, .. } => write!(f, "{broker} refused: {why}"),
            Self::Unknown { why, broker } => {
                write!(f, "{broker} did not answer, the message may be stored or not: {why}")
            }
            Self::Unreachable { why, broker } => write!(f, "{broker}: {why}"),
        }
    }
}

impl std::error::Error for Error {}

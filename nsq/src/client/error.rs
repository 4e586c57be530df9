//! Errors that end a client's connection.

use std::io;

use crate::wire::frame::FrameError;

/// Reason why a call failed. All but [`Error::Input`], and [`Error::Server`] of a peek, end the connection.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The socket failed.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The server closed the connection.
    #[error("the server closed the connection")]
    Closed,
    /// The server did not answer, or sent no heartbeat, in time.
    #[error("the server does not answer")]
    Timeout,
    /// The server refused a command.
    #[error("{code} {text}")]
    Server {
        /// `E_...`.
        code: String,
        /// The server's text.
        text: String,
    },
    /// The server offered libmq's extension, and something in between or it itself does not take it: to be
    /// connected to again without ([`Identify::extension`](super::Identify::extension)).
    #[error("the extension was offered and not taken: {0}")]
    NotUpgraded(String),
    /// The other end does not speak NSQ's protocol as it should.
    #[error("not NSQ's protocol: {0}")]
    Protocol(String),
    /// The request can't be sent; nothing was.
    #[error("{0}")]
    Input(String),
}

impl Error {
    /// An answer that fits to nothing that was asked.
    pub(super) fn unexpected(what: &str) -> Self {
        Self::Protocol(format!("{what} came unexpected"))
    }

    /// The data of an error frame.
    pub(super) fn server(data: &[u8]) -> Self {
        let data = String::from_utf8_lossy(data);
        let (code, text) = data.split_once(' ').unwrap_or((&data, ""));
        Self::Server { code: code.to_owned(), text: text.to_owned() }
    }
}

impl From<FrameError> for Error {
    fn from(error: FrameError) -> Self {
        Self::Protocol(error.to_string())
    }
}

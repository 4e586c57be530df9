//! Phases of a session, and the reasons for its end.

use tokio::time::Instant;

use super::upgrade::Upgrade;

/// Whether the session takes in commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Waits for the magic.
    Magic,
    /// Takes in commands.
    Open,
    /// Takes in nothing until what was agreed on is switched on.
    Upgrading(Upgrade),
    /// Answers the commands that were read, until this time at the latest, then ends.
    Draining(End, Instant),
}

/// Reason for the end of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// No end: the session goes on behind an upgrade.
    Upgrade(Upgrade),
    /// The client closed.
    Eof,
    /// The client got an error that ends the connection.
    Fatal,
    /// The client sent a line that has no end.
    LineTooLong,
    /// The channel is gone.
    ChannelClosed,
    /// The server stops.
    Stopped,
    /// The socket failed.
    Lost,
    /// The client sent nothing for two heartbeats.
    Silent,
    /// The client took nothing for a heartbeat.
    Stuck,
    /// Others need the memory that it held for long.
    Closed,
}

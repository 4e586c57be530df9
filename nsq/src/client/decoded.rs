//! The client's decoding of a server's bytes, without a connection: a door for the fuzz target.

use super::error::Error;
use super::inbox::Inbox;
use super::outbox::{Expected, Outbox};

/// The contents of a server's frames in words, where the client has sent `commands`: what comes may be cut
/// into pieces anywhere.
///
/// # Errors
/// That of the first frame which is none, or answers nothing that was asked.
pub fn decoded(commands: &[u8], is_extended: bool, pieces: &[&[u8]]) -> Result<Vec<String>, Error> {
    let mut outbox = Outbox::new();
    commands.iter().for_each(|command| outbox.expect(expected(*command)));
    let mut inbox = Inbox::new(bytes::BytesMut::new(), is_extended, None);
    for piece in pieces {
        inbox.input.extend_from_slice(piece);
        inbox.take_frames(&mut outbox)?;
    }
    let mut words = Vec::new();
    words.extend(inbox.messages.iter().map(|message| format!("{message:?}")));
    for results in &inbox.results {
        words.extend(results.runs().map(|run| format!("{run:?}")));
    }
    words.extend(inbox.late.iter().map(ToString::to_string));
    words.push(format!("{:?} {} {}", inbox.created, inbox.byte_credits, inbox.acknowledged));
    words.push(format!("{:?} {:?}", inbox.confirmed, inbox.peeked));
    words.push(format!("{} unanswered, {} bytes unread", outbox.unanswered(), inbox.input.len()));
    Ok(words)
}

/// A command by number: publishes of 1 to 42 messages among them.
fn expected(command: u8) -> Expected {
    match command % 6 {
        0 => Expected::Confirmed,
        1 => Expected::ByteCredit,
        2 => Expected::Subscribed,
        3 => Expected::Closed,
        4 => Expected::Peeked,
        _ => Expected::Published { messages: u64::from(command / 6), bytes: 1 },
    }
}

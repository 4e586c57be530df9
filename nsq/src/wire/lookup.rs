//! nsqlookupd's TCP protocol "V1", both ends of it: bytes to values and back.
//!
//! ```text
//! client   "  V1", then commands: a line, after IDENTIFY with   u32 length | JSON
//! server   to each                                              u32 length | data: OK, JSON, or an error
//! ```

mod identity;
#[cfg(test)]
mod tests;

pub use identity::{BrokerIdentity, Identity};

use mq_core::{ChannelName, TopicName};

use super::error::{Code, WireError};
use super::name::Name;
pub use super::stop::Stage;

/// First bytes of a client, sent once and not answered.
pub const MAGIC: [u8; 4] = *b"  V1";

/// Longest line with its end. The longest that says something has 140 bytes.
pub const LINE_BYTES_MAX: usize = 1024;

/// Longest body of IDENTIFY, which the server keeps.
pub const BODY_BYTES_MAX: usize = 8 * 1024;

/// Longest answer that a client takes. The longest is IDENTIFY's; an error echoes a line.
pub const ANSWER_BYTES_MAX: usize = 16 * 1024;

/// The HTTP parameter of `/channels` by which a broker of ours leaves out channels that were deleted.
/// nsqlookupd ignores it.
pub const EXISTING: &str = "existing";

/// The answer to all that went well but IDENTIFY.
pub const OK: &[u8] = b"OK";

/// PING, whole.
pub const PING: &[u8] = b"PING\n";

/// A command of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command<'a> {
    /// The client's description of itself: JSON, see [`BrokerIdentity`].
    Identify(&'a [u8]),
    /// The broker has this topic, or this channel of it.
    Register(Name<'a>, Option<Name<'a>>),
    /// The producer has deleted this topic, or this channel of it.
    Unregister(Name<'a>, Option<Name<'a>>),
    /// The broker is alive.
    Ping,
}

/// The command or error at the front of a buffer.
#[derive(Debug, PartialEq, Eq)]
pub enum Parse<'a> {
    /// The start of a command, and nothing wrong with it so far.
    Incomplete(Stage),
    /// A command, and how many bytes it took.
    Command(Command<'a>, usize),
    /// The fault of a command, maybe found before all of it arrived. The connection is closed after it.
    Error(WireError),
}

/// Parses the command at the front of `buf`, in nsqlookupd's order of checks. `identified`: whether IDENTIFY
/// succeeded.
///
/// A command is at most [`LINE_BYTES_MAX`] and [`BODY_BYTES_MAX`] and 4 bytes long: with so many in `buf` the
/// answer is never `Incomplete`.
pub fn parse(buf: &[u8], identified: bool) -> Parse<'_> {
    match command(buf, identified) {
        Ok((command, consumed)) => Parse::Command(command, consumed),
        Err(Stop::Incomplete(stage)) => Parse::Incomplete(stage),
        Err(Stop::Error(error)) => Parse::Error(error),
    }
}

enum Stop {
    Incomplete(Stage),
    Error(WireError),
}

impl From<WireError> for Stop {
    fn from(error: WireError) -> Self {
        Self::Error(error)
    }
}

fn command(buf: &[u8], identified: bool) -> Result<(Command<'_>, usize), Stop> {
    let window = &buf[..buf.len().min(LINE_BYTES_MAX)];
    let Some(end) = window.iter().position(|&b| b == b'\n') else {
        if window.len() == LINE_BYTES_MAX {
            let text = format!("line longer than {LINE_BYTES_MAX} bytes");
            return Err(WireError::new(Code::Invalid, text).into());
        }
        return Err(Stop::Incomplete(Stage::Line));
    };
    let mut words = trim(&buf[..end]).split(|&b| b == b' ');
    let done = end + 1;
    match words.next().unwrap_or_default() {
        b"PING" => Ok((Command::Ping, done)),
        b"IDENTIFY" => {
            if identified {
                return Err(WireError::new(Code::Invalid, "cannot IDENTIFY again").into());
            }
            let (body, done) = body(buf, done)?;
            Ok((Command::Identify(body), done))
        }
        b"REGISTER" => {
            let (topic, channel) = names("REGISTER", words, identified)?;
            Ok((Command::Register(topic, channel), done))
        }
        b"UNREGISTER" => {
            let (topic, channel) = names("UNREGISTER", words, identified)?;
            Ok((Command::Unregister(topic, channel), done))
        }
        word => Err(WireError::echo(Code::Invalid, "invalid command ", word).into()),
    }
}

/// The length and what it is of, from `at` on.
fn body(buf: &[u8], at: usize) -> Result<(&[u8], usize), Stop> {
    let Some(length) = buf.get(at..).and_then(|rest| rest.first_chunk::<4>()) else {
        return Err(Stop::Incomplete(Stage::Size("IDENTIFY")));
    };
    let length = i32::from_be_bytes(*length);
    let Ok(size) = usize::try_from(length) else {
        return Err(WireError::new(Code::BadBody, format!("IDENTIFY invalid body size {length}")).into());
    };
    if size > BODY_BYTES_MAX {
        let text = format!("IDENTIFY body too big {size} > {BODY_BYTES_MAX}");
        return Err(WireError::new(Code::BadBody, text).into());
    }
    match buf.get(at + 4..at + 4 + size) {
        Some(body) => Ok((body, at + 4 + size)),
        None => Err(Stop::Incomplete(Stage::Body("IDENTIFY"))),
    }
}

fn names<'a>(
    command: &str,
    mut words: impl Iterator<Item = &'a [u8]>,
    identified: bool,
) -> Result<(Name<'a>, Option<Name<'a>>), WireError> {
    if !identified {
        return Err(WireError::new(Code::Invalid, "client must IDENTIFY"));
    }
    let Some(topic) = words.next() else {
        let text = format!("{command} insufficient number of params");
        return Err(WireError::new(Code::Invalid, text));
    };
    let topic = Name::parse(topic).ok_or_else(|| bad_name(Code::BadTopic, command, "topic", topic))?;
    // An empty word is no channel: so nsqlookupd reads a second space.
    let channel = match words.next() {
        None | Some(b"") => None,
        Some(word) => {
            Some(Name::parse(word).ok_or_else(|| bad_name(Code::BadChannel, command, "channel", word))?)
        }
    };
    Ok((topic, channel))
}

fn bad_name(code: Code, command: &str, noun: &str, name: &[u8]) -> WireError {
    let text = format!("{command} {noun} name '");
    WireError::new(code, [text.as_bytes(), name, b"' is not valid"].concat())
}

/// Removes spaces of any kind at both ends.
fn trim(line: &[u8]) -> &[u8] {
    match std::str::from_utf8(line) {
        Ok(line) => line.trim().as_bytes(),
        Err(_) => line.trim_ascii(),
    }
}

/// Appends an answer.
pub fn put_answer(out: &mut Vec<u8>, data: &[u8]) {
    // Answers are far shorter than 4 GiB.
    out.extend_from_slice(&u32::try_from(data.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend_from_slice(data);
}

/// Appends an error as the answer.
pub fn put_error(out: &mut Vec<u8>, error: &WireError) {
    let mut data = Vec::new();
    error.write_to(&mut data);
    put_answer(out, &data);
}

/// Appends IDENTIFY.
pub fn put_identify(out: &mut Vec<u8>, peer: &BrokerIdentity) {
    out.extend_from_slice(b"IDENTIFY\n");
    put_answer(out, peer.to_json().as_bytes());
}

/// Appends REGISTER.
pub fn put_register(out: &mut Vec<u8>, topic: &TopicName, channel: Option<&ChannelName>) {
    put_names(out, "REGISTER", topic, channel);
}

/// Appends UNREGISTER.
pub fn put_unregister(out: &mut Vec<u8>, topic: &TopicName, channel: Option<&ChannelName>) {
    put_names(out, "UNREGISTER", topic, channel);
}

fn put_names(out: &mut Vec<u8>, command: &str, topic: &TopicName, channel: Option<&ChannelName>) {
    for word in [Some(command), Some(topic.as_str()), channel.map(ChannelName::as_str)].into_iter().flatten()
    {
        out.extend_from_slice(word.as_bytes());
        out.push(b' ');
    }
    out.pop();
    out.push(b'\n');
}

/// The answer at the front of `buf` and how many bytes it took; `None` if it is not whole.
///
/// # Errors
/// Its length, if that is over [`ANSWER_BYTES_MAX`].
pub fn answer(buf: &[u8]) -> Result<Option<(&[u8], usize)>, u32> {
    let Some(length) = buf.first_chunk::<4>() else { return Ok(None) };
    let length = u32::from_be_bytes(*length);
    let end = match usize::try_from(length) {
        Ok(size) if size <= ANSWER_BYTES_MAX => 4 + size,
        _ => return Err(length),
    };
    Ok(buf.get(4..end).map(|data| (data, end)))
}

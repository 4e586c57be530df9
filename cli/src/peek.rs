//! `mq peek`: messages of a topic or a channel, without moving any.

use std::io::{self, Write};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use mq_bench::broker_flags::HttpFlags;
use mq_core::{ChannelName, MessageId, TopicName};
use mq_nsq::client::{Admin, AdminError};
use serde::Deserialize;

use crate::json::{self, header_line};
use crate::stdout::{refuse_closed_stdout, stdout};
use crate::words::{count, printable};
use crate::{Outcome, hex, runtime};

/// Messages asked for at a time.
const AT_A_TIME: u32 = 256;

/// Flags of `mq peek`.
#[derive(clap::Args)]
pub(crate) struct Peek {
    /// Topic to look at
    #[arg(long, value_name = "TOPIC", value_parser = |text: &str| TopicName::parse(text))]
    topic: TopicName,
    /// Channel whose unfinished messages to show; without it all that the topic stores, finished ones too
    #[arg(long, value_name = "CHANNEL", value_parser = |text: &str| ChannelName::parse(text))]
    channel: Option<ChannelName>,
    /// Messages to show at most
    #[arg(short = 'n', long = "max", value_name = "COUNT", default_value_t = 10)]
    max: u32,
    /// Id of the first message to show, of 16 hexadecimal digits, as each message is shown with; the oldest
    /// without it
    #[arg(long, value_name = "ID", value_parser = id)]
    from: Option<MessageId>,
    /// Form of the bodies
    #[arg(long, value_enum, default_value_t = Form::Text)]
    format: Form,
    /// Each message as a JSON object: id, timestamp in nanoseconds, attempts, state in the channel, headers,
    /// and body or, if that is not UTF-8, body_hex
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    http: HttpFlags,
}

/// Form of a body.
#[derive(Clone, Copy, clap::ValueEnum)]
enum Form {
    /// One line, with what is no text escaped, and one for each header
    Text,
    /// Hexadecimal digits
    Hex,
    /// The bytes as they are, and a newline
    Raw,
}

/// The answer of `/peek`.
#[derive(Deserialize)]
struct Peeked {
    messages: Vec<Encoded>,
    next: String,
}

/// A message in it, whose bytes are in base64.
#[derive(Deserialize)]
struct Encoded {
    id: String,
    timestamp: u64,
    attempts: u16,
    body: String,
    headers: Vec<EncodedHeader>,
    state: Option<String>,
}

#[derive(Deserialize)]
struct EncodedHeader {
    name: String,
    value: String,
}

/// A message.
struct Message {
    id: MessageId,
    timestamp: u64,
    attempts: u16,
    body: Vec<u8>,
    headers: Vec<(String, Vec<u8>)>,
    /// Place in its channel: `waiting`, `in_flight` or `deferred`.
    state: Option<String>,
}

fn id(text: &str) -> Result<MessageId, String> {
    MessageId::from_hex(text.as_bytes()).ok_or_else(|| "it must be 16 hexadecimal digits".to_owned())
}

/// Prints the messages. There may be none.
pub(crate) fn run(options: Peek) -> Outcome {
    refuse_closed_stdout()?;
    runtime()?.block_on(async {
        let admin = options.http.admin()?;
        let (mut from, mut left) = (options.from.map(hex_of), options.max);
        let mut is_empty = true;
        while left > 0 {
            let (messages, next) = ask(&options, &admin, from.as_deref(), left.min(AT_A_TIME)).await?;
            if messages.is_empty() {
                break;
            }
            is_empty = false;
            left = left.saturating_sub(u32::try_from(messages.len()).unwrap_or(left));
            from = Some(next);
            for message in &messages {
                // Who reads it may have seen enough.
                if print(&options, message, &mut stdout()).is_err() {
                    return Ok(0);
                }
            }
        }
        if is_empty && options.max > 0 {
            // Nothing on stdout is the answer; this says what it means.
            let from = if options.from.is_some() { " from that one on" } else { "" };
            eprintln!("mq peek: {} has no message{from}", options.place());
        }
        Ok(0)
    })
}

/// Asks for messages, and for the id to go on from.
async fn ask(
    options: &Peek,
    admin: &Admin,
    from: Option<&str>,
    max: u32,
) -> Result<(Vec<Message>, String), String> {
    let max = max.to_string();
    let mut query = vec![("topic", options.topic.as_str()), ("max", &max)];
    query.extend(options.channel.as_ref().map(|channel| ("channel", channel.as_str())));
    query.extend(from.map(|from| ("from", from)));
    let json = admin.get("/peek", &query).await.map_err(|error| options.explain(&error))?;
    let peeked: Peeked = serde_json::from_slice(&json).map_err(|error| format!("/peek: {error}"))?;
    let messages = peeked.messages.into_iter().map(Message::decode).collect::<Result<_, _>>()?;
    Ok((messages, peeked.next))
}

impl Peek {
    /// The topic or channel that is looked at.
    fn place(&self) -> String {
        match &self.channel {
            Some(channel) => format!("channel {channel} of topic {}", self.topic),
            None => format!("topic {}", self.topic),
        }
    }

    fn explain(&self, error: &AdminError) -> String {
        let code = match error {
            AdminError::Refused { code, .. } => code.as_str(),
            AdminError::NoAnswer(_) => "",
        };
        match (code, &self.channel) {
            ("TOPIC_NOT_FOUND", _) => format!("there is no topic {}", self.topic),
            ("CHANNEL_NOT_FOUND", Some(channel)) => format!("topic {} has no channel {channel}", self.topic),
            ("NOT_FOUND", _) => {
                format!("{}: this broker can't show messages: it must be mq", self.http.address())
            }
            _ => self.http.explain(error),
        }
    }
}

impl Message {
    fn decode(encoded: Encoded) -> Result<Self, String> {
        let bytes = |text: &str| STANDARD.decode(text).map_err(|error| format!("/peek: {error}"));
        let header = |header: EncodedHeader| Ok((header.name, bytes(&header.value)?));
        Ok(Self {
            id: id(&encoded.id).map_err(|error| format!("/peek: id: {error}"))?,
            timestamp: encoded.timestamp,
            attempts: encoded.attempts,
            body: bytes(&encoded.body)?,
            headers: encoded.headers.into_iter().map(header).collect::<Result<_, String>>()?,
            state: encoded.state,
        })
    }

    /// The beginning of its line: id, time, and its place in the channel.
    fn head(&self) -> String {
        let time = Timestamp::from_nanosecond(i128::from(self.timestamp)).unwrap_or_default();
        let state = match &self.state {
            // As wide as the longest.
            Some(state) => format!("{:<9}  ", state.replace('_', " ")),
            None => String::new(),
        };
        format!("{}  {time:.3}  {state}", hex_of(self.id))
    }
}

fn hex_of(id: MessageId) -> String {
    String::from_utf8_lossy(&id.to_hex()).into_owned()
}

fn print(options: &Peek, message: &Message, out: &mut impl Write) -> io::Result<()> {
    let Message { id, timestamp, attempts, body, headers, .. } = message;
    if options.json {
        let line = json::Line::new(*id, *timestamp, *attempts, body)
            .with_headers(headers.iter().map(|(name, value)| (name.as_str(), value.as_slice())))
            .in_state(message.state.as_deref());
        serde_json::to_writer(&mut *out, &line)?;
        return writeln!(out);
    }
    let head = message.head();
    match options.format {
        Form::Text => writeln!(out, "{head}{}", printable(&String::from_utf8_lossy(body)))?,
        Form::Hex => writeln!(out, "{head}{}", count(body.len() as u64, "byte", "bytes"))?,
        Form::Raw => {}
    }
    if !matches!(options.format, Form::Raw) {
        headers.iter().try_for_each(|(name, value)| writeln!(out, "{}", header_line(name, value)))?;
    }
    match options.format {
        Form::Text => {}
        Form::Hex => write!(out, "{}", hex::dump(body))?,
        Form::Raw => {
            out.write_all(body)?;
            out.write_all(b"\n")?;
        }
    }
    out.flush()
}

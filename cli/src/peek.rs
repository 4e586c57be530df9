//! `mq peek`: messages of a topic, without moving any.

use std::io::{self, Write};

use jiff::Timestamp;
use mq_bench::broker_flags::TcpFlags;
use mq_core::{MessageId, TopicName};
use mq_nsq::client::{Error, Message};

use crate::words::{count, printable};
use crate::{Outcome, hex, json, runtime};

/// Messages asked for at a time.
const AT_A_TIME: u32 = 256;

/// Flags of `mq peek`.
#[derive(clap::Args)]
pub(crate) struct Peek {
    /// Topic to look at
    #[arg(long, value_name = "TOPIC", value_parser = |text: &str| TopicName::parse(text))]
    topic: TopicName,
    /// Messages to show at most
    #[arg(short = 'n', long = "max", value_name = "COUNT", default_value_t = 10)]
    max: u32,
    /// Id of the first message to show, of 16 hexadecimal digits; the oldest that no channel has got without
    /// it
    #[arg(long, value_name = "ID", value_parser = id)]
    from: Option<MessageId>,
    /// Form of the bodies
    #[arg(long, value_enum, default_value_t = Form::Text)]
    format: Form,
    /// Each message as a JSON object: id, timestamp in nanoseconds, attempts, and body or, if that is not
    /// UTF-8, body_hex
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    broker: TcpFlags,
}

/// Form of a body.
#[derive(Clone, Copy, clap::ValueEnum)]
enum Form {
    /// One line, with what is no text escaped
    Text,
    /// Hexadecimal digits
    Hex,
    /// The bytes as they are, and a newline
    Raw,
}

fn id(text: &str) -> Result<MessageId, String> {
    MessageId::from_hex(text.as_bytes()).ok_or_else(|| "it must be 16 hexadecimal digits".to_owned())
}

/// Prints the messages. There may be none.
pub(crate) fn run(options: Peek) -> Outcome {
    runtime()?.block_on(async {
        let mut connection = options.broker.connect().await?;
        let (mut from, mut left) = (options.from, options.max);
        while left > 0 {
            let asked = u16::try_from(left.min(AT_A_TIME)).unwrap_or(1);
            let peeked = connection.peek(&options.topic, from, asked).await;
            let peeked = peeked.map_err(|error| explain(&options, &error))?;
            if peeked.messages.is_empty() {
                break;
            }
            left = left.saturating_sub(u32::try_from(peeked.messages.len()).unwrap_or(left));
            from = peeked.next;
            for message in &peeked.messages {
                // Who reads it may have seen enough.
                if print(&options, message, &mut io::stdout().lock()).is_err() {
                    return Ok(0);
                }
            }
        }
        Ok(0)
    })
}

fn explain(options: &Peek, error: &Error) -> String {
    match error {
        Error::Server { code, text } if code == "E_INVALID" => {
            format!("{code} {text}: this broker can't show a topic; it must be mq")
        }
        other => options.broker.explain(other),
    }
}

fn print(options: &Peek, message: &Message, out: &mut impl Write) -> io::Result<()> {
    let Message { id, timestamp, attempts, body, .. } = message;
    if options.json {
        serde_json::to_writer(&mut *out, &json::Line::new(*id, *timestamp, *attempts, body))?;
        return writeln!(out);
    }
    let hex_id = String::from_utf8_lossy(&id.to_hex()).into_owned();
    let time = Timestamp::from_nanosecond(i128::from(*timestamp)).unwrap_or_default();
    match options.format {
        Form::Text => writeln!(out, "{hex_id}  {time:.3}  {}", printable(&String::from_utf8_lossy(body)))?,
        Form::Hex => write!(
            out,
            "{hex_id}  {time:.3}  {}\n{}",
            count(body.len() as u64, "byte", "bytes"),
            hex::dump(body)
        )?,
        Form::Raw => {
            out.write_all(body)?;
            out.write_all(b"\n")?;
        }
    }
    out.flush()
}

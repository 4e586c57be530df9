//! `mq pub`: messages from the command line, a file, or stdin's lines.
//!
//! - `line_batches`: from an input to lines; `progress`: the line on stderr; `sender`: to brokers; `waiting`:
//!   what it waits for, in words; `to_nsq`: NSQ's tool, and `rate` for it

mod line_batches;
mod progress;
mod rate;
mod sender;
mod to_nsq;
mod waiting;

use std::io::Read;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use libmq::{Client, Error, NewMessage};
use mq_core::TopicName;
use mq_server::config::units;
use mq_server::config::value::{Size, Value};
use tokio::sync::mpsc;

use crate::Outcome;
use crate::brokers::place::BrokerPlace;
use crate::interrupt::Interrupt;
use crate::runtime;
use crate::words::count;
use line_batches::{LineBatch, LineBatches};
use progress::Progress;
use sender::Sender;
pub(crate) use to_nsq::run_nsq;

/// Batches read ahead of the one being sent.
const READ_AHEAD: usize = 4;
/// Longest wait of an interrupted run for answers to messages it has sent.
const LAST_ANSWERS: Duration = Duration::from_secs(2);

/// Flags of `mq pub`.
#[derive(clap::Args)]
pub(crate) struct Pub {
    /// Topic to publish to; made if there is none
    #[arg(long, value_name = "TOPIC", value_parser = |text: &str| TopicName::parse(text))]
    topic: TopicName,
    /// Messages to publish; without any, and without --file, each line of stdin is one, and an
    /// empty line none
    #[arg(value_name = "MESSAGE", conflicts_with = "file")]
    messages: Vec<String>,
    /// File to publish whole as one message; - is stdin
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Time before the messages are delivered
    #[arg(long, value_name = "TIME", value_parser = units::duration)]
    delay: Option<Duration>,
    /// Header to store with the messages; several by giving the flag again
    #[arg(long, value_name = "NAME=VALUE", value_parser = header)]
    header: Vec<(String, String)>,
    /// Id of the message: one sent again with it is stored once
    #[arg(long, value_name = "ID", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    id: Option<String>,
    /// The longest message to send: the broker's --max-msg-size
    #[arg(long, value_name = "SIZE", env = "MQ_MAX_MSG_SIZE", default_value = "1MiB", value_parser = size)]
    max_msg_size: Size,
    #[command(flatten)]
    broker: BrokerPlace,
}

impl Pub {
    /// A message with what the flags give it.
    fn message(&self, body: Bytes) -> NewMessage {
        let mut message = NewMessage::new(body).delay(self.delay.unwrap_or_default());
        for (name, value) in &self.header {
            message = message.header(name.clone(), value.clone());
        }
        match &self.id {
            Some(id) => message.id(id.clone()),
            None => message,
        }
    }
}

fn size(text: &str) -> Result<Size, String> {
    Size::parse(text).ok_or_else(|| format!("it must be {}", Size::FORM))
}

fn header(text: &str) -> Result<(String, String), String> {
    let form = || "it must be name=value, the name of letters, digits, - and _".to_owned();
    let (name, value) = text.split_once('=').ok_or_else(form)?;
    let plain = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
    if plain { Ok((name.to_owned(), value.to_owned())) } else { Err(form()) }
}

/// Sends all there is. Success only if the broker acknowledged every message, and none was left out.
pub(crate) fn run(options: Pub) -> Outcome {
    let whole = whole_messages(&options)?;
    match &whole {
        Some(messages) if options.id.is_some() && messages.len() != 1 => {
            return Err("--id is the id of one message: publish them one at a time".to_owned());
        }
        None if options.id.is_some() => {
            return Err(
                "--id goes with one message as arguments or --file, not with stdin's lines".to_owned()
            );
        }
        None if !options.header.is_empty() && !options.broker.is_url() => {
            return Err(
                "--header goes with messages as arguments or --file, not with stdin's lines".to_owned()
            );
        }
        _ => {}
    }
    runtime()?.block_on(publish(&options, whole))
}

/// The messages from the arguments or the file; `None`: they are stdin's lines.
fn whole_messages(options: &Pub) -> Result<Option<Vec<Bytes>>, String> {
    let messages: Vec<Bytes> = match &options.file {
        None if options.messages.is_empty() => return Ok(None),
        None => options.messages.iter().map(|text| Bytes::from(text.clone())).collect(),
        Some(path) => {
            // One byte more than may be sent is enough to know that it may not.
            let limit = options.max_msg_size.0.saturating_add(1);
            let body = if path.as_os_str() == "-" {
                read_up_to(std::io::stdin().lock(), limit)
            } else {
                std::fs::File::open(path).and_then(|file| read_up_to(file, limit))
            };
            vec![body.map_err(|error| format!("--file {}: {error}", path.display()))?.into()]
        }
    };
    let max = options.max_msg_size.0;
    for (n, body) in messages.iter().enumerate() {
        let n = n + 1;
        if body.is_empty() {
            return Err(format!("message {n} is empty: a message has at least one byte"));
        }
        if body.len() as u64 > max {
            return Err(format!("message {n} is longer than --max-msg-size ({max} bytes)"));
        }
    }
    Ok(Some(messages))
}

fn read_up_to(input: impl Read, limit: u64) -> std::io::Result<Vec<u8>> {
    let mut body = Vec::new();
    input.take(limit).read_to_end(&mut body)?;
    Ok(body)
}

async fn publish(options: &Pub, whole: Option<Vec<Bytes>>) -> Outcome {
    let mut interrupt = Interrupt::catch()?;
    let mut progress = Progress::new(&options.topic);
    // Bodies alone go out in NSQ's own words, and a refusal has NSQ's code.
    let extension = !options.header.is_empty() || options.id.is_some();
    let client = options.broker.connect("mq-pub", extension)?;
    tokio::select! {
        reached = reach(options, &client) => reached?,
        (signal, status) = interrupt.next() => {
            eprintln!("mq pub: interrupted by {signal} before the broker answered: nothing was published");
            return Ok(status);
        }
    }
    let mut sender = Sender::new(vec![client.clone()]);
    let sent = tokio::select! {
        sent = send_all(options, whole, &mut sender, &mut progress) => sent,
        failed = waiting::report(&client) => Err(options.broker.explain(&failed)),
        (signal, _) = interrupt.next() => Err(format!("interrupted by {signal}")),
    };
    // Also after a failure: what is under way may still be acknowledged, and the summary shall be true.
    if sent.is_err() {
        sender.wait_answers(LAST_ANSWERS).await;
    }
    finish(&mut progress, sent, sender.acknowledged())
}

/// Waits for the connection to the broker at an address. Those of a URL may come later.
async fn reach(options: &Pub, client: &Client) -> Result<(), String> {
    if options.broker.is_url() {
        return Ok(());
    }
    let explained = |error: Error| options.broker.explain(&error);
    client.stay_connected().map_err(explained)?;
    let events = client.events_async().await.map_err(explained)?;
    options.broker.failure(events).map_or(Ok(()), Err)
}

async fn send_all(
    options: &Pub,
    whole: Option<Vec<Bytes>>,
    sender: &mut Sender,
    progress: &mut Progress,
) -> Result<(), String> {
    let mut batches = match whole {
        Some(messages) => one_batch(messages),
        None => read_stdin(b'\n', options.max_msg_size),
    };
    let explained = |error: Error| options.broker.explain(&error);
    loop {
        let batch = tokio::select! {
            batch = batches.recv() => batch,
            answered = sender.oldest_answer(), if sender.is_busy() => {
                answered.map_err(explained)?;
                continue;
            }
        };
        let Some(batch) = batch else { break };
        let LineBatch { lines, too_long, empty } = batch?;
        progress.left_out(&too_long, options.max_msg_size);
        progress.lines_empty += empty;
        progress.read(&lines);
        for body in lines {
            sender.send(options.topic.as_str(), options.message(body)).await.map_err(explained)?;
        }
        progress.show(sender.acknowledged());
    }
    sender.finish().await.map_err(explained)
}

/// Says how far the run came, and whether that is all.
fn finish(progress: &mut Progress, sent: Result<(), String>, acknowledged: u64) -> Outcome {
    progress.finish(acknowledged);
    let sent = sent.and_then(|()| match progress.lines_left_out {
        0 => Ok(()),
        left_out => Err(format!(
            "{} longer than --max-msg-size, and left out",
            count(left_out, "line was", "lines were")
        )),
    });
    match sent {
        Ok(()) => Ok(0),
        Err(error) => Err(progress.failure(&error, acknowledged)),
    }
}

type Batches = mpsc::Receiver<Result<LineBatch, String>>;

/// `messages` as the only batch.
fn one_batch(messages: Vec<Bytes>) -> Batches {
    let (sender, receiver) = mpsc::channel(1);
    // There is room for it.
    let _ = sender.try_send(Ok(LineBatch { lines: messages, ..LineBatch::default() }));
    receiver
}

/// Reads on a thread of its own, which nobody waits for: a read of stdin cannot be cut short.
fn read_stdin(delimiter: u8, line_max: Size) -> Batches {
    let (sender, receiver) = mpsc::channel(READ_AHEAD);
    let line_bytes_max = usize::try_from(line_max.0).unwrap_or(usize::MAX);
    std::thread::spawn(move || {
        let mut lines = LineBatches::new(std::io::stdin().lock(), delimiter, line_bytes_max);
        loop {
            let batch = lines.next_batch().map_err(|error| format!("stdin: {error}"));
            let last = batch.is_err();
            let Some(batch) = batch.transpose() else { return };
            if sender.blocking_send(batch).is_err() || last {
                return;
            }
        }
    });
    receiver
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_a_name_and_a_value() {
        assert_eq!(header("trace-id=a=b").unwrap(), ("trace-id".to_owned(), "a=b".to_owned()));
        assert_eq!(header("empty=").unwrap().1, "");
        for wrong in ["novalue", "=x", "a b=x", "a:b=x"] {
            assert!(header(wrong).is_err(), "{wrong}");
        }
    }
}

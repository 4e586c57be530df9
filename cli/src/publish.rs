//! `mq pub`: messages from the command line, a file, or stdin's lines.
//!
//! - `line_batches`: from an input to lines; `progress`: the line on stderr; `sender`: to any brokers;
//!   `to_nsq`: NSQ's tool, and `rate` for it

mod line_batches;
mod progress;
mod rate;
mod sender;
mod to_nsq;

use std::io::Read;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use libmq::NewMessage;
use mq_core::TopicName;
use mq_nsq::client::{Admin, Connection};
use mq_server::config::units;
use mq_server::config::value::{Size, Value};
use tokio::sync::mpsc;

use crate::Outcome;
use crate::interrupt::Interrupt;
use crate::words::count;
use crate::{brokers, runtime};
use line_batches::{LineBatch, LineBatches};
use mq_bench::broker_flags::{HttpAddressFlag, TcpFlags};
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
    /// Messages to publish; without any, and without --file, each line of stdin is one
    #[arg(value_name = "MESSAGE", conflicts_with = "file")]
    messages: Vec<String>,
    /// File to publish whole as one message; - is stdin
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Time before the messages are delivered
    #[arg(long, value_name = "TIME", value_parser = units::duration)]
    delay: Option<Duration>,
    /// Header to store with the messages; several by giving the flag again. Sent over HTTP without --url
    #[arg(long, value_name = "NAME=VALUE", value_parser = header)]
    header: Vec<(String, String)>,
    /// Id of the message: one sent again with it is stored once. Sent over HTTP without --url
    #[arg(long, value_name = "ID", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    id: Option<String>,
    /// The longest message to send: the broker's --max-msg-size
    #[arg(long, value_name = "SIZE", env = "MQ_MAX_MSG_SIZE", default_value = "1MiB", value_parser = size)]
    max_msg_size: Size,
    /// Brokers, instead of --tcp-address: mq://host:port[,host:port...], mqs:// for TLS, or
    /// mq+lookup://host:port; settings as ?name=value&...
    #[arg(long, value_name = "URL", conflicts_with_all = ["tls", "tls_ca", "tls_cert", "tls_server_name", "tls_insecure"])]
    url: Option<String>,
    #[command(flatten)]
    broker: TcpFlags,
    #[command(flatten)]
    http: HttpAddressFlag,
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
    let over_http = !options.header.is_empty() || options.id.is_some();
    if options.id.is_some() && whole.as_ref().is_some_and(|messages| messages.len() != 1) {
        return Err("--id is the id of one message: publish them one at a time".to_owned());
    }
    if let Some(url) = &options.url {
        if options.id.is_some() && whole.is_none() {
            return Err("--id goes with one message as argument or --file, not with stdin's lines".to_owned());
        }
        return runtime()?.block_on(publish_to(&options, url, whole));
    }
    match (whole, over_http) {
        (Some(messages), true) => runtime()?.block_on(publish_over_http(&options, &messages)),
        (None, true) => {
            Err("--header and --id go with messages as arguments or --file, not with stdin's lines"
                .to_owned())
        }
        (whole, false) => runtime()?.block_on(publish(&options, whole)),
    }
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

async fn publish_over_http(options: &Pub, messages: &[Bytes]) -> Outcome {
    let http = options.http.with(&options.broker);
    let admin: Admin = http.admin()?;
    let delay_ms = options.delay.map(|delay| delay.as_millis().to_string());
    let mut query = vec![("topic", options.topic.as_str())];
    query.extend(delay_ms.as_deref().map(|ms| ("defer", ms)));
    let mut headers: Vec<(String, String)> = Vec::new();
    headers.extend(options.header.iter().map(|(name, value)| (format!("Mq-Header-{name}"), value.clone())));
    headers.extend(options.id.iter().map(|id| ("Mq-Message-Id".to_owned(), id.clone())));
    let mut interrupt = Interrupt::catch()?;
    let mut progress = Progress::new(&options.topic);
    for body in messages {
        progress.read(std::slice::from_ref(body));
    }
    let mut acknowledged = 0;
    let sent = async {
        for body in messages {
            let sent = admin.publish(&query, &headers, body.clone()).await;
            sent.map_err(|error| http.explain(&error))?;
            acknowledged += 1;
        }
        Ok(())
    };
    let sent: Result<(), String> = tokio::select! {
        sent = sent => sent,
        (signal, _) = interrupt.next() => Err(format!("interrupted by {signal}")),
    };
    progress.finish(acknowledged);
    match sent {
        Ok(()) => Ok(0),
        Err(error) => Err(progress.failure(&error, acknowledged)),
    }
}

/// Publishes to the brokers at `url`.
async fn publish_to(options: &Pub, url: &str, whole: Option<Vec<Bytes>>) -> Outcome {
    let mut interrupt = Interrupt::catch()?;
    let mut progress = Progress::new(&options.topic);
    let client = brokers::connect(url, "mq-pub", options.broker.token())?;
    let mut sender = Sender::new(vec![client]);
    let mut batches = match whole {
        Some(messages) => one_batch(messages),
        None => read_stdin(b'\n', options.max_msg_size),
    };
    let sending = async {
        while let Some(batch) = batches.recv().await {
            let LineBatch { lines, too_long } = batch?;
            progress.left_out(&too_long, options.max_msg_size);
            progress.read(&lines);
            for body in lines {
                sender.send(options.topic.as_str(), options.message(body)).await?;
            }
            progress.show(sender.acknowledged());
        }
        sender.finish().await
    };
    let sent = tokio::select! {
        sent = sending => sent,
        (signal, _) = interrupt.next() => Err(format!("interrupted by {signal}")),
    };
    if sent.is_err() {
        sender.settle(LAST_ANSWERS).await;
    }
    finish(&mut progress, sent, sender.acknowledged())
}

async fn publish(options: &Pub, whole: Option<Vec<Bytes>>) -> Outcome {
    let mut interrupt = Interrupt::catch()?;
    let mut progress = Progress::new(&options.topic);
    let mut connection = tokio::select! {
        connected = options.broker.connect() => connected?,
        (signal, status) = interrupt.next() => {
            eprintln!("mq pub: interrupted by {signal} before the broker answered: nothing was published");
            return Ok(status);
        }
    };
    let sent = tokio::select! {
        sent = send_all(&mut connection, options, whole, &mut progress) => sent,
        (signal, _) = interrupt.next() => Err(format!("interrupted by {signal}")),
    };
    // Also after a failure: what is under way may still be acknowledged, and the summary shall be true.
    if sent.is_err() && connection.unanswered() > 0 {
        let _ = tokio::time::timeout(LAST_ANSWERS, connection.flush()).await;
    }
    finish(&mut progress, sent, connection.acknowledged())
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

async fn send_all(
    connection: &mut Connection,
    options: &Pub,
    whole: Option<Vec<Bytes>>,
    progress: &mut Progress,
) -> Result<(), String> {
    let mut batches = match whole {
        Some(messages) => one_batch(messages),
        None => read_stdin(b'\n', options.max_msg_size),
    };
    loop {
        let batch = tokio::select! {
            batch = batches.recv() => batch,
            error = connection.drive() => return Err(options.broker.explain(&error)),
        };
        let Some(batch) = batch else { break };
        let LineBatch { lines, too_long } = batch?;
        progress.left_out(&too_long, options.max_msg_size);
        progress.read(&lines);
        send(connection, options, &lines).await.map_err(|error| options.broker.explain(&error))?;
        progress.show(connection.acknowledged());
    }
    connection.flush().await.map_err(|error| options.broker.explain(&error))
}

async fn send(
    connection: &mut Connection,
    options: &Pub,
    bodies: &[Bytes],
) -> Result<(), mq_nsq::client::Error> {
    match options.delay {
        None => connection.publish_batch(&options.topic, bodies).await,
        Some(delay) => {
            for body in bodies {
                connection.publish_deferred(&options.topic, body, delay).await?;
            }
            Ok(())
        }
    }
}

type Batches = mpsc::Receiver<Result<LineBatch, String>>;

/// `messages` as the only batch.
fn one_batch(messages: Vec<Bytes>) -> Batches {
    let (sender, receiver) = mpsc::channel(1);
    // There is room for it.
    let _ = sender.try_send(Ok(LineBatch { lines: messages, too_long: Vec::new() }));
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

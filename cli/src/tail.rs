//! `mq tail` and `nsq_tail`: messages as they come.
//!
//! - `printer`: to stdout, from a thread of its own; `nsq`: nsq_tail and `mq tail --url`, on any brokers

mod nsq;
mod printer;

use std::io::Write;
use std::time::Duration;

use mq_core::{ChannelName, MessageId, TopicName};
use mq_nsq::client::{Connection, Error, Message};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::Outcome;
use crate::interrupt::Interrupt;
use crate::json;
use crate::runtime;
use mq_bench::broker_flags::TcpFlags;

pub(crate) use nsq::run_nsq;
use printer::{Print, Printer};

/// Longest wait of a run that a signal ends for the broker's answer to its last acknowledgements.
const LAST_ANSWERS: Duration = Duration::from_secs(2);
/// Interval between two looks at a topic without a channel.
const PEEK_EVERY: Duration = Duration::from_millis(150);
/// Messages asked for at a time.
const PEEK_MAX: u16 = 256;
/// Messages in flight: few, so that a slow terminal holds little; enough to keep the broker busy.
const CREDIT: u32 = 256;

/// Flags of `mq tail`.
#[derive(clap::Args)]
pub(crate) struct Tail {
    /// Topic to read
    #[arg(long, value_name = "TOPIC", value_parser = |text: &str| TopicName::parse(text))]
    topic: TopicName,
    /// Channel to consume, sharing its messages with its other consumers; without it every message is shown
    /// and none is taken from anybody
    #[arg(long, value_name = "CHANNEL", value_parser = |text: &str| ChannelName::parse(text))]
    channel: Option<ChannelName>,
    /// Stop after so many messages
    #[arg(short = 'n', long = "max", value_name = "COUNT")]
    max: Option<u64>,
    /// Brokers, instead of --tcp-address: mq://host:port[,host:port...], mqs:// (TLS), mq+lookup://host:port;
    /// a topic without a channel gives its backlog to the first that comes, which is this command
    #[arg(long, value_name = "URL", conflicts_with_all = ["tls", "tls_ca", "tls_cert", "tls_server_name", "tls_insecure"])]
    url: Option<String>,
    /// Each message as a JSON object: id, timestamp in nanoseconds, attempts, and body or, if that is not
    /// UTF-8, body_hex
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    broker: TcpFlags,
}

/// A message and its form.
struct Line {
    message: Message,
    is_json: bool,
}

impl Print for Line {
    fn print(&self, out: &mut impl Write) -> std::io::Result<()> {
        let Message { id, timestamp, attempts, body, .. } = &self.message;
        if self.is_json {
            let line = json::Line::new(*id, *timestamp, *attempts, body);
            serde_json::to_writer(&mut *out, &line)?;
        } else {
            out.write_all(body)?;
        }
        out.write_all(b"\n")
    }
}

/// Prints until a signal ends it, `max` is reached, or nobody reads any more.
pub(crate) fn run(options: Tail) -> Outcome {
    if let Some(url) = &options.url {
        return nsq::run_url(&options, url);
    }
    runtime()?.block_on(async {
        let mut interrupt = Interrupt::catch()?;
        let (end, ended) = watch::channel(false);
        let mut tail = std::pin::pin!(tail(&options, ended));
        let stop = tokio::select! {
            stopped = &mut tail => stopped,
            (_, status) = interrupt.next() => {
                end.send_replace(true);
                // What is printed is finished, if the broker answers in time.
                let _ = timeout(LAST_ANSWERS, tail).await;
                return Ok(status);
            }
        };
        match stop {
            Ok(()) | Err(Stop::Enough) => Ok(0),
            Err(Stop::Failed(error)) => Err(error),
        }
    })
}

impl Tail {
    fn line(&self, message: Message) -> Line {
        Line { message, is_json: self.json }
    }
}

/// Why there is no next message to print.
enum Stop {
    /// All messages asked for were printed, or the reader of the output is gone.
    Enough,
    Failed(String),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Failed(error.to_string())
    }
}

/// Prints until there is enough, or `ended` is true.
async fn tail(options: &Tail, mut ended: watch::Receiver<bool>) -> Result<(), Stop> {
    let mut printer = Printer::<Line>::start(options.max);
    if let Some(channel) = &options.channel {
        let consumer = subscribe(options, channel, printer.credit(CREDIT)).await?;
        return consume(options, consumer, &mut printer, None, &mut ended).await;
    }
    // An ephemeral first channel would take the topic's backlog, so without a channel there is only looking.
    let mut peeker = connect(options).await?;
    let mut look = Look::default();
    while look.channels == 0 {
        if printer.is_done() {
            return Err(Stop::Enough);
        }
        if look.go_on(&mut peeker, options, &mut printer).await? == 0 && look.channels == 0 {
            pause(&mut peeker).await?;
        }
    }
    let mut consumer =
        subscribe(options, &own_channel().map_err(Stop::Failed)?, printer.credit(CREDIT)).await?;
    if look.began_without_channel {
        look.catch_up(&mut peeker, options, &mut printer, &mut consumer).await?;
    }
    consume(options, consumer, &mut printer, Some(look.last), &mut ended).await
}

/// Progress of looking at a topic.
#[derive(Default)]
struct Look {
    /// Channels the topic had at the last look.
    channels: u32,
    /// Nobody else took messages at first, so all were to be shown.
    began_without_channel: bool,
    from: Option<MessageId>,
    /// The last message shown. Ids of a topic rise.
    last: Option<MessageId>,
}

impl Look {
    /// Shows what was published since the last look, and gives how many messages that was. The first look at
    /// a topic that has a channel shows nothing: its backlog is not new.
    async fn go_on(
        &mut self,
        peeker: &mut Connection,
        options: &Tail,
        printer: &mut Printer<Line>,
    ) -> Result<usize, Stop> {
        let peeked = peeker.peek(&options.topic, self.from, PEEK_MAX).await.map_err(explain_peek)?;
        self.channels = peeked.channels;
        if peeked.channels > 0 && !self.began_without_channel {
            return Ok(0);
        }
        self.began_without_channel = true;
        self.from = peeked.next.or(self.from);
        let count = peeked.messages.len();
        for message in peeked.messages {
            self.last = Some(message.id);
            printer.put(options.line(message)).await;
        }
        tokio::select! {
            error = peeker.drive() => Err(error.into()),
            drained = printer.drain() => drained.map_err(output_failed),
        }?;
        Ok(count)
    }

    /// Shows what was published before the subscription: it is not the new channel's. Ends when a look finds
    /// nothing, or what the channel has got.
    async fn catch_up(
        &mut self,
        peeker: &mut Connection,
        options: &Tail,
        printer: &mut Printer<Line>,
        consumer: &mut Connection,
    ) -> Result<(), Stop> {
        let mut first = None;
        while self.go_on(peeker, options, printer).await? > 0 && !printer.is_done() {
            tokio::select! {
                biased;
                message = consumer.next(), if first.is_none() => first = message?,
                () = std::future::ready(()) => {}
            }
            if first.as_ref().is_some_and(|first: &Message| Some(first.id) <= self.last) {
                break;
            }
        }
        if let Some(first) = first {
            let id = first.id;
            if Some(id) > self.last {
                self.last = Some(id);
                printer.put(options.line(first)).await;
                printer.drain().await.map_err(output_failed)?;
            }
            consumer.finish(id);
        }
        Ok(())
    }
}

/// Prints and finishes what comes. On a channel of our own, `seen` holds the last message shown: what is not
/// above it was shown already. On a channel shared with others, a message that comes again was not finished,
/// and is printed again.
async fn consume(
    options: &Tail,
    mut consumer: Connection,
    printer: &mut Printer<Line>,
    mut seen: Option<Option<MessageId>>,
    ended: &mut watch::Receiver<bool>,
) -> Result<(), Stop> {
    let mut stop = Stop::Enough;
    while !printer.is_done() {
        tokio::select! {
            message = consumer.next(), if printer.has_room() => {
                let Some(message) = message? else {
                    return Err(Stop::Failed("the broker closed the connection".to_owned()));
                };
                match &mut seen {
                    Some(last) if Some(message.id) <= *last => consumer.finish(message.id),
                    Some(last) => {
                        *last = Some(message.id);
                        printer.put(options.line(message)).await;
                    }
                    None => printer.put(options.line(message)).await,
                }
            }
            printed = printer.printed() => {
                let lines = match printed {
                    Ok(lines) => lines,
                    Err(error) => {
                        stop = output_failed(error);
                        break;
                    }
                };
                // Never more with us than will be printed; said before the FINs that would make room.
                if printer.credit(CREDIT) < CREDIT {
                    consumer.ready(printer.credit(CREDIT));
                }
                lines.into_iter().for_each(|line| consumer.finish(line.message.id));
            }
            // The sender lives as long as this runs.
            _ = ended.wait_for(|ended| *ended) => break,
        }
    }
    // Waits for the broker's word, so that the last FINs are sure to have come. What was not printed comes
    // back.
    consumer.close().await?;
    Err(stop)
}

/// A reader that has seen enough (`| head`) is no failure.
fn output_failed(error: std::io::Error) -> Stop {
    match error.kind() {
        std::io::ErrorKind::BrokenPipe => Stop::Enough,
        _ => Stop::Failed(format!("stdout: {error}")),
    }
}

async fn connect(options: &Tail) -> Result<Connection, Stop> {
    options.broker.connect().await.map_err(Stop::Failed)
}

async fn subscribe(options: &Tail, channel: &ChannelName, credit: u32) -> Result<Connection, Stop> {
    let mut consumer = connect(options).await?;
    let subscribed = consumer.subscribe(&options.topic, channel, credit).await;
    subscribed.map_err(|error| Stop::Failed(options.broker.explain(&error)))?;
    Ok(consumer)
}

/// A channel nobody else has; it goes when this process does.
fn own_channel() -> Result<ChannelName, String> {
    let name = format!("tail{}_{:08x}#ephemeral", std::process::id(), fastrand::u32(..));
    ChannelName::parse(&name).map_err(|error| error.to_string())
}

fn explain_peek(error: Error) -> Stop {
    match error {
        Error::Server { code, text } if code == "E_INVALID" => Stop::Failed(format!(
            "{code} {text}: this broker cannot show a topic without a channel; `--channel` names one to consume"
        )),
        other => other.into(),
    }
}

async fn pause(peeker: &mut Connection) -> Result<(), Stop> {
    tokio::select! {
        error = peeker.drive() => Err(error.into()),
        () = tokio::time::sleep(PEEK_EVERY) => Ok(()),
    }
}

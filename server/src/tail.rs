//! `mq tail`: a topic's messages as they come.

use std::io::{self, BufWriter, Write};
use std::process::ExitCode;
use std::time::Duration;

use mq_core::{ChannelName, MessageId, TopicName};
use mq_nsq::client::{Connection, Error, Identify, Message};

use crate::Outcome;
use crate::paste::DEFAULT_ADDRESS;

/// How often a topic without a channel is looked at.
const PEEK_EVERY: Duration = Duration::from_millis(150);
/// Messages asked for at a time.
const PEEK_MAX: u16 = 256;
/// Messages in flight: few, so that a slow terminal holds little; enough to keep the broker busy.
const CREDIT: u32 = 256;
/// Messages printed before they are finished together, if more are there to print.
const SETTLE_EVERY: usize = 128;
/// Output is written in pieces of this size while more is there to print.
const OUT_BYTES: usize = 64 << 10;

/// Flags of `mq tail`.
#[derive(clap::Args)]
pub(crate) struct Tail {
    /// Topic to read
    #[arg(long, value_name = "TOPIC", value_parser = |text: &str| TopicName::parse(text))]
    topic: TopicName,
    /// Channel to consume, sharing its messages with its other consumers; without it every message is shown and none
    /// is taken from anybody
    #[arg(long, value_name = "CHANNEL", value_parser = |text: &str| ChannelName::parse(text))]
    channel: Option<ChannelName>,
    /// Stop after so many messages
    #[arg(short = 'n', long = "max", value_name = "COUNT")]
    max: Option<u64>,
    /// Broker to read from: host:port, or the path of a unix socket
    #[arg(long, value_name = "ADDRESS", env = "MQ_TCP_ADDRESS", default_value = DEFAULT_ADDRESS)]
    tcp_address: String,
}

/// Prints until it is told to stop, `max` is reached, or nobody reads any more.
pub(crate) fn run(options: Tail) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| format!("cannot start: {e}"))?;
    match runtime.block_on(tail(&options)) {
        Ok(()) | Err(Stop::Enough) => Ok(ExitCode::SUCCESS),
        Err(Stop::Failed(error)) => Err(error),
    }
}

/// Why there is no next message to print.
enum Stop {
    /// As many as asked for were printed, or the reader of the output is gone.
    Enough,
    Failed(String),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Failed(error.to_string())
    }
}

async fn tail(options: &Tail) -> Result<(), Stop> {
    let mut printer = Printer::new(options.max);
    if printer.credit() == 0 {
        return Ok(());
    }
    if let Some(channel) = &options.channel {
        let mut consumer = subscribe(options, channel, printer.credit()).await?;
        return consume(&mut consumer, &mut printer, None).await;
    }
    // An ephemeral first channel would take the topic's backlog, so without a channel there is only looking.
    let mut peeker = connect(options).await?;
    let mut from = None;
    let mut last = None;
    loop {
        let peeked = peeker.peek(&options.topic, from, PEEK_MAX).await.map_err(explain_peek)?;
        if peeked.channels > 0 {
            break;
        }
        from = peeked.next.or(from);
        if peeked.messages.is_empty() {
            pause(&mut peeker).await?;
        }
        last = printer.print_all(&peeked.messages)?.or(last);
    }
    let mut consumer = subscribe(options, &own_channel()?, printer.credit()).await?;
    if from.is_some() {
        last = catch_up(&mut peeker, options, from, &mut printer).await?.or(last);
    }
    consume(&mut consumer, &mut printer, last).await
}

/// Prints what was published between the last look and the subscription: it is not the new channel's.
async fn catch_up(
    peeker: &mut Connection,
    options: &Tail,
    mut from: Option<MessageId>,
    printer: &mut Printer,
) -> Result<Option<MessageId>, Stop> {
    let mut last = None;
    loop {
        let peeked = peeker.peek(&options.topic, from, PEEK_MAX).await?;
        last = printer.print_all(&peeked.messages)?.or(last);
        from = peeked.next.or(from);
        if peeked.messages.len() < usize::from(PEEK_MAX) {
            return Ok(last);
        }
    }
}

/// Prints and finishes what comes, but prints nothing up to `seen`: within a topic ids rise.
async fn consume(
    consumer: &mut Connection,
    printer: &mut Printer,
    seen: Option<MessageId>,
) -> Result<(), Stop> {
    let mut unsettled = Vec::new();
    loop {
        let next = tokio::select! {
            biased;
            next = consumer.next(), if unsettled.len() < SETTLE_EVERY => next,
            () = std::future::ready(()) => {
                settle(consumer, printer, &mut unsettled)?;
                consumer.next().await
            }
        };
        let Some(message) = next? else {
            return Err(Stop::Failed("the broker closed the connection".to_owned()));
        };
        unsettled.push(message.id);
        if Some(message.id) > seen {
            printer.print(&message)?;
        }
        if printer.credit() == 0 {
            settle(consumer, printer, &mut unsettled)?;
            consumer.flush().await?;
            return Err(Stop::Enough);
        }
    }
}

/// Finishes what was printed, once it has left this process.
fn settle(consumer: &mut Connection, printer: &mut Printer, ids: &mut Vec<MessageId>) -> Result<(), Stop> {
    printer.flush()?;
    if printer.credit() < CREDIT {
        // Never more in flight than will be printed; said before the FINs that would make room.
        consumer.ready(printer.credit());
    }
    ids.drain(..).for_each(|id| consumer.finish(id));
    Ok(())
}

/// Writes bodies to stdout, a newline after each.
struct Printer {
    out: BufWriter<io::Stdout>,
    /// Messages still to print; `None` = without end.
    left: Option<u64>,
}

impl Printer {
    fn new(max: Option<u64>) -> Self {
        Self { out: BufWriter::with_capacity(OUT_BYTES, io::stdout()), left: max }
    }

    /// Messages it makes sense to ask for.
    fn credit(&self) -> u32 {
        self.left.map_or(CREDIT, |left| u32::try_from(left).map_or(CREDIT, |left| left.min(CREDIT)))
    }

    fn print(&mut self, message: &Message) -> Result<(), Stop> {
        self.out.write_all(&message.body).and_then(|()| self.out.write_all(b"\n")).map_err(output_failed)?;
        self.left = self.left.map(|left| left.saturating_sub(1));
        Ok(())
    }

    /// Prints what was peeked and gives the last id; `Enough` after the last message asked for.
    fn print_all(&mut self, messages: &[Message]) -> Result<Option<MessageId>, Stop> {
        for message in messages {
            self.print(message)?;
            if self.credit() == 0 {
                self.flush()?;
                return Err(Stop::Enough);
            }
        }
        self.flush()?;
        Ok(messages.last().map(|message| message.id))
    }

    fn flush(&mut self) -> Result<(), Stop> {
        self.out.flush().map_err(output_failed)
    }
}

/// A reader that has seen enough (`| head`) is no failure.
fn output_failed(error: io::Error) -> Stop {
    match error.kind() {
        io::ErrorKind::BrokenPipe => Stop::Enough,
        _ => Stop::Failed(format!("stdout: {error}")),
    }
}

async fn connect(options: &Tail) -> Result<Connection, Stop> {
    let address = &options.tcp_address;
    Connection::connect(address, Identify::default()).await.map_err(|e| {
        Stop::Failed(format!("{address}: {e}: is a broker running there? `mq serve` starts one"))
    })
}

async fn subscribe(options: &Tail, channel: &ChannelName, credit: u32) -> Result<Connection, Stop> {
    let mut consumer = connect(options).await?;
    consumer.subscribe(&options.topic, channel, credit).await?;
    Ok(consumer)
}

/// A channel nobody else has; it goes when this process does.
fn own_channel() -> Result<ChannelName, Stop> {
    let name = format!("tail{}_{:08x}#ephemeral", std::process::id(), fastrand::u32(..));
    ChannelName::parse(&name).map_err(|e| Stop::Failed(e.to_string()))
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

//! `mq tail` and `nsq_tail`: messages as they come.
//!
//! - `follow`: those of subscriptions; `look`: those of a topic without a channel; `line`: their forms;
//!   `printer`: to stdout, from a thread of its own; `nsq`: nsq_tail

mod follow;
mod line;
mod look;
mod nsq;
mod printer;

use libmq::{Client, Error, Start, SubscribeOptions, Subscription};
use mq_core::{ChannelName, TopicName};

use crate::brokers::place::BrokerPlace;
use crate::brokers::start::parse_start;
use crate::interrupt::Interrupt;
use crate::stdout::refuse_closed_stdout;
use crate::{Outcome, runtime};
use follow::{Follow, Followed};
use line::{Form, Line};
use look::{Look, Seen};
pub(crate) use nsq::run_nsq;
use printer::Printer;

/// Messages in flight: few, so that a slow terminal holds little; enough to keep the broker busy.
const CREDIT: u32 = 256;

/// Flags of `mq tail`.
#[derive(clap::Args)]
pub(crate) struct Tail {
    /// Topic to read
    #[arg(long, value_name = "TOPIC", value_parser = |text: &str| TopicName::parse(text))]
    topic: TopicName,
    /// Channel to consume, sharing its messages with its other consumers; without it every message is shown
    /// and none is taken from anybody. Of several brokers, those of lookup servers, or nsqd, a topic without
    /// a channel gives what waits in it to this command then
    #[arg(long, value_name = "CHANNEL", value_parser = |text: &str| ChannelName::parse(text))]
    channel: Option<ChannelName>,
    /// First message, where no channel of that name is there yet: waiting (the oldest that waits in the
    /// topic, which only a topic without channels has, else the next one), earliest (the oldest that is
    /// kept), latest, an offset, or the time of the first message, such as 2026-11-28T14:00:00Z
    #[arg(long, value_name = "PLACE", default_value = "waiting", value_parser = parse_start)]
    start: Start,
    /// Stop after so many messages
    #[arg(short = 'n', long = "max", value_name = "COUNT")]
    max: Option<u64>,
    /// Each message as a JSON object: topic, id, offset, timestamp in nanoseconds, attempts, broker,
    /// headers, and body or, if that is not UTF-8, body_hex. Without --channel there are no headers while the
    /// topic has no channel: `mq peek --json` shows them
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    broker: BrokerPlace,
}

/// Reason why nothing more is printed.
enum Stop {
    /// There were as many as asked for, or nobody reads any more.
    Enough,
    Failed(String),
}

impl From<Stop> for Outcome {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Enough => Ok(0),
            Stop::Failed(error) => Err(error),
        }
    }
}

/// Prints until a signal ends it, `max` is reached, or nobody reads any more.
pub(crate) fn run(options: Tail) -> Outcome {
    refuse_closed_stdout()?;
    runtime()?.block_on(async {
        let mut interrupt = Interrupt::catch()?;
        let client = options.broker.connect("mq-tail", true)?;
        let mut printer = Printer::<Line>::start(options.max);
        let begun = tokio::select! {
            begun = begin(&options, &client, &mut printer) => begun,
            // Nothing that was printed is in flight.
            (_, status) = interrupt.next() => return Ok(status),
        };
        match begun {
            Ok(followed) => {
                let follow = Follow::new("mq tail", options.form(), CREDIT, printer);
                follow.run(vec![followed], interrupt).await
            }
            Err(stop) => stop.into(),
        }
    })
}

impl Tail {
    fn form(&self) -> Form {
        if self.json { Form::Json } else { Form::Body }
    }

    fn failed(&self, error: &Error) -> Stop {
        Stop::Failed(self.broker.explain(error))
    }
}

/// Shows what there is to be seen without a channel, and subscribes.
async fn begin(options: &Tail, client: &Client, printer: &mut Printer<Line>) -> Result<Followed, Stop> {
    let topic = options.topic.as_str();
    if let Some(channel) = &options.channel {
        return Ok(Followed::new(
            topic,
            subscribe(options, client, channel.as_str(), options.start, printer).await?,
        ));
    }
    let own = format!("tail{}_{:08x}#ephemeral", std::process::id(), fastrand::u32(..));
    let mut look = Look::new(client, topic, options.form(), options.start);
    if options.broker.is_one() {
        // An ephemeral first channel would take the topic's backlog, so without a channel there is only
        // looking.
        match look.until_a_channel(printer).await {
            Ok(()) => {
                // Looking has shown what was published so far, if it showed anything.
                let start = if look.has_shown() { Start::Waiting } else { options.start };
                let subscription = subscribe(options, client, &own, start, printer).await?;
                let mut followed = Followed::new(topic, subscription);
                let caught_up = look.catch_up(printer, &mut followed).await;
                caught_up.map_err(|seen| seen.stop(options))?;
                return Ok(followed);
            }
            // nsqd behind a URL has the form of the others; at an address it is said what would be right.
            Err(Seen::Failed(Error::Unsupported { .. })) if options.broker.is_url() => {}
            Err(seen) => return Err(seen.stop(options)),
        }
    }
    Ok(Followed::new(topic, subscribe(options, client, &own, options.start, printer).await?))
}

impl Seen {
    fn stop(self, options: &Tail) -> Stop {
        match self {
            Self::Enough => Stop::Enough,
            Self::Output(error) => Stop::Failed(format!("stdout: {error}")),
            Self::Failed(error @ Error::Unsupported { .. }) => {
                Stop::Failed(format!("{error} without a channel; `--channel` names one to consume"))
            }
            Self::Failed(error) => options.failed(&error),
        }
    }
}

/// Subscribes, and waits for the first connection.
async fn subscribe(
    options: &Tail,
    client: &Client,
    channel: &str,
    start: Start,
    printer: &Printer<Line>,
) -> Result<Subscription, Stop> {
    let failed = |error: Error| options.failed(&error);
    let max_in_flight = printer.credit(CREDIT).max(1);
    let settings = SubscribeOptions { max_in_flight, start, ..SubscribeOptions::default() };
    let subscription =
        client.subscribe_in_background(options.topic.as_str(), channel, settings).map_err(failed)?;
    // A broker in this process is there at once, and those of a URL may come later.
    if !options.broker.is_url() {
        let events = subscription.events_async().await.map_err(failed)?;
        if let Some(error) = options.broker.failure(events) {
            return Err(Stop::Failed(error));
        }
    }
    Ok(subscription)
}

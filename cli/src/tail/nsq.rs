//! `nsq_tail` and `mq tail --url`: the messages of topics, of any brokers.

use std::io::Write;
use std::time::Duration;

use libmq::{Client, Error, Message, SubscribeOptions, Subscription};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};

use super::printer::{Print, Printer};
use super::{CREDIT, Tail};
use crate::brokers::nsq_flags::{NsqSource, Source};
use crate::interrupt::Interrupt;
use crate::log::Log;
use crate::{Outcome, brokers, go_flags, json, runtime};

/// Interval at which failures of brokers are reported.
const REPORT_EVERY: Duration = Duration::from_secs(1);
/// Longest wait for what is finished to reach the brokers at the end.
const CLOSE: Duration = Duration::from_secs(5);

/// Flags of `nsq_tail`.
#[derive(clap::Args)]
pub(crate) struct NsqTail {
    #[command(flatten)]
    source: NsqSource,
    /// Topic to print (may be given multiple times)
    #[arg(long, value_name = "TOPIC")]
    topic: Vec<String>,
    /// Channel to consume; one of its own without it
    #[arg(long, value_name = "CHANNEL", default_value = "")]
    channel: String,
    /// Messages in flight at most
    #[arg(long, value_name = "COUNT", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    max_in_flight: u32,
    /// Messages to print before it ends; 0: no end
    #[arg(short = 'n', long = "n", value_name = "COUNT", default_value_t = 0)]
    total: u64,
    /// Print the topic before each message
    #[arg(long, value_parser = go_flags::boolean, num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true")]
    print_topic: bool,
}

/// Form of a line.
#[derive(Clone, Copy)]
enum Form {
    Body,
    WithTopic,
    Json,
}

/// Messages to print.
struct Job {
    client: Client,
    options: SubscribeOptions,
    channel: String,
    topics: Vec<String>,
    max: Option<u64>,
    form: Form,
    log: Log,
}

/// A message of a topic.
struct Line {
    topic: std::sync::Arc<str>,
    message: Message,
    form: Form,
}

impl Print for Line {
    fn print(&self, out: &mut impl Write) -> std::io::Result<()> {
        let Self { topic, message, form } = self;
        match form {
            Form::Body => out.write_all(message.body())?,
            Form::WithTopic => {
                write!(out, "{topic} | ")?;
                out.write_all(message.body())?;
            }
            Form::Json => {
                serde_json::to_writer(&mut *out, &json::Line::of(message).in_topic(topic))?;
            }
        }
        out.write_all(b"\n")
    }
}

/// Prints until a signal ends it, there were as many as asked for, or nobody reads any more.
pub(crate) fn run_nsq(options: NsqTail) -> Outcome {
    runtime()?.block_on(async {
        let max = (options.total > 0).then_some(options.total);
        // No more than is to be printed: the others would wait here for nothing.
        let fewest = |max: u64| u32::try_from(max).unwrap_or(u32::MAX).min(options.max_in_flight);
        let max_in_flight = max.map_or(options.max_in_flight, fewest);
        if options.topic.is_empty() {
            return Err("--topic required".to_owned());
        }
        let channel = match options.channel.as_str() {
            "" => format!("tail{:06}#ephemeral", fastrand::u32(..999_999)),
            channel => channel.to_owned(),
        };
        let Source { client, options: subscribe, .. } =
            options.source.connect("nsq_tail", max_in_flight).await?;
        let form = if options.print_topic { Form::WithTopic } else { Form::Body };
        let log = Log::new("nsq_tail");
        let topics = options.topic;
        // NSQ's tools end well by a signal.
        tail(Job { client, options: subscribe, channel, topics, max, form, log }).await.map(|_| 0)
    })
}

/// `mq tail --url`.
pub(super) fn run_url(options: &Tail, url: &str) -> Outcome {
    let client = brokers::connect(url, "mq-tail", options.broker.token())?;
    let channel = match &options.channel {
        Some(channel) => channel.to_string(),
        None => super::own_channel()?.to_string(),
    };
    let max_in_flight =
        options.max.map_or(CREDIT, |max| u32::try_from(max).unwrap_or(CREDIT).clamp(1, CREDIT));
    let job = Job {
        client,
        options: SubscribeOptions { max_in_flight, ..SubscribeOptions::default() },
        channel,
        topics: vec![options.topic.to_string()],
        max: options.max,
        form: if options.json { Form::Json } else { Form::Body },
        log: Log::new("mq tail"),
    };
    runtime()?.block_on(tail(job))
}

async fn tail(job: Job) -> Outcome {
    let mut interrupt = Interrupt::catch()?;
    let mut printer = Printer::<Line>::start(job.max);
    // One message: the others wait in the subscriptions.
    let (sender, mut messages) = mpsc::channel(1);
    let mut subscriptions = Vec::new();
    for topic in &job.topics {
        let subscription = job.client.subscribe(topic, &job.channel, job.options);
        let subscription = subscription.map_err(|error| format!("{topic}: {error}"))?;
        subscriptions.push(subscription.clone());
        let (topic, sender, form) = (topic.as_str().into(), sender.clone(), job.form);
        tokio::spawn(async move { pass_on(subscription, topic, form, sender).await });
    }
    drop(sender);
    let mut report = interval(REPORT_EVERY);
    report.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let outcome = loop {
        if printer.is_done() {
            break Ok(0);
        }
        tokio::select! {
            message = messages.recv(), if printer.has_room() => match message {
                Some(Ok(line)) => printer.put(line).await,
                Some(Err(error)) => break Err(error.to_string()),
                None => break Ok(0),
            },
            printed = printer.printed() => match printed {
                Ok(lines) => lines.iter().for_each(|line| line.message.finish()),
                // A reader that has seen enough (`| head`) is no failure.
                Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => break Ok(0),
                Err(error) => break Err(format!("stdout: {error}")),
            },
            _ = report.tick() => subscriptions.iter().for_each(|one| job.log.failures(one)),
            (_, status) = interrupt.next() => break Ok(status),
        }
    };
    let closing = tokio::task::spawn_blocking(move || {
        subscriptions.iter().filter(|subscription| !subscription.close(CLOSE)).count()
    });
    match closing.await {
        Ok(0) => {}
        _ => job.log.warn(format_args!("no answer within {CLOSE:?} at the end: messages may come again")),
    }
    outcome
}

async fn pass_on(
    subscription: Subscription,
    topic: std::sync::Arc<str>,
    form: Form,
    sender: mpsc::Sender<Result<Line, Error>>,
) {
    loop {
        let next = match subscription.next_async().await {
            Ok(message) => Ok(Line { topic: std::sync::Arc::clone(&topic), message, form }),
            Err(Error::Closed) => return,
            Err(error) => Err(error),
        };
        let is_last = next.is_err();
        if sender.send(next).await.is_err() || is_last {
            return;
        }
    }
}

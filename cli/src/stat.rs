//! `mq stat`: what a broker's channels do, in nsq_stat's columns, one line a tick.

use std::io::{self, Write};
use std::time::Duration;

use mq_core::{ChannelName, TopicName};
use mq_nsq::client::Admin;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::Outcome;
use crate::http::{Http, runtime};
use mq_server::config::units;
use mq_server::config::value::Value;

/// The header comes again after so many lines.
const HEADER_EVERY: u64 = 25;

/// Flags of `mq stat`.
#[derive(clap::Args)]
pub(crate) struct Stat {
    #[command(flatten)]
    http: Http,
    /// Only this topic; all without it
    #[arg(long, value_name = "TOPIC", value_parser = |text: &str| TopicName::parse(text))]
    topic: Option<TopicName>,
    /// Only channels of this name; all without it
    #[arg(long, value_name = "CHANNEL", value_parser = |text: &str| ChannelName::parse(text))]
    channel: Option<ChannelName>,
    /// Time between lines
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = tick)]
    interval: Duration,
    /// Stop after so many lines
    #[arg(short = 'n', long, value_name = "COUNT")]
    count: Option<u64>,
    /// One line, at once: without rates
    #[arg(long)]
    once: bool,
    /// Each line as a JSON object
    #[arg(long)]
    json: bool,
}

fn tick(text: &str) -> Result<Duration, String> {
    let time = Duration::parse(text).filter(|time| !time.is_zero());
    time.ok_or_else(|| format!("it must be more than 0: {}", units::DURATION_FORM))
}

/// What is read of `/stats`.
#[derive(Deserialize)]
struct Stats {
    topics: Option<Vec<Topic>>,
}

#[derive(Deserialize)]
struct Topic {
    /// Absent but for a topic that is stopped.
    damage: Option<String>,
    depth: u64,
    backend_depth: u64,
    message_count: u64,
    channels: Vec<Channel>,
}

#[derive(Deserialize)]
struct Channel {
    depth: u64,
    backend_depth: u64,
    in_flight_count: u64,
    deferred_count: u64,
    requeue_count: u64,
    timeout_count: u64,
    message_count: u64,
    client_count: u64,
}

/// A line: sums over what was asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
struct Line {
    /// Messages that arrived in a second; `null` where there was no tick before.
    ingress: Option<u64>,
    /// Messages that left in a second.
    egress: Option<u64>,
    depth: u64,
    memory_depth: u64,
    backend_depth: u64,
    in_flight_count: u64,
    deferred_count: u64,
    requeue_count: u64,
    timeout_count: u64,
    message_count: u64,
    client_count: u64,
    /// Topics that are stopped for damage.
    damaged_topics: u64,
}

/// Prints until it is told to stop, or nobody reads any more.
pub(crate) fn run(options: Stat) -> Outcome {
    runtime()?.block_on(stat(&options))?;
    Ok(0)
}

async fn stat(options: &Stat) -> Result<(), String> {
    let admin = options.http.admin()?;
    let mut ticks = interval(options.interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last: Option<(Line, Instant)> = None;
    let mut printed = 0;
    let lines = if options.once { Some(1) } else { options.count };
    while lines.is_none_or(|lines| printed < lines) {
        ticks.tick().await;
        let (mut line, now) = (read(&admin, options).await?, Instant::now());
        if let Some((before, at)) = last {
            line.rate(&before, now - at);
        }
        last = Some((line, now));
        let wrote = print(&line, options.json, printed);
        if wrote.is_err() {
            // The reader of the output is gone.
            return Ok(());
        }
        printed += 1;
    }
    Ok(())
}

async fn read(admin: &Admin, options: &Stat) -> Result<Line, String> {
    let topic = options.topic.as_ref().map_or("", TopicName::as_str);
    let channel = options.channel.as_ref().map_or("", ChannelName::as_str);
    let query = [
        ("format", "json"),
        ("include_clients", "false"),
        ("include_mem", "false"),
        ("topic", topic),
        ("channel", channel),
    ];
    let json = admin.get("/stats", &query).await.map_err(|error| options.http.say(&error))?;
    let stats: Stats = serde_json::from_slice(&json).map_err(|error| format!("/stats: {error}"))?;
    let topics = stats.topics.ok_or_else(|| format!("there is no topic {topic}"))?;
    if topics.is_empty() && !channel.is_empty() {
        return Err(match topic {
            "" => format!("there is no channel {channel}"),
            _ => format!("topic {topic} has no channel {channel}"),
        });
    }
    Ok(Line::sum(&topics))
}

fn print(line: &Line, json: bool, printed: u64) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if json {
        serde_json::to_writer(&mut out, line)?;
        writeln!(out)?;
    } else {
        if line.damaged_topics > 0 && printed.is_multiple_of(HEADER_EVERY) {
            eprintln!("topics stopped for damage: {}; `mq topics` names them", line.damaged_topics);
        }
        if printed.is_multiple_of(HEADER_EVERY) {
            writeln!(
                out,
                "------rate------+----------------depth----------------+--------------metadata---------------"
            )?;
            writeln!(
                out,
                "ingress  egress |   total     mem    disk inflt   def |     req     t-o         msgs clients"
            )?;
        }
        writeln!(
            out,
            "{:>7} {:>7} | {:>7} {:>7} {:>7} {:>5} {:>5} | {:>7} {:>7} {:>12} {:>7}",
            line.ingress.unwrap_or(0),
            line.egress.unwrap_or(0),
            line.depth,
            line.memory_depth,
            line.backend_depth,
            line.in_flight_count,
            line.deferred_count,
            line.requeue_count,
            line.timeout_count,
            line.message_count,
            line.client_count,
        )?;
    }
    out.flush()
}

impl Line {
    /// A topic without channels counts itself.
    fn sum(topics: &[Topic]) -> Self {
        let mut sum = Self::default();
        for topic in topics {
            sum.damaged_topics += u64::from(topic.damage.is_some());
            sum.depth += topic.depth;
            sum.backend_depth += topic.backend_depth;
            if topic.channels.is_empty() {
                sum.message_count += topic.message_count;
            }
            for channel in &topic.channels {
                sum.depth += channel.depth;
                sum.backend_depth += channel.backend_depth;
                sum.in_flight_count += channel.in_flight_count;
                sum.deferred_count += channel.deferred_count;
                sum.requeue_count += channel.requeue_count;
                sum.timeout_count += channel.timeout_count;
                sum.message_count += channel.message_count;
                sum.client_count += channel.client_count;
            }
        }
        sum.memory_depth = sum.depth - sum.backend_depth;
        sum
    }

    /// What came and went since `before`, a second.
    fn rate(&mut self, before: &Self, time: Duration) {
        let came = self.message_count.saturating_sub(before.message_count);
        let went = (before.depth + came).saturating_sub(self.depth);
        let rate = |count: u64| Some((count as f64 / time.as_secs_f64()) as u64);
        (self.ingress, self.egress) = (rate(came), rate(went));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_what_came_and_went() {
        let before = Line { message_count: 100, depth: 50, ..Line::default() };
        let mut now = Line { message_count: 180, depth: 30, ..Line::default() };
        now.rate(&before, Duration::from_secs(2));
        assert_eq!((now.ingress, now.egress), (Some(40), Some(50)));
        // Emptied and restarted.
        let mut now = Line { message_count: 5, depth: 90, ..Line::default() };
        now.rate(&before, Duration::from_secs(1));
        assert_eq!((now.ingress, now.egress), (Some(0), Some(0)));
    }
}

//! `mq stat`: numbers of a broker's topics in nsq_stat's columns, a row a topic and tick. `nsq`: nsq_stat.

mod nsq;

use std::collections::HashMap;
use std::io::{self, Write};
use std::time::Duration;

use mq_core::{ChannelName, TopicName};
use mq_nsq::client::Admin;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::Outcome;
use crate::runtime;
use mq_bench::broker_flags::HttpFlags;
use mq_server::config::units;
use mq_server::config::value::Value;

pub(crate) use nsq::run_nsq;

/// The header comes again after so many rows.
const HEADER_EVERY: u64 = 25;
/// The last row's name, where there are more topics than one.
const ALL: &str = "(all)";

/// Flags of `mq stat`.
#[derive(clap::Args)]
pub(crate) struct Stat {
    #[command(flatten)]
    http: HttpFlags,
    /// Only this topic; all without it
    #[arg(long, value_name = "TOPIC", value_parser = |text: &str| TopicName::parse(text))]
    topic: Option<TopicName>,
    /// Only channels of this name; all without it
    #[arg(long, value_name = "CHANNEL", value_parser = |text: &str| ChannelName::parse(text))]
    channel: Option<ChannelName>,
    /// One row for all topics together
    #[arg(long)]
    sum: bool,
    /// Time between ticks
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = tick)]
    interval: Duration,
    /// Stop after so many ticks
    #[arg(short = 'n', long, value_name = "COUNT")]
    count: Option<u64>,
    /// One tick, at once: without rates
    #[arg(long)]
    once: bool,
    /// Each row as a JSON object
    #[arg(long)]
    json: bool,
}

fn tick(text: &str) -> Result<Duration, String> {
    let time = Duration::parse(text).filter(|time| !time.is_zero());
    time.ok_or_else(|| format!("it must be more than 0: {}", units::DURATION_FORM))
}

/// The part of `/stats` that is used.
#[derive(Deserialize)]
struct Stats {
    topics: Option<Vec<Topic>>,
}

#[derive(Deserialize)]
struct Topic {
    topic_name: String,
    depth: u64,
    backend_depth: u64,
    message_count: u64,
    channels: Vec<Channel>,
    damage: Option<String>,
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

/// A row: sums over a topic's channels, or over all topics.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
struct Row {
    /// `null`: all topics together.
    topic: Option<String>,
    /// Topics that are stopped for damage.
    damaged_topics: u64,
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
}

/// Prints until a signal ends it, there were as many ticks as asked for, or nobody reads any more.
pub(crate) fn run(options: Stat) -> Outcome {
    runtime()?.block_on(stat(&options))?;
    Ok(0)
}

async fn stat(options: &Stat) -> Result<(), String> {
    let admin = options.http.admin()?;
    let mut ticks = interval(options.interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last: Option<(HashMap<Option<String>, Row>, Instant)> = None;
    let (mut ticked, mut printed) = (0, 0);
    let count = if options.once { Some(1) } else { options.count };
    while count.is_none_or(|count| ticked < count) {
        ticks.tick().await;
        let (mut rows, now) = (rows(&read(&admin, options).await?, options.sum), Instant::now());
        if let Some((before, at)) = &last {
            for row in &mut rows {
                if let Some(before) = before.get(&row.topic) {
                    row.rate(before, now - *at);
                }
            }
        }
        for row in &rows {
            if print(row, options.json, printed).is_err() {
                // The reader of the output is gone.
                return Ok(());
            }
            printed += 1;
        }
        last = Some((rows.into_iter().map(|row| (row.topic.clone(), row)).collect(), now));
        ticked += 1;
    }
    Ok(())
}

/// A row for each topic and one for all together, that one alone if `sum` or where there is no topic.
fn rows(topics: &[Topic], sum: bool) -> Vec<Row> {
    let all = Row::sum(None, topics);
    if sum || topics.is_empty() {
        return vec![all];
    }
    let of = |topic: &Topic| Row::sum(Some(topic.topic_name.clone()), std::slice::from_ref(topic));
    let mut rows: Vec<_> = topics.iter().map(of).collect();
    if rows.len() > 1 {
        rows.push(all);
    }
    rows
}

async fn read(admin: &Admin, options: &Stat) -> Result<Vec<Topic>, String> {
    let topic = options.topic.as_ref().map_or("", TopicName::as_str);
    let channel = options.channel.as_ref().map_or("", ChannelName::as_str);
    let query = [
        ("format", "json"),
        ("include_clients", "false"),
        ("include_mem", "false"),
        ("topic", topic),
        ("channel", channel),
    ];
    let json = admin.get("/stats", &query).await.map_err(|error| options.http.explain(&error))?;
    let stats: Stats = serde_json::from_slice(&json).map_err(|error| format!("/stats: {error}"))?;
    let topics = stats.topics.ok_or_else(|| format!("there is no topic {topic}"))?;
    if topics.is_empty() && !channel.is_empty() {
        return Err(match topic {
            "" => format!("there is no channel {channel}"),
            _ => format!("topic {topic} has no channel {channel}"),
        });
    }
    Ok(topics)
}

fn print(row: &Row, json: bool, printed: u64) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if json {
        serde_json::to_writer(&mut out, row)?;
        writeln!(out)?;
    } else {
        if printed.is_multiple_of(HEADER_EVERY) {
            writeln!(
                out,
                "------rate------+----------------depth----------------+--------------metadata---------------+"
            )?;
            writeln!(
                out,
                "ingress  egress |   total     mem    disk inflt   def |     req     t-o         msgs clients | topic"
            )?;
        }
        let rate = |rate: Option<u64>| rate.map_or_else(|| "-".to_owned(), |rate| rate.to_string());
        writeln!(
            out,
            "{:>7} {:>7} | {:>7} {:>7} {:>7} {:>5} {:>5} | {:>7} {:>7} {:>12} {:>7} | {}{}",
            rate(row.ingress),
            rate(row.egress),
            row.depth,
            row.memory_depth,
            row.backend_depth,
            row.in_flight_count,
            row.deferred_count,
            row.requeue_count,
            row.timeout_count,
            row.message_count,
            row.client_count,
            row.topic.as_deref().unwrap_or(ALL),
            match (row.damaged_topics, &row.topic) {
                (0, _) => String::new(),
                (_, Some(_)) => " (stopped for damage)".to_owned(),
                (damaged, None) => format!(" ({damaged} stopped for damage)"),
            },
        )?;
    }
    out.flush()
}

impl Row {
    /// The sum over `topics`. A topic without channels counts itself.
    fn sum(topic: Option<String>, topics: &[Topic]) -> Self {
        let mut sum = Self { topic, ..Self::default() };
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

    /// Sets the rates: messages that came and went since `before`, a second.
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
        let before = Row { message_count: 100, depth: 50, ..Row::default() };
        let mut now = Row { message_count: 180, depth: 30, ..Row::default() };
        now.rate(&before, Duration::from_secs(2));
        assert_eq!((now.ingress, now.egress), (Some(40), Some(50)));
        // Emptied and restarted.
        let mut now = Row { message_count: 5, depth: 90, ..Row::default() };
        now.rate(&before, Duration::from_secs(1));
        assert_eq!((now.ingress, now.egress), (Some(0), Some(0)));
    }

    #[test]
    fn there_is_a_row_a_topic_and_one_for_all_of_several() {
        let topic = |name: &str, depth| Topic {
            topic_name: name.to_owned(),
            depth,
            backend_depth: 0,
            message_count: depth,
            channels: Vec::new(),
            damage: None,
        };
        let (a, b) = (topic("a", 1), topic("b", 2));
        let facts = |topics: &[Topic], sum| -> Vec<_> {
            rows(topics, sum).into_iter().map(|row| (row.topic, row.depth)).collect()
        };
        let name = |name: &str| Some(name.to_owned());
        assert_eq!(facts(&[], false), [(None, 0)]);
        assert_eq!(facts(std::slice::from_ref(&a), false), [(name("a"), 1)]);
        assert_eq!(facts(&[a, b], false), [(name("a"), 1), (name("b"), 2), (None, 3)]);
        assert_eq!(facts(&[topic("a", 1), topic("b", 2)], true), [(None, 3)]);
    }
}

//! `mq stat`: numbers of a broker's topics in nsq_stat's columns, a row a topic and tick. `nsq`: nsq_stat.

mod nsq;

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Write};
use std::time::Duration;

use mq_core::{ChannelName, TopicName};
use serde::Serialize;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::fleet::{Fleet, FleetFlags, Look};
use crate::stats::Topic;
use crate::stdout::stdout;
use crate::words::printable;
use crate::{Outcome, runtime};
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
    #[command(flatten)]
    fleet: FleetFlags,
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
    /// The brokers that have it; none where only one is looked at.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    nodes: Vec<String>,
}

/// Prints until a signal ends it, there were as many ticks as asked for, or nobody reads any more.
pub(crate) fn run(options: Stat) -> Outcome {
    runtime()?.block_on(stat(&options))
}

async fn stat(options: &Stat) -> Outcome {
    let fleet = Fleet::new(&options.http, &options.fleet)?;
    let mut ticks = interval(options.interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last: Option<(HashMap<Option<String>, Row>, Instant)> = None;
    let (mut ticked, mut printed, mut status) = (0, 0, 0);
    let count = if options.once { Some(1) } else { options.count };
    while count.is_none_or(|count| ticked < count) {
        ticks.tick().await;
        let look = read(&fleet, options).await?;
        look.failures.iter().for_each(|failure| eprintln!("mq stat: left out: {failure}"));
        status = u8::from(!look.failures.is_empty());
        let (mut rows, now) = (rows(&look, options.sum, fleet.is_many), Instant::now());
        if let Some((before, at)) = &last {
            for row in &mut rows {
                // The sum over other brokers would be no rate.
                if let Some(before) = before.get(&row.topic).filter(|before| before.nodes == row.nodes) {
                    row.rate(before, now - *at);
                }
            }
        }
        for row in &rows {
            if print(row, options.json, printed).is_err() {
                // The reader of the output is gone.
                return Ok(0);
            }
            printed += 1;
        }
        last = Some((rows.into_iter().map(|row| (row.topic.clone(), row)).collect(), now));
        ticked += 1;
    }
    Ok(status)
}

/// A row for each topic and one for all together, that one alone if `sum` or where there is no topic.
fn rows(look: &Look, sum: bool, is_many: bool) -> Vec<Row> {
    let mut all = Row::default();
    let mut topics: BTreeMap<&str, Row> = BTreeMap::new();
    for (node, stats) in &look.brokers {
        let name = is_many.then_some(node.as_str());
        for topic in stats.topics() {
            let new = || Row { topic: Some(topic.topic_name.clone()), ..Row::default() };
            topics.entry(&topic.topic_name).or_insert_with(new).add(topic, name);
            all.add(topic, None);
        }
        all.nodes.extend(name.map(str::to_owned));
    }
    if sum || topics.is_empty() {
        return vec![all];
    }
    let mut rows: Vec<_> = topics.into_values().collect();
    if rows.len() > 1 {
        rows.push(all);
    }
    rows
}

async fn read(fleet: &Fleet, options: &Stat) -> Result<Look, String> {
    let topic = options.topic.as_ref().map_or("", TopicName::as_str);
    let channel = options.channel.as_ref().map_or("", ChannelName::as_str);
    let mut look = fleet.look(&[("topic", topic), ("channel", channel)]).await?;
    // A topic that a broker does not have has no list there.
    let has_topic = look.brokers.iter().any(|(_, stats)| stats.topics.is_some());
    let has_channel = look.brokers.iter().any(|(_, stats)| !stats.topics().is_empty());
    if !topic.is_empty() && !has_topic {
        return Err(format!("there is no topic {topic}"));
    }
    if !channel.is_empty() && !has_channel {
        return Err(match topic {
            "" => format!("there is no channel {channel}"),
            _ => format!("topic {topic} has no channel {channel}"),
        });
    }
    look.brokers.retain(|(_, stats)| stats.topics.is_some());
    Ok(look)
}

fn print(row: &Row, json: bool, printed: u64) -> io::Result<()> {
    let mut out = stdout();
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
            row.name(),
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
    /// Adds a topic of one broker. One without channels counts itself.
    fn add(&mut self, topic: &Topic, node: Option<&str>) {
        self.damaged_topics += u64::from(topic.damage.is_some());
        self.depth += topic.depth;
        self.backend_depth += topic.backend_depth;
        if topic.channels().is_empty() {
            self.message_count += topic.message_count;
        }
        for channel in topic.channels() {
            self.depth += channel.depth;
            self.backend_depth += channel.backend_depth;
            self.in_flight_count += channel.in_flight_count;
            self.deferred_count += channel.deferred_count;
            self.requeue_count += channel.requeue_count;
            self.timeout_count += channel.timeout_count;
            self.message_count += channel.message_count;
            self.client_count += channel.client_count;
        }
        self.memory_depth = self.depth.saturating_sub(self.backend_depth);
        self.nodes.extend(node.map(str::to_owned));
    }

    /// The name at the end of its line: the topic, and the brokers of a fleet.
    fn name(&self) -> String {
        let name = self.topic.as_deref().unwrap_or(ALL);
        match self.nodes.as_slice() {
            [] => name.to_owned(),
            nodes => format!("{name} at {}", printable(&nodes.join(" "))),
        }
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
    use crate::stats::Stats;

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
            message_count: depth,
            ..Topic::default()
        };
        let look = |brokers: &[(&str, &[Topic])]| {
            let stats = |topics: &[Topic]| Stats { topics: Some(topics.to_vec()), ..Stats::default() };
            let brokers = brokers.iter().map(|(name, topics)| ((*name).to_owned(), stats(topics)));
            Look { brokers: brokers.collect(), failures: Vec::new() }
        };
        let (a, b) = (topic("a", 1), topic("b", 2));
        let facts = |topics: &[Topic], sum| -> Vec<_> {
            let rows = rows(&look(&[("n:1", topics)]), sum, false);
            rows.into_iter().map(|row| (row.topic, row.depth)).collect()
        };
        let name = |name: &str| Some(name.to_owned());
        assert_eq!(facts(&[], false), [(None, 0)]);
        assert_eq!(facts(std::slice::from_ref(&a), false), [(name("a"), 1)]);
        assert_eq!(facts(&[a.clone(), b.clone()], false), [(name("a"), 1), (name("b"), 2), (None, 3)]);
        assert_eq!(facts(&[a.clone(), b.clone()], true), [(None, 3)]);
        let both = rows(&look(&[("n:1", std::slice::from_ref(&a)), ("n:2", &[a.clone(), b])]), false, true);
        let named: Vec<_> = both.iter().map(|row| (row.name(), row.depth)).collect();
        let want = [("a at n:1 n:2", 2), ("b at n:2", 2), ("(all) at n:1 n:2", 4)];
        assert_eq!(named, want.map(|(name, depth)| (name.to_owned(), depth)));
    }
}

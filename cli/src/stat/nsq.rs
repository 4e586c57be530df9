//! `nsq_stat`: the numbers of one channel over all its brokers, a row a tick.

use std::io::{self, Write};
use std::time::Duration;

use mq_nsq::client::Admin;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::time::sleep;

use super::HEADER_EVERY;
use crate::brokers::nsq_flags::either;
use crate::interrupt::Interrupt;
use crate::stdout::stdout;
use crate::{Outcome, go_flags, runtime};

/// Flags of `nsq_stat`.
#[derive(clap::Args)]
pub(crate) struct NsqStat {
    /// Topic
    #[arg(long, value_name = "TOPIC", default_value = "")]
    topic: String,
    /// Channel
    #[arg(long, value_name = "CHANNEL", default_value = "")]
    channel: String,
    /// nsqd's HTTP address (may be given multiple times)
    #[arg(long, value_name = "ADDRESS")]
    nsqd_http_address: Vec<String>,
    /// nsqlookupd's HTTP address (may be given multiple times)
    #[arg(long, value_name = "ADDRESS")]
    lookupd_http_address: Vec<String>,
    /// Time between rows
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = go_flags::positive_duration)]
    interval: Duration,
    /// Rows to print; no end without it
    #[arg(long, value_name = "COUNT")]
    count: Option<u64>,
    /// Longest time to connect
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = go_flags::positive_duration)]
    http_client_connect_timeout: Duration,
    /// Longest time for an answer
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = go_flags::positive_duration)]
    http_client_request_timeout: Duration,
}

#[derive(Deserialize)]
struct Lookup {
    producers: Vec<Producer>,
}

#[derive(Deserialize)]
struct Producer {
    broadcast_address: String,
    http_port: u16,
}

#[derive(Deserialize)]
struct Stats {
    topics: Option<Vec<Topic>>,
}

#[derive(Deserialize)]
struct Topic {
    topic_name: String,
    #[serde(default)]
    channels: Option<Vec<Channel>>,
}

/// The numbers of a channel. Signed: a broker may count anew.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct Channel {
    channel_name: String,
    depth: i64,
    backend_depth: i64,
    in_flight_count: i64,
    deferred_count: i64,
    requeue_count: i64,
    timeout_count: i64,
    message_count: i64,
    client_count: i64,
}

impl Channel {
    fn add(&mut self, other: &Self) {
        self.depth += other.depth;
        self.backend_depth += other.backend_depth;
        self.in_flight_count += other.in_flight_count;
        self.deferred_count += other.deferred_count;
        self.requeue_count += other.requeue_count;
        self.timeout_count += other.timeout_count;
        self.message_count += other.message_count;
        self.client_count += other.client_count;
    }
}

/// Prints until a signal ends it, or there were as many rows as asked for.
pub(crate) fn run_nsq(options: NsqStat) -> Outcome {
    if options.topic.is_empty() || options.channel.is_empty() {
        return Err("--topic and --channel are required".to_owned());
    }
    either(&options.nsqd_http_address, &options.lookupd_http_address, "--nsqd-http-address")?;
    for (flag, addresses) in
        [("nsqd", &options.nsqd_http_address), ("lookupd", &options.lookupd_http_address)]
    {
        if addresses.iter().any(|address| address.starts_with("http")) {
            return Err(format!("--{flag}-http-address error - address should not contain scheme"));
        }
    }
    if options.count == Some(0) {
        return Err("--count should be positive".to_owned());
    }
    runtime()?.block_on(async {
        let mut interrupt = Interrupt::catch()?;
        tokio::select! {
            ended = stat(&options) => ended.map(|()| 0),
            _ = interrupt.next() => Ok(0),
        }
    })
}

async fn stat(options: &NsqStat) -> Result<(), String> {
    let mut before: Option<Channel> = None;
    let (mut polled, mut printed) = (0, 0);
    loop {
        let now = read(options).await?;
        // Who reads the rows may have seen enough.
        if polled % HEADER_EVERY == 0 && header(&mut stdout()).is_err() {
            return Ok(());
        }
        if let Some(before) = &before {
            if row(before, &now, options.interval, &mut stdout()).is_err() {
                return Ok(());
            }
            printed += 1;
        }
        if options.count == Some(printed) {
            return Ok(());
        }
        before = Some(now);
        polled += 1;
        sleep(options.interval).await;
    }
}

/// The sums over all brokers that have the topic.
async fn read(options: &NsqStat) -> Result<Channel, String> {
    let mut addresses = options.nsqd_http_address.clone();
    for server in &options.lookupd_http_address {
        let found: Lookup = get(options, server, "/lookup", &[("topic", &options.topic)]).await?;
        let address = |Producer { broadcast_address: host, http_port }| match host.contains(':') {
            true => format!("[{host}]:{http_port}"),
            false => format!("{host}:{http_port}"),
        };
        addresses.extend(found.producers.into_iter().map(address));
    }
    addresses.sort();
    addresses.dedup();
    let query = [
        ("format", "json"),
        ("topic", options.topic.as_str()),
        ("channel", options.channel.as_str()),
        ("include_clients", "false"),
    ];
    let mut sum: Option<Channel> = None;
    for address in &addresses {
        let stats: Stats = get(options, address, "/stats", &query).await?;
        let topics = stats.topics.unwrap_or_default().into_iter();
        let channels = topics
            .filter(|topic| topic.topic_name == options.topic)
            .flat_map(|t| t.channels.unwrap_or_default());
        for channel in channels.filter(|channel| channel.channel_name == options.channel) {
            sum.get_or_insert_with(Channel::default).add(&channel);
        }
    }
    sum.ok_or_else(|| {
        format!(
            "ERROR: failed to find channel({}) in stats metadata for topic({})",
            options.channel, options.topic
        )
    })
}

async fn get<T: DeserializeOwned>(
    options: &NsqStat,
    address: &str,
    path: &str,
    query: &[(&str, &str)],
) -> Result<T, String> {
    let time = options.http_client_connect_timeout + options.http_client_request_timeout;
    let answer = Admin::new(address, None).with_timeout(time).get(path, query).await;
    let answer = answer.map_err(|error| format!("ERROR: failed to get {address}{path} - {error}"))?;
    serde_json::from_slice(&answer)
        .map_err(|error| format!("ERROR: failed to read {address}{path} - {error}"))
}

fn header(out: &mut impl Write) -> io::Result<()> {
    writeln!(
        out,
        "------rate------+----------------depth----------------+--------------metadata---------------"
    )?;
    writeln!(
        out,
        "{:>7} {:>7} | {:>7} {:>7} {:>7} {:>5} {:>5} | {:>7} {:>7} {:>12} {:>7}",
        "ingress", "egress", "total", "mem", "disk", "inflt", "def", "req", "t-o", "msgs", "clients"
    )
}

fn row(before: &Channel, now: &Channel, interval: Duration, out: &mut impl Write) -> io::Result<()> {
    let rate = |count: i64| (count as f64 / interval.as_secs_f64()) as i64;
    let came = now.message_count - before.message_count;
    writeln!(
        out,
        "{:>7} {:>7} | {:>7} {:>7} {:>7} {:>5} {:>5} | {:>7} {:>7} {:>12} {:>7}",
        rate(came),
        rate(came - (now.depth - before.depth)),
        now.depth,
        now.depth - now.backend_depth,
        now.backend_depth,
        now.in_flight_count,
        now.deferred_count,
        now.requeue_count,
        now.timeout_count,
        now.message_count,
        now.client_count,
    )?;
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_has_rates_and_sums() {
        let mut before = Channel { depth: 10, message_count: 100, ..Channel::default() };
        let mut now =
            Channel { depth: 6, backend_depth: 2, message_count: 120, client_count: 3, ..Channel::default() };
        before.add(&before.clone());
        now.add(&now.clone());
        let mut out = Vec::new();
        row(&before, &now, Duration::from_secs(2), &mut out).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "     20      24 |      12       8       4     0     0 |       0       0          240       6\n"
        );
    }
}

//! `mq status`: a broker on one page.

use std::io::Write;

use jiff::{SignedDuration, Timestamp};
use mq_bench::broker_flags::HttpFlags;
use mq_server::config::units;
use serde::Serialize;

use crate::stats::{self, Info, Metrics, Stats};
use crate::stdout::stdout;
use crate::words::{count, printable};
use crate::{Outcome, runtime};

/// Exit statuses, for the help.
pub(crate) const EXIT_CODES: &str =
    "Exit status: 0 if the broker is well, 1 if it is not, or can't be reached.";

/// Flags of `mq status`.
#[derive(clap::Args)]
pub(crate) struct ShowStatus {
    #[command(flatten)]
    http: HttpFlags,
    /// Print a JSON object
    #[arg(long)]
    json: bool,
}

/// The state of a broker.
#[derive(Serialize)]
struct Status {
    address: String,
    /// `OK`, or what is wrong.
    health: String,
    /// Whether it empties itself to stop, and so refuses publishes.
    draining: bool,
    /// Version of `mq`; `null` of nsqd.
    version: Option<String>,
    /// Version of nsqd, or of the one that it stands for.
    nsq_version: String,
    hostname: String,
    /// -1 of a broker on a unix socket.
    tcp_port: i32,
    /// See `tcp_port`.
    http_port: i32,
    uptime_seconds: u64,
    topics: usize,
    channels: usize,
    clients: u64,
    depth: u64,
    in_flight: u64,
    deferred: u64,
    /// Like those below not known of nsqd.
    connections: Option<u64>,
    memory_used_bytes: Option<u64>,
    memory_limit_bytes: Option<u64>,
    log_live_bytes: Option<u64>,
    log_dead_bytes: Option<u64>,
}

/// Prints the state.
pub(crate) fn run(options: ShowStatus) -> Outcome {
    let status = runtime()?.block_on(read(&options.http))?;
    let mut out = stdout();
    // Who reads it may have seen enough.
    let _ = match options.json {
        true => serde_json::to_writer(&mut out, &status).map_err(Into::into).and_then(|()| writeln!(out)),
        false => out.write_all(page(&status).as_bytes()),
    };
    Ok(u8::from(status.health != "OK"))
}

async fn read(http: &HttpFlags) -> Result<Status, String> {
    let admin = http.admin()?;
    let info: Info = stats::get(http, &admin, "/info", &[]).await?;
    let stats: Stats = stats::all(http, &admin).await?;
    let metrics = Metrics::get(&admin).await;
    let number = |name: &str| metrics.number(name).map(|number| number as u64);
    let channels: Vec<_> = stats.topics().iter().flat_map(|topic| topic.channels()).collect();
    let now = u64::try_from(Timestamp::now().as_second()).unwrap_or_default();
    Ok(Status {
        address: http.address().to_owned(),
        health: stats.health.clone(),
        draining: stats.draining,
        version: metrics.version.clone(),
        nsq_version: info.version,
        hostname: info.hostname,
        tcp_port: info.tcp_port,
        http_port: info.http_port,
        uptime_seconds: now.saturating_sub(info.start_time),
        topics: stats.topics().len(),
        channels: channels.len(),
        clients: channels.iter().map(|channel| channel.client_count).sum(),
        depth: stats.topics().iter().map(stats::Topic::waiting).sum(),
        in_flight: channels.iter().map(|channel| channel.in_flight_count).sum(),
        deferred: channels.iter().map(|channel| channel.deferred_count).sum(),
        connections: number("mq_connections"),
        memory_used_bytes: number("mq_memory_used_bytes"),
        memory_limit_bytes: number("mq_memory_limit_bytes"),
        log_live_bytes: number("mq_log_live_bytes"),
        log_dead_bytes: number("mq_log_dead_bytes"),
    })
}

fn page(status: &Status) -> String {
    let up = SignedDuration::from_secs(i64::try_from(status.uptime_seconds).unwrap_or(i64::MAX));
    let mut lines = vec![
        format!(
            "{}  {}{}",
            status.address,
            printable(&status.health),
            if status.draining { ", draining: publishes are refused" } else { "" }
        ),
        format!(
            "{} on {}, {}, up {up:#}",
            match &status.version {
                Some(version) => format!("mq {}", printable(version)),
                None => format!("nsqd {}", printable(&status.nsq_version)),
            },
            printable(&status.hostname),
            match status.tcp_port {
                -1 => "tcp on a unix socket".to_owned(),
                port => format!("tcp port {port}"),
            }
        ),
        format!(
            "{}, {}, {}",
            count(status.topics as u64, "topic", "topics"),
            count(status.channels as u64, "channel", "channels"),
            count(status.clients, "consumer", "consumers")
        ),
        format!(
            "{} waiting, {} in flight, {} deferred",
            count(status.depth, "message", "messages"),
            status.in_flight,
            status.deferred
        ),
    ];
    if let (Some(used), Some(limit)) = (status.memory_used_bytes, status.memory_limit_bytes) {
        lines.push(format!("memory {} of {}", units::show_size(used), units::show_size(limit)));
    }
    if let (Some(live), Some(dead)) = (status.log_live_bytes, status.log_dead_bytes) {
        let (live, dead) = (units::show_size(live), units::show_size(dead));
        lines.push(format!("log {live} needed, {dead} to be given back"));
    }
    lines.join("\n") + "\n"
}

//! Workloads of much that does nothing: what it costs to have it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

use mq_core::{ChannelName, TopicName};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::connection::Connection;
use super::options::{Server, duration};
use super::phase::Meter;
use super::process::Process;
use super::report::{Phase, Report};
use crate::{Front, Unit};

/// Interval at which the bar is drawn.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Interval at which heartbeats are answered: a server sends one every 30 s, and gives up after two.
const HEARTBEATS_EVERY: Duration = Duration::from_secs(5);

/// Time for the server to come to rest.
const REST: Duration = Duration::from_secs(3);

/// Flags of `mq bench topics`.
#[derive(clap::Args)]
pub(crate) struct Topics {
    #[command(flatten)]
    pub(crate) server: Server,
    /// Topics are TOPIC_0, TOPIC_1 and so on
    #[arg(long, value_name = "TOPIC", default_value = "bench", value_parser = |text: &str| TopicName::parse(text))]
    topic: TopicName,
    /// The channel each of them has
    #[arg(long, value_name = "CHANNEL", default_value = "bench", value_parser = |text: &str| ChannelName::parse(text))]
    channel: ChannelName,
    /// Number of topics
    #[arg(long, value_name = "COUNT", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    count: u64,
    /// Topics that are made at once
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1_000))]
    connections: u64,
    /// Time for which they are left alone
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    idle: Duration,
}

/// Flags of `mq bench connections`.
#[derive(clap::Args)]
pub(crate) struct Connections {
    #[command(flatten)]
    pub(crate) server: Server,
    /// Topic to subscribe to; made if there is none
    #[arg(long, value_name = "TOPIC", default_value = "bench", value_parser = |text: &str| TopicName::parse(text))]
    topic: TopicName,
    /// Its channel
    #[arg(long, value_name = "CHANNEL", default_value = "bench", value_parser = |text: &str| ChannelName::parse(text))]
    channel: ChannelName,
    /// Number of connections
    #[arg(long, value_name = "COUNT", default_value_t = 5_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    count: u64,
    /// Time for which they are left alone
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    idle: Duration,
}

impl Topics {
    pub(crate) fn run(&self, front: Front<'_>) -> Result<Report, String> {
        let (target, process) = (self.server.target()?, self.server.process()?);
        let next = AtomicU64::new(0);
        let make = || {
            loop {
                let n = next.fetch_add(1, Ordering::Relaxed);
                if n >= self.count {
                    return Ok(());
                }
                let made = target.subscribe(&format!("{}_{n}", self.topic), self.channel.as_str());
                if made.is_err() {
                    // The others need not go on.
                    next.store(self.count, Ordering::Relaxed);
                }
                made.map(drop)?;
            }
        };
        let create = measure("create", process, self.count, || {
            scope(|scope| {
                let threads: Vec<_> = (0..self.connections).map(|_| scope.spawn(make)).collect();
                let mut bar = (front.bar)(Unit::Topics);
                while threads.iter().any(|thread| !thread.is_finished()) {
                    bar(next.load(Ordering::Relaxed), self.count);
                    sleep(LOOK_EVERY.min(Duration::from_millis(10)));
                }
                let mut ended = threads.into_iter().map(|thread| thread.join());
                ended.try_for_each(|end| end.unwrap_or_else(|_| Err("a thread panicked".to_owned())))
            })
        })?;
        let idle = idle(front, process, self.count, self.idle, || Ok(()))?;
        Ok(Report::new("topics", target.address, vec![create, idle]))
    }
}

impl Connections {
    pub(crate) fn run(&self, front: Front<'_>) -> Result<Report, String> {
        let (target, process) = (self.server.target()?, self.server.process()?);
        allow_files();
        let mut connections = Vec::new();
        let connect = measure("connect", process, self.count, || {
            let mut bar = (front.bar)(Unit::Connections);
            for n in 0..self.count {
                let mut connection = target.subscribe(self.topic.as_str(), self.channel.as_str())?;
                connection.send(b"RDY 1\n")?;
                connections.push(connection);
                bar(n, self.count);
            }
            Ok(())
        })?;
        let mut answered = Instant::now();
        let idle = idle(front, process, self.count, self.idle, || {
            if answered.elapsed() >= HEARTBEATS_EVERY {
                answered = Instant::now();
                connections.iter_mut().try_for_each(Connection::answer_heartbeats)?;
            }
            Ok(())
        })?;
        Ok(Report::new("connections", target.address, vec![connect, idle]))
    }
}

/// Raises the limit of open files as far as the system allows: if that is too little, connecting fails with
/// the reason.
fn allow_files() {
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}

fn measure(
    name: &'static str,
    process: Option<Process>,
    operations: u64,
    work: impl FnOnce() -> Result<(), String>,
) -> Result<Phase, String> {
    let meter = Meter::start(process)?;
    let began = Instant::now();
    work()?;
    let seconds = began.elapsed().as_secs_f64();
    let operations_per_second = operations as f64 / seconds.max(1e-9);
    let mut phase = Phase { name, seconds, operations, operations_per_second, ..Phase::default() };
    meter.stop(&mut phase)?;
    Ok(phase)
}

/// Waits while nothing happens but what `tend` does. What the server still has to do for what was made is not
/// measured.
fn idle(
    front: Front<'_>,
    process: Option<Process>,
    count: u64,
    time: Duration,
    mut tend: impl FnMut() -> Result<(), String>,
) -> Result<Phase, String> {
    let mut wait = |time: Duration| {
        let began = Instant::now();
        let mut bar = (front.bar)(Unit::Seconds);
        while began.elapsed() < time {
            sleep(LOOK_EVERY.min(time.saturating_sub(began.elapsed())));
            tend()?;
            bar(began.elapsed().as_secs(), time.as_secs());
        }
        Ok(())
    };
    wait(REST.min(time))?;
    let before = process.and_then(Process::fine_cpu_s);
    let mut phase = measure("idle", process, count, || wait(time))?;
    phase.operations_per_second = 0.0;
    if let (Some(before), Some(after)) = (before, process.and_then(Process::fine_cpu_s)) {
        phase.server_cpu_percent = Some((after - before).max(0.0) * 100.0 / phase.seconds.max(1e-9));
    }
    Ok(phase)
}

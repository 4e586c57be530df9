//! Flags of `mq bench`, most shared by several workloads.

use std::time::Duration;

use mq_core::{ChannelName, TopicName};

use super::commands::{Commands, Shape};
use super::connection::Target;
use super::consumer::Consumer;
use super::process::Process;
use super::publisher::{Pace, Publisher};
use super::run::{Goal, Run};
use crate::broker_flags::TcpFlags;
use mq_server::config::units;
use mq_server::config::value::{Size, Value};

/// Commands on one connection that are not answered: their answers must fit in a socket while nobody reads
/// them.
const WINDOW_MAX: u64 = 10_000;
/// Messages of a run, unless another number or a time is given.
const MESSAGES: u64 = 1_000_000;
/// Threads of the load.
const CONNECTIONS_MAX: u64 = 20_000;

/// The server, and the form of the report.
#[derive(clap::Args)]
pub(crate) struct Server {
    #[command(flatten)]
    broker: TcpFlags,
    /// Process of that server on this machine, whose CPU and memory are measured; the one that listens at
    /// the address without it
    #[arg(long, value_name = "PID")]
    pid: Option<u32>,
    /// Print the results as JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Bytes the server may hold back before it writes: 0 is its default, -1 none
    #[arg(long, value_name = "BYTES", default_value_t = 0, allow_negative_numbers = true)]
    output_buffer_size: i64,
    /// Milliseconds the server may hold them: 0 is its default, -1 none
    #[arg(long, value_name = "MS", default_value_t = 0, allow_negative_numbers = true)]
    output_buffer_timeout: i64,
    /// Compress by snappy
    #[arg(long)]
    snappy: bool,
}

/// Options of publishing.
#[derive(Clone, clap::Args)]
pub(crate) struct Publishing {
    /// Topic; made if there is none
    #[arg(long, value_name = "TOPIC", default_value = "bench", value_parser = |text: &str| TopicName::parse(text))]
    topic: TopicName,
    /// Topics, published to in turn: TOPIC_0, TOPIC_1 and so on
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    topics: u64,
    /// Messages, rounded up to whole commands of each connection [default: 1000000; for latency those of 10
    /// s]
    #[arg(short = 'n', long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    messages: Option<u64>,
    /// Stop publishing after so much time, however many messages that is
    #[arg(long, value_name = "TIME", value_parser = duration)]
    duration: Option<Duration>,
    /// Messages of a command: 1 is a PUB, more an MPUB
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    batch: u64,
    /// Commands that one connection has unanswered at most
    #[arg(long, value_name = "COUNT", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=WINDOW_MAX))]
    window: u64,
    /// Connections that publish
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=CONNECTIONS_MAX))]
    connections: u64,
    /// Bytes of a message
    #[arg(long, value_name = "SIZE", default_value = "200", value_parser = size)]
    size: Size,
}

/// Options of consuming.
#[derive(clap::Args)]
pub(crate) struct Consuming {
    /// Channel; made if there is none
    #[arg(long, value_name = "CHANNEL", default_value = "bench", value_parser = |text: &str| ChannelName::parse(text))]
    channel: ChannelName,
    /// Channels, each of which gets all: CHANNEL_0, CHANNEL_1 and so on
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1_000))]
    channels: u64,
    /// Connections that consume each channel of each topic
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=CONNECTIONS_MAX))]
    consumers: u64,
    /// Messages a consumer has in flight at most
    #[arg(long, value_name = "COUNT", default_value_t = 2500, value_parser = clap::value_parser!(u32).range(1..))]
    rdy: u32,
    /// Time after the last message from which missing ones count as lost
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    patience: Duration,
}

pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    units::parse_duration(text).ok_or_else(|| format!("it must be {}", units::DURATION_FORM))
}

pub(crate) fn size(text: &str) -> Result<Size, String> {
    Size::parse(text).ok_or_else(|| format!("it must be {}", Size::FORM))
}

impl Server {
    pub(crate) fn target(&self) -> Result<Target, String> {
        let identify = self.broker.identify()?;
        Ok(Target {
            address: self.broker.address().to_owned(),
            output_buffer_size: self.output_buffer_size,
            output_buffer_timeout: self.output_buffer_timeout,
            tls: identify.tls,
            auth_secret: identify.auth_secret,
            snappy: self.snappy,
            http: false,
        })
    }

    pub(crate) fn process(&self) -> Result<Option<Process>, String> {
        match self.pid {
            Some(pid) => Process::new(pid).map(Some).map_err(|error| format!("--pid: {error}")),
            None => Ok(Process::listening_at(self.broker.address())),
        }
    }
}

/// `name`, or so many of them.
pub(crate) fn numbered(name: &str, count: u64) -> Vec<String> {
    if count == 1 {
        return vec![name.to_owned()];
    }
    (0..count).map(|n| format!("{name}_{n}")).collect()
}

impl Publishing {
    /// Messages to publish.
    pub(crate) fn messages(&self) -> u64 {
        self.messages.unwrap_or(MESSAGES)
    }

    /// The same, for `time` if neither a number of messages nor a time was given.
    pub(crate) fn or_for(&self, time: Duration) -> Self {
        let given = self.messages.is_some() || self.duration.is_some();
        Self { duration: if given { self.duration } else { Some(time) }, ..self.clone() }
    }

    pub(crate) fn topics(&self) -> Vec<String> {
        numbered(self.topic.as_str(), self.topics)
    }

    /// About how many messages are published at `rate`.
    pub(crate) fn expected(&self, rate: u64) -> u64 {
        let in_time = self.duration.map(|duration| (duration.as_secs_f64() * rate as f64) as u64);
        in_time.map_or(self.messages(), |messages| messages.min(self.messages.unwrap_or(u64::MAX)))
    }

    /// Connects all that publish as fast as they may.
    pub(crate) fn connect(&self, target: &Target, run: &Run) -> Result<Vec<Publisher>, String> {
        let total = self.messages().div_ceil(self.batch).div_ceil(self.connections);
        let window = if target.http { 1 } else { self.window };
        (0..self.connections).map(|n| self.publisher(target, run, n, total, Pace::Window(window))).collect()
    }

    /// Connects all that publish `rate` messages a second together.
    pub(crate) fn connect_paced(
        &self,
        target: &Target,
        run: &Run,
        rate: u64,
    ) -> Result<Vec<Publisher>, String> {
        let commands = Duration::from_secs_f64(self.batch as f64 / rate.max(1) as f64);
        let connections = u32::try_from(self.connections).unwrap_or(u32::MAX);
        let interval = commands * connections;
        // With a time alone, the time is what ends it.
        let messages =
            if self.duration.is_some() { self.messages.unwrap_or(u64::MAX) } else { self.messages() };
        let total = messages.div_ceil(self.batch).div_ceil(self.connections);
        (0..connections)
            .map(|n| {
                let pace = Pace::Fixed { offset: commands * n, interval };
                self.publisher(target, run, u64::from(n), total, pace)
            })
            .collect()
    }

    fn publisher(
        &self,
        target: &Target,
        run: &Run,
        n: u64,
        total: u64,
        pace: Pace,
    ) -> Result<Publisher, String> {
        let number = |value: u64| usize::try_from(value).unwrap_or(usize::MAX);
        let headers = target.http.then(|| target.headers());
        let shape = Shape {
            http: headers.as_deref(),
            batch: number(self.batch),
            size: number(self.size.0),
            window: match pace {
                Pace::Window(window) => number(window),
                Pace::Fixed { .. } => 1,
            },
        };
        let connection = u32::try_from(n).unwrap_or(u32::MAX);
        Ok(Publisher {
            commands: Commands::new(&self.topics(), shape, run.number, connection)?,
            connection: target.connect()?,
            batch: self.batch,
            total,
            duration: self.duration,
            pace,
        })
    }
}

impl Consuming {
    pub(crate) fn channels(&self) -> Vec<String> {
        numbered(self.channel.as_str(), self.channels)
    }

    /// Makes the channels, so that messages wait there.
    pub(crate) fn create(&self, target: &Target, topics: &[String]) -> Result<(), String> {
        for topic in topics {
            for channel in self.channels() {
                target.subscribe(topic, &channel)?;
            }
        }
        Ok(())
    }

    /// Subscribes all that consume. With `messages`, so many of any run are enough for each channel; without,
    /// it is all of this run.
    pub(crate) fn connect(
        &self,
        target: &Target,
        topics: &[String],
        messages: Option<u64>,
        warm_up: Option<Duration>,
    ) -> Result<Vec<Consumer>, String> {
        let mut consumers = Vec::new();
        for (channel, name) in self.channels().iter().enumerate() {
            let goal = std::sync::Arc::new(Goal::new(messages, self.patience));
            for topic in topics {
                for _ in 0..self.consumers {
                    consumers.push(Consumer {
                        connection: target.subscribe(topic, name)?,
                        rdy: self.rdy,
                        goal: goal.clone(),
                        channel,
                        only_this_run: messages.is_none(),
                        warm_up,
                    });
                }
            }
        }
        Ok(consumers)
    }
}

//! Statistics of a broker, `mq` or nsqd, as the commands read them.

use std::collections::HashMap;

use mq_bench::broker_flags::HttpFlags;
use mq_nsq::client::Admin;
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// The answer of `/stats`.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Stats {
    #[serde(default)]
    pub(crate) health: String,
    /// Whether it empties itself, to stop.
    #[serde(default)]
    pub(crate) draining: bool,
    pub(crate) topics: Option<Vec<Topic>>,
}

/// A topic.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Topic {
    pub(crate) topic_name: String,
    pub(crate) depth: u64,
    pub(crate) backend_depth: u64,
    pub(crate) message_count: u64,
    pub(crate) paused: bool,
    pub(crate) damage: Option<String>,
    pub(crate) channels: Option<Vec<Channel>>,
}

/// A channel of a topic.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Channel {
    pub(crate) channel_name: String,
    pub(crate) depth: u64,
    pub(crate) backend_depth: u64,
    pub(crate) in_flight_count: u64,
    pub(crate) deferred_count: u64,
    pub(crate) message_count: u64,
    pub(crate) requeue_count: u64,
    pub(crate) timeout_count: u64,
    pub(crate) client_count: u64,
    pub(crate) paused: bool,
}

/// The answer of `/info`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Info {
    pub(crate) version: String,
    pub(crate) broadcast_address: String,
    pub(crate) hostname: String,
    /// -1 of a broker on a unix socket.
    pub(crate) tcp_port: i32,
    /// See `tcp_port`.
    pub(crate) http_port: i32,
    pub(crate) start_time: u64,
}

impl Stats {
    pub(crate) fn topics(&self) -> &[Topic] {
        self.topics.as_deref().unwrap_or_default()
    }
}

impl Topic {
    pub(crate) fn channels(&self) -> &[Channel] {
        self.channels.as_deref().unwrap_or_default()
    }

    /// Messages that are not finished, over all channels, and those that wait for a first one.
    pub(crate) fn waiting(&self) -> u64 {
        self.depth + self.channels().iter().map(|channel| channel.depth).sum::<u64>()
    }
}

/// Asks a broker for an answer in JSON.
pub(crate) async fn get<T: DeserializeOwned>(
    http: &HttpFlags,
    admin: &Admin,
    path: &str,
    query: &[(&str, &str)],
) -> Result<T, String> {
    let json = admin.get(path, query).await.map_err(|error| http.explain(&error))?;
    serde_json::from_slice(&json).map_err(|error| format!("{}{path}: {error}", http.address()))
}

/// All topics and channels, without their clients.
pub(crate) async fn all(http: &HttpFlags, admin: &Admin) -> Result<Stats, String> {
    get(http, admin, "/stats", &[("format", "json"), ("include_clients", "false"), ("include_mem", "false")])
        .await
}

/// The part of `/metrics` that is about the broker as a whole. Empty where there is no such page, as of nsqd.
#[derive(Clone, Debug, Default)]
pub(crate) struct Metrics {
    numbers: HashMap<String, f64>,
    /// The version of the program, of `mq` only.
    pub(crate) version: Option<String>,
}

impl Metrics {
    pub(crate) async fn get(admin: &Admin) -> Self {
        let text = admin.get("/metrics", &[]).await.unwrap_or_default();
        Self::parse(&String::from_utf8_lossy(&text))
    }

    /// The number of that name, if there is one.
    pub(crate) fn number(&self, name: &str) -> Option<f64> {
        self.numbers.get(name).copied()
    }

    pub(crate) fn parse(text: &str) -> Self {
        let mut metrics = Self::default();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            if let Some(labels) = line.strip_prefix("mq_build_info{version=\"") {
                metrics.version = labels.split_once('"').map(|(version, _)| version.to_owned());
            } else if let Some((name, number)) = line.split_once(' ')
                && let (false, Ok(number)) = (name.contains('{'), number.parse())
            {
                metrics.numbers.insert(name.to_owned(), number);
            }
        }
        metrics
    }
}

#[cfg(test)]
mod tests {
    use super::Metrics;

    #[test]
    fn the_version_and_numbers_of_the_whole_are_taken_from_metrics() {
        let text =
            "# HELP a b\nmq_build_info{version=\"0.1.2\"} 1\nmq_healthy 1.0\nmq_x{topic=\"t\"} 3\nbad\n";
        let metrics = Metrics::parse(text);
        assert_eq!(metrics.version.as_deref(), Some("0.1.2"));
        assert_eq!((metrics.numbers.len(), metrics.number("mq_healthy")), (1, Some(1.0)));
    }
}

//! Answers of brokers (nsqd's fields, and those that only `mq` has) and of lookup servers. A missing field
//! has its zero value: servers may be older or newer, or something else.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer, Serialize};

/// `null` as well as nothing is the default.
fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(from: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

/// `/stats?format=json`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Stats {
    pub(crate) version: String,
    pub(crate) health: String,
    pub(crate) start_time: u64,
    #[serde(deserialize_with = "or_default")]
    pub(crate) topics: Vec<Topic>,
    #[serde(deserialize_with = "or_default")]
    pub(crate) producers: Vec<Client>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Topic {
    pub(crate) topic_name: String,
    #[serde(deserialize_with = "or_default")]
    pub(crate) channels: Vec<Channel>,
    pub(crate) depth: u64,
    pub(crate) backend_depth: u64,
    pub(crate) message_count: u64,
    pub(crate) message_bytes: u64,
    pub(crate) paused: bool,
    #[serde(deserialize_with = "or_default")]
    pub(crate) e2e_processing_latency: Latency,
    pub(crate) damage: Option<String>,
}

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
    /// Messages moved to the dead letter topic; nsqd has none.
    pub(crate) dead_letter_count: u64,
    pub(crate) client_count: u64,
    #[serde(deserialize_with = "or_default")]
    pub(crate) clients: Vec<Client>,
    pub(crate) paused: bool,
    #[serde(deserialize_with = "or_default")]
    pub(crate) e2e_processing_latency: Latency,
    pub(crate) zone_local_msg_count: u64,
    pub(crate) region_local_msg_count: u64,
    pub(crate) global_msg_count: u64,
}

/// A connection. Its fields are passed on as nsqadmin does.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub(crate) struct Client {
    pub(crate) client_id: String,
    pub(crate) hostname: String,
    pub(crate) version: String,
    pub(crate) remote_address: String,
    pub(crate) state: u64,
    pub(crate) ready_count: u64,
    pub(crate) in_flight_count: u64,
    pub(crate) message_count: u64,
    pub(crate) finish_count: u64,
    pub(crate) requeue_count: u64,
    pub(crate) connect_ts: u64,
    pub(crate) sample_rate: u64,
    pub(crate) deflate: bool,
    pub(crate) snappy: bool,
    pub(crate) user_agent: String,
    pub(crate) authed: bool,
    pub(crate) auth_identity: String,
    pub(crate) auth_identity_url: String,
    pub(crate) topology_zone: String,
    pub(crate) topology_region: String,
    #[serde(deserialize_with = "or_default")]
    pub(crate) pub_counts: Vec<PubCount>,
    pub(crate) tls: bool,
    pub(crate) tls_cipher_suite: String,
    pub(crate) tls_version: String,
    pub(crate) tls_negotiated_protocol: String,
    pub(crate) tls_negotiated_protocol_is_mutual: bool,
    pub(crate) zone_local_msg_count: u64,
    pub(crate) region_local_msg_count: u64,
    pub(crate) global_msg_count: u64,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub(crate) struct PubCount {
    pub(crate) topic: String,
    pub(crate) count: u64,
}

/// Time from publish to finish.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Latency {
    pub(crate) count: u64,
    #[serde(deserialize_with = "or_default")]
    pub(crate) percentiles: Vec<Percentile>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(default)]
pub(crate) struct Percentile {
    pub(crate) quantile: f64,
    /// Nanoseconds.
    pub(crate) value: f64,
}

/// A broker's `/info`; a lookup server has only a version.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Info {
    pub(crate) version: String,
    pub(crate) broadcast_address: String,
    pub(crate) hostname: String,
    pub(crate) http_port: i64,
    pub(crate) tcp_port: i64,
    pub(crate) start_time: u64,
    pub(crate) topology_zone: String,
    pub(crate) topology_region: String,
}

/// A lookup server's `/topics`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct TopicList {
    #[serde(deserialize_with = "or_default")]
    pub(crate) topics: Vec<String>,
}

/// A lookup server's `/channels`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ChannelList {
    #[serde(deserialize_with = "or_default")]
    pub(crate) channels: Vec<String>,
}

/// A lookup server's `/nodes`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct NodeList {
    #[serde(deserialize_with = "or_default")]
    pub(crate) producers: Vec<Registered>,
}

/// A broker as a lookup server knows it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Registered {
    pub(crate) remote_address: String,
    pub(crate) hostname: String,
    pub(crate) broadcast_address: String,
    pub(crate) tcp_port: u16,
    pub(crate) http_port: u16,
    pub(crate) version: String,
    pub(crate) topology_zone: String,
    pub(crate) topology_region: String,
    /// Flags of `topics`, in its order; may be shorter.
    #[serde(deserialize_with = "or_default")]
    pub(crate) tombstones: Vec<bool>,
    #[serde(deserialize_with = "or_default")]
    pub(crate) topics: Vec<String>,
}

/// `/history` of an `mq` broker: the last minute. Names are part of the answer's text where they can be.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct History<'a> {
    /// The broker's own version.
    pub(crate) version: String,
    pub(crate) missing: u64,
    /// The whole node: its growth is not known before two readings.
    #[serde(borrow)]
    pub(crate) node: Option<Series<'a>>,
    pub(crate) series: Vec<Series<'a>>,
}

impl History<'_> {
    /// Whether it has two readings.
    pub(crate) fn has_rates(&self) -> bool {
        self.node.as_ref().is_some_and(|node| node.growth.is_some())
    }
}

/// A topic or a channel over the last minute.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Series<'a> {
    #[serde(borrow)]
    pub(crate) topic: Cow<'a, str>,
    #[serde(borrow)]
    pub(crate) channel: Option<Cow<'a, str>>,
    pub(crate) published_rate: f64,
    pub(crate) finished_rate: f64,
    pub(crate) requeued_rate: f64,
    pub(crate) timed_out_rate: f64,
    pub(crate) growth: Option<f64>,
    pub(crate) behind_since: Option<u64>,
    pub(crate) oldest: Option<u64>,
}

impl Series<'_> {
    /// Its topic and its channel.
    pub(crate) fn place(&self) -> (&str, Option<&str>) {
        (&self.topic, self.channel.as_deref())
    }
}

/// `/history?span=..`: curves.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Curve {
    pub(crate) times: Vec<u64>,
    pub(crate) depth: Vec<Option<f64>>,
    pub(crate) in_flight: Vec<Option<f64>>,
    pub(crate) published: Vec<Option<f64>>,
    pub(crate) finished: Vec<Option<f64>>,
    pub(crate) requeued: Vec<Option<f64>>,
    pub(crate) timed_out: Vec<Option<f64>>,
}

/// `/drain`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct DrainStatus {
    pub(crate) state: String,
}

/// `/peek`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Peeked {
    pub(crate) messages: Vec<PeekedMessage>,
    pub(crate) next: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct PeekedMessage {
    pub(crate) id: String,
    pub(crate) timestamp: u64,
    pub(crate) attempts: u64,
    pub(crate) body: String,
    pub(crate) headers: Vec<PeekedHeader>,
    pub(crate) state: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct PeekedHeader {
    pub(crate) name: String,
    pub(crate) value: String,
}

/// The numbers of `/metrics` that are about a broker as a whole, by name; those with labels are left out.
#[derive(Clone, Debug, Default)]
pub(crate) struct Metrics(Vec<(String, f64)>);

impl Metrics {
    pub(crate) fn parse(text: &str) -> Self {
        let lines = text.lines().filter(|line| !line.starts_with('#') && !line.contains('{'));
        let pairs = lines.filter_map(|line| {
            let (name, value) = line.split_once(' ')?;
            Some((name.to_owned(), value.trim().parse().ok()?))
        });
        Self(pairs.take(256).collect())
    }

    pub(crate) fn get(&self, name: &str) -> Option<f64> {
        self.0.iter().find(|(have, _)| have == name).map(|(_, value)| *value)
    }
}

//! The numbers, in the order and under the names that nsqd's have. Those of its fields that it leaves out
//! when they are empty are left out here too; so are its topology counts, since delivery knows no zones.

use mq_core::Histogram;
use serde::{Serialize, Serializer};

use super::memory::Memory;

/// All of them.
#[derive(Clone, Debug, Serialize)]
pub(in crate::server) struct Stats {
    pub(in crate::server) version: String,
    /// `OK`, or `NOK - ` and what is wrong.
    pub(in crate::server) health: String,
    /// Whether the broker empties itself, to stop: it refuses publishes. Not one of nsqd's fields, and absent
    /// unless it does.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(in crate::server) draining: bool,
    /// Seconds since 1970.
    pub(in crate::server) start_time: u64,
    /// `None` if a topic was asked for that does not exist.
    pub(in crate::server) topics: Option<Vec<TopicEntry>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::server) memory: Option<Memory>,
    /// Connections that have published; `None` if there are none, or clients were not asked for.
    pub(in crate::server) producers: Option<Vec<ClientEntry>>,
}

#[derive(Clone, Debug, Serialize)]
pub(in crate::server) struct TopicEntry {
    pub(in crate::server) topic_name: String,
    pub(in crate::server) channels: Vec<ChannelEntry>,
    pub(in crate::server) depth: u64,
    pub(in crate::server) backend_depth: u64,
    pub(in crate::server) message_count: u64,
    pub(in crate::server) message_bytes: u64,
    pub(in crate::server) paused: bool,
    pub(in crate::server) e2e_processing_latency: LatencyEntry,
    /// The damage that the topic is stopped for, if it is. Not one of nsqd's fields.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::server) damage: Option<String>,
    /// A figure of metrics alone, as those below are.
    #[serde(skip)]
    pub(in crate::server) bytes: u64,
    #[serde(skip)]
    pub(in crate::server) skipped: u64,
    #[serde(skip)]
    pub(in crate::server) duplicates: u64,
    #[serde(skip)]
    pub(in crate::server) dedup_ids: u64,
    #[serde(skip)]
    pub(in crate::server) dedup_evicted: u64,
}

#[derive(Clone, Debug, Serialize)]
pub(in crate::server) struct ChannelEntry {
    pub(in crate::server) channel_name: String,
    pub(in crate::server) depth: u64,
    pub(in crate::server) backend_depth: u64,
    pub(in crate::server) in_flight_count: u64,
    pub(in crate::server) deferred_count: u64,
    pub(in crate::server) message_count: u64,
    pub(in crate::server) requeue_count: u64,
    pub(in crate::server) timeout_count: u64,
    pub(in crate::server) client_count: u64,
    /// `None` if they were not asked for.
    pub(in crate::server) clients: Option<Vec<ClientEntry>>,
    pub(in crate::server) paused: bool,
    pub(in crate::server) e2e_processing_latency: LatencyEntry,
    /// Number of times that a message was put aside because it was larger than its consumer could take. Not
    /// one of nsqd's fields, and absent while it is 0: only consumers over gRPC have such a limit.
    #[serde(skip_serializing_if = "is_none")]
    pub(in crate::server) oversized_count: u64,
    /// Messages moved to the dead letter topic. Not one of nsqd's fields, and absent while it is 0.
    #[serde(skip_serializing_if = "is_none")]
    pub(in crate::server) dead_letter_count: u64,
    /// A figure of metrics alone, as those below are.
    #[serde(skip)]
    pub(in crate::server) finished: u64,
    #[serde(skip)]
    pub(in crate::server) skipped: u64,
    #[serde(skip)]
    pub(in crate::server) bytes: u64,
    #[serde(skip)]
    pub(in crate::server) memory: u64,
    #[serde(skip)]
    pub(in crate::server) latency: Histogram,
}

/// Whether there is nothing to show. By reference, as serde asks.
fn is_none(count: &u64) -> bool {
    *count == 0
}

#[derive(Clone, Debug, Serialize)]
pub(in crate::server) struct ClientEntry {
    pub(in crate::server) client_id: String,
    pub(in crate::server) hostname: String,
    pub(in crate::server) version: &'static str,
    pub(in crate::server) remote_address: String,
    pub(in crate::server) state: u8,
    pub(in crate::server) ready_count: u32,
    pub(in crate::server) in_flight_count: u64,
    pub(in crate::server) message_count: u64,
    pub(in crate::server) finish_count: u64,
    pub(in crate::server) requeue_count: u64,
    /// Seconds since 1970.
    pub(in crate::server) connect_ts: u64,
    pub(in crate::server) sample_rate: u8,
    pub(in crate::server) deflate: bool,
    pub(in crate::server) snappy: bool,
    pub(in crate::server) user_agent: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(in crate::server) authed: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(in crate::server) auth_identity: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(in crate::server) auth_identity_url: String,
    pub(in crate::server) topology_zone: String,
    pub(in crate::server) topology_region: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(in crate::server) pub_counts: Vec<PubCount>,
    pub(in crate::server) tls: bool,
    pub(in crate::server) tls_cipher_suite: String,
    pub(in crate::server) tls_version: &'static str,
    /// Nothing is negotiated here.
    pub(in crate::server) tls_negotiated_protocol: &'static str,
    pub(in crate::server) tls_negotiated_protocol_is_mutual: bool,
}

#[derive(Clone, Debug, Serialize)]
pub(in crate::server) struct PubCount {
    pub(in crate::server) topic: String,
    pub(in crate::server) count: u64,
}

/// Time from publish to finish.
#[derive(Clone, Debug, Default, Serialize)]
pub(in crate::server) struct LatencyEntry {
    /// Messages measured within the window.
    pub(in crate::server) count: u64,
    /// `None` if no percentiles are configured.
    pub(in crate::server) percentiles: Option<Vec<Percentile>>,
}

#[derive(Clone, Copy, Debug, Serialize)]
pub(in crate::server) struct Percentile {
    /// Above 0, up to 1.
    #[serde(serialize_with = "as_go_does")]
    pub(in crate::server) quantile: f64,
    /// Nanoseconds.
    pub(in crate::server) value: u64,
}

/// 1, not 1.0.
fn as_go_does<S: Serializer>(quantile: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    if *quantile == 1.0 { serializer.serialize_u64(1) } else { serializer.serialize_f64(*quantile) }
}

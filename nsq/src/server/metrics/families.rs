//! Every metric but the histograms: its name, what it means, where it comes from.
//!
//! Names follow Prometheus' conventions: base units, `_total` after counters (added where they are written).

use super::Snapshot;
use crate::server::stats::{ChannelEntry, TopicEntry};

/// Type of a value in the exposition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A whole number that only rises.
    Counter,
    /// A time that only rises.
    Seconds,
    Gauge,
}

/// A metric of each `T`.
pub(super) struct Family<T> {
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    pub(super) kind: Kind,
    pub(super) value: fn(&T) -> f64,
}

macro_rules! families {
    ($($kind:ident $name:literal $help:literal $value:expr;)+) => {
        &[$(Family { name: $name, help: $help, kind: Kind::$kind, value: $value }),+]
    };
}

/// Families of the broker as a whole.
pub(super) const BROKER: &[Family<Snapshot>] = families! {
    Gauge "mq_start_time_seconds" "When the server started, in seconds since 1970" |s| s.start_time as f64;
    Gauge "mq_healthy" "1 if the log can be written and no topic is stopped for damage, else 0" |s| u8::from(s.healthy).into();
    Gauge "mq_draining" "1 while the broker empties itself to stop, and so refuses publishes, else 0; it is healthy meanwhile" |s| u8::from(s.draining).into();
    Gauge "mq_tls_certificate_expiry_seconds" "When the certificate of TLS expires, or one between it and a root, in seconds since 1970; 0 without TLS" |s| s.certificate_expires.unwrap_or_default() as f64;
    Gauge "mq_connections" "Connections of NSQ's TCP protocol" |s| s.connections as f64;
    Gauge "mq_topics" "Topics" |s| s.broker.topics as f64;
    Gauge "mq_damaged_topics" "Topics that are stopped for damage" |s| s.broker.damaged_topics as f64;
    Gauge "mq_memory_limit_bytes" "Memory that messages may take" |s| s.broker.memory_limit as f64;
    Gauge "mq_memory_used_bytes" "Memory held for messages" |s| s.broker.memory_used as f64;
    Gauge "mq_log_files" "Files of the log" |s| s.broker.log_files as f64;
    Gauge "mq_log_limit_bytes" "Most bytes that the log may take; 0 for no limit" |s| s.broker.disk_limit as f64;
    Gauge "mq_disk_free_bytes" "Bytes free on the disk of the data folder; NaN where that is not known" |s| s.broker.disk_free.map_or(f64::NAN, |free| free as f64);
    Gauge "mq_log_live_bytes" "Bytes of the log whose messages are pending" |s| s.broker.live_bytes as f64;
    Gauge "mq_log_dead_bytes" "Bytes of the log that are no more needed" |s| s.broker.log_bytes.saturating_sub(s.broker.live_bytes) as f64;
    Gauge "mq_log_unwritten_bytes" "Bytes queued for the log and not acknowledged yet" |s| s.broker.unwritten_bytes as f64;
    Gauge "mq_log_unsynced_bytes" "Bytes written to the log and not fsync'd yet: what a power loss could take" |s| s.broker.written.saturating_sub(s.broker.synced) as f64;
    Counter "mq_log_written_bytes" "Bytes written to the log since the data folder was made" |s| s.broker.written as f64;
    Counter "mq_log_syncs" "Calls of fsync on the log" |s| s.broker.syncs as f64;
    Seconds "mq_log_sync_seconds" "Time spent in calls of fsync on the log" |s| s.broker.sync_time.as_secs_f64();
    Counter "mq_log_sync_failures" "Calls of fsync on the log that failed" |s| s.broker.sync_failures as f64;
    Counter "mq_log_write_failures" "Writes of the log that failed" |s| s.broker.write_failures as f64;
    Counter "mq_log_checkpoints" "Checkpoints taken" |s| s.broker.checkpoints as f64;
    Counter "mq_cleaner_removed_files" "Files the cleaner removed" |s| s.broker.cleaned_files as f64;
    Counter "mq_cleaner_copied_bytes" "Bytes the cleaner copied to free the rest of their files" |s| s.broker.cleaned_bytes as f64;
};

/// Families of each topic.
pub(super) const TOPIC: &[Family<TopicEntry>] = families! {
    Gauge "mq_topic_depth" "Messages that wait for a first channel, or for the topic to be unpaused" |t| t.depth as f64;
    Gauge "mq_topic_backend_depth" "Those of them that are only on disk" |t| t.backend_depth as f64;
    Gauge "mq_topic_depth_bytes" "Bytes of the messages that wait, as they are stored" |t| t.bytes as f64;
    Gauge "mq_topic_paused" "1 if messages do not go on to channels, else 0" |t| u8::from(t.paused).into();
    Gauge "mq_topic_damaged" "1 if the topic is stopped for damage, else 0" |t| u8::from(t.damage.is_some()).into();
    Counter "mq_topic_published_messages" "Messages published" |t| t.message_count as f64;
    Counter "mq_topic_published_bytes" "Bytes of the bodies of messages published" |t| t.message_bytes as f64;
    Counter "mq_topic_skipped_messages" "Messages dropped at the topic's limits before any channel had them" |t| t.skipped as f64;
    Counter "mq_topic_duplicate_messages" "Messages not stored again, since one with their id was" |t| t.duplicates as f64;
    Gauge "mq_topic_dedup_ids" "Ids of messages that are remembered" |t| t.dedup_ids as f64;
    Counter "mq_topic_dedup_evicted_ids" "Ids forgotten before their time, since there were too many" |t| t.dedup_evicted as f64;
};

/// Families of each channel.
pub(super) const CHANNEL: &[Family<ChannelEntry>] = families! {
    Gauge "mq_channel_depth" "Messages waiting for a consumer" |c| c.depth as f64;
    Gauge "mq_channel_backend_depth" "Those of them that are only on disk" |c| c.backend_depth as f64;
    Gauge "mq_channel_bytes" "Bytes of the messages that wait, are in flight or deferred, as they are stored" |c| c.bytes as f64;
    Gauge "mq_channel_in_flight" "Messages at consumers, unfinished" |c| c.in_flight_count as f64;
    Gauge "mq_channel_deferred" "Messages waiting for their time" |c| c.deferred_count as f64;
    Gauge "mq_channel_clients" "Consumers" |c| c.client_count as f64;
    Gauge "mq_channel_paused" "1 if delivery is stopped, else 0" |c| u8::from(c.paused).into();
    Gauge "mq_channel_memory_bytes" "Memory held for messages in flight, waiting again or deferred" |c| c.memory as f64;
    Counter "mq_channel_arrived_messages" "Messages that arrived in the channel" |c| c.message_count as f64;
    Counter "mq_channel_finished_messages" "Messages finished" |c| c.finished as f64;
    Counter "mq_channel_requeued_messages" "How often messages were requeued" |c| c.requeue_count as f64;
    Counter "mq_channel_timed_out_messages" "How often messages timed out" |c| c.timeout_count as f64;
    Counter "mq_channel_oversized_messages" "How often messages were put aside because a consumer could not receive them" |c| c.oversized_count as f64;
    Counter "mq_channel_dead_letters" "Messages moved to the dead letter topic" |c| c.dead_letter_count as f64;
    Counter "mq_channel_skipped_messages" "Messages dropped because too many waited: of ephemeral channels, and at a topic's limits" |c| c.skipped as f64;
};

//! A server's numbers for Prometheus, collected when it asks.
//!
//! `families`: every metric there is, as tables.

mod families;

use std::fmt;
use std::sync::Arc;

use mq_core::{BUCKETS_US, BrokerStats, Histogram};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};

use self::families::{BROKER, CHANNEL, Family, Kind, TOPIC};
use super::listener::PROTOCOL;
use super::stats::{ChannelEntry, Selection, StatsCollector, TopicEntry};

/// Content type of the text that [`write`] writes.
pub(super) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Sources of the metrics.
pub(super) struct Source<'a> {
    pub(super) collector: &'a StatsCollector,
    /// Latency of publishes.
    pub(super) publishing: Histogram,
    /// Whether each channel has metrics of its own. If not, those of a topic's channels are added up.
    pub(super) per_channel: bool,
    /// The time at which the certificate of TLS expires, in seconds since 1970.
    pub(super) certificate_expires: Option<u64>,
}

/// All numbers of one moment, of the topics that are `visible`.
pub(super) fn write(source: &Source<'_>, visible: impl Fn(&str) -> bool) -> Result<String, fmt::Error> {
    let stats = source.collector.stats(Selection::default(), visible);
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Snapshot {
        start_time: stats.start_time,
        healthy: stats.health == "OK",
        draining: stats.draining,
        connections: source.collector.clients.count(PROTOCOL) as u64,
        broker: source.collector.broker.stats(),
        publishing: source.publishing,
        topics: stats
            .topics
            .unwrap_or_default()
            .into_iter()
            .map(|topic| per(topic, source.per_channel))
            .collect(),
        per_channel: source.per_channel,
        certificate_expires: source.certificate_expires,
    }));
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry)?;
    Ok(text)
}

/// Figures of the broker as a whole.
#[derive(Debug)]
struct Snapshot {
    start_time: u64,
    healthy: bool,
    draining: bool,
    connections: u64,
    broker: BrokerStats,
    publishing: Histogram,
    topics: Vec<Arc<TopicEntry>>,
    per_channel: bool,
    certificate_expires: Option<u64>,
}

/// The topic with its channels, or with their sum.
fn per(mut topic: TopicEntry, channel: bool) -> Arc<TopicEntry> {
    let mut channels = std::mem::take(&mut topic.channels).into_iter();
    topic.channels = if channel {
        channels.collect()
    } else {
        channels.next().map(|first| channels.fold(first, add)).into_iter().collect()
    };
    Arc::new(topic)
}

fn add(mut sum: ChannelEntry, channel: ChannelEntry) -> ChannelEntry {
    for (to, from) in [
        (&mut sum.depth, channel.depth),
        (&mut sum.backend_depth, channel.backend_depth),
        (&mut sum.in_flight_count, channel.in_flight_count),
        (&mut sum.deferred_count, channel.deferred_count),
        (&mut sum.message_count, channel.message_count),
        (&mut sum.requeue_count, channel.requeue_count),
        (&mut sum.timeout_count, channel.timeout_count),
        (&mut sum.client_count, channel.client_count),
        (&mut sum.oversized_count, channel.oversized_count),
        (&mut sum.dead_letter_count, channel.dead_letter_count),
        (&mut sum.finished, channel.finished),
        (&mut sum.skipped, channel.skipped),
        (&mut sum.memory, channel.memory),
    ] {
        *to += from;
    }
    sum.paused |= channel.paused;
    sum.latency.merge(&channel.latency);
    sum
}

impl Collector for Snapshot {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let encoder = &mut encoder;
        let mut info =
            encoder.encode_descriptor("mq_build", "Version of the broker", None, MetricType::Info)?;
        // Our version, not nsqd's, which clients see.
        info.encode_info(&[("version", env!("CARGO_PKG_VERSION"))])?;
        for family in BROKER {
            value(&mut descriptor(encoder, family)?, family.kind, (family.value)(self))?;
        }
        let help =
            "Time from reading a publish to its answer; of publishes since metrics were first asked for";
        let unit = Unit::Seconds;
        let mut latency =
            encoder.encode_descriptor("mq_publish_latency", help, Some(&unit), MetricType::Histogram)?;
        histogram(&mut latency, &self.publishing)?;
        for family in TOPIC {
            let mut metric = descriptor(encoder, family)?;
            for topic in &self.topics {
                let labels = [("topic", topic.topic_name.as_str())];
                value(&mut metric.encode_family(&labels)?, family.kind, (family.value)(topic))?;
            }
        }
        for family in CHANNEL {
            let mut metric = descriptor(encoder, family)?;
            self.each_channel(|channel, labels| {
                value(&mut metric.encode_family(&labels)?, family.kind, (family.value)(channel))
            })?;
        }
        let help =
            "Time from publish to finish, of one message of each delivery since metrics were first asked for";
        let mut latency =
            encoder.encode_descriptor("mq_channel_latency", help, Some(&unit), MetricType::Histogram)?;
        self.each_channel(|channel, labels| match channel.latency.count() {
            0 => Ok(()),
            _ => histogram(&mut latency.encode_family(&labels)?, &channel.latency),
        })
    }
}

impl Snapshot {
    fn each_channel(
        &self,
        mut each: impl FnMut(&ChannelEntry, &[(&'static str, &str)]) -> fmt::Result,
    ) -> fmt::Result {
        for topic in &self.topics {
            for channel in &topic.channels {
                let labels =
                    [("topic", topic.topic_name.as_str()), ("channel", channel.channel_name.as_str())];
                each(channel, if self.per_channel { &labels } else { &labels[..1] })?;
            }
        }
        Ok(())
    }
}

fn descriptor<'e, T>(
    encoder: &'e mut DescriptorEncoder<'_>,
    family: &'static Family<T>,
) -> Result<MetricEncoder<'e>, fmt::Error> {
    let kind = match family.kind {
        Kind::Counter | Kind::Seconds => MetricType::Counter,
        Kind::Gauge => MetricType::Gauge,
    };
    encoder.encode_descriptor(family.name, family.help, None, kind)
}

fn value(metric: &mut MetricEncoder<'_>, kind: Kind, value: f64) -> fmt::Result {
    match kind {
        Kind::Counter => metric.encode_counter::<NoLabelSet, _, f64>(&(value as u64), None),
        Kind::Seconds => metric.encode_counter::<NoLabelSet, _, f64>(&value, None),
        Kind::Gauge => metric.encode_gauge(&value),
    }
}

fn histogram(metric: &mut MetricEncoder<'_>, histogram: &Histogram) -> fmt::Result {
    let bounds = BUCKETS_US.iter().map(|us| *us as f64 / 1e6).chain([f64::INFINITY]);
    let buckets: Vec<_> = bounds.zip(histogram.counts).collect();
    metric.encode_histogram::<NoLabelSet>(histogram.sum.as_secs_f64(), histogram.count(), &buckets, None)
}

//! From the broker and its clients to their numbers.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use mq_core::{Broker, Quantiles, Topic, TopicName};

use super::memory::Memory;
use super::model::{ChannelEntry, ClientEntry, LatencyEntry, Percentile, PubCount, Stats, TopicEntry};
use mq_net::clients::{Client, Clients};
use mq_net::transport::Compression;

/// Sources of the figures.
#[derive(Clone)]
pub(in crate::server) struct StatsCollector {
    pub(in crate::server) broker: Broker,
    pub(in crate::server) clients: Clients,
    pub(in crate::server) version: String,
    pub(in crate::server) started: SystemTime,
    /// Percentiles of latency to report, falling.
    pub(in crate::server) percentiles: Arc<[f64]>,
}

/// Selection of topics and channels. An empty name is any.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::server) struct Selection<'a> {
    pub(in crate::server) topic: &'a str,
    pub(in crate::server) channel: &'a str,
    pub(in crate::server) clients: bool,
    pub(in crate::server) memory: bool,
}

impl StatsCollector {
    /// `OK`, or `NOK - ` and what is wrong.
    pub(in crate::server) fn health(&self) -> String {
        match self.broker.health() {
            Ok(()) => "OK".to_owned(),
            Err(error) => format!("NOK - {error}"),
        }
    }

    /// The numbers of what `selection` names and `visible` lets pass.
    pub(in crate::server) fn stats(&self, selection: Selection<'_>, visible: impl Fn(&str) -> bool) -> Stats {
        let clients = if selection.clients { self.clients.list() } else { Vec::new() };
        let mut consumers: HashMap<(&str, &str), Vec<&Client>> = HashMap::new();
        for client in &clients {
            if let Some(subscribed) = client.subscribed() {
                let at = (subscribed.topic.as_str(), subscribed.channel.as_str());
                consumers.entry(at).or_default().push(client);
            }
        }
        let topics = self.topics(selection.topic).map(|topics| {
            let visible = topics.iter().filter(|topic| visible(topic.name().as_str()));
            visible.filter_map(|topic| self.topic(topic, selection, &consumers)).collect()
        });
        let publishers = clients.iter().filter(|client| client.published() > 0);
        let producers: Vec<_> =
            publishers.map(|client| ClientEntry::of(client, selection.topic, &visible)).collect();
        Stats {
            version: self.version.clone(),
            health: self.health(),
            draining: self.broker.is_draining(),
            start_time: unix_seconds(self.started),
            topics,
            memory: selection.memory.then(|| Memory::now(self.broker.memory_used())),
            producers: Some(producers).filter(|producers| !producers.is_empty()),
        }
    }

    /// The topics of that name; all, sorted, if it is empty.
    fn topics(&self, name: &str) -> Option<Vec<Arc<Topic>>> {
        if name.is_empty() {
            return Some(self.broker.topics());
        }
        let name = TopicName::parse(name).ok()?;
        self.broker.find_topic(&name).map(|topic| vec![topic])
    }

    /// `None` if it has not the channel that is wanted.
    fn topic(
        &self,
        topic: &Topic,
        selection: Selection<'_>,
        consumers: &HashMap<(&str, &str), Vec<&Client>>,
    ) -> Option<TopicEntry> {
        let stats = topic.stats();
        let mut recent = Quantiles::default();
        let mut channels = Vec::new();
        for channel in &stats.channels {
            recent.merge(&channel.recent_latency);
            let name = channel.name.as_str();
            if !selection.channel.is_empty() && selection.channel != name {
                continue;
            }
            let clients = consumers.get(&(topic.name().as_str(), name));
            let entry = |client: &&Client| ClientEntry::of(client, selection.topic, &|_| true);
            channels.push(ChannelEntry {
                channel_name: name.to_owned(),
                depth: channel.stats.depth,
                backend_depth: channel.stats.backend_depth,
                in_flight_count: channel.stats.in_flight,
                deferred_count: channel.stats.deferred,
                message_count: channel.stats.message_count,
                requeue_count: channel.stats.requeued,
                timeout_count: channel.stats.timed_out,
                client_count: channel.stats.subscribers,
                clients: selection.clients.then(|| clients.into_iter().flatten().map(entry).collect()),
                paused: channel.stats.paused,
                e2e_processing_latency: self.latency(&channel.recent_latency),
                oversized_count: channel.stats.oversized,
                dead_letter_count: channel.stats.dead_lettered,
                finished: channel.stats.finished,
                skipped: channel.stats.skipped,
                bytes: channel.stats.bytes,
                memory: channel.stats.memory,
                latency: channel.latency,
            });
        }
        if !selection.channel.is_empty() && channels.is_empty() {
            return None;
        }
        Some(TopicEntry {
            topic_name: topic.name().to_string(),
            channels,
            depth: stats.depth,
            backend_depth: stats.backend_depth,
            message_count: stats.message_count,
            message_bytes: stats.message_bytes,
            paused: stats.paused,
            e2e_processing_latency: self.latency(&recent),
            damage: stats.damage.map(|damage| damage.text),
            bytes: stats.bytes,
            skipped: stats.skipped,
            duplicates: stats.duplicates,
            dedup_ids: stats.dedup_ids,
            dedup_evicted: stats.dedup_evicted,
        })
    }

    fn latency(&self, recent: &Quantiles) -> LatencyEntry {
        if self.percentiles.is_empty() {
            return LatencyEntry::default();
        }
        let percentile = |&quantile: &f64| Percentile { quantile, value: recent.get(quantile) };
        LatencyEntry {
            count: recent.count(),
            percentiles: Some(self.percentiles.iter().map(percentile).collect()),
        }
    }
}

impl ClientEntry {
    /// `topic` is the one whose publishes are reported; empty for all that are `visible`.
    fn of(client: &Client, topic: &str, visible: &dyn Fn(&str) -> bool) -> Self {
        let identity = client.identity();
        let authorized = client.authorized();
        let is_shown = |(name, _): &(TopicName, u64)| {
            (topic.is_empty() || topic == name.as_str()) && visible(name.as_str())
        };
        let counts = client.pub_counts().into_iter().filter(is_shown);
        Self {
            client_id: identity.client_id,
            hostname: identity.hostname,
            version: client.protocol,
            remote_address: client.remote_address.clone(),
            state: client.state(),
            ready_count: client.ready_count(),
            in_flight_count: client.in_flight(),
            message_count: client.delivered(),
            finish_count: client.finished(),
            requeue_count: client.requeued(),
            connect_ts: unix_seconds(client.connected_at),
            sample_rate: identity.sample_rate,
            deflate: matches!(client.compression(), Some(Compression::Deflate(_))),
            snappy: matches!(client.compression(), Some(Compression::Snappy)),
            user_agent: identity.user_agent,
            authed: authorized.is_some(),
            auth_identity: authorized.as_ref().map(|who| who.identity.clone()).unwrap_or_default(),
            auth_identity_url: authorized.map(|who| who.identity_url).unwrap_or_default(),
            topology_zone: identity.topology_zone,
            topology_region: identity.topology_region,
            pub_counts: counts.map(|(topic, count)| PubCount { topic: topic.to_string(), count }).collect(),
            tls: client.tls().is_some(),
            tls_cipher_suite: client.tls().map(|tls| tls.cipher_suite.clone()).unwrap_or_default(),
            tls_version: client.tls().map_or("", |tls| tls.version),
            tls_negotiated_protocol: "",
            tls_negotiated_protocol_is_mutual: false,
        }
    }
}

fn unix_seconds(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

//! Answers of the HTTP API, field for field as nsqlookupd's.

use std::sync::Arc;

use mq_core::discovery::{Found, Listed, Producer, Registered};
use mq_core::{ChannelName, TopicName};
use serde::Serialize;

use mq_net::directory::Directory;

/// `/info`
#[derive(Serialize)]
pub(super) struct Info<'a> {
    pub(super) version: &'a str,
}

/// `/topics`
#[derive(Serialize)]
pub(super) struct Topics<'a> {
    topics: Vec<&'a str>,
}

impl<'a> Topics<'a> {
    pub(super) fn new(topics: &'a [TopicName]) -> Self {
        Self { topics: topics.iter().map(TopicName::as_str).collect() }
    }
}

/// `/channels`
#[derive(Serialize)]
pub(super) struct Channels<'a> {
    channels: Vec<&'a str>,
}

impl<'a> Channels<'a> {
    pub(super) fn new(channels: &'a [ChannelName]) -> Self {
        Self { channels: channels.iter().map(ChannelName::as_str).collect() }
    }
}

/// `/lookup`
#[derive(Serialize)]
pub(super) struct Lookup<'a> {
    channels: Vec<&'a str>,
    producers: Vec<Broker<'a>>,
}

impl<'a> Lookup<'a> {
    pub(super) fn new(found: &'a Found) -> Self {
        Self {
            channels: found.channels.iter().map(ChannelName::as_str).collect(),
            producers: found.producers.iter().map(|producer| Broker::new(producer)).collect(),
        }
    }
}

/// `/nodes`
#[derive(Serialize)]
pub(super) struct Nodes<'a> {
    producers: Vec<ListedBroker<'a>>,
}

impl<'a> Nodes<'a> {
    pub(super) fn new(nodes: &'a [Listed]) -> Self {
        let listed = nodes.iter().map(|listed| ListedBroker {
            broker: Broker::new(&listed.producer),
            tombstones: listed.topics.iter().map(|(_, hidden)| *hidden).collect(),
            topics: listed.topics.iter().map(|(topic, _)| topic.as_str()).collect(),
        });
        Self { producers: listed.collect() }
    }
}

#[derive(Serialize)]
struct ListedBroker<'a> {
    #[serde(flatten)]
    broker: Broker<'a>,
    /// Parallel to `topics`.
    tombstones: Vec<bool>,
    topics: Vec<&'a str>,
}

#[derive(Serialize)]
struct Broker<'a> {
    remote_address: &'a str,
    hostname: &'a str,
    broadcast_address: &'a str,
    tcp_port: u16,
    http_port: u16,
    version: &'a str,
    topology_zone: &'a str,
    topology_region: &'a str,
}

impl<'a> Broker<'a> {
    fn new(producer: &'a Producer) -> Self {
        Self {
            remote_address: &producer.remote_address,
            hostname: &producer.hostname,
            broadcast_address: &producer.broadcast_address,
            tcp_port: producer.tcp_port,
            http_port: producer.http_port,
            version: &producer.version,
            topology_zone: &producer.topology_zone,
            topology_region: &producer.topology_region,
        }
    }
}

/// A producer in `/debug`.
#[derive(Serialize)]
struct Known<'a> {
    broadcast_address: &'a str,
    hostname: &'a str,
    http_port: u16,
    id: &'a str,
    last_update: u64,
    tcp_port: u16,
    tombstoned: bool,
    tombstoned_at: u64,
    topology_region: &'a str,
    topology_zone: &'a str,
    version: &'a str,
}

/// `/debug`: everything there is, by `category:key:subkey`, sorted.
pub(super) fn debug(directory: &Directory) -> Vec<u8> {
    let mut map = Map(b"{".to_vec());
    directory.entries(|entry| {
        if let Some(channel) = &entry.channel {
            map.put(&format!("channel:{}:{channel}", entry.topic), directory, &entry.producers);
        }
    });
    let clients: Vec<Registered> = directory.with(|registry| {
        let all = registry.producers();
        all.map(|(producer, last_update)| Registered {
            producer: Arc::clone(producer),
            last_update,
            tombstoned_at: None,
        })
        .collect()
    });
    if !clients.is_empty() {
        map.put("client::", directory, &clients);
    }
    directory.entries(|entry| {
        if entry.channel.is_none() {
            map.put(&format!("topic:{}:", entry.topic), directory, &entry.producers);
        }
    });
    map.0.push(b'}');
    map.0
}

/// JSON that is written as it comes: it may be large.
struct Map(Vec<u8>);

impl Map {
    /// `key` needs no escapes.
    fn put(&mut self, key: &str, directory: &Directory, producers: &[Registered]) {
        if self.0.len() > 1 {
            self.0.push(b',');
        }
        self.0.extend_from_slice(format!("\"{key}\":[").as_bytes());
        for (n, registered) in producers.iter().enumerate() {
            if n > 0 {
                self.0.push(b',');
            }
            let producer = &registered.producer;
            let known = Known {
                broadcast_address: &producer.broadcast_address,
                hostname: &producer.hostname,
                http_port: producer.http_port,
                id: &producer.remote_address,
                last_update: directory.wall(registered.last_update).0,
                tcp_port: producer.tcp_port,
                tombstoned: registered.tombstoned_at.is_some(),
                tombstoned_at: registered.tombstoned_at.map_or(0, |at| directory.wall(at).0),
                topology_region: &producer.topology_region,
                topology_zone: &producer.topology_zone,
                version: &producer.version,
            };
            // Strings and numbers always are JSON, and a vector takes all.
            let _ = serde_json::to_writer(&mut self.0, &known);
        }
        self.0.push(b']');
    }
}

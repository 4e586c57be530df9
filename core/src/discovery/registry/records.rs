//! Records of the registry: connections, topics, channels, and the producers of each.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::clock::Mono;
use crate::discovery::{Node, Producer, ProducerId};
use crate::name::{ChannelName, TopicName};

/// The address at which consumers reach a broker: its broadcast address, and its TCP port or, if it has none,
/// its gRPC port.
pub(super) type Address = (String, u16, u16);

pub(super) struct Connection {
    pub(super) producer: Arc<Producer>,
    pub(super) node: Node,
    pub(super) address: Address,
    pub(super) connected_at: Mono,
    pub(super) last_update: Mono,
    pub(super) topics: BTreeSet<TopicName>,
    /// Its topics and channels.
    pub(super) registrations: usize,
}

#[derive(Default)]
pub(super) struct Topic {
    /// Producers of the topic and of all its channels, sorted.
    pub(super) producers: Vec<ProducerId>,
    /// Sorted by name.
    pub(super) channels: Vec<Channel>,
    /// There exactly while it has no producer.
    pub(super) idle_since: Option<Mono>,
    /// The last producer deleted it. Implies `idle_since`.
    pub(super) is_deleted: bool,
    /// Time until which the topic is hidden: it was deleted, and brought back only by producers under a
    /// tombstone.
    pub(super) hidden_until: Option<Mono>,
}

pub(super) struct Channel {
    pub(super) name: ChannelName,
    /// Its producers, sorted.
    pub(super) producers: Vec<ProducerId>,
    /// There exactly while it has no producer.
    pub(super) idle_since: Option<Mono>,
    /// The last producer deleted it. Implies `idle_since`.
    pub(super) is_deleted: bool,
}

impl Topic {
    pub(super) fn find(&self, name: &ChannelName) -> Result<usize, usize> {
        self.channels.binary_search_by(|channel| channel.name.cmp(name))
    }

    pub(super) fn channel(&self, name: &ChannelName) -> Option<&Channel> {
        self.find(name).ok().map(|at| &self.channels[at])
    }

    /// The channel's place, and whether it was added just now.
    pub(super) fn channel_or_new(&mut self, name: &ChannelName) -> (usize, bool) {
        match self.find(name) {
            Ok(at) => (at, false),
            Err(at) => {
                let channel = Channel {
                    name: name.clone(),
                    producers: Vec::new(),
                    idle_since: None,
                    is_deleted: false,
                };
                self.channels.insert(at, channel);
                (at, true)
            }
        }
    }
}

pub(super) fn has(sorted: &[ProducerId], id: ProducerId) -> bool {
    sorted.binary_search(&id).is_ok()
}

/// `false` if it was there.
pub(super) fn insert(sorted: &mut Vec<ProducerId>, id: ProducerId) -> bool {
    match sorted.binary_search(&id) {
        Ok(_) => false,
        Err(at) => {
            sorted.insert(at, id);
            true
        }
    }
}

/// Whether it was there.
pub(super) fn remove(sorted: &mut Vec<ProducerId>, id: ProducerId) -> bool {
    match sorted.binary_search(&id) {
        Ok(at) => {
            sorted.remove(at);
            true
        }
        Err(_) => false,
    }
}

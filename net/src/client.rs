//! Facts about a connection, for statistics.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use mq_core::{ChannelName, SubscribeOptions, SubscriberView, Subscription, TopicName};
use parking_lot::Mutex;
use serde::Serialize;

use crate::http::Peer;
use crate::signal::Signal;
use crate::transport::Compression;
use crate::transport::tls::TlsPeer;

/// Bytes kept of each text of a client's identity: more than any name is long, and little enough for
/// each of many connections.
const TEXT_BYTES_MAX: usize = 1024;

/// A connection, as stats show it.
#[derive(Debug)]
pub struct Client {
    /// Counts up with each connection.
    pub id: u64,
    /// Its protocol, as statistics show it: `V2` is NSQ's.
    pub protocol: &'static str,
    /// The other end.
    pub remote_address: String,
    /// Time of its connecting.
    pub connected_at: SystemTime,
    identity: Mutex<Identity>,
    tls: OnceLock<Box<TlsPeer>>,
    compression: OnceLock<Compression>,
    authorized: Mutex<Option<Box<Authorized>>>,
    state: AtomicU8,
    ready: AtomicU32,
    subscribed: OnceLock<Box<Subscribed>>,
    pub_counts: Mutex<BTreeMap<TopicName, u64>>,
    counts: Counts,
    signal: Arc<Signal>,
}

/// A client's description of itself. [`Client`] keeps 1 KiB of each text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// Its id; the other end's IP address until it gives one.
    pub client_id: String,
    /// Its host; the other end's IP address until it names one.
    pub hostname: String,
    /// The program and its version.
    pub user_agent: String,
    /// The region it is in.
    pub topology_region: String,
    /// The zone in the region.
    pub topology_zone: String,
    /// Percentage of a channel's messages that it takes; 0: all.
    pub sample_rate: u8,
}

/// An auth server's description of a client.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Authorized {
    /// Its name.
    pub identity: String,
    /// A page about it.
    pub identity_url: String,
    /// Number of authorizations it has.
    pub permission_count: usize,
}

/// Stage of a client. The numbers are those that nsqd's statistics show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientState {
    /// Connected and not subscribed.
    Connected = 0,
    /// A consumer of a channel.
    Subscribed = 3,
    /// A consumer that takes no more messages, and finishes those it has.
    Closing = 4,
}

/// A consumer whose protocol knows its subscription from the beginning, as it is listed.
pub struct Consumer<'a> {
    /// Its protocol, as statistics show it.
    pub protocol: &'static str,
    /// The other end.
    pub peer: &'a Peer,
    /// Its own name; empty: its IP address is shown. Cut after 1 KiB.
    pub name: String,
    /// The program and its version, in its own words. Cut after 1 KiB.
    pub user_agent: String,
    /// The topic.
    pub topic: TopicName,
    /// Its options.
    pub options: SubscribeOptions,
    /// Its subscription.
    pub subscription: &'a Subscription,
}

/// A client's subscription, as statistics show it.
#[derive(Debug)]
pub struct Subscribed {
    /// The topic.
    pub topic: TopicName,
    /// The channel.
    pub channel: ChannelName,
    /// Messages in flight.
    pub view: SubscriberView,
}

/// Topics whose publishes are counted for one connection. Few publish to more than a handful.
const PUB_COUNTS_MAX: usize = 4096;

/// Totals of a connection.
#[derive(Debug, Default)]
struct Counts {
    published: AtomicU64,
    delivered: AtomicU64,
    finished: AtomicU64,
    requeued: AtomicU64,
}

impl Client {
    pub(crate) fn new(id: u64, protocol: &'static str, remote_address: String, sample_rate: u8) -> Self {
        let ip = remote_address.rsplit_once(':').map_or(remote_address.as_str(), |(ip, _)| ip);
        let ip = ip.trim_matches(['[', ']']).to_owned();
        Self {
            id,
            protocol,
            remote_address,
            connected_at: SystemTime::now(),
            identity: Mutex::new(Identity {
                client_id: ip.clone(),
                hostname: ip,
                sample_rate,
                ..Identity::default()
            }),
            tls: OnceLock::new(),
            compression: OnceLock::new(),
            authorized: Mutex::new(None),
            state: AtomicU8::new(ClientState::Connected as u8),
            ready: AtomicU32::new(0),
            subscribed: OnceLock::new(),
            pub_counts: Mutex::default(),
            counts: Counts::default(),
            signal: Arc::default(),
        }
    }

    /// A consumer is subscribed from its beginning to its end.
    pub(crate) fn consumer(id: u64, consumer: Consumer<'_>) -> Self {
        let Consumer { protocol, peer, name, user_agent, topic, options, subscription } = consumer;
        let client = Self::new(id, protocol, peer.address.clone(), options.sample_rate);
        {
            let mut identity = client.identity.lock();
            identity.user_agent = cut(user_agent);
            if !name.is_empty() {
                identity.client_id = cut(name);
                identity.hostname = identity.client_id.clone();
            }
        }
        if let Some(tls) = &peer.tls {
            client.set_tls(tls.clone());
        }
        let channel = subscription.channel().name().clone();
        client.set_subscribed(Subscribed { topic, channel, view: subscription.view() });
        client.set_state(ClientState::Subscribed);
        client
    }

    /// Its description of itself.
    pub fn identity(&self) -> Identity {
        self.identity.lock().clone()
    }

    /// The agreement of its TLS handshake, if there was one.
    pub fn tls(&self) -> Option<&TlsPeer> {
        self.tls.get().map(|peer| &**peer)
    }

    /// The common name in the certificate it showed; empty without one.
    pub fn tls_common_name(&self) -> &str {
        self.tls().map_or("", |peer| &peer.common_name)
    }

    /// Its compression, if it has one.
    pub fn compression(&self) -> Option<Compression> {
        self.compression.get().copied()
    }

    /// Its auth server's description of it; `None` before it was asked.
    pub fn authorized(&self) -> Option<Authorized> {
        self.authorized.lock().as_deref().cloned()
    }

    /// Its [`ClientState`] as a number.
    pub fn state(&self) -> u8 {
        self.state.load(Ordering::Relaxed)
    }

    /// Its credit in messages.
    pub fn ready_count(&self) -> u32 {
        self.ready.load(Ordering::Relaxed)
    }

    /// Messages it published.
    pub fn published(&self) -> u64 {
        self.counts.published.load(Ordering::Relaxed)
    }

    /// Messages it published to each topic, sorted; of the first 4,096 topics.
    pub fn pub_counts(&self) -> Vec<(TopicName, u64)> {
        self.pub_counts.lock().iter().map(|(topic, count)| (topic.clone(), *count)).collect()
    }

    /// Messages it was sent.
    pub fn delivered(&self) -> u64 {
        self.counts.delivered.load(Ordering::Relaxed)
    }

    /// Messages it finished.
    pub fn finished(&self) -> u64 {
        self.counts.finished.load(Ordering::Relaxed)
    }

    /// Messages it requeued.
    pub fn requeued(&self) -> u64 {
        self.counts.requeued.load(Ordering::Relaxed)
    }

    /// Whether it consumes that channel.
    pub fn consumes(&self, topic: &TopicName, channel: &ChannelName) -> bool {
        self.subscribed
            .get()
            .is_some_and(|subscribed| subscribed.topic == *topic && subscribed.channel == *channel)
    }

    /// Messages in flight there.
    pub fn in_flight(&self) -> u64 {
        self.subscribed.get().map_or(0, |subscribed| subscribed.view.in_flight())
    }

    /// Counts messages that it was sent.
    pub fn count_delivered(&self, messages: u64) {
        self.counts.delivered.fetch_add(messages, Ordering::Relaxed);
    }

    /// Counts messages that it acknowledged.
    pub fn count_acknowledged(&self, finished: u64, requeued: u64) {
        self.counts.finished.fetch_add(finished, Ordering::Relaxed);
        self.counts.requeued.fetch_add(requeued, Ordering::Relaxed);
    }

    /// Sets its credit in messages.
    pub fn set_ready(&self, count: u32) {
        self.ready.store(count, Ordering::Relaxed);
    }

    /// Replaces its description of itself; 1 KiB of each text is kept.
    pub fn identify(&self, identity: Identity) {
        *self.identity.lock() = Identity {
            client_id: cut(identity.client_id),
            hostname: cut(identity.hostname),
            user_agent: cut(identity.user_agent),
            topology_region: cut(identity.topology_region),
            topology_zone: cut(identity.topology_zone),
            sample_rate: identity.sample_rate,
        };
    }

    /// Counts messages that it published to a topic.
    pub fn count_published(&self, topic: &TopicName, messages: u64) {
        self.counts.published.fetch_add(messages, Ordering::Relaxed);
        let mut counts = self.pub_counts.lock();
        if let Some(count) = counts.get_mut(topic) {
            *count += messages;
        } else if counts.len() < PUB_COUNTS_MAX {
            counts.insert(topic.clone(), messages);
        }
    }

    /// Its subscription, once it has one.
    pub fn subscribed(&self) -> Option<&Subscribed> {
        self.subscribed.get().map(|subscribed| &**subscribed)
    }

    /// Sets its subscription, once: no connection subscribes twice.
    pub fn set_subscribed(&self, subscribed: Subscribed) {
        let _ = self.subscribed.set(Box::new(subscribed));
    }

    /// Sets the agreement of its TLS handshake, once: no connection gets a second layer of TLS.
    pub fn set_tls(&self, peer: TlsPeer) {
        let _ = self.tls.set(Box::new(peer));
    }

    /// Sets its compression, once, as [`Client::set_tls`].
    pub fn set_compression(&self, compression: Compression) {
        let _ = self.compression.set(compression);
    }

    /// Sets its auth server's description of it.
    pub fn set_authorized(&self, authorized: Authorized) {
        *self.authorized.lock() = Some(Box::new(authorized));
    }

    /// The other end's IP address; "" on a unix socket.
    pub fn remote_ip(&self) -> String {
        ip_of(&self.remote_address)
    }

    /// Sets its state.
    pub fn set_state(&self, state: ClientState) {
        self.state.store(state as u8, Ordering::Relaxed);
    }

    /// Wakes its session, and asks it to end.
    pub fn signal(&self) -> &Arc<Signal> {
        &self.signal
    }
}

/// The IP address in a peer's address, as Go prints it; "" for a path.
pub(crate) fn ip_of(address: &str) -> String {
    let address = address.parse::<SocketAddr>();
    address.map(|address| address.ip().to_canonical().to_string()).unwrap_or_default()
}

/// The first [`TEXT_BYTES_MAX`] bytes of `text`, or fewer where they would end in a character.
fn cut(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(TEXT_BYTES_MAX));
    text.shrink_to_fit();
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_long_text_a_part_is_kept() {
        assert_eq!(cut("short".to_owned()), "short");
        let kept = cut(format!("x{}", "\u{e4}".repeat(1 << 20)));
        assert_eq!((kept.len(), kept.capacity()), (1023, 1023));
    }

    #[test]
    fn the_remote_ip_is_as_go_prints_it() {
        for (address, want) in [
            ("127.0.0.1:5000", "127.0.0.1"),
            ("[::ffff:10.0.0.1]:5000", "10.0.0.1"),
            ("[2001:db8::1]:5000", "2001:db8::1"),
            ("/tmp/mq.sock", ""),
        ] {
            let client = Client::new(1, "V2", address.to_owned(), 0);
            assert_eq!(client.remote_ip(), want);
        }
    }
}

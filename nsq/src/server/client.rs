//! What is known about a connection, for whoever looks from outside.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use mq_core::{ChannelName, SubscribeOptions, SubscriberView, Subscription, TopicName};
use parking_lot::Mutex;

use super::auth::Authorized;
use super::signal::Signal;
use crate::http::Peer;
use crate::transport::Compression;
use crate::transport::tls::TlsPeer;
use crate::wire::State;
use crate::wire::identify::{Request, Settings};

/// Of each text of a client's identity this much is kept: more than any name is long, and little enough for each of many
/// connections.
const TEXT_BYTES_MAX: usize = 1024;

/// NSQ's protocol, as stats show it.
pub(super) const PROTOCOL: &str = "V2";

/// A connection, as stats show it.
#[derive(Debug)]
pub struct Client {
    /// Counts up with each connection.
    pub id: u64,
    /// What it speaks: `V2` of NSQ's, or a [`Guest`]'s protocol.
    pub protocol: &'static str,
    /// The other end.
    pub remote_address: String,
    /// When it connected.
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
    pub(super) signal: Arc<Signal>,
}

/// What a client says it is, each text cut after 1 KiB, and what holds for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// As IDENTIFY said; before, the other end's IP address.
    pub client_id: String,
    /// As IDENTIFY said; before, the other end's IP address.
    pub hostname: String,
    /// As IDENTIFY said.
    pub user_agent: String,
    /// As IDENTIFY said.
    pub topology_region: String,
    /// As IDENTIFY said.
    pub topology_zone: String,
    /// What holds.
    pub settings: Settings,
}

/// A consumer that came another way than NSQ's protocol, as it is to be shown beside those that did.
pub struct Guest<'a> {
    /// What it speaks.
    pub protocol: &'static str,
    /// The other end.
    pub peer: &'a Peer,
    /// What it calls itself; empty: its IP address is shown. Cut after 1 KiB.
    pub name: String,
    /// The program, as that says. Cut after 1 KiB.
    pub user_agent: String,
    /// The topic.
    pub topic: TopicName,
    /// How it consumes.
    pub options: SubscribeOptions,
    /// What it consumes.
    pub subscription: &'a Subscription,
}

/// What a client consumes.
#[derive(Debug)]
pub(super) struct Subscribed {
    pub(super) topic: TopicName,
    pub(super) channel: ChannelName,
    pub(super) view: SubscriberView,
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
    pub(super) fn new(id: u64, remote_address: String, settings: Settings, signal: Arc<Signal>) -> Self {
        let ip = remote_address.rsplit_once(':').map_or(remote_address.as_str(), |(ip, _)| ip);
        let ip = ip.trim_matches(['[', ']']).to_owned();
        Self {
            id,
            protocol: PROTOCOL,
            remote_address,
            connected_at: SystemTime::now(),
            identity: Mutex::new(Identity {
                client_id: ip.clone(),
                hostname: ip,
                user_agent: String::new(),
                topology_region: String::new(),
                topology_zone: String::new(),
                settings,
            }),
            tls: OnceLock::new(),
            compression: OnceLock::new(),
            authorized: Mutex::new(None),
            state: AtomicU8::new(State::Init as u8),
            ready: AtomicU32::new(0),
            subscribed: OnceLock::new(),
            pub_counts: Mutex::default(),
            counts: Counts::default(),
            signal,
        }
    }

    /// A guest is subscribed from its beginning to its end.
    pub(super) fn guest(id: u64, guest: Guest<'_>) -> Self {
        let Guest { protocol, peer, name, user_agent, topic, options, subscription } = guest;
        let settings = Settings { sample_rate: options.sample_rate, ..Settings::new(options.msg_timeout) };
        let client = Self { protocol, ..Self::new(id, peer.address.clone(), settings, Arc::default()) };
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
        client.set_state(State::Subscribed);
        client
    }

    /// What it says it is.
    pub fn identity(&self) -> Identity {
        self.identity.lock().clone()
    }

    /// What its TLS handshake agreed on, if there was one.
    pub fn tls(&self) -> Option<&TlsPeer> {
        self.tls.get().map(|peer| &**peer)
    }

    /// The common name in the certificate it showed; empty without one.
    pub fn tls_common_name(&self) -> &str {
        self.tls().map_or("", |peer| &peer.common_name)
    }

    /// How it compresses, if it does.
    pub fn compression(&self) -> Option<Compression> {
        self.compression.get().copied()
    }

    /// Who its auth server says it is; `None` before AUTH.
    pub fn authorized(&self) -> Option<Authorized> {
        self.authorized.lock().as_deref().cloned()
    }

    /// Its state as a number: 0 before SUB, 3 after, 4 after CLS.
    pub fn state(&self) -> u8 {
        self.state.load(Ordering::Relaxed)
    }

    /// What its last RDY said.
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

    /// It was sent so many messages.
    pub fn count_delivered(&self, messages: u64) {
        self.counts.delivered.fetch_add(messages, Ordering::Relaxed);
    }

    /// It acknowledged so many.
    pub fn count_acknowledged(&self, finished: u64, requeued: u64) {
        self.counts.finished.fetch_add(finished, Ordering::Relaxed);
        self.counts.requeued.fetch_add(requeued, Ordering::Relaxed);
    }

    /// Its credit.
    pub fn set_ready(&self, count: u32) {
        self.ready.store(count, Ordering::Relaxed);
    }

    pub(super) fn identify(&self, request: Request, settings: Settings) {
        *self.identity.lock() = Identity {
            client_id: cut(request.client_id),
            hostname: cut(request.hostname),
            user_agent: cut(request.user_agent),
            topology_region: cut(request.topology_region),
            topology_zone: cut(request.topology_zone),
            settings,
        };
    }

    pub(super) fn count_published(&self, topic: &TopicName, messages: u64) {
        self.counts.published.fetch_add(messages, Ordering::Relaxed);
        let mut counts = self.pub_counts.lock();
        if let Some(count) = counts.get_mut(topic) {
            *count += messages;
        } else if counts.len() < PUB_COUNTS_MAX {
            counts.insert(topic.clone(), messages);
        }
    }

    /// What it consumes, once it has subscribed.
    pub(super) fn subscribed(&self) -> Option<&Subscribed> {
        self.subscribed.get().map(|subscribed| &**subscribed)
    }

    /// Once: no connection subscribes twice.
    pub(super) fn set_subscribed(&self, subscribed: Subscribed) {
        let _ = self.subscribed.set(Box::new(subscribed));
    }

    /// Once: no connection gets a second layer of it.
    pub(super) fn set_tls(&self, peer: TlsPeer) {
        let _ = self.tls.set(Box::new(peer));
    }

    /// Once, as [`Client::set_tls`].
    pub(super) fn set_compression(&self, compression: Compression) {
        let _ = self.compression.set(compression);
    }

    pub(super) fn set_authorized(&self, authorized: Authorized) {
        *self.authorized.lock() = Some(Box::new(authorized));
    }

    /// The other end's IP address; "" on a unix socket.
    pub(super) fn remote_ip(&self) -> String {
        ip_of(&self.remote_address)
    }

    pub(super) fn set_state(&self, state: State) {
        self.state.store(state as u8, Ordering::Relaxed);
    }
}

/// The IP address in a peer's address, as Go prints it; "" for a path.
pub(super) fn ip_of(address: &str) -> String {
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
    use std::time::Duration;

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
            let settings = Settings::new(Duration::from_secs(60));
            let client = Client::new(1, address.to_owned(), settings, Arc::default());
            assert_eq!(client.remote_ip(), want);
        }
    }
}

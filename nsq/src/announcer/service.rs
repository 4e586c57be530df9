//! Watches the broker, and keeps a task for each lookup server.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use mq_core::{Broker, Topic, TopicNo, Wake};
use tokio::sync::{Notify, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep_until, timeout};

use super::address::Address;
use super::channel_import::ChannelImport;
use super::link::{self, LinkState, LinkStates};
use super::names::Names;
use crate::wire::lookup::{self, Identity};

/// The longest time between two looks at the broker's names: at most a tenth of the time goes into looking.
const LOOK_PAUSE_MAX: Duration = Duration::from_millis(250);
/// Longest wait for the resolution of a name.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(5);

/// Settings of an announcer at its start.
#[derive(Clone, Debug)]
pub struct AnnouncerConfig {
    /// Lookup servers.
    pub peers: Vec<Address>,
    /// The broker's description of itself for lookup servers.
    pub identity: lookup::BrokerIdentity,
    /// Longest wait of a new topic for its channels, from when it is seen; with the longest pause between
    /// two looks that makes 2 s.
    pub hold: Duration,
    /// Time for which channels that were deleted here are not created again because a lookup server still
    /// lists them.
    pub deleted_lifetime: Duration,
    /// Interval at which names of servers are resolved again.
    pub resolve_interval: Duration,
    /// Longest wait for a connection to a lookup server's HTTP port.
    pub connect_timeout: Duration,
    /// Longest time of its answer in all.
    pub request_timeout: Duration,
}

impl Default for AnnouncerConfig {
    fn default() -> Self {
        Self {
            peers: Vec::new(),
            identity: lookup::BrokerIdentity::default(),
            hold: Duration::from_millis(1_750),
            deleted_lifetime: Duration::from_secs(45),
            resolve_interval: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(2),
            request_timeout: Duration::from_secs(5),
        }
    }
}

/// State of the registration at a lookup server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Its address.
    pub address: String,
    /// Whether the broker is registered at it.
    pub is_registered: bool,
    /// Reason why the last connection ended or was not made, if there is none.
    pub error: Option<String>,
}

/// Announces a broker. A handle, cheap to clone.
#[derive(Clone)]
pub struct Announcer(Arc<Inner>);

struct Inner {
    broker: Broker,
    config: AnnouncerConfig,
    wanted: watch::Sender<Wanted>,
    states: Arc<LinkStates>,
    changed: Arc<Changed>,
}

#[derive(Clone, Default)]
struct Wanted {
    peers: Vec<Address>,
    /// The broker has left for good.
    left: bool,
}

/// Wakes the announcer's task.
#[derive(Default)]
struct Changed(Notify);

impl Wake for Changed {
    fn wake(&self) {
        self.0.notify_one();
    }
}

/// The broker goes on without its announcer, however that ends.
struct Watching<'a>(&'a Broker);

impl Drop for Watching<'_> {
    fn drop(&mut self) {
        self.0.watch(None);
        self.0.hold_new_topics(false);
    }
}

impl Announcer {
    /// An announcer of `broker`, which does nothing before [`Announcer::run`].
    pub fn new(broker: Broker, config: AnnouncerConfig) -> Self {
        let wanted = Wanted { peers: config.peers.clone(), left: false };
        let changed = Arc::default();
        let wanted = watch::Sender::new(wanted);
        Self(Arc::new(Inner { broker, config, wanted, states: Arc::default(), changed }))
    }

    /// The lookup servers of the settings.
    pub fn peers(&self) -> Vec<Address> {
        self.0.wanted.borrow().peers.clone()
    }

    /// Registers at these lookup servers from now on, and leaves the others.
    pub fn set_peers(&self, peers: Vec<Address>) {
        self.0.wanted.send_modify(|wanted| wanted.peers = peers);
    }

    /// Leaves discovery for good. Servers remember the topics and channels for others to create.
    pub fn leave(&self) {
        self.0.wanted.send_modify(|wanted| wanted.left = true);
    }

    /// State of the registration at each server, sorted by address.
    pub fn status(&self) -> Vec<Status> {
        let states = self.0.states.lock();
        let status = states.iter().map(|(address, state)| Status {
            address: address.clone(),
            is_registered: state.server.is_some(),
            error: state.error.clone(),
        });
        status.collect()
    }

    /// Announces until `shutdown`; connections are closed then.
    pub async fn run(&self, shutdown: impl Future<Output = ()>) {
        let (servers, mut found) = watch::channel(BTreeSet::new());
        let mut shutdown = pin!(shutdown);
        let mut resolving = pin!(self.resolve(servers));
        let mut task = Task::new(&self.0);
        let _watching = Watching(&self.0.broker);
        self.0.broker.watch(Some(self.0.changed.clone()));
        self.0.changed.wake();
        let mut look_after = Instant::now();
        loop {
            let changed = async {
                sleep_until(look_after).await;
                self.0.changed.0.notified().await;
            };
            tokio::select! {
                () = &mut shutdown => return,
                () = &mut resolving => return,
                Ok(()) = found.changed() => {
                    // New links begin with the names of now, not with those of when there was a server last.
                    task.look();
                    task.reconcile(&found.borrow_and_update());
                    self.0.changed.wake();
                }
                // To look at all names costs something, and without servers nobody asks for them.
                () = changed, if !task.by_address.is_empty() => {
                    let start = Instant::now();
                    task.look();
                    let took = start.elapsed();
                    look_after = Instant::now() + (took * 9).min(LOOK_PAUSE_MAX);
                }
                () = self.0.states.changed.notified() => task.finish_announcing(),
                Some(imported) = task.imports.join_next() => {
                    if let Ok(no) = imported {
                        task.importing.remove(&no);
                    }
                }
                Some(_) = task.links.join_next() => {}
            }
        }
    }

    /// Sends the wanted addresses to `servers`. Never ends.
    async fn resolve(&self, servers: watch::Sender<BTreeSet<String>>) {
        let mut wanted = self.0.wanted.subscribe();
        let mut known: BTreeMap<Address, Vec<String>> = BTreeMap::new();
        loop {
            let Wanted { peers, left } = wanted.borrow_and_update().clone();
            let peers: BTreeSet<Address> = if left { BTreeSet::new() } else { peers.into_iter().collect() };
            known.retain(|peer, _| peers.contains(peer));
            for peer in peers {
                match timeout(RESOLVE_TIMEOUT, peer.resolve()).await {
                    Ok(Ok(addresses)) => _ = known.insert(peer, addresses),
                    // What was found before still holds.
                    Ok(Err(error)) => tracing::warn!(lookupd = %peer, %error, "not resolved"),
                    Err(_) => tracing::warn!(lookupd = %peer, "not resolved within {RESOLVE_TIMEOUT:?}"),
                }
            }
            let now: BTreeSet<String> = known.values().flatten().cloned().collect();
            servers.send_if_modified(|old| std::mem::replace(old, now.clone()) != now);
            let _ = timeout(self.0.config.resolve_interval, wanted.changed()).await;
        }
    }
}

/// Handles and state of the announcer's task.
struct Task<'a> {
    inner: &'a Inner,
    identity: Arc<lookup::BrokerIdentity>,
    names: watch::Sender<Arc<Names>>,
    links: JoinSet<()>,
    by_address: BTreeMap<String, AbortHandle>,
    imports: JoinSet<TopicNo>,
    /// Numbers of topics that wait for their channels.
    importing: BTreeSet<TopicNo>,
    import: Arc<ChannelImport>,
    /// Topics that some server does not know yet, by number. Publishers may wait for them.
    announcing: BTreeMap<TopicNo, Arc<Topic>>,
}

impl<'a> Task<'a> {
    fn new(inner: &'a Inner) -> Self {
        let config = &inner.config;
        let (broker, timeouts) = (inner.broker.clone(), (config.connect_timeout, config.request_timeout));
        let names = watch::Sender::default();
        let announced = names.subscribe();
        let import = ChannelImport::new(broker, config.deleted_lifetime, timeouts.0, timeouts.1, announced);
        Self {
            inner,
            identity: Arc::new(config.identity.clone()),
            names,
            links: JoinSet::new(),
            by_address: BTreeMap::new(),
            imports: JoinSet::new(),
            importing: BTreeSet::new(),
            import: Arc::new(import),
            announcing: BTreeMap::new(),
        }
    }

    /// Starts and ends links, so that there is one for each of `servers`.
    fn reconcile(&mut self, servers: &BTreeSet<String>) {
        self.inner.broker.hold_new_topics(!servers.is_empty());
        let mut states = self.inner.states.lock();
        states.retain(|address, _| servers.contains(address));
        self.by_address.retain(|address, link| {
            let keep = servers.contains(address);
            if !keep {
                link.abort();
            }
            keep
        });
        for address in servers {
            if !self.by_address.contains_key(address) {
                states.insert(address.clone(), LinkState::default());
                let (identity, names) = (self.identity.clone(), self.names.subscribe());
                let link = link::run(address.clone(), identity, names, self.inner.states.clone());
                self.by_address.insert(address.clone(), self.links.spawn(link));
            }
        }
    }

    /// Takes in what changed in the broker.
    fn look(&mut self) {
        let names = Names::new(self.inner.broker.names());
        let now = Instant::now();
        self.import.deleted.lock().note(&self.names.borrow(), &names, now);
        let mut servers: Option<Vec<Identity>> = None;
        for topic in names.0.iter().filter(|topic| topic.is_held) {
            if self.importing.insert(topic.no) {
                let states = || self.inner.states.lock().values().filter_map(|s| s.server.clone()).collect();
                let servers = servers.get_or_insert_with(states).clone();
                let (no, deadline) = (topic.no, now + self.inner.config.hold);
                let importing = self.import.clone().run(topic.name.clone(), servers, deadline);
                self.imports.spawn(async move {
                    importing.await;
                    no
                });
            }
        }
        for topic in names.0.iter().filter(|topic| topic.is_unannounced) {
            let Entry::Vacant(entry) = self.announcing.entry(topic.no) else { continue };
            let found = self.inner.broker.find_topic(&topic.name);
            // Another topic of that name may have taken its place; that one is in the next names.
            if let Some(found) = found.filter(|found| found.no() == topic.no) {
                entry.insert(found);
            }
        }
        self.names.send_replace(Arc::new(names));
        self.finish_announcing();
    }

    /// Lets publishers go on whose topics are known to all servers that the broker is registered at.
    fn finish_announcing(&mut self) {
        self.announcing.retain(|no, topic| {
            let is_known = !topic.is_unannounced() || self.inner.states.all_know(topic.name(), *no);
            if is_known {
                topic.set_announced();
            }
            !is_known
        });
    }
}

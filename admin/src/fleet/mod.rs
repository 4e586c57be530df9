//! The fleet: which servers there are, and what they say.
//!
//! - [`Fleet`]: keeps the last [`Snapshot`] for all viewers of the same rights; [`Sources`]: where it begins
//! - `reading`: reads it, and asks `trouble` for its findings; `clients`: of channels
//! - `infos`: what a broker says of itself until it is started anew
//! - [`Charts`]: of all topics; `trend`: disks over the last minutes; `options`: settings that ought to be
//!   the same on all brokers

mod charts;
mod clients;
mod infos;
mod options;
mod reading;
mod trend;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use serde::Serialize;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use self::trend::Trends;

pub(crate) use charts::{Charts, Wanted};
pub(crate) use clients::{clients_of, clients_on, inactive};
pub(crate) use reading::{all, seconds_now};

use crate::snapshot::{Node, Snapshot};
use crate::upstream::answers::Info;
use crate::upstream::{Call, Upstream, UpstreamLink};

/// Age up to which a snapshot is as good as new.
const FRESH: Duration = Duration::from_secs(2);
/// Age up to which a snapshot is shown while the next is read: nobody waits for a large fleet. The page says
/// how old it is, and asks again in seconds.
const SHOWN: Duration = Duration::from_secs(10);
/// Age up to which one is shown if the next is not there in [`PATIENCE`]: beyond it the numbers mislead.
const KNOWN: Duration = Duration::from_secs(15 * 60);
/// Time that somebody who comes back waits for new numbers before those that are known are shown.
const PATIENCE: Duration = Duration::from_millis(80);
/// Time that the first who comes waits for all of a fleet before they are shown a part of it.
const PATIENCE_OF_FIRST: Duration = Duration::from_millis(50);
/// Age up to which a part of a fleet is shown to others, too: to merge it takes a moment.
const PART_FRESH: Duration = Duration::from_millis(200);
/// Viewers of different rights whose snapshots are kept.
const VIEWERS_MAX: usize = 64;

/// Servers that a fleet begins with.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sources {
    pub(crate) lookups: Vec<Upstream>,
    pub(crate) nodes: Vec<Upstream>,
}

/// Secret and address of a viewer: who shows the same from the same place sees the same. Never printed.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) token: Option<Arc<[u8]>>,
    pub(crate) ip: String,
}

/// A fleet, read only when somebody asks.
pub(crate) struct Fleet {
    sources: RwLock<Arc<Sources>>,
    options: options::Known,
    infos: infos::Known,
    pub(crate) charts: Charts,
    trends: Mutex<Trends>,
    kept: Mutex<HashMap<Key, Arc<Kept>>>,
}

/// The brokers of a fleet that is being read for the first time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Reading {
    /// Brokers that have answered, or will not.
    pub(crate) done: usize,
    /// All of them, once that is known.
    pub(crate) of: Option<usize>,
}

/// A fleet, or what is read of it so far.
pub(crate) struct Seen {
    pub(crate) snapshot: Arc<Snapshot>,
    /// `None`: it is whole.
    pub(crate) reading: Option<Reading>,
}

type Last<T> = Mutex<Option<(Instant, T)>>;

/// The last snapshot for viewers of the same rights.
#[derive(Default)]
struct Kept {
    last: Last<Arc<Snapshot>>,
    /// Held by who reads the next.
    reading: tokio::sync::Mutex<()>,
    /// The part that is read so far of the first snapshot.
    progress: reading::Progress,
    part: Last<(Arc<Snapshot>, Reading)>,
}

impl Kept {
    fn younger_than(&self, age: Duration) -> Option<Arc<Snapshot>> {
        let last = self.last.lock();
        last.as_ref().filter(|(at, _)| at.elapsed() < age).map(|(_, snapshot)| Arc::clone(snapshot))
    }

    /// The part of the fleet that is read so far.
    async fn part(self: &Arc<Self>, call: &Call) -> Seen {
        let known = self.part.lock().clone().filter(|(at, _)| at.elapsed() < PART_FRESH);
        let (snapshot, reading) = match known {
            Some((_, known)) => known,
            None => {
                let (kept, began) = (Arc::clone(self), Instant::now());
                let merge = move || {
                    let (mut snapshot, reading) = kept.progress.snapshot();
                    let findings = std::mem::take(&mut snapshot.findings);
                    snapshot.set_findings(findings);
                    (Arc::new(snapshot), reading)
                };
                let nothing = |_| (Arc::default(), Reading { done: 0, of: None });
                let part = call.room.work(merge).await.unwrap_or_else(nothing);
                // Kept the longer the longer it took, so that those who ask again leave room for the rest.
                *self.part.lock() = Some((Instant::now() + began.elapsed() * 4, part.clone()));
                part
            }
        };
        Seen { snapshot, reading: Some(reading) }
    }
}

impl Fleet {
    pub(crate) fn new(sources: Sources) -> Self {
        Self {
            sources: RwLock::new(Arc::new(sources)),
            options: options::Known::default(),
            infos: infos::Known::default(),
            charts: Charts::default(),
            trends: Mutex::default(),
            kept: Mutex::default(),
        }
    }

    /// The servers that it begins with.
    pub(crate) fn sources(&self) -> Arc<Sources> {
        Arc::clone(&self.sources.read())
    }

    /// Begins with other lookup servers.
    pub(crate) fn set_lookups(&self, lookups: Vec<Upstream>) {
        let mut sources = self.sources.write();
        *sources = Arc::new(Sources { lookups, nodes: sources.nodes.clone() });
        drop(sources);
        self.forget();
    }

    /// The fleet as it is, or was some seconds ago.
    pub(crate) async fn snapshot(self: &Arc<Self>, call: &Call, key: Key) -> Arc<Snapshot> {
        let kept = self.kept(key);
        if let Some(fresh) = kept.younger_than(FRESH) {
            return fresh;
        }
        let Some(known) = kept.younger_than(KNOWN) else { return self.read(&kept, call).await };
        if kept.reading.try_lock().is_err() {
            return known;
        }
        let reading = self.begin(&kept, call);
        if let Some(shown) = kept.younger_than(SHOWN) {
            return shown;
        }
        match timeout(PATIENCE, reading).await {
            Ok(Ok(new)) => new,
            _ => known,
        }
    }

    /// The fleet as [`Fleet::snapshot`] gives it, or, while it is read for the first time, a part of it.
    pub(crate) async fn seen(self: &Arc<Self>, call: &Call, key: Key) -> Seen {
        let kept = self.kept(key.clone());
        if kept.younger_than(KNOWN).is_some() {
            return Seen { snapshot: self.snapshot(call, key).await, reading: None };
        }
        match timeout(PATIENCE_OF_FIRST, self.begin(&kept, call)).await {
            Ok(Ok(snapshot)) => Seen { snapshot, reading: None },
            _ => {
                let part = kept.part(call).await;
                // All may be there by now, and the part gone.
                match kept.younger_than(KNOWN) {
                    Some(snapshot) => Seen { snapshot, reading: None },
                    None => part,
                }
            }
        }
    }

    /// Reads whether or not somebody still waits for it.
    fn begin(self: &Arc<Self>, kept: &Arc<Kept>, call: &Call) -> JoinHandle<Arc<Snapshot>> {
        let (fleet, call, kept) = (Arc::clone(self), call.clone(), Arc::clone(kept));
        tokio::spawn(async move { fleet.read(&kept, &call).await })
    }

    /// Begins to read for who is about to ask.
    pub(crate) fn prepare(self: &Arc<Self>, call: &Call, key: Key) {
        let kept = self.kept(key);
        if kept.younger_than(FRESH).is_some() || kept.reading.try_lock().is_err() {
            return;
        }
        self.begin(&kept, call);
    }

    async fn read(self: &Arc<Self>, kept: &Kept, call: &Call) -> Arc<Snapshot> {
        let _reading = kept.reading.lock().await;
        if let Some(fresh) = kept.younger_than(FRESH) {
            return fresh;
        }
        let began = Instant::now();
        let mut snapshot = reading::read(self, call, &kept.progress).await;
        let findings = std::mem::take(&mut snapshot.findings);
        let findings = clients::explained(&snapshot, findings, call).await;
        snapshot.set_findings(findings);
        let snapshot = Arc::new(snapshot);
        // What was asked for before a change is not kept after it.
        *kept.last.lock() = Some((began, Arc::clone(&snapshot)));
        kept.progress.clear();
        *kept.part.lock() = None;
        self.read_options(&snapshot, call);
        snapshot
    }

    /// A broker's own description, as it was read since its start.
    async fn info_of(&self, node: &Node, link: &mut UpstreamLink<'_>, call: &Call) -> Info {
        if let Some(known) = self.infos.of(node) {
            return known;
        }
        let read = link.ask(call, "/info", &[]).await.ok();
        match read.and_then(|read| serde_json::from_slice::<Info>(&read).ok()) {
            Some(info) => {
                self.infos.note(node, &info);
                info
            }
            None => node.info.clone(),
        }
    }

    /// Reads, while everybody goes on, the settings of brokers that started since they were read.
    fn read_options(self: &Arc<Self>, snapshot: &Snapshot, call: &Call) {
        // A single broker has nothing to differ from.
        let up = || snapshot.nodes.iter().filter(|node| node.error.is_none());
        let new = up().filter(|node| node.options.is_none());
        let new: Vec<_> = new.map(|node| (node.upstream.clone(), node.info.start_time)).collect();
        if new.is_empty() || up().count() < 2 {
            return;
        }
        let (fleet, call) = (Arc::clone(self), call.clone());
        tokio::spawn(async move { fleet.options.read(new, &call).await });
    }

    /// Has the next viewer see what was changed.
    pub(crate) fn forget(&self) {
        self.kept.lock().clear();
    }

    fn kept(&self, key: Key) -> Arc<Kept> {
        let mut kept = self.kept.lock();
        if kept.len() >= VIEWERS_MAX && !kept.contains_key(&key) {
            kept.clear();
        }
        Arc::clone(kept.entry(key).or_default())
    }
}

//! The fleet: which servers there are, and what they say.
//!
//! - [`Fleet`]: keeps the last [`Snapshot`] for all viewers of the same rights; [`Sources`]: where it begins
//! - `gather`: reads it; `snapshot`: merges it; [`numbers`]: what is summed; `clients`: of channels

mod clients;
mod gather;
pub(crate) mod numbers;
pub(crate) mod snapshot;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

pub(crate) use clients::{clients_of, inactive};
pub(crate) use gather::{all, is_unauthorized};
pub(crate) use snapshot::{Node, Snapshot};

use crate::upstream::{Call, Upstream};

/// Age up to which a snapshot is as good as new.
const FRESH: Duration = Duration::from_secs(2);
/// Age up to which a snapshot is shown while the next is read: nobody waits for a large fleet.
const SHOWN: Duration = Duration::from_secs(10);
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
    pub(crate) sources: Sources,
    kept: Mutex<HashMap<Key, Arc<Kept>>>,
}

/// The last snapshot for viewers of the same rights.
#[derive(Default)]
struct Kept {
    last: Mutex<Option<(Instant, Arc<Snapshot>)>>,
    /// Held by who reads the next.
    reading: tokio::sync::Mutex<()>,
}

impl Kept {
    fn younger_than(&self, age: Duration) -> Option<Arc<Snapshot>> {
        let last = self.last.lock();
        last.as_ref().filter(|(at, _)| at.elapsed() < age).map(|(_, snapshot)| Arc::clone(snapshot))
    }
}

impl Fleet {
    pub(crate) fn new(sources: Sources) -> Self {
        Self { sources, kept: Mutex::default() }
    }

    /// The fleet as it is, or was some seconds ago.
    pub(crate) async fn snapshot(self: &Arc<Self>, call: &Call, key: Key) -> Arc<Snapshot> {
        let kept = self.kept(key);
        if let Some(fresh) = kept.younger_than(FRESH) {
            return fresh;
        }
        if let Some(shown) = kept.younger_than(SHOWN) {
            let is_being_read = kept.reading.try_lock().is_err();
            if !is_being_read {
                let (fleet, call) = (Arc::clone(self), call.clone());
                tokio::spawn(async move { fleet.read(&kept, &call).await });
            }
            return shown;
        }
        self.read(&kept, call).await
    }

    async fn read(&self, kept: &Kept, call: &Call) -> Arc<Snapshot> {
        let _reading = kept.reading.lock().await;
        if let Some(fresh) = kept.younger_than(FRESH) {
            return fresh;
        }
        let began = Instant::now();
        let mut snapshot = gather::read(&self.sources, call).await;
        snapshot.set_findings(clients::explained(&snapshot, call).await);
        let snapshot = Arc::new(snapshot);
        // What was asked for before a change is not kept after it.
        *kept.last.lock() = Some((began, Arc::clone(&snapshot)));
        snapshot
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

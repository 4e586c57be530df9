//! The names that discovery follows: the topics and channels of a broker, and their changes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::store::format::numbers::TopicNo;
use crate::sync::Mutex;

use crate::name::{ChannelName, TopicName};
use crate::wake::Wake;

/// The watcher of created and deleted topics and channels, and whether new topics are held.
#[derive(Default)]
pub(crate) struct Watch {
    watcher: Mutex<Option<Arc<dyn Wake>>>,
    /// Read and written under the lock of the broker's registry.
    holds: AtomicBool,
}

impl Watch {
    pub(crate) fn set_watcher(&self, watcher: Option<Arc<dyn Wake>>) {
        *self.watcher.lock() = watcher;
    }

    /// A topic or channel came or went.
    pub(crate) fn changed(&self) {
        let watcher = self.watcher.lock().clone();
        if let Some(watcher) = watcher {
            watcher.wake();
        }
    }

    pub(crate) fn holds(&self) -> bool {
        self.holds.load(Ordering::Relaxed)
    }

    pub(crate) fn set_holds(&self, holds: bool) {
        self.holds.store(holds, Ordering::Relaxed);
    }
}

/// A topic by its names.
///
/// ```
/// # use mq_core::{Broker, Options};
/// # fn main() -> mq_core::Result<()> {
/// # let folder = tempfile::tempdir().unwrap();
/// # let broker = Broker::open(Options { data_path: folder.path().into(), ..Options::default() })?;
/// let _ = broker.topic(&"orders".parse()?)?.channel(&"billing".parse()?, None)?;
/// let names = broker.names();
/// assert_eq!((names[0].name.as_str(), names[0].channels[0].as_str()), ("orders", "billing"));
/// # broker.close()
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicNames {
    /// Another one when the topic was deleted and created again.
    pub no: TopicNo,
    /// Its name.
    pub name: TopicName,
    /// Its channels, sorted.
    pub channels: Vec<ChannelName>,
    /// Whether it waits for [`Topic::release`](crate::Topic::release).
    pub is_held: bool,
    /// Whether [`Topic::set_announced`](crate::Topic::set_announced) is due.
    pub is_unannounced: bool,
}

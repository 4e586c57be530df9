//! Hearing of changes.

use std::sync::Arc;
use std::time::Duration;

use mq_core::TopicName;
use mq_core::discovery::Found;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use super::Directory;

/// A topic is looked at this often at most: changes that come together are seen together.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// A topic that is watched until this is dropped.
pub struct Watch {
    directory: Arc<Directory>,
    topic: TopicName,
    changed: watch::Receiver<()>,
    /// Time of the last look at it, and how long it stays so if nothing happens.
    looked: Option<(Instant, Option<Duration>)>,
}

impl Watch {
    pub(super) fn new(directory: Arc<Directory>, topic: TopicName, changed: watch::Receiver<()>) -> Self {
        Self { directory, topic, changed, looked: None }
    }

    /// The brokers that have the topic: at once the first time, then when that may have changed. `None` if
    /// nobody knows of it.
    ///
    /// # Cancel safety
    /// No change is lost.
    pub async fn next(&mut self) -> Option<Found> {
        if let Some((at, lasts)) = self.looked {
            let over = async {
                match lasts {
                    Some(lasts) => sleep_until(at + lasts).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                // The sender lives as long as the directory has a watcher.
                _ = self.changed.changed() => {}
                () = over => {}
            }
            // Not to be forgotten if this is dropped before it has looked.
            self.changed.mark_changed();
            sleep((at + LOOK_EVERY).saturating_duration_since(Instant::now())).await;
        }
        self.changed.mark_unchanged();
        let (found, changes_in) = self.directory.look(&self.topic);
        self.looked = Some((Instant::now(), changes_in.map(Duration::from_nanos)));
        found
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.directory.unwatch(&self.topic);
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Context, Wake, Waker};

    use mq_core::discovery::{Node, Producer, Settings};
    use tokio::time::timeout;

    use super::*;

    fn topic(name: &str) -> TopicName {
        TopicName::parse(name).unwrap()
    }

    #[derive(Default)]
    struct Wakes(AtomicUsize);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[tokio::test]
    async fn a_watcher_wakes_for_its_topic_alone_and_once_for_many_changes() {
        let directory = Arc::new(Directory::new(Settings::default()));
        let id = directory.identify(Producer::default()).unwrap();
        let mut watch = directory.watch(topic("t"));
        assert!(watch.next().await.is_none());
        let wakes = Arc::new(Wakes::default());
        {
            let waker = Waker::from(Arc::clone(&wakes));
            let mut next = pin!(watch.next());
            assert!(next.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
            for _ in 0..100 {
                directory.register(id, &topic("u"), None).unwrap();
                directory.unregister(id, &topic("u"), None);
                directory.ping(id);
                directory.expire();
            }
            assert_eq!(wakes.0.load(Ordering::Relaxed), 0);
            for _ in 0..100 {
                directory.register(id, &topic("t"), None).unwrap();
                directory.unregister(id, &topic("t"), None);
            }
            directory.register(id, &topic("t"), None).unwrap();
            assert_eq!(wakes.0.load(Ordering::Relaxed), 1);
            assert_eq!(next.await.unwrap().producers.len(), 1);
        }
        directory.disconnect(id);
        // Dropped while it waits, it has missed nothing.
        assert!(timeout(Duration::from_millis(1), watch.next()).await.is_err());
        assert!(watch.next().await.unwrap().producers.is_empty());
        let second = directory.watch(topic("t"));
        drop(watch);
        assert_eq!(directory.watched(), 1);
        drop(second);
        assert_eq!(directory.watched(), 0);
    }

    /// Looks whenever there may be a change until so many are found.
    async fn found(watch: &mut Watch, count: usize) {
        let looking = async { while watch.next().await.unwrap().producers.len() != count {} };
        timeout(Duration::from_secs(30), looking).await.unwrap();
    }

    /// A registry in which `a` has the topic `t`.
    fn directory(settings: Settings) -> (Arc<Directory>, u64) {
        let directory = Arc::new(Directory::new(settings));
        let producer = Producer { broadcast_address: "a".to_owned(), http_port: 1, ..Producer::default() };
        let id = directory.identify(producer).unwrap();
        directory.register(id, &topic("t"), None).unwrap();
        (directory, id)
    }

    #[tokio::test]
    async fn the_end_of_a_tombstone_is_a_change() {
        let (directory, _) = directory(Settings { tombstone_lifetime: 1_000_000_000, ..Settings::default() });
        let mut watch = directory.watch(topic("t"));
        found(&mut watch, 1).await;
        directory.tombstone(&topic("t"), &Node::new("a", 1));
        found(&mut watch, 0).await;
        found(&mut watch, 1).await;
    }

    #[test]
    fn watchers_that_go_together_leave_nothing() {
        let (directory, _) = directory(Settings::default());
        for _ in 0..1000 {
            let watches = [directory.watch(topic("t")), directory.watch(topic("t"))];
            std::thread::scope(|scope| {
                _ = watches.map(|watch| scope.spawn(move || drop(watch)));
            });
            assert_eq!(directory.watched(), 0);
        }
    }

    #[tokio::test]
    async fn silence_is_a_change_and_so_is_its_end() {
        let (directory, id) = directory(Settings { inactive_after: 300_000_000, ..Settings::default() });
        let mut watch = directory.watch(topic("t"));
        found(&mut watch, 0).await;
        directory.ping(id);
        found(&mut watch, 1).await;
    }
}

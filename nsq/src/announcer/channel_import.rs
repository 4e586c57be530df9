//! A new topic gets the channels it has elsewhere before its first message passes, so that no group of
//! consumers misses one; within a bounded time, and publishers wait for nothing.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use mq_core::{Broker, ChannelName, Topic, TopicName};
use parking_lot::Mutex;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use super::channels::ask;
use super::deleted::Deleted;
use super::names::Names;
use crate::wire::lookup::Identity;

/// Topics that ask at a time: each has a socket for each server.
const ASKING_MAX: usize = 64;

/// Channels for new topics, asked for at the lookup servers: what all imports share.
pub(super) struct ChannelImport {
    pub(super) broker: Broker,
    pub(super) deleted: Mutex<Deleted>,
    pub(super) connect_timeout: Duration,
    pub(super) request_timeout: Duration,
    /// The names that were last announced.
    announced: watch::Receiver<Arc<Names>>,
    turns: Semaphore,
}

/// Releases its topic when dropped, also after a panic or a timeout.
struct ReleaseOnDrop(Arc<Topic>);

impl Drop for ReleaseOnDrop {
    fn drop(&mut self) {
        self.0.release();
    }
}

impl ChannelImport {
    pub(super) fn new(
        broker: Broker,
        deleted_lifetime: Duration,
        connect_timeout: Duration,
        request_timeout: Duration,
        announced: watch::Receiver<Arc<Names>>,
    ) -> Self {
        Self {
            broker,
            deleted: Mutex::new(Deleted::new(deleted_lifetime)),
            connect_timeout,
            request_timeout,
            announced,
            turns: Semaphore::new(ASKING_MAX),
        }
    }

    /// Gives a held topic its channels and releases it, by `deadline` at the latest. Servers that have not
    /// answered by then are not waited for.
    pub(super) async fn run(self: Arc<Self>, name: TopicName, servers: Vec<Identity>, deadline: Instant) {
        let Some(topic) = self.broker.find_topic(&name) else { return };
        let held = ReleaseOnDrop(topic);
        // A topic whose turn does not come goes without.
        let Ok(Ok(_turn)) = timeout_at(deadline, self.turns.acquire()).await else { return };
        let mut questions = JoinSet::new();
        for server in servers {
            let (name, connect, request) = (name.clone(), self.connect_timeout, self.request_timeout);
            questions.spawn(async move { ask(&server, &name, connect, request).await });
        }
        let mut channels = BTreeSet::new();
        while let Ok(Some(answer)) = timeout_at(deadline, questions.join_next()).await {
            match answer {
                Ok(Ok(found)) => channels.extend(found),
                Ok(Err(error)) => tracing::warn!(topic = %name, "channels of a new topic: {error}"),
                Err(error) => tracing::warn!(topic = %name, %error, "channels of a new topic"),
            }
        }
        self.create(&held.0, channels);
    }

    fn create(&self, topic: &Topic, channels: BTreeSet<ChannelName>) {
        // The servers may know a channel from this very broker, which has deleted it since, unseen by the
        // announcer so far.
        let announced = self.announced.borrow().channels(topic.name(), topic.no()).to_vec();
        let gone =
            |channel: &ChannelName| announced.contains(channel) && topic.find_channel(channel).is_none();
        for channel in channels {
            if gone(&channel) || self.deleted.lock().has(topic.name(), &channel, Instant::now()) {
                continue;
            }
            match topic.channel(&channel, None) {
                Ok(_) => tracing::info!(topic = %topic.name(), %channel, "channel made: it exists elsewhere"),
                Err(error) => {
                    tracing::warn!(topic = %topic.name(), %channel, %error, "channel not made");
                    return;
                }
            }
        }
    }
}

//! A topic that is stopped because messages of it are damaged.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::error::{Error, ErrorKind};
use crate::message::Offset;
use crate::name::TopicName;
use crate::topic::Topic;
use crate::wake::Wake;

/// The damage a topic is stopped for: nothing is published to it or delivered from it until `mq repair` has
/// put the folder in order.
///
/// ```
/// # use mq_core::{Broker, Options};
/// # fn main() -> mq_core::Result<()> {
/// # let folder = tempfile::tempdir().unwrap();
/// # let broker = Broker::open(Options { data_path: folder.path().into(), ..Options::default() })?;
/// for topic in broker.topics() {
///     if let Some(damage) = topic.stats().damage {
///         eprintln!("{}: {}, {} messages", topic.name(), damage.text, damage.messages);
///     }
/// }
/// # broker.close()
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TopicDamage {
    /// One line that says what is damaged and what helps.
    pub text: String,
    /// First message known to be damaged or missing. `None` where the damage does not show which messages it
    /// hit.
    pub first: Option<Offset>,
    /// Messages that were known to be damaged or missing when the folder was opened, finished ones included.
    /// Depths count only messages that are whole.
    pub messages: u64,
}

impl TopicDamage {
    /// Damage found while the folder was opened, in these `ranges` of a topic's messages; with none, it is
    /// not known which messages were hit, or of which topics.
    pub(crate) fn found(ranges: impl Iterator<Item = (Offset, Offset)>) -> Self {
        let (mut first, mut messages) = (None, 0);
        for (from, to) in ranges {
            first = first.or(Some(from));
            messages += to.0 - from.0 + 1;
        }
        let what = match first {
            Some(first) if messages == 1 => {
                format!("the message at offset {:#x} is damaged or missing", first.0)
            }
            Some(first) => {
                format!("{messages} messages from offset {:#x} on are damaged or missing", first.0)
            }
            None => "part of the log is damaged, and which topics it was about is not known".to_owned(),
        };
        Self { text: format!("{what}; {HELP}"), first, messages }
    }

    /// Damage met while messages from `at` on were read.
    pub(crate) fn met(at: Offset, why: &str) -> Self {
        Self { text: format!("{why}; {HELP}"), first: Some(at), messages: 0 }
    }

    /// The error of whatever is refused for the damage.
    pub(crate) fn error(&self, topic: &TopicName) -> Error {
        Error::new(ErrorKind::Damaged, format!("topic {topic} is stopped: {}", self.text))
    }
}

const HELP: &str = "stop the broker and run `mq repair`, which salvages what is whole";

impl Topic {
    /// The damage the topic is stopped for, if it is.
    pub fn damage(&self) -> Option<TopicDamage> {
        self.state.lock().damage.clone()
    }

    /// Stops the topic: some of its messages can't be read. Its subscribers are woken to learn of it.
    pub(crate) fn stop(&self, damage: TopicDamage) {
        let mut state = self.state.lock();
        if state.damage.is_some() || state.deleted {
            return;
        }
        tracing::error!("topic {} is stopped: {}", self.name(), damage.text);
        state.damage = Some(damage);
        self.shared.any_damage.store(true, Ordering::Release);
        let wakes: Vec<Arc<dyn Wake>> = state.channels.iter().flat_map(|channel| channel.wakes()).collect();
        drop(state);
        wakes.iter().for_each(|wake| wake.wake());
    }
}

//! PUB, MPUB and DPUB: batches to their topics.

use std::sync::Arc;
use std::task::Context;
use std::time::Duration;

use mq_core::{Attributes, Batch, Result, Topic, TopicName};

use super::input::{Burst, Next};
use super::replies::Refusal;
use super::session::Session;
use crate::wire::command::Command;
use crate::wire::error::{Code, WireError};
use crate::wire::mpub::Bodies;
use crate::wire::name::Name;
use mq_net::log_wait::LogWait;

/// Single publishes that follow each other become one frame of the log, up to this many bytes or messages.
const RUN_BYTES: usize = 64 * 1024;
const RUN_MESSAGES: usize = 1024;

impl Session {
    /// Makes one batch of a PUB or DPUB and those to the same topic that follow.
    pub(super) fn publish_run<'a>(
        &mut self,
        topic: Name<'a>,
        refusal: Refusal,
        mut next: Next<'a>,
        burst: &mut Burst<'a>,
    ) -> Next<'a> {
        let to = match self.topic(topic) {
            Ok(to) => to,
            Err(error) => return Next::Error(WireError::refused(refusal.0, refusal.1, &error)),
        };
        if self.wait_announced(&to, burst) {
            return Next::End;
        }
        let mut batch = to.batch();
        loop {
            let (name, delay, body) = match next {
                Next::Command(Command::Publish(name, body)) => (name, Duration::ZERO, body),
                Next::Command(Command::PublishDeferred(name, delay, body)) => (name, delay, body),
                _ => break,
            };
            if name != topic || batch.bytes() >= RUN_BYTES || batch.len() >= RUN_MESSAGES {
                break;
            }
            let not_before = self.shared.broker.wall_after(delay);
            if let Err(error) = batch.push(&Attributes { not_before, ..Attributes::NONE }, body) {
                next = Next::Error(WireError::refused(refusal.0, refusal.1, &error));
                break;
            }
            next = self.next(burst);
        }
        if !batch.is_empty() {
            let count = u32::try_from(batch.len()).unwrap_or(u32::MAX);
            self.publish(&to, batch, count, refusal);
        }
        if self.is_draining() { Next::End } else { next }
    }

    /// Publishes an MPUB's messages as one batch. Returns whether it was put off.
    pub(super) fn publish_many(
        &mut self,
        topic: Name<'_>,
        mut bodies: Bodies<'_>,
        burst: &mut Burst<'_>,
    ) -> bool {
        let refusal = (Code::MpubFailed, "MPUB");
        let to = match self.topic(topic) {
            Ok(to) if self.wait_announced(&to, burst) => return true,
            Ok(to) => to,
            Err(error) => {
                self.fail(WireError::refused(refusal.0, refusal.1, &error));
                return false;
            }
        };
        let mut batch = to.batch();
        match bodies.try_for_each(|body| batch.push(&Attributes::NONE, body)) {
            Ok(()) => self.publish(&to, batch, 1, refusal),
            Err(error) => self.fail(WireError::refused(refusal.0, refusal.1, &error)),
        }
        false
    }

    /// Puts off the publish that `burst` is at until discovery knows of its topic, if the topic is new.
    /// Returns whether it did.
    pub(super) fn wait_announced(&mut self, topic: &Arc<Topic>, burst: &mut Burst<'_>) -> bool {
        if !topic.is_unannounced() {
            return false;
        }
        let (topic, limit) = (Arc::clone(topic), self.shared.config.announce_wait);
        let wait = LogWait::new(&self.shared.broker);
        self.announcement = Some(Box::pin(async move { wait.announced(&topic, limit).await }));
        self.put_off(burst);
        true
    }

    /// Goes on once discovery knows of a new topic, or the wait is over. Returns whether that is so now.
    pub(super) fn poll_announcement(&mut self, cx: &mut Context<'_>) -> bool {
        let known = self.announcement.as_mut().is_some_and(|known| known.as_mut().poll(cx).is_ready());
        if known || self.is_draining() {
            self.announcement = None;
        }
        known
    }

    /// Hands a batch of `count` commands to its topic.
    fn publish(&mut self, topic: &Topic, batch: Batch, count: u32, refusal: Refusal) {
        let messages = batch.len() as u64;
        match topic.publish(batch, &self.wake) {
            Ok(published) => {
                self.client.count_published(topic.name(), messages);
                self.replies.published(published.ticket, count, refusal, self.read_at);
            }
            Err(error) => self.fail(WireError::refused(refusal.0, refusal.1, &error)),
        }
    }

    /// The topic of that name, created if there is none. Asked for each batch: it may have been deleted since
    /// the last.
    pub(super) fn topic(&mut self, name: Name<'_>) -> Result<Arc<Topic>> {
        let name = match &self.topic {
            Some(last) if last.as_str() == name.as_str() => last,
            _ => self.topic.insert(TopicName::parse(name.as_str())?),
        };
        self.shared.broker.topic(name)
    }
}

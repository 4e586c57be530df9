//! Moving a channel's dead letters to their topic.
//!
//! Each is copied first, and finished here once the copy is in the log: at any crash a message is in one of
//! the two topics at least. The log is one, and the finish stands in it behind the copy, so the copy outlives
//! whatever the finish outlives. An id keeps a copy from being stored twice, as long as the topic remembers
//! it.

use crate::channel::channel::Inner;
use crate::channel::{Channel, DeadLetter, Load, Wanted};
use crate::clock::Mono;
use crate::config::ChannelSettings;
use crate::error::{Error, ErrorKind, Result};
use crate::headers::{Headers, HeadersBuf};
use crate::message::{Attributes, Delivery, MessageId, Offset};
use crate::name::TopicName;
use crate::store::log::Outcome;
use crate::store::memory::batch::Batch;
use crate::topic::Topic;

/// Dead letters that are moved by one call: bounds what waits for a retry together.
const MOVED_MAX: usize = 64;
/// Bytes of copies after which they are stored.
const BATCH_BYTES: usize = 1 << 20;

/// The header with the name of the topic that a dead letter comes from.
const DEAD_LETTER_TOPIC: &str = "mq-dead-letter-topic";
/// The header with the name of the channel that a dead letter comes from.
const DEAD_LETTER_CHANNEL: &str = "mq-dead-letter-channel";
/// The header with the id that a dead letter had there, as 16 hexadecimal digits.
const DEAD_LETTER_ID: &str = "mq-dead-letter-id";
/// The header with the number of deliveries that a dead letter had there, in decimal.
const DEAD_LETTER_ATTEMPTS: &str = "mq-dead-letter-attempts";

impl Inner {
    /// The dead letters that the caller is to move now, by [`Channel::move_later`].
    pub(super) fn begin_move(&mut self, now: Mono) -> Vec<DeadLetter> {
        self.state.begin_move(MOVED_MAX, now)
    }

    /// Puts settings in force.
    pub(super) fn set(&mut self, settings: ChannelSettings) {
        self.state.configure(&settings);
        self.settings = settings;
    }
}

impl Channel {
    /// Has the dead letters moved where waiting for a disk hurts nobody.
    pub(super) fn move_later(&self, dead: Vec<DeadLetter>) {
        if !dead.is_empty()
            && let Some(channel) = self.me.upgrade()
        {
            self.shared.read_later(Load { channel, wanted: Wanted::DeadLetters(dead) });
        }
    }

    /// Moves the dead letters, and goes on with those that have come since.
    pub(super) fn move_dead_letters(&self, topic: &Topic, dead: &[DeadLetter]) {
        let mut copied = Copied::default();
        if let Some(target) = self.settings().dead_letter_topic
            && let Err(error) = self.copy(topic, &target, dead, &mut copied)
        {
            tracing::warn!(
                "dead letters of channel {} of topic {} can't be moved to topic {target}, and are tried again: \
                 {error}",
                self.name(),
                topic.name()
            );
        }
        let now = self.shared.clock.mono();
        let mut inner = self.inner.lock();
        inner.state.end_move(&copied.stored, now);
        for offset in &copied.stored {
            inner.samples.take(*offset);
        }
        for offset in &copied.gone {
            inner.skipped += u64::from(inner.state.drop_one(*offset, now).is_some());
        }
        let more = inner.begin_move(now);
        self.notify_and_unlock(inner);
        topic.trim();
        self.move_later(more);
    }

    /// Copies dead letters to their topic, and waits until the log has them.
    fn copy(
        &self,
        topic: &Topic,
        target: &TopicName,
        dead: &[DeadLetter],
        copied: &mut Copied,
    ) -> Result<()> {
        let level = topic.durability();
        // It may have been deleted since it was named.
        let target = self.shared.dead_letter_topic(target, level)?;
        let mut rest = dead;
        while !rest.is_empty() {
            let mut batch = target.batch();
            let mut offsets = Vec::new();
            while let Some((letter, others)) = rest.split_first()
                && batch.bytes() < BATCH_BYTES
            {
                match self.add_copy(topic, letter, &mut batch)? {
                    true => offsets.push(letter.offset),
                    false => copied.gone.push(letter.offset),
                }
                rest = others;
            }
            let stored = target.publish_within(batch)?;
            self.shared.log.wait_written();
            if let Outcome::Failed(error) = self.shared.log.outcome(stored.ticket) {
                return Err(error);
            }
            copied.stored.extend(offsets);
        }
        Ok(())
    }

    /// Adds a copy of a dead letter to the batch. `false` if the message is gone, as it may be where the
    /// channel or the topic is ephemeral.
    fn add_copy(&self, topic: &Topic, letter: &DeadLetter, batch: &mut Batch) -> Result<bool> {
        let mut added = None;
        topic.peek(Some(letter.offset), 1, usize::MAX, &mut |found| {
            if found.id.offset() == letter.offset {
                added = Some(self.push_copy(topic, letter, &found, batch));
            }
        })?;
        match added {
            Some(pushed) => pushed.map(|()| true),
            None if self.is_ephemeral() || !topic.is_logged() => Ok(false),
            None => {
                self.stop_if_pending(topic, &[letter.offset]);
                Err(Error::new(
                    ErrorKind::Damaged,
                    format!("message {:#x} stands in no file", letter.offset.0),
                ))
            }
        }
    }

    fn push_copy(
        &self,
        topic: &Topic,
        letter: &DeadLetter,
        found: &Delivery<'_>,
        batch: &mut Batch,
    ) -> Result<()> {
        let id = MessageId::new(self.shared.options.node_id, letter.offset).to_string();
        let mut headers = HeadersBuf::new();
        // A dead letter that was one before names the place it comes from now.
        let own = |name: &str| {
            [DEAD_LETTER_TOPIC, DEAD_LETTER_CHANNEL, DEAD_LETTER_ID, DEAD_LETTER_ATTEMPTS].contains(&name)
        };
        for (name, value) in Headers::new(found.attributes.headers).filter(|(name, _)| !own(name)) {
            headers.push(name, value)?;
        }
        let attempts = letter.attempts.to_string();
        for (name, value) in [
            (DEAD_LETTER_TOPIC, topic.name().as_str()),
            (DEAD_LETTER_CHANNEL, self.name().as_str()),
            (DEAD_LETTER_ID, &id),
            (DEAD_LETTER_ATTEMPTS, &attempts),
        ] {
            // A message that is full of headers goes without.
            let _ = headers.push(name, value.as_bytes());
        }
        let dedup_id = format!("mq dead letter {} {id}", self.no);
        let attributes = Attributes {
            not_before: None,
            dedup_id: Some(dedup_id.as_bytes()),
            headers: headers.as_attribute(),
        };
        batch.push(&attributes, found.body)
    }
}

/// The outcome of one move of dead letters.
#[derive(Default)]
struct Copied {
    stored: Vec<Offset>,
    gone: Vec<Offset>,
}

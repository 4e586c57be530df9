//! One message of a channel, finished or delivered again by an administrator.

use crate::channel::{Channel, PendingMessage};
use crate::error::{Error, ErrorKind, Result};
use crate::message::{MessageId, Offset};
use crate::topic::TopicState;

use super::channel::Inner;

/// Messages before one that waits for its first delivery, up to which it can be dropped: each of them takes
/// 16 bytes from then on.
const AHEAD_MAX: u64 = 1000;

impl Channel {
    /// Finishes one message, wherever it is: in flight at any subscriber, deferred, or waiting. Gives what it
    /// was. The subscriber that holds it is not asked; its own answer comes too late and changes nothing.
    /// [`Channel::log_acknowledged`] says when the log has it.
    ///
    /// # Errors
    /// `NotFound` if the channel does not hold it; `LimitReached` if it was never delivered and more than
    /// 1,000 messages wait before it; `Closed`.
    pub fn drop_message(&self, id: MessageId) -> Result<PendingMessage> {
        let topic = self.open_topic()?;
        let offset = self.own(id)?;
        let was = {
            let topic = topic.state.lock();
            let mut inner = self.inner.lock();
            let now = self.shared.clock.mono();
            self.reach(&topic, &mut inner, offset)?;
            let was = inner.state.drop_one(offset, now);
            inner.samples.take(offset);
            inner.skipped += u64::from(was.is_some());
            self.notify_and_unlock(inner);
            was
        };
        topic.trim();
        was.ok_or_else(|| self.not_held())
    }

    /// Has one message delivered again: at once if it is in flight or deferred, behind all that waits. One
    /// that waits keeps its place, and one published for later its time. Gives what it was.
    /// [`Channel::log_acknowledged`] says when the log has it.
    ///
    /// # Errors
    /// `NotFound` if the channel does not hold it; `Closed`.
    pub fn requeue_message(&self, id: MessageId) -> Result<PendingMessage> {
        let topic = self.open_topic()?;
        let offset = self.own(id)?;
        let topic = topic.state.lock();
        let mut inner = self.inner.lock();
        if is_new(&topic, &inner, offset) {
            return Ok(PendingMessage { offset, attempts: 0, in_flight: false, due: None });
        }
        let (now, end) = (self.shared.clock.mono(), inner.end);
        let was = inner.state.requeue_one(offset, now, end);
        inner.samples.take(offset);
        self.notify_and_unlock(inner);
        was.ok_or_else(|| self.not_held())
    }

    /// Moves the cursor past a message that waits for its first delivery.
    fn reach(&self, topic: &TopicState, inner: &mut Inner, offset: Offset) -> Result<()> {
        if !is_new(topic, inner, offset) {
            return Ok(());
        }
        let at = topic.extents.seek(offset, topic.end);
        if at.rank.saturating_sub(inner.state.next().rank) > AHEAD_MAX {
            let text = format!(
                "more than {AHEAD_MAX} messages of channel {} wait before this one, which was never delivered: wait \
                 until it is reached, or empty the channel",
                self.name()
            );
            return Err(Error::new(ErrorKind::LimitReached, text));
        }
        while inner.state.next().rank <= at.rank {
            let next = topic.extents.seek(inner.state.next().offset, topic.end);
            inner.state.pass_to_ready(next.offset);
        }
        Ok(())
    }

    fn own(&self, id: MessageId) -> Result<Offset> {
        let ours = id.node() == self.shared.options.node_id;
        ours.then(|| id.offset()).ok_or_else(|| self.not_held())
    }

    fn not_held(&self) -> Error {
        let text =
            format!("channel {} does not hold this message: it is finished, or was never there", self.name());
        Error::new(ErrorKind::NotFound, text)
    }
}

/// Whether `offset` is a message that waits for its first delivery.
fn is_new(topic: &TopicState, inner: &Inner, offset: Offset) -> bool {
    let at = topic.extents.seek(offset, topic.end);
    let waits = at.offset == offset && inner.state.next().rank <= at.rank && at.rank < inner.end.rank;
    waits && !inner.state.gaps().any(|(from, to)| from.rank <= at.rank && at.rank < to.rank)
}

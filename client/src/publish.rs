//! Publishes on their way: what waits, what became of each, and the bound on all of them.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mq_core::TopicName;
use mq_core::sync::Mutex;

use crate::error::{Error, Result};
use crate::fork::OwnProcess;
use crate::message::NewMessage;
use crate::signal::Signal;

/// A broker's answer for a message that is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The message's place in its topic, that of the first with its id if it is a duplicate. `None` from
    /// nsqd, which does not say.
    pub offset: Option<u64>,
    /// Whether it was not stored again, because one with its id was before.
    pub duplicate: bool,
    /// The broker: its address or folder.
    pub broker: Arc<str>,
}

/// Stage of a publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublishState {
    /// It waits in the client.
    Queued,
    /// It was sent, and there is no answer yet.
    Sent,
    /// It is stored.
    Stored,
    /// It is stored, and was before.
    Duplicate,
    /// It is not stored and will not be.
    Refused,
    /// It was sent, and nobody knows whether it is stored.
    Unknown,
}

/// Bytes and publishes of one client that have no outcome.
#[derive(Debug)]
pub(crate) struct Buffer {
    max: usize,
    held: Mutex<(usize, usize)>,
    signal: Signal,
}

impl Buffer {
    pub(crate) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { max, held: Mutex::default(), signal: Signal::default() })
    }

    fn try_take(&self, bytes: usize) -> Option<()> {
        let mut held = self.held.lock();
        if held.0 > 0 && held.0.saturating_add(bytes) > self.max {
            return None;
        }
        *held = (held.0 + bytes, held.1 + 1);
        Some(())
    }

    fn give(&self, bytes: usize) {
        let mut held = self.held.lock();
        *held = (held.0 - bytes, held.1 - 1);
        drop(held);
        self.signal.notify();
    }

    /// Publishes without an outcome.
    pub(crate) fn unfinished(&self) -> usize {
        self.held.lock().1
    }

    /// Waits until there is none, or `deadline`. Returns how many there are.
    pub(crate) fn flush(&self, deadline: Option<Instant>) -> usize {
        let done = || (self.unfinished() == 0).then_some(());
        let _ = self.signal.block_until(deadline, done);
        self.unfinished()
    }

    /// The same as a future, without a deadline.
    pub(crate) async fn flushed(&self) {
        self.signal.until(|| (self.unfinished() == 0).then_some(())).await;
    }
}

/// Messages of one publish.
pub(crate) struct Publication {
    pub(crate) topic: TopicName,
    pub(crate) messages: Vec<NewMessage>,
    pub(crate) slot: Arc<Slot>,
    /// Whether it is sent by itself: it was among some that were refused together.
    pub(crate) alone: bool,
    /// There once it was sent and not answered, and may be sent again.
    pub(crate) resend: Option<Resend>,
}

/// A publication that its broker may have stored, and knows by its ids.
#[derive(Clone, Debug)]
pub(crate) struct Resend {
    /// The one broker that it may be sent to.
    pub(crate) broker: Arc<str>,
    /// Until then the broker remembers the ids.
    pub(crate) until: Instant,
}

/// The outcome of one publish, or how far it is. It holds its bytes in the buffer until it is decided.
#[derive(Debug)]
pub(crate) struct Slot {
    stage: Mutex<Stage>,
    signal: Signal,
    bytes: usize,
    buffer: Arc<Buffer>,
}

#[derive(Debug)]
enum Stage {
    Queued,
    Sent(Arc<str>),
    Done(Result<Vec<Receipt>>),
}

impl Publication {
    fn new(topic: TopicName, messages: Vec<NewMessage>, bytes: usize, buffer: &Arc<Buffer>) -> Self {
        let buffer = Arc::clone(buffer);
        let slot = Slot { stage: Mutex::new(Stage::Queued), signal: Signal::default(), bytes, buffer };
        Self { topic, messages, slot: Arc::new(slot), alone: false, resend: None }
    }

    /// A publication with room in the buffer, if there is some.
    pub(crate) fn try_new(topic: TopicName, messages: Vec<NewMessage>, buffer: &Arc<Buffer>) -> Result<Self> {
        let bytes = messages.iter().map(NewMessage::bytes).sum();
        buffer.try_take(bytes).ok_or(Error::BufferFull)?;
        Ok(Self::new(topic, messages, bytes, buffer))
    }

    /// The same, waiting for room until `deadline` or until it is interrupted.
    pub(crate) fn within(
        topic: TopicName,
        messages: Vec<NewMessage>,
        buffer: &Arc<Buffer>,
        deadline: Option<Instant>,
        interrupted: &mut dyn FnMut() -> bool,
    ) -> Result<Self> {
        let bytes = messages.iter().map(NewMessage::bytes).sum();
        let has_room = || buffer.try_take(bytes);
        let room = buffer.signal.block_until_interrupted(deadline, interrupted, has_room);
        room.ok_or(Error::BufferFull)?;
        Ok(Self::new(topic, messages, bytes, buffer))
    }

    /// The same as a future.
    pub(crate) async fn with_room(topic: TopicName, messages: Vec<NewMessage>, buffer: &Arc<Buffer>) -> Self {
        let bytes = messages.iter().map(NewMessage::bytes).sum();
        buffer.signal.until(|| buffer.try_take(bytes)).await;
        Self::new(topic, messages, bytes, buffer)
    }
}

impl Publication {
    /// Whether it is one message that may be sent with others.
    pub(crate) fn is_single(&self) -> bool {
        !self.alone && self.messages.len() == 1
    }

    /// The part of it that NSQ's protocol has no words for.
    pub(crate) fn beyond_nsq(&self) -> Option<&'static str> {
        let is_batch = self.messages.len() > 1;
        self.messages.iter().find_map(|message| match message {
            NewMessage { id: Some(_), .. } => Some("an id with a message"),
            NewMessage { headers, .. } if !headers.is_empty() => Some("headers"),
            NewMessage { delay, .. } if is_batch && !delay.is_zero() => Some("a delay in a batch"),
            _ => None,
        })
    }

    /// Whether it is to be sent again, and its broker may not remember its ids any more. It is unknown then.
    pub(crate) fn is_forgotten(&self, now: Instant) -> bool {
        let Some(Resend { broker, .. }) = self.resend.as_ref().filter(|resend| resend.until <= now) else {
            return false;
        };
        let why = "no answer for as long as it remembers ids".to_owned();
        self.slot.settle(Err(Error::Unknown { why, broker: broker.to_string() }));
        true
    }

    /// Whether each of its messages has an id.
    pub(crate) fn has_ids(&self) -> bool {
        self.messages.iter().all(|message| message.id.is_some())
    }
}

impl Slot {
    /// Notes that it is being sent, for the first time or again. `false` if it was withdrawn.
    pub(crate) fn start(&self, broker: &Arc<str>) -> bool {
        let mut stage = self.stage.lock();
        let is_open = !matches!(*stage, Stage::Done(_));
        if is_open {
            *stage = Stage::Sent(Arc::clone(broker));
        }
        is_open
    }

    /// Notes that what was sent was not looked at.
    pub(crate) fn restart(&self) {
        let mut stage = self.stage.lock();
        if matches!(*stage, Stage::Sent(_)) {
            *stage = Stage::Queued;
        }
    }

    pub(crate) fn settle(&self, result: Result<Vec<Receipt>>) {
        self.settle_if(|_| true, |_| result);
    }

    /// Takes back what was not sent. What was, goes on.
    pub(crate) fn withdraw(&self, error: Error) {
        self.settle_if(|stage| matches!(stage, Stage::Queued), |_| Err(error));
    }

    fn settle_if(
        &self,
        condition: impl FnOnce(&Stage) -> bool,
        result: impl FnOnce(&Stage) -> Result<Vec<Receipt>>,
    ) {
        let mut stage = self.stage.lock();
        if matches!(*stage, Stage::Done(_)) || !condition(&stage) {
            return;
        }
        *stage = Stage::Done(result(&stage));
        drop(stage);
        self.buffer.give(self.bytes);
        self.signal.notify();
    }

    fn result(&self) -> Option<Result<Vec<Receipt>>> {
        match &*self.stage.lock() {
            Stage::Done(result) => Some(result.clone()),
            _ => None,
        }
    }

    fn state(&self) -> PublishState {
        match &*self.stage.lock() {
            Stage::Queued => PublishState::Queued,
            Stage::Sent(_) => PublishState::Sent,
            Stage::Done(Ok(receipts)) if receipts.iter().all(|r| r.duplicate) => PublishState::Duplicate,
            Stage::Done(Ok(_)) => PublishState::Stored,
            Stage::Done(Err(Error::Unknown { .. })) => PublishState::Unknown,
            Stage::Done(Err(_)) => PublishState::Refused,
        }
    }

    /// Waits for the outcome until `deadline` or until it is interrupted: what was not sent by then never is,
    /// and what was is unknown.
    pub(crate) fn finish_by(
        &self,
        deadline: Option<Instant>,
        interrupted: &mut dyn FnMut() -> bool,
        why: impl FnOnce() -> String,
    ) -> Result<Vec<Receipt>> {
        let outcome = || self.result();
        if let Some(result) = self.signal.block_until_interrupted(deadline, interrupted, outcome) {
            return result;
        }
        self.withdraw(Error::Timeout(why()));
        let sent_to = match &*self.stage.lock() {
            Stage::Sent(broker) => broker.to_string(),
            _ => String::new(),
        };
        let unknown = || Err(Error::Unknown { why: "no answer in time".to_owned(), broker: sent_to });
        self.result().unwrap_or_else(unknown)
    }

    /// Waits for the outcome. If the future is dropped, what was not sent never is.
    pub(crate) async fn finished(self: Arc<Self>) -> Result<Vec<Receipt>> {
        struct Withdraw(Arc<Slot>);
        impl Drop for Withdraw {
            fn drop(&mut self) {
                self.0.withdraw(Error::Closed);
            }
        }
        let slot = Withdraw(self);
        slot.0.signal.until(|| slot.0.result()).await
    }
}

/// A message on its way, made by [`Client::send`](crate::Client::send). Dropping it changes nothing for the
/// message.
#[derive(Clone)]
pub struct Pending(pub(crate) OwnProcess<Arc<Slot>>);

impl Pending {
    /// The message's stage; in a child of `fork` it is unknown.
    pub fn state(&self) -> PublishState {
        self.0.get().map_or(PublishState::Unknown, |slot| slot.state())
    }

    /// Waits for the outcome.
    ///
    /// # Errors
    /// `Timeout` if there is none within `timeout`: the message is still on its way. Else what keeps the
    /// message from being stored, `Unknown`, or `Forked`.
    pub fn wait(&self, timeout: Duration) -> Result<Receipt> {
        first(self.wait_all(timeout)?)
    }

    /// The same with a receipt for each message that was sent with it: see
    /// [`Client::send_many`](crate::Client::send_many).
    ///
    /// # Errors
    /// As [`Pending::wait`].
    pub fn wait_all(&self, timeout: Duration) -> Result<Vec<Receipt>> {
        let slot = self.0.get()?;
        let result = slot.signal.block_until(deadline(timeout), || slot.result());
        result.unwrap_or_else(|| Err(Error::Timeout("the publish has no outcome yet".to_owned())))
    }

    /// The same as a future, without a timeout.
    ///
    /// # Errors
    /// As [`Pending::wait`].
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing for the message.
    pub async fn wait_async(&self) -> Result<Receipt> {
        first(self.wait_all_async().await?)
    }

    /// The same with a receipt for each message that was sent with it.
    ///
    /// # Errors
    /// As [`Pending::wait`].
    ///
    /// # Cancel safety
    /// As [`Pending::wait_async`].
    pub async fn wait_all_async(&self) -> Result<Vec<Receipt>> {
        let slot = self.0.get()?;
        slot.signal.until(|| slot.result()).await
    }
}

impl fmt::Debug for Pending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pending").field(&self.state()).finish()
    }
}

/// The receipt of a publish of one message.
pub(crate) fn first(receipts: Vec<Receipt>) -> Result<Receipt> {
    receipts.into_iter().next().ok_or_else(|| Error::Invalid("no message was published".to_owned()))
}

/// The time `timeout` from now. `None`: there is no such time.
pub(crate) fn deadline(timeout: Duration) -> Option<Instant> {
    Instant::now().checked_add(timeout)
}

/// Publications that wake a connection which waits for answers: fewer wait for the next answer, or a
/// millisecond. Waking it costs more than sending, so a program that sends one after the other pays once for
/// many.
const WORTH_WAKING: usize = 32;

/// Withdrawn publications that may stay in a queue besides as many as there are others.
const WITHDRAWN_MAX: usize = 64;

/// Publications that wait to be sent, oldest first. Their bytes are bounded by the buffer; those withdrawn go
/// once there are more of them than others.
#[derive(Default)]
pub(crate) struct Queue {
    state: Mutex<Queued>,
    pub(crate) signal: Signal,
}

#[derive(Default)]
struct Queued {
    publications: VecDeque<Publication>,
    /// Whether whoever sends looks again soon, without being woken.
    looks_soon: bool,
    closed: bool,
    /// Whether a connection is wanted although nothing waits.
    stays_due: bool,
    /// Whether nobody sends any more.
    ended: bool,
}

/// The next step of whoever sends.
pub(crate) enum Next {
    Publication(Publication),
    Nothing,
    /// Nothing, and never again.
    Closed,
}

impl Queue {
    pub(crate) fn push(&self, publication: Publication) {
        let mut state = self.state.lock();
        let unfinished = publication.slot.buffer.unfinished();
        state.publications.push_back(publication);
        if state.publications.len() > 2 * unfinished + WITHDRAWN_MAX {
            state.publications.retain(|publication| publication.slot.result().is_none());
        }
        let is_worth_it = !state.looks_soon || state.publications.len() >= WORTH_WAKING;
        drop(state);
        if is_worth_it {
            self.signal.notify();
        }
    }

    /// Notes whether whoever sends looks again soon, without being woken by a few publications. Returns
    /// whether there are any already.
    pub(crate) fn look_soon(&self, looks_soon: bool) -> bool {
        let mut state = self.state.lock();
        state.looks_soon = looks_soon;
        !state.publications.is_empty()
    }

    /// Puts back what was taken, in its order, before everything else.
    pub(crate) fn put_back(&self, publications: VecDeque<Publication>) {
        let mut state = self.state.lock();
        for publication in publications.into_iter().rev() {
            state.publications.push_front(publication);
        }
    }

    pub(crate) fn pop(&self) -> Next {
        let mut state = self.state.lock();
        match state.publications.pop_front() {
            Some(publication) => Next::Publication(publication),
            None if state.closed => Next::Closed,
            None => Next::Nothing,
        }
    }

    /// The next publication, if it is one message that can go out in one batch with `first`.
    pub(crate) fn pop_beside(
        &self,
        first: &Publication,
        may_share: impl Fn(&Publication) -> bool,
    ) -> Option<Publication> {
        let mut state = self.state.lock();
        let fits = |next: &mut Publication| next.topic == first.topic && may_share(next);
        state.publications.pop_front_if(fits)
    }

    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.state.lock().publications.is_empty()
    }

    /// Whether there is something to send, or nothing ever again, or a connection is wanted anyhow.
    pub(crate) fn is_due(&self) -> bool {
        let state = self.state.lock();
        state.closed || state.stays_due || !state.publications.is_empty()
    }

    /// Wants a connection from now on, also while nothing waits.
    pub(crate) fn stay_due(&self) {
        self.state.lock().stays_due = true;
        self.signal.notify();
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.state.lock().closed
    }

    /// Takes no more.
    pub(crate) fn close(&self) {
        self.state.lock().closed = true;
        self.signal.notify();
    }

    /// Notes that nobody sends any more.
    pub(crate) fn end(&self) {
        self.state.lock().ended = true;
        self.signal.notify();
    }

    /// Waits until nobody sends any more, or `deadline`. Returns whether that was enough.
    pub(crate) fn wait_for_end(&self, deadline: Option<Instant>) -> bool {
        self.signal.block_until(deadline, || self.state.lock().ended.then_some(())).is_some()
    }

    /// Fails all that waits; of what was sent already nobody knows.
    pub(crate) fn fail(&self, error: &Error) {
        let publications = std::mem::take(&mut self.state.lock().publications);
        for Publication { slot, resend, .. } in publications {
            slot.settle(Err(match resend {
                Some(Resend { broker, .. }) => {
                    Error::Unknown { why: error.to_string(), broker: broker.to_string() }
                }
                None => error.clone(),
            }));
        }
    }

    /// Gives up what its broker may not remember any more at `now`.
    pub(crate) fn expire(&self, now: Instant) {
        self.state.lock().publications.retain(|publication| !publication.is_forgotten(now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn publication(buffer: &Arc<Buffer>, body: &'static str) -> Publication {
        Publication::try_new("t".parse().unwrap(), vec![body.into()], buffer).unwrap()
    }

    #[test]
    fn withdrawn_publications_do_not_pile_up() {
        let (buffer, queue) = (Buffer::new(1 << 20), Queue::default());
        let first = publication(&buffer, "first");
        let slot = Arc::clone(&first.slot);
        queue.push(first);
        for _ in 0..10 * WITHDRAWN_MAX {
            let withdrawn = publication(&buffer, "withdrawn");
            let slot = Arc::clone(&withdrawn.slot);
            queue.push(withdrawn);
            slot.withdraw(Error::Closed);
        }
        assert!(queue.state.lock().publications.len() <= WITHDRAWN_MAX + 4);
        assert_eq!(buffer.unfinished(), 1);
        let Next::Publication(first) = queue.pop() else { panic!("it waits") };
        assert!(Arc::ptr_eq(&first.slot, &slot));
    }

    #[test]
    fn an_outcome_is_given_once_and_frees_its_bytes_once() {
        let buffer = Buffer::new(10);
        let slot = publication(&buffer, "0123456789").slot;
        assert!(Publication::try_new("t".parse().unwrap(), vec!["x".into()], &buffer).is_err());
        assert!(slot.start(&"a".into()));
        slot.withdraw(Error::Closed);
        assert_eq!(slot.state(), PublishState::Sent);
        slot.settle(Err(Error::Unknown { why: String::new(), broker: String::new() }));
        slot.settle(Ok(Vec::new()));
        assert_eq!((slot.state(), buffer.unfinished()), (PublishState::Unknown, 0));
        let _ = publication(&buffer, "0123456789");
    }
}

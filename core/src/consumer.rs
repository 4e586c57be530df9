//! The blocking subscriber: one message at a time, each answered before the next.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use crate::broker::Broker;
use crate::channel::{Channel, Pulled, SubscribeOptions, Subscription, back_off};
use crate::clock::{Clock, Mono, Wall, nanos};
use crate::error::{Error, ErrorKind, Result};
use crate::headers::Headers;
use crate::message::{Attributes, Delivery, MessageId};
use crate::name::{ChannelName, TopicName};
use crate::parker::Parker;
use crate::topic::{OpenedChannel, Start};
use crate::wake::Wake;

/// Bytes of messages fetched in one pull; one larger message comes alone.
const FETCH_BYTES: usize = 1 << 20;

/// A subscriber that blocks its thread, made by [`Broker::subscribe`]. Dropping it ends the subscription:
/// what it holds returns to the channel.
///
/// ```
/// use std::time::Duration;
/// # use mq_core::{Broker, Options, SubscribeOptions};
/// # fn main() -> mq_core::Result<()> {
/// # let folder = tempfile::tempdir().unwrap();
/// # let broker = Broker::open(Options { data_path: folder.path().into(), ..Options::default() })?;
///
/// let (topic, channel) = ("orders".parse()?, "billing".parse()?);
/// let mut consumer = broker.subscribe(&topic, &channel, SubscribeOptions::default())?;
/// broker.topic(&topic)?.publish_one(b"one pizza")?.wait(&broker)?;
///
/// let message = consumer.recv(Duration::from_secs(1))?.expect("it was published");
/// assert_eq!(message.body(), b"one pizza");
/// message.finish()?;
/// assert!(consumer.recv(Duration::ZERO)?.is_none());
/// # broker.close()
/// # }
/// ```
pub struct Consumer {
    subscription: Subscription,
    parker: Arc<Parker>,
    clock: Arc<dyn Clock>,
    msg_timeout_ns: u64,
    /// Messages in flight here that were not handed out yet.
    fetched: VecDeque<Fetched>,
    /// Attributes and bodies of the fetched messages.
    bytes: Vec<u8>,
}

/// A message in flight here; its ranges are of [`Consumer::bytes`].
struct Fetched {
    id: MessageId,
    time: Wall,
    attempts: u16,
    not_before: Option<Wall>,
    dedup_id: Option<Range<usize>>,
    headers: Option<Range<usize>>,
    body: Range<usize>,
    /// The message times out then.
    deadline: Mono,
}

impl Broker {
    /// Subscribes to a channel, and creates it and its topic where they are missing. Returns once their
    /// creation is stored as the topic's durability level wants it.
    ///
    /// # Errors
    /// `LimitReached` at the limit of topics, channels or consumers; `Closed` while the broker is closing;
    /// `Draining` where the topic would be new; `Full`, `Io` if the creation can't be stored.
    pub fn subscribe(
        &self,
        topic: &TopicName,
        channel: &ChannelName,
        options: SubscribeOptions,
    ) -> Result<Consumer> {
        let parker = Arc::new(Parker::default());
        let wake: Arc<dyn Wake> = parker.clone();
        let (mut subscription, opened) = self.subscribe_at(topic, channel, Start::Now, options, &wake)?;
        opened.ticket.wait(self)?;
        subscription.acks().set_credit(1);
        Ok(Consumer {
            subscription,
            parker,
            clock: self.shared().clock.clone(),
            msg_timeout_ns: nanos(options.msg_timeout),
            fetched: VecDeque::new(),
            bytes: Vec::new(),
        })
    }

    /// The subscription behind [`Broker::subscribe`], for callers that do not block: its credit is 0. A
    /// channel or topic that is missing is created, the channel beginning at `start`: see
    /// [`OpenedChannel`]. `wake` is called when [`Subscription::pull`] may have something, and when the
    /// ticket may be decided.
    ///
    /// [`Start::Time`] may read from a disk: call it on a thread that may wait.
    ///
    /// # Errors
    /// As [`Broker::subscribe`]; `Damaged` where what was published around a [`Start::Time`] can't be read.
    pub fn subscribe_at(
        &self,
        topic: &TopicName,
        channel: &ChannelName,
        start: Start,
        options: SubscribeOptions,
        wake: &Arc<dyn Wake>,
    ) -> Result<(Subscription, OpenedChannel)> {
        let subscribe = || {
            let opened = self.topic(topic)?.channel_at(channel, start, wake)?;
            Ok((opened.channel.subscribe(options, Arc::clone(wake))?, opened))
        };
        match subscribe() {
            // Topic or channel were deleted in between: once more, on new ones.
            Err(error) if Error::kind(&error) == ErrorKind::Closed => subscribe(),
            subscribed => subscribed,
        }
    }
}

impl Consumer {
    /// Waits up to `timeout`, by the broker's clock, for a message; `None` if none came. The message is in
    /// flight until it is answered, and must be before the next can be received.
    ///
    /// # Errors
    /// `Closed` if the channel or topic was deleted, or the broker is closed; `Damaged` if the topic is
    /// stopped.
    pub fn recv(&mut self, timeout: Duration) -> Result<Option<Message<'_>>> {
        let closed = || Error::new(ErrorKind::Closed, "the channel is closed");
        let until = self.clock.mono().plus(nanos(timeout));
        loop {
            if let Some(fetched) = self.next_fetched() {
                return Ok(Some(Message { consumer: self, fetched, is_answered: false }));
            }
            let pulled = self.fetch();
            if !self.fetched.is_empty() {
                continue;
            }
            match pulled {
                Pulled::Closed => return Err(closed()),
                // The turn passed over messages that are deferred or left out by sampling.
                Pulled::More => continue,
                Pulled::Damaged => return Err(self.subscription.damage().unwrap_or_else(closed)),
                Pulled::Wait => {}
            }
            if self.clock.mono() >= until {
                self.subscription.rest();
                return Ok(None);
            }
            self.clock.park(&self.parker, until);
        }
    }

    /// Sets how many messages may be in flight here at once, at least 1, which is the default: the one handed
    /// out, and those fetched with it to save time. Fetched messages time out as others do, and are then
    /// not handed out here.
    pub fn set_credit(&mut self, credit: u32) {
        self.subscription.acks().set_credit(credit.max(1));
    }

    /// The channel.
    pub fn channel(&self) -> &Arc<Channel> {
        self.subscription.channel()
    }

    /// The next fetched message that has not timed out.
    fn next_fetched(&mut self) -> Option<Fetched> {
        if self.fetched.is_empty() {
            return None;
        }
        let now = self.clock.mono();
        while let Some(fetched) = self.fetched.pop_front() {
            if now < fetched.deadline {
                return Some(fetched);
            }
        }
        None
    }

    fn fetch(&mut self) -> Pulled {
        self.bytes.clear();
        self.bytes.shrink_to(FETCH_BYTES);
        let deadline = self.clock.mono().plus(self.msg_timeout_ns);
        let (bytes, fetched) = (&mut self.bytes, &mut self.fetched);
        let pulled = self.subscription.pull(FETCH_BYTES, &mut |delivery| {
            fetched.push_back(Fetched::copy(delivery, deadline, bytes));
        });
        if !self.fetched.is_empty() {
            // While the thread is busy with these, what else waits is for other subscribers.
            self.subscription.rest();
        }
        pulled
    }
}

impl Fetched {
    fn copy(delivery: &Delivery<'_>, deadline: Mono, bytes: &mut Vec<u8>) -> Self {
        let Delivery { id, token: _, time, attempts, attributes, body } = *delivery;
        let mut put = |part: &[u8]| {
            let start = bytes.len();
            bytes.extend_from_slice(part);
            start..bytes.len()
        };
        Self {
            id,
            time,
            attempts,
            not_before: attributes.not_before,
            dedup_id: attributes.dedup_id.map(&mut put),
            headers: attributes.headers.map(&mut put),
            body: put(body),
            deadline,
        }
    }
}

/// A message received by a [`Consumer`], in flight until it is answered: by [`finish`](Self::finish), by
/// [`requeue`](Self::requeue), or by its timeout.
///
/// Dropped without an answer, as by an error or a panic, it returns to the channel like the messages of a
/// subscriber that leaves: at once the first time; after its second delivery and later it waits 1 s for each
/// attempt, at most the message timeout, so that a message nobody can handle does not keep everybody busy.
///
/// ```
/// # use mq_core::{Broker, Options, SubscribeOptions};
/// # fn main() -> mq_core::Result<()> {
/// # let folder = tempfile::tempdir().unwrap();
/// # let broker = Broker::open(Options { data_path: folder.path().into(), ..Options::default() })?;
/// # use std::time::Duration;
/// let mut billing = broker.subscribe(&"orders".parse()?, &"billing".parse()?, SubscribeOptions::default())?;
/// broker.topic(&"orders".parse()?)?.publish_one(b"one pizza")?.wait(&broker)?;
/// let message = billing.recv(Duration::from_secs(1))?.expect("it was published");
/// match message.body() {
///     b"one pizza" => message.finish()?,
///     _ => message.requeue(Duration::from_secs(30))?,
/// }
/// # drop(billing);
/// # broker.close()
/// # }
/// ```
#[must_use = "a message that is not finished is delivered again"]
pub struct Message<'a> {
    consumer: &'a mut Consumer,
    fetched: Fetched,
    is_answered: bool,
}

impl Message<'_> {
    /// The message's id.
    pub fn id(&self) -> MessageId {
        self.fetched.id
    }

    /// Wall time of the publish.
    pub fn time(&self) -> Wall {
        self.fetched.time
    }

    /// 1 on the first delivery to this channel. Saturates.
    pub fn attempts(&self) -> u16 {
        self.fetched.attempts
    }

    /// The body.
    pub fn body(&self) -> &[u8] {
        &self.consumer.bytes[self.fetched.body.clone()]
    }

    /// The attributes.
    pub fn attributes(&self) -> Attributes<'_> {
        let part = |range: &Option<Range<usize>>| range.clone().map(|range| &self.consumer.bytes[range]);
        Attributes {
            not_before: self.fetched.not_before,
            dedup_id: part(&self.fetched.dedup_id),
            headers: part(&self.fetched.headers),
        }
    }

    /// The headers, in the order in which they were published.
    pub fn headers(&self) -> Headers<'_> {
        Headers::new(self.attributes().headers)
    }

    /// Finishes the message: the channel is done with it.
    ///
    /// # Errors
    /// `NotInFlight` if it timed out or was emptied: it may be delivered again.
    pub fn finish(mut self) -> Result<()> {
        self.is_answered = true;
        self.consumer.subscription.acks().finish(self.fetched.id)
    }

    /// Returns the message to the channel, to be delivered again after `delay`.
    ///
    /// # Errors
    /// As [`finish`](Self::finish).
    pub fn requeue(mut self, delay: Duration) -> Result<()> {
        self.is_answered = true;
        self.consumer.subscription.acks().requeue(self.fetched.id, delay)
    }

    /// Starts the message's timeout anew, up to [`Options::max_msg_timeout`](crate::Options) after its
    /// delivery.
    ///
    /// # Errors
    /// As [`finish`](Self::finish).
    pub fn touch(&mut self) -> Result<()> {
        self.consumer.subscription.acks().touch(self.fetched.id)
    }
}

impl Drop for Message<'_> {
    fn drop(&mut self) {
        if self.is_answered {
            return;
        }
        let delay = nanos(self.consumer.channel().settings().redelivery_delay);
        let delay = back_off(self.fetched.attempts, delay, self.consumer.msg_timeout_ns);
        // If it is not in flight any more, the channel has it already.
        let _ = self.consumer.subscription.acks().requeue(self.fetched.id, Duration::from_nanos(delay));
    }
}

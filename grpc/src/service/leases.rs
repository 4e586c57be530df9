//! `Pull` and `Acknowledge`: messages given out without a stream. Each channel with leases has one
//! subscription here, which holds them; it ends a moment after the last is over.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mq_core::{
    Channel, ChannelName, Delivery, Error, ErrorKind, Headers, Pulled, SubscribeOptions, Subscription,
    TopicName, Wake,
};
use mq_net::clients::{Consumer, Listed};
use mq_net::log_wait::LogWait;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout_at};
use tonic::Request;

use super::acks::{AckBatch, failure};
use super::confirm::RETRY_PAUSE;
use super::start::start;
use super::subscribe::{Opening, PROTOCOL, message_bytes_max, millis, msg_timeout, user_agent};
use super::{Core, blocking, channel_name, peer, topic_name};
use crate::status::Refusal;
use crate::v1::{
    AckFailureReason, AckKind, AcknowledgeRequest, AcknowledgeResponse, Header, PullRequest, PullResponse,
    ReceivedMessage,
};

const MESSAGES_DEFAULT: usize = 1;
const MESSAGES_MAX: usize = 1_000;

/// Bytes of bodies and headers in a response, but for a single message.
const BYTES_MAX: usize = 1 << 20;

/// Longest wait for a first message.
const WAIT_MS_MAX: u64 = 600_000;

/// Further time that a call waits for messages that are there, but have to be read from a disk.
const READ_GRACE: Duration = Duration::from_secs(1);

/// Interval between two searches for channels whose leases are all over.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// The name that `/stats` shows for the subscription.
const CLIENT_NAME: &str = "Pull";

type Key = (TopicName, ChannelName);

/// All channels with leased messages, by topic and channel.
#[derive(Clone, Default)]
pub(crate) struct Leases(Arc<LeaseTable>);

#[derive(Default)]
struct LeaseTable {
    channels: Mutex<HashMap<Key, Arc<LeasedChannel>>>,
    /// Whether a task is running that ends idle subscriptions, see [`sweep`].
    sweeps: AtomicBool,
}

/// A channel with leased messages.
struct LeasedChannel {
    state: Mutex<LeaseState>,
    notify: Arc<PullNotify>,
}

/// The subscription that holds the leases of a channel, and the calls that use it.
struct LeaseState {
    subscription: Subscription,
    listed: Listed,
    /// Calls that use the subscription.
    users: usize,
    /// Messages that the waiting calls would take, all together.
    wanted: usize,
}

/// Wakes one of the calls that wait for messages.
#[derive(Default)]
struct PullNotify(Notify);

impl Wake for PullNotify {
    fn wake(&self) {
        self.0.notify_one();
    }
}

/// One use of a channel's leases by a call. Dropping it gives back what the call wanted.
struct LeaseUser {
    leased: Arc<LeasedChannel>,
    /// The part of [`LeaseState::wanted`] that is this call's.
    wants: usize,
}

impl LeaseUser {
    fn of(leased: Arc<LeasedChannel>, state: &mut LeaseState) -> Self {
        state.users += 1;
        Self { leased: Arc::clone(&leased), wants: 0 }
    }
}

impl Drop for LeaseUser {
    fn drop(&mut self) {
        let mut state = self.leased.state.lock();
        state.users -= 1;
        state.wanted -= self.wants;
        state.allow_wanted();
        let others = state.wanted > 0;
        drop(state);
        // It may have been woken for what another could take.
        if others {
            self.leased.notify.wake();
        }
    }
}

impl LeaseState {
    /// Sets the credit to what the waiting calls would take; with none of them other subscribers come first.
    fn allow_wanted(&mut self) {
        self.allow(self.wanted);
        if self.wanted == 0 {
            self.subscription.rest();
        }
    }

    /// Sets the credit to the messages in flight and `more`.
    fn allow(&mut self, more: usize) {
        let in_flight = usize::try_from(self.subscription.in_flight()).unwrap_or(usize::MAX);
        let credit = u32::try_from(in_flight.saturating_add(more)).unwrap_or(u32::MAX);
        self.subscription.acks().set_credit(credit);
        self.listed.client().set_ready(credit);
    }

    /// Pulls ready messages: at most `max`, and [`BYTES_MAX`] bytes. `None` if the channel is gone.
    ///
    /// # Errors
    /// The topic is stopped because it is damaged.
    fn take(&mut self, max: usize) -> Result<Option<Vec<ReceivedMessage>>, Refusal> {
        self.allow(max);
        let (mut messages, mut bytes, mut taken) = (Vec::new(), 0, 0);
        loop {
            let room = BYTES_MAX.saturating_sub(bytes);
            let mut sink = |delivery: &Delivery<'_>| {
                bytes += delivery.body.len() + delivery.attributes.headers.map_or(0, <[u8]>::len);
                messages.push(received(delivery));
            };
            let pulled = match taken {
                0 => Some(self.subscription.pull(room, &mut sink)),
                _ => self.subscription.pull_within(room, room, &mut sink),
            };
            taken = messages.len();
            match pulled {
                Some(Pulled::Closed) => return Ok(None),
                Some(Pulled::Damaged) => {
                    return Err(self.subscription.damage().map_or_else(Refusal::stopping, Refusal::from));
                }
                Some(Pulled::More) if taken < max && bytes < BYTES_MAX => {}
                // The next is too large for this response, or there is none.
                Some(Pulled::More | Pulled::Wait) | None => break,
            }
        }
        self.listed.client().count_delivered(messages.len() as u64);
        Ok(Some(messages))
    }
}

fn received(delivery: &Delivery<'_>) -> ReceivedMessage {
    let header =
        |(name, value): (&str, &[u8])| Header { name: name.to_owned(), value: value.to_vec().into() };
    ReceivedMessage {
        body: delivery.body.to_vec().into(),
        id: delivery.id.0,
        offset: delivery.id.offset().0,
        timestamp_ns: delivery.time.0,
        attempts: delivery.attempts.into(),
        headers: Headers::new(delivery.attributes.headers).map(header).collect(),
        token: delivery.token.map(|token| token.to_bytes().to_vec()).unwrap_or_default().into(),
    }
}

impl Leases {
    /// The leases of a channel, if it has any.
    fn find(&self, key: &Key) -> Option<LeaseUser> {
        let channels = self.0.channels.lock();
        let leased = Arc::clone(channels.get(key)?);
        let user = LeaseUser::of(Arc::clone(&leased), &mut leased.state.lock());
        Some(user)
    }

    /// The leases of a channel. They begin with `subscription`, unless another call has begun them meanwhile.
    fn begin(
        &self,
        core: &Core,
        key: Key,
        subscription: Subscription,
        listed: Listed,
        notify: Arc<PullNotify>,
    ) -> LeaseUser {
        let mut channels = self.0.channels.lock();
        let leased = channels.entry(key).or_insert_with(|| {
            Arc::new(LeasedChannel {
                state: Mutex::new(LeaseState { subscription, listed, users: 0, wanted: 0 }),
                notify,
            })
        });
        let leased = Arc::clone(leased);
        let user = LeaseUser::of(Arc::clone(&leased), &mut leased.state.lock());
        drop(channels);
        if !self.0.sweeps.swap(true, Ordering::AcqRel) {
            tokio::spawn(sweep(self.clone(), core.stop.clone()));
        }
        user
    }

    /// Removes a channel that is gone.
    fn forget(&self, key: &Key, user: &LeaseUser) {
        let mut channels = self.0.channels.lock();
        if channels.get(key).is_some_and(|leased| Arc::ptr_eq(leased, &user.leased)) {
            channels.remove(key);
        }
    }

    /// Ends the subscriptions that hold nothing and that no call uses. Returns whether any is left.
    fn end_idle(&self) -> bool {
        let mut channels = self.0.channels.lock();
        channels.retain(|_, leased| {
            let state = leased.state.lock();
            state.users > 0 || state.subscription.in_flight() > 0
        });
        if channels.is_empty() {
            self.0.sweeps.store(false, Ordering::Release);
        }
        !channels.is_empty()
    }
}

/// Ends idle subscriptions every [`SWEEP_EVERY`], until none is left or the server stops.
async fn sweep(leases: Leases, stop: tokio_util::sync::CancellationToken) {
    let mut ticks = interval(SWEEP_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = stop.cancelled() => {
                leases.0.channels.lock().clear();
                return;
            }
        }
        if !leases.end_idle() {
            return;
        }
    }
}

/// `Pull`.
pub(super) async fn pull(core: &Arc<Core>, request: Request<PullRequest>) -> Result<PullResponse, Refusal> {
    let caller = core.caller(&request).await?;
    core.room(&request)?;
    let (peer, user_agent) = (peer(&request), user_agent(&request));
    let request = request.into_inner();
    let topic = topic_name(&request.topic, "topic")?;
    let channel = channel_name(&request.channel, "channel")?;
    caller.consume(&topic, &channel)?;
    let max = max_messages(request.max_messages)?;
    if request.wait_ms > WAIT_MS_MAX {
        let text = format!("{} ms is more than {WAIT_MS_MAX} ms, the longest wait", request.wait_ms);
        return Err(Refusal::invalid("wait_ms", text));
    }
    let options =
        SubscribeOptions { msg_timeout: msg_timeout(core, request.lease_ms, "lease_ms")?, sample_rate: 0 };
    let start = start(core, request.start.as_ref(), "")?;
    let message_bytes_max = message_bytes_max(request.max_message_bytes);
    let until = Instant::now() + Duration::from_millis(request.wait_ms);
    let key = (topic.clone(), channel.clone());
    let opening = Opening { topic, channel, start, options, message_bytes_max };
    let mut created = false;
    loop {
        let user = match core.leases.find(&key) {
            Some(user) => user,
            None => {
                let notify = Arc::new(PullNotify::default());
                let wake = Arc::clone(&notify) as Arc<dyn Wake>;
                let (subscription, is_new) = opening.open(core, &wake).await?;
                created |= is_new;
                let listed = core.clients.register_consumer(Consumer {
                    protocol: PROTOCOL,
                    peer: &peer,
                    name: CLIENT_NAME.to_owned(),
                    user_agent: user_agent.clone(),
                    topic: key.0.clone(),
                    options,
                    subscription: &subscription,
                });
                core.leases.begin(core, key.clone(), subscription, listed, notify)
            }
        };
        match wait(core, &user, &opening, max, until).await? {
            Some(messages) => {
                return Ok(PullResponse { messages, lease_ms: millis(options.msg_timeout), created });
            }
            // The channel was deleted: on a new one.
            None => core.leases.forget(&key, &user),
        }
    }
}

fn max_messages(max: u32) -> Result<usize, Refusal> {
    match usize::try_from(max).unwrap_or(usize::MAX) {
        0 => Ok(MESSAGES_DEFAULT),
        max if max <= MESSAGES_MAX => Ok(max),
        max => Err(Refusal::invalid("max_messages", format!("{max} is more than {MESSAGES_MAX}, the most"))),
    }
}

/// The first messages that come until `until`; `None` if the channel is gone.
async fn wait(
    core: &Core,
    user: &LeaseUser,
    opening: &Opening,
    max: usize,
    until: Instant,
) -> Result<Option<Vec<ReceivedMessage>>, Refusal> {
    let mut waiting: Option<LeaseUser> = None;
    loop {
        let until = {
            let mut state = user.leased.state.lock();
            state.subscription.set_message_bytes_max(opening.message_bytes_max);
            state.subscription.set_msg_timeout(opening.options.msg_timeout);
            let Some(messages) = state.take(max)? else { return Ok(None) };
            let channel = state.subscription.channel();
            let waits = channel.depth() > 0 && !channel.is_paused();
            let until = if waits { until + READ_GRACE } else { until };
            if !messages.is_empty() || Instant::now() >= until {
                // Messages that others wait for are theirs.
                state.allow_wanted();
                return Ok(Some(messages));
            }
            if waiting.is_none() {
                state.wanted += max;
                state.users += 1;
                waiting = Some(LeaseUser { leased: Arc::clone(&user.leased), wants: max });
            }
            state.allow_wanted();
            until
        };
        let woken = timeout_at(until, user.leased.notify.0.notified());
        tokio::select! {
            _ = woken => {}
            () = core.stop.cancelled() => return Err(Refusal::stopping()),
        }
    }
}

/// `Acknowledge`.
pub(super) async fn acknowledge(
    core: &Arc<Core>,
    request: Request<AcknowledgeRequest>,
) -> Result<AcknowledgeResponse, Refusal> {
    let caller = core.caller(&request).await?;
    let request = request.into_inner();
    let topic = topic_name(&request.topic, "topic")?;
    let channel = channel_name(&request.channel, "channel")?;
    caller.consume(&topic, &channel)?;
    let lease = msg_timeout(core, request.lease_ms, "lease_ms")?;
    let gone = |text: String| Refusal::from(Error::new(ErrorKind::NotFound, text));
    let found = core.broker.find_topic(&topic).ok_or_else(|| gone(format!("there is no topic {topic}")))?;
    let found = found
        .find_channel(&channel)
        .ok_or_else(|| gone(format!("topic {topic} has no channel {channel}")))?;
    let mut failures = Vec::new();
    match core.leases.find(&(topic, channel)) {
        Some(user) => {
            let mut state = user.leased.state.lock();
            let state = &mut *state;
            state.subscription.set_msg_timeout(lease);
            let mut batch = AckBatch {
                subscription: &mut state.subscription,
                max_delay: core.config.max_delay,
                failures: &mut failures,
                finished: 0,
                requeued: 0,
            };
            batch.finish(&request.finish);
            batch.requeue(&request.requeue);
            batch.release(&request.release);
            batch.touch(&request.touch);
            let AckBatch { finished, requeued, .. } = batch;
            state.listed.client().count_acknowledged(finished, requeued);
        }
        // No lease is left there.
        None => {
            let requeue: Vec<_> = request.requeue.into_iter().flat_map(|requeue| requeue.tokens).collect();
            for (kind, tokens) in [
                (AckKind::Finish, &request.finish),
                (AckKind::Requeue, &requeue),
                (AckKind::Release, &request.release),
                (AckKind::Touch, &request.touch),
            ] {
                let reason = AckFailureReason::NotInFlight;
                failures.extend(tokens.iter().map(|token| failure(token, kind, reason)));
            }
        }
    }
    logged(core, &found).await?;
    Ok(AcknowledgeResponse { failures })
}

/// Waits until what was acknowledged is in the log.
async fn logged(core: &Core, channel: &Arc<Channel>) -> Result<(), Refusal> {
    let wait = LogWait::new(&core.broker);
    loop {
        let (channel, wake) = (Arc::clone(channel), Arc::clone(&wait.wake));
        match blocking(move || channel.log_acknowledged(&wake)).await {
            Ok(ticket) => match wait.ticket(ticket).await {
                Ok(()) => return Ok(()),
                // The log keeps it, and writes it later.
                Err(error) => tracing::debug!(%error, "acknowledgements are not in the log yet"),
            },
            // Nothing is left to be acknowledged in a channel that was deleted.
            Err(error) if error.kind() == ErrorKind::Closed => return Ok(()),
            Err(_) => {}
        }
        tokio::select! {
            () = sleep(RETRY_PAUSE) => {}
            () = core.stop.cancelled() => return Err(Refusal::stopping()),
        }
    }
}

//! One subscription while it lasts: a task, polled by hand, that takes in acknowledgements, fetches messages and puts them
//! into frames. It waits for nothing in particular: whatever changes wakes it, and it looks at everything again.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::BytesMut;
use mq_core::{Acks, Delivery, ErrorKind, MessageId, Pulled, Subscription};
use mq_net::clients::Listed;
use mq_net::signal::Signal;
use tokio::task::coop;
use tokio::time::{Instant, Sleep, sleep};
use tokio_stream::Stream;
use tonic::{Code, Status, Streaming};

use super::Core;
use super::byte_credit::ByteCredit;
use super::ending::Ending;
use super::outlet::{Outlet, Room};
use crate::batch::{self, MessageBatch};
use crate::status::Refusal;
use crate::v1::subscribe_response::Response as Body;
use crate::v1::{
    AckFailure, AckFailureReason, AckFailures, AckKind, SubscribeRequest, SubscribeRequeue, SubscribeResponse,
};

/// Messages are added to a frame until it has this many bytes: enough to be worth its cost, little enough for any number
/// of peers that do not read.
const FRAME_BYTES: usize = 64 * 1024;

/// What a frame's buffer starts with: a frame, and a message or two on top.
const BUFFER_BYTES: usize = FRAME_BYTES + 8 * 1024;

/// Acknowledgements under one lock of the channel, which its other subscribers wait for.
const RUN_ACKS: usize = 512;

/// Requests taken in before messages get their turn.
const READS_MAX: usize = 64;

/// How often a subscriber that has no byte left is asked what timed out.
const PRUNE_INTERVAL: Duration = Duration::from_millis(500);

/// A subscription and its stream.
pub(super) struct Session {
    core: Arc<Core>,
    subscription: Subscription,
    listed: Listed,
    input: Streaming<SubscribeRequest>,
    outlet: Outlet<SubscribeResponse>,
    signal: Arc<Signal>,
    ending: Ending,
    bytes: ByteCredit,
    /// To be told.
    failures: Vec<AckFailure>,
    /// Whether the subscription gave up its turn, and has not pulled since.
    resting: bool,
    /// There while what is in flight takes all bytes there may be.
    prune: Option<Pin<Box<Sleep>>>,
}

impl Session {
    pub(super) fn new(
        core: Arc<Core>,
        subscription: Subscription,
        listed: Listed,
        input: Streaming<SubscribeRequest>,
        outlet: Outlet<SubscribeResponse>,
        signal: Arc<Signal>,
        ending: Ending,
    ) -> Self {
        Self {
            core,
            subscription,
            listed,
            input,
            outlet,
            signal,
            ending,
            bytes: ByteCredit::default(),
            failures: Vec::new(),
            resting: false,
            prune: None,
        }
    }

    /// Serves the stream to its end, from what came with its first request; what is in flight then returns.
    pub(super) async fn run(mut self, first: SubscribeRequest) {
        self.apply(first);
        let end = poll_fn(|cx| self.poll(cx)).await;
        let Self { subscription, listed, outlet, .. } = self;
        let client = listed.client();
        tracing::debug!(
            client = client.id,
            reason = end.as_ref().err().map_or("the client left", Status::message),
            delivered = client.delivered(),
            finished = client.finished(),
            requeued = client.requeued(),
            "subscription over gRPC ends"
        );
        // Its messages return before the client hears of the end.
        drop((subscription, listed));
        outlet.end(end);
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Status>> {
        self.signal.register(cx.waker());
        if let Poll::Ready(status) = self.ending.poll(cx) {
            return Poll::Ready(Err(status));
        }
        loop {
            self.signal.look();
            let mut progress = false;
            for _ in 0..READS_MAX {
                // Each request is bounded, and so are the failures it can bring.
                if !self.failures.is_empty() {
                    break;
                }
                match Pin::new(&mut self.input).poll_next(cx) {
                    Poll::Pending => break,
                    Poll::Ready(None) => return Poll::Ready(Ok(())),
                    Poll::Ready(Some(Err(status))) => return Poll::Ready(Err(status)),
                    Poll::Ready(Some(Ok(request))) if request.open.is_some() => {
                        let text = "the stream is open: `open` is for its first request";
                        let refusal = Refusal::new(Code::FailedPrecondition, "ALREADY_OPEN", text);
                        return Poll::Ready(Err(refusal.into()));
                    }
                    Poll::Ready(Some(Ok(request))) => {
                        self.apply(request);
                        progress = true;
                    }
                }
            }
            self.prune(cx);
            match self.outlet.room(cx) {
                Room::Gone => return Poll::Ready(Ok(())),
                Room::No => self.rest(),
                Room::Yes if !self.failures.is_empty() => {
                    let failures = std::mem::take(&mut self.failures);
                    self.put(Body::Failures(AckFailures { failures }));
                    progress = true;
                }
                Room::Yes => match self.deliver() {
                    Ok(delivered) => progress |= delivered,
                    Err(refusal) => return Poll::Ready(Err(refusal.into())),
                },
            }
            if !progress {
                if self.signal.rest() {
                    return Poll::Pending;
                }
                // Something changed meanwhile: it looks again, unless others have waited for long.
                ready!(coop::poll_proceed(cx)).made_progress();
            }
        }
    }

    fn put(&self, body: Body) {
        self.outlet.put(SubscribeResponse { response: Some(body) });
    }

    /// Others shall have what it would be woken for.
    fn rest(&mut self) {
        if !self.resting {
            self.subscription.rest();
            self.resting = true;
        }
    }

    /// Fills a frame with what is ready. Returns whether there was anything.
    fn deliver(&mut self) -> Result<bool, Refusal> {
        let mut frame = BytesMut::new();
        let mut count = 0;
        let end = loop {
            let room = FRAME_BYTES.saturating_sub(frame.len());
            let left = self.bytes.left();
            if room == 0 || left == Some(0) {
                self.rest();
                break None;
            }
            self.resting = false;
            let unused = self.bytes.is_unused();
            let bytes = &mut self.bytes;
            let mut sink = |delivery: &Delivery<'_>| {
                if frame.capacity() == 0 {
                    frame.reserve(BUFFER_BYTES);
                }
                bytes.add(delivery.id, delivery.body.len());
                batch::put(&mut frame, delivery);
                count += 1;
            };
            let left = left.map(|left| usize::try_from(left).unwrap_or(usize::MAX));
            let pulled = match left.map(|left| self.subscription.pull_within(room, left, &mut sink)) {
                None => self.subscription.pull(room, &mut sink),
                Some(Some(pulled)) => pulled,
                // Larger than all that may be in flight: alone.
                Some(None) if unused => self.subscription.pull(1, &mut sink),
                Some(None) => {
                    self.rest();
                    break None;
                }
            };
            match pulled {
                Pulled::More => {}
                Pulled::Wait => break None,
                Pulled::Closed => break Some(self.closed()),
                Pulled::Damaged => {
                    break Some(self.subscription.damage().map_or_else(|| self.closed(), Refusal::from));
                }
            }
        };
        if count > 0 {
            self.listed.client().count_delivered(count);
        }
        match end {
            Some(refusal) => Err(refusal),
            None => Ok(self.send(frame)),
        }
    }

    /// Returns whether there was anything to send.
    fn send(&self, frame: BytesMut) -> bool {
        let any = !frame.is_empty();
        if any {
            self.put(Body::Batch(MessageBatch::encoded(frame)));
        }
        any
    }

    /// The channel is gone, or the broker.
    fn closed(&self) -> Refusal {
        if self.core.stop.is_cancelled() {
            return Refusal::stopping();
        }
        let text = format!("channel {} was deleted", self.subscription.channel().name());
        Refusal::new(Code::NotFound, "CHANNEL_DELETED", text)
    }

    /// Finds out what timed out where that is what keeps messages back.
    fn prune(&mut self, cx: &mut Context<'_>) {
        if self.bytes.left() != Some(0) {
            self.prune = None;
            return;
        }
        let timer = self.prune.get_or_insert_with(|| Box::pin(sleep(PRUNE_INTERVAL)));
        while timer.as_mut().poll(cx).is_ready() {
            self.bytes.retain(|id| self.subscription.holds(id));
            timer.as_mut().reset(Instant::now() + PRUNE_INTERVAL);
        }
    }

    /// Does what a request says, in the order of its fields.
    fn apply(&mut self, request: SubscribeRequest) {
        let SubscribeRequest { open: _, credit, finish, requeue, touch } = request;
        let credit = credit.map(|credit| {
            self.bytes.set(credit.bytes);
            credit.messages.min(self.core.config.max_credit)
        });
        if let Some(credit) = credit {
            self.subscription.acks().set_credit(credit);
            self.listed.client().set_ready(credit);
        }
        self.acknowledge(AckKind::Finish, &finish, |acks, id| acks.finish(id));
        for SubscribeRequeue { ids, delay_ms } in requeue {
            let delay = Duration::from_millis(delay_ms).min(self.core.config.max_delay);
            self.acknowledge(AckKind::Requeue, &ids, |acks, id| acks.requeue(id, delay));
        }
        self.acknowledge(AckKind::Touch, &touch, |acks, id| acks.touch(id));
    }

    fn acknowledge(
        &mut self,
        kind: AckKind,
        ids: &[u64],
        act: impl Fn(&mut Acks<'_>, MessageId) -> mq_core::Result<()>,
    ) {
        let failed = self.failures.len();
        for run in ids.chunks(RUN_ACKS) {
            let mut acks = self.subscription.acks();
            for &id in run {
                let result = act(&mut acks, MessageId(id));
                if kind != AckKind::Touch || result.is_err() {
                    self.bytes.remove(MessageId(id));
                }
                if let Err(error) = result {
                    let reason = match error.kind() {
                        ErrorKind::NotOwner => AckFailureReason::NotOwner,
                        _ => AckFailureReason::NotInFlight,
                    };
                    self.failures.push(AckFailure { id, kind: kind.into(), reason: reason.into() });
                }
            }
        }
        let done = (ids.len() + failed - self.failures.len()) as u64;
        match kind {
            AckKind::Finish => self.listed.client().count_acknowledged(done, 0),
            AckKind::Requeue => self.listed.client().count_acknowledged(0, done),
            AckKind::Touch | AckKind::Unspecified => {}
        }
    }
}

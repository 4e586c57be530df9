//! One subscription over gRPC: a task, polled by hand, that reads acknowledgements, pulls messages and
//! encodes them into responses. There is one waker for all that it may wait for: whatever changes wakes the
//! session, which then checks everything again.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use mq_core::{Delivery, Departure, Pulled, Subscription, Wake};
use mq_net::budget::FREE_BYTES;
use mq_net::clients::Listed;
use mq_net::signal::Signal;
use tokio::task::coop;
use tokio_stream::Stream;
use tonic::{Code, Status, Streaming};

use super::Core;
use super::acks::AckBatch;
use super::confirm::Confirm;
use super::response_queue::{Capacity, ResponseSender};
use super::stream_end::StreamEnd;
use crate::batch::MessageBatch;
use crate::delivery;
use crate::link::Link;
use crate::status::Refusal;
use crate::v1::subscribe_request::Request as Body;
use crate::v1::subscribe_response::Response as Answer;
use crate::v1::{
    AckConfirmed, AckFailure, AckFailures, SubscribeCredit, SubscribeRequest, SubscribeResponse,
    SubscribeUpdate,
};

/// Messages are added to a frame until it has this many bytes: enough to be worth its cost, little enough for
/// any number of peers that do not read.
const FRAME_BYTES: usize = 64 * 1024;

/// Bytes that a frame's buffer starts with: a frame, and a message or two on top.
const BUFFER_BYTES: usize = FRAME_BYTES + 8 * 1024;

/// Requests read before messages are sent: a client that sends without pause still gets its messages.
const READS_MAX: usize = 64;

/// Reasons for which a session ends.
enum End {
    /// The client closed its side.
    Closed,
    /// The call was cancelled, or its connection ended.
    Broken(Result<(), Status>),
    /// The server ended it: for a mistake of the client, its deadline, a deletion or a stop.
    Ours(Status),
}

/// A subscription, and the stream that it is served on.
pub(super) struct SubscribeSession {
    core: Arc<Core>,
    /// The client's connection.
    link: Option<Arc<Link>>,
    subscription: Subscription,
    listed: Listed,
    input: Streaming<SubscribeRequest>,
    responses: ResponseSender<SubscribeResponse>,
    signal: Arc<Signal>,
    wake: Arc<dyn Wake>,
    stream_end: StreamEnd,
    /// Failed acknowledgements that are not sent yet.
    failures: Vec<AckFailure>,
    confirm: Confirm,
    /// Number of a confirmation that is not sent yet.
    confirmed: Option<u64>,
    /// Whether the subscription gave up its turn, and has not pulled since.
    resting: bool,
}

impl SubscribeSession {
    pub(super) fn new(
        core: Arc<Core>,
        link: Option<Arc<Link>>,
        subscription: Subscription,
        listed: Listed,
        input: Streaming<SubscribeRequest>,
        (responses, signal): (ResponseSender<SubscribeResponse>, Arc<Signal>),
        stream_end: StreamEnd,
    ) -> Self {
        Self {
            core,
            link,
            subscription,
            listed,
            input,
            responses,
            wake: Arc::clone(&signal) as Arc<dyn Wake>,
            signal,
            stream_end,
            failures: Vec::new(),
            confirm: Confirm::default(),
            confirmed: None,
            resting: false,
        }
    }

    /// Serves the stream to its end; what is in flight then returns.
    pub(super) async fn run(mut self) {
        let end = poll_fn(|cx| self.poll(cx)).await;
        let Self { mut subscription, listed, responses, .. } = self;
        let (end, departure) = match end {
            End::Closed => (Ok(()), Departure::Orderly),
            End::Broken(reason) => (reason, Departure::Abrupt),
            End::Ours(status) => (Err(status), Departure::Orderly),
        };
        let client = listed.client();
        tracing::debug!(
            client = client.id,
            reason = end.as_ref().err().map_or("the client left", Status::message),
            delivered = client.delivered(),
            finished = client.finished(),
            requeued = client.requeued(),
            "subscription over gRPC ends"
        );
        // Nobody has seen the frames that the connection has not taken.
        let unsent = responses.take_unsent(|frame| matches!(frame.response, Some(Answer::Batch(_))));
        for frame in unsent {
            let Some(Answer::Batch(batch)) = frame.response else { continue };
            let mut acks = subscription.acks();
            for token in batch.tokens() {
                // One that timed out is somebody else's by now.
                if let Ok(id) = acks.delivered(token) {
                    let _ = acks.release(id);
                }
            }
        }
        // Its messages return before the client hears of the end.
        subscription.leave(departure);
        drop(listed);
        responses.end(end);
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        self.signal.register(cx.waker());
        if let Poll::Ready(status) = self.stream_end.poll(cx) {
            return Poll::Ready(End::Ours(status));
        }
        loop {
            self.signal.look();
            let mut progress = match self.read(cx) {
                Ok(progress) => progress,
                Err(end) => return Poll::Ready(end),
            };
            if self.confirmed.is_none() {
                let channel = self.subscription.channel();
                let confirmed = self.confirm.poll(cx, &self.core.broker, channel, &self.wake);
                if let Poll::Ready(number) = confirmed {
                    self.confirmed = Some(number);
                    progress = true;
                }
            }
            match self.responses.capacity(cx) {
                Capacity::Closed => return Poll::Ready(End::Broken(Ok(()))),
                Capacity::Full => self.rest(),
                Capacity::Free if !self.failures.is_empty() => {
                    let failures = std::mem::take(&mut self.failures);
                    self.put(Answer::Failures(AckFailures { failures }));
                    progress = true;
                }
                Capacity::Free if self.confirmed.is_some() => {
                    let confirm = self.confirmed.take().unwrap_or_default();
                    self.put(Answer::Confirmed(AckConfirmed { confirm }));
                    progress = true;
                }
                Capacity::Free => match self.deliver() {
                    Ok(delivered) => progress |= delivered,
                    Err(refusal) => return Poll::Ready(End::Ours(refusal.into())),
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

    /// Applies the requests that have arrived. Returns whether there were any, or the end that they bring.
    fn read(&mut self, cx: &mut Context<'_>) -> Result<bool, End> {
        let mut progress = false;
        for _ in 0..READS_MAX {
            // Each request is bounded, and so are the failures it can bring.
            if !self.failures.is_empty() {
                break;
            }
            match Pin::new(&mut self.input).poll_next(cx) {
                Poll::Pending => break,
                Poll::Ready(None) => return Err(End::Closed),
                Poll::Ready(Some(Err(status))) => return Err(End::Broken(Err(status))),
                Poll::Ready(Some(Ok(request))) => {
                    self.take(request).map_err(|refusal| End::Ours(refusal.into()))?;
                    progress = true;
                }
            }
        }
        Ok(progress)
    }

    fn take(&mut self, request: SubscribeRequest) -> Result<(), Refusal> {
        match request.request {
            Some(Body::Update(update)) => self.apply(update),
            Some(Body::Open(_)) => {
                let text = "the stream is open: `open` is for its first request";
                Err(Refusal::new(Code::FailedPrecondition, "ALREADY_OPEN", text))
            }
            // One that a later version has, or none: nothing is asked for.
            None => Ok(()),
        }
    }

    fn put(&self, body: Answer) {
        self.responses.put(SubscribeResponse { response: Some(body) }, None);
    }

    /// Lets other subscribers of the channel have the messages that this one would be woken for.
    fn rest(&mut self) {
        if !self.resting {
            self.subscription.rest();
            self.resting = true;
        }
    }

    /// Fills a frame with ready messages and sends it. Returns whether there were any.
    fn deliver(&mut self) -> Result<bool, Refusal> {
        let mut frame = BytesMut::new();
        let mut count = 0;
        let mut limit = if self.core.config.budget.is_spent() { FREE_BYTES } else { FRAME_BYTES };
        let end = loop {
            let room = limit.saturating_sub(frame.len());
            if room == 0 {
                self.rest();
                break None;
            }
            self.resting = false;
            let mut sink = |delivery: &Delivery<'_>| {
                if frame.capacity() == 0 {
                    frame.reserve(BUFFER_BYTES);
                }
                delivery::put(&mut frame, delivery);
                count += 1;
            };
            let pulled = match limit {
                FRAME_BYTES => self.subscription.pull(room, &mut sink),
                // One that is larger waits for memory, or for its turn to do without.
                _ => match self.subscription.pull_within(room, room, &mut sink) {
                    Some(pulled) => pulled,
                    None if frame.is_empty() && self.may_grow() => {
                        limit = FRAME_BYTES;
                        continue;
                    }
                    None => {
                        self.rest();
                        break None;
                    }
                },
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

    /// Whether there is memory for a large frame. If not, the session is woken when there is.
    fn may_grow(&self) -> bool {
        self.link.as_ref().is_none_or(|link| link.may_grow(&self.wake))
    }

    /// Returns whether there was anything to send.
    fn send(&self, frame: BytesMut) -> bool {
        let any = !frame.is_empty();
        if any {
            let counted = self.link.as_ref().and_then(|link| link.count(frame.len()));
            let response = Some(Answer::Batch(MessageBatch::encoded(frame)));
            self.responses.put(SubscribeResponse { response }, counted);
        }
        any
    }

    /// The refusal of a session whose channel, or broker, is gone.
    fn closed(&self) -> Refusal {
        if self.core.stop.is_cancelled() {
            return Refusal::stopping();
        }
        let text = format!("channel {} was deleted", self.subscription.channel().name());
        Refusal::new(Code::NotFound, "CHANNEL_DELETED", text)
    }

    /// Applies an update, in the order of its fields.
    ///
    /// # Errors
    /// The credit is above the limit.
    fn apply(&mut self, update: SubscribeUpdate) -> Result<(), Refusal> {
        let SubscribeUpdate { credit, finish, requeue, release, touch, confirm } = update;
        if let Some(credit) = credit {
            self.set_credit(credit, "update.")?;
        }
        let mut batch = AckBatch {
            subscription: &mut self.subscription,
            max_delay: self.core.config.max_delay,
            failures: &mut self.failures,
            finished: 0,
            requeued: 0,
        };
        batch.finish(&finish);
        batch.requeue(&requeue);
        batch.release(&release);
        batch.touch(&touch);
        let AckBatch { finished, requeued, .. } = batch;
        self.listed.client().count_acknowledged(finished, requeued);
        if confirm > 0 {
            self.confirm.ask(confirm);
        }
        Ok(())
    }

    /// Sets the credit in messages and in bytes, each where it is given; `prefix` is the path to the field.
    ///
    /// # Errors
    /// It is above the limit.
    pub(super) fn set_credit(&mut self, credit: SubscribeCredit, prefix: &str) -> Result<(), Refusal> {
        let SubscribeCredit { messages, bytes } = credit;
        if let Some(messages) = messages {
            let max = self.core.config.max_credit;
            if messages > max {
                let text =
                    format!("{messages} is more than {max}, the most messages in flight (--max-rdy-count)");
                return Err(Refusal::invalid(format!("{prefix}credit.messages"), text));
            }
            self.subscription.acks().set_credit(messages);
            self.listed.client().set_ready(messages);
        }
        if let Some(bytes) = bytes {
            self.subscription.acks().set_byte_credit(bytes);
        }
        Ok(())
    }
}

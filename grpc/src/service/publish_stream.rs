//! One `PublishStream`, polled by its connection. Each poll reads the requests that have arrived, has the log
//! write them in one go, and answers those whose outcome is known. There is one waker for all that it may
//! wait for: whatever changes wakes the stream, which then checks everything again.
//!
//! While a client does not read its answers, the stream is not polled, and so not read either.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use mq_core::{Batch, Limits, Outcome, Published, Topic, TopicName, Wake};
use mq_net::access::Caller;
use mq_net::log_wait::LogWait;
use mq_net::signal::Signal;
use tokio::task::coop;
use tokio_stream::Stream;
use tonic::{Status, Streaming};

use super::stream_end::StreamEnd;
use super::{Core, publish_batch, topic_name};
use crate::status::Refusal;
use crate::v1::publish_result::Result as Outcomes;
use crate::v1::publish_stream_response::Response as Answer;
use crate::v1::{
    OutgoingMessage, PublishResult, PublishResults, PublishStored, PublishStreamRequest,
    PublishStreamResponse, PublishWindow,
};

/// Batches, messages and bytes that a client may have sent without an answer. Enough for a long way there and
/// back, and for what one fsync takes.
const WINDOW_BATCHES: usize = 1024;
const WINDOW_MESSAGES: usize = 65_536;
const WINDOW_BYTES: usize = 16 << 20;

/// Requests read before answers are sent: others of the connection must not starve.
const READS_MAX: usize = 64;

/// Requests to one topic that arrived together become one frame of the log, up to this many bytes.
const RUN_BYTES: usize = 256 * 1024;

/// The answers to a stream of batches. Batches are read and published while it is polled.
pub(crate) struct PublishStream {
    core: Arc<Core>,
    caller: Caller,
    input: Streaming<PublishStreamRequest>,
    signal: Arc<Signal>,
    wake: Arc<dyn Wake>,
    stream_end: StreamEnd,
    /// The topic of the last admitted batch. The caller may publish to it: its rights are not checked again.
    topic: Option<TopicName>,
    waiting: VecDeque<Waiting>,
    messages: usize,
    bytes: usize,
    announced: bool,
    /// Whether something was published since the last commit.
    uncommitted: bool,
    /// The reason why nothing more is read.
    end: Option<Result<(), Status>>,
}

/// A batch without an answer so far.
struct Waiting {
    correlation: u64,
    messages: usize,
    bytes: usize,
    state: State,
}

enum State {
    /// Its messages are some of those of a frame, from the `skip`-th on.
    Published {
        published: Arc<Published>,
        skip: usize,
        /// The topic, if discovery has to know of it before the answer.
        new: Option<Arc<Topic>>,
    },
    Refused(Refusal),
}

/// Requests to one topic that become one frame of the log.
struct Run {
    topic: Arc<Topic>,
    /// Whether the topic has limits. If it has, a run has one request: a refusal must not hit its neighbours.
    is_limited: bool,
    batch: Batch,
    /// Correlation, number of messages and bytes of each request.
    requests: Vec<(u64, usize, usize)>,
}

impl PublishStream {
    pub(super) fn new(
        core: Arc<Core>,
        caller: Caller,
        input: Streaming<PublishStreamRequest>,
        stream_end: StreamEnd,
    ) -> Self {
        let signal = Arc::new(Signal::default());
        Self {
            stream_end,
            core,
            caller,
            input,
            wake: Arc::clone(&signal) as Arc<dyn Wake>,
            signal,
            topic: None,
            waiting: VecDeque::new(),
            messages: 0,
            bytes: 0,
            announced: false,
            uncommitted: false,
            end: None,
        }
    }

    fn window(&self) -> PublishWindow {
        PublishWindow {
            batches: WINDOW_BATCHES as u32,
            messages: WINDOW_MESSAGES as u32,
            bytes: self.window_bytes() as u64,
            max_message_bytes: self.core.config.max_message_bytes as u64,
            max_batch_bytes: self.core.config.max_batch_bytes as u64,
            max_delay_ms: super::subscribe::millis(self.core.config.max_delay),
        }
    }

    fn window_bytes(&self) -> usize {
        WINDOW_BYTES.max(self.core.config.max_batch_bytes)
    }

    fn may_read(&self) -> bool {
        self.end.is_none()
            && self.waiting.len() < WINDOW_BATCHES
            && self.messages < WINDOW_MESSAGES
            && self.bytes < self.window_bytes()
            && !self.core.broker.is_congested(&self.wake)
    }

    /// Reads the requests that have arrived. Returns whether there were any.
    fn read(&mut self, cx: &mut Context<'_>) -> bool {
        let mut run = None;
        let mut progress = false;
        for _ in 0..READS_MAX {
            if !self.may_read() {
                break;
            }
            match Pin::new(&mut self.input).poll_next(cx) {
                Poll::Pending => break,
                Poll::Ready(Some(Ok(request))) => {
                    progress = true;
                    self.take(request, &mut run);
                }
                Poll::Ready(Some(Err(status))) => self.end = Some(Err(status)),
                Poll::Ready(None) => self.end = Some(Ok(())),
            }
            progress |= self.end.is_some();
        }
        self.publish(run);
        progress
    }

    /// Adds a request to the run, or begins another.
    fn take(&mut self, request: PublishStreamRequest, run: &mut Option<Run>) {
        let PublishStreamRequest { correlation, topic, messages } = request;
        let count = messages.len();
        self.messages += count;
        let mut bytes = 0;
        let taken = self.admit(&topic, &messages).and_then(|(name, admitted)| {
            bytes = admitted;
            self.add(correlation, name, &messages, bytes, run)
        });
        self.bytes += bytes;
        if let Err(refusal) = taken {
            self.publish(run.take());
            let state = State::Refused(refusal);
            self.waiting.push_back(Waiting { correlation, messages: count, bytes, state });
        }
    }

    /// Whether a batch may be published, by its name and sizes. Returns its topic and its bytes.
    fn admit(&mut self, topic: &str, messages: &[OutgoingMessage]) -> Result<(TopicName, usize), Refusal> {
        let name = match &self.topic {
            Some(last) if last.as_str() == topic => last.clone(),
            _ => {
                let name = topic_name(topic, "topic")?;
                self.caller.publish(&name)?;
                self.topic.insert(name).clone()
            }
        };
        Ok((name, publish_batch::check(&self.core, messages)?))
    }

    fn add(
        &mut self,
        correlation: u64,
        name: TopicName,
        messages: &[OutgoingMessage],
        bytes: usize,
        run: &mut Option<Run>,
    ) -> Result<(), Refusal> {
        let ends = |run: &Run| *run.topic.name() != name || run.batch.bytes() >= RUN_BYTES || run.is_limited;
        if run.as_ref().is_some_and(ends) {
            self.publish(run.take());
        }
        let filling = match run {
            Some(run) => run,
            None => {
                // Asked for each run: it may have been deleted since the last.
                let topic = self.core.broker.topic(&name)?;
                let is_limited = topic.limits() != Limits::default();
                run.insert(Run { batch: topic.batch(), topic, is_limited, requests: Vec::new() })
            }
        };
        filling.requests.push((correlation, messages.len(), bytes));
        if let Err(refusal) = publish_batch::encode(&self.core, &mut filling.batch, messages) {
            // Nothing of this request's batch may be stored.
            let requests = run.take().map_or_else(Vec::new, |run| run.requests);
            self.queue_answers(requests, &Err(refusal), None);
        }
        Ok(())
    }

    /// Publishes a run to its topic.
    fn publish(&mut self, run: Option<Run>) {
        let Some(Run { topic, batch, requests, .. }) = run else { return };
        let published = topic.publish(batch, &self.wake).map(Arc::new);
        let published = published.map_err(|error| Refusal::from(error).of("messages"));
        self.uncommitted |= published.is_ok();
        let new = topic.is_unannounced().then_some(topic);
        if let Some(topic) = new.clone() {
            let (wait, limit) = (LogWait::new(&self.core.broker), self.core.config.announce_wait);
            tokio::spawn(async move { wait.announced(&topic, limit).await });
        }
        self.queue_answers(requests, &published, new);
    }

    /// Queues the requests of a run for their answers.
    fn queue_answers(
        &mut self,
        requests: Vec<(u64, usize, usize)>,
        published: &Result<Arc<Published>, Refusal>,
        new: Option<Arc<Topic>>,
    ) {
        let mut skip = 0;
        for (correlation, messages, bytes) in requests {
            let state = match published {
                Ok(published) => {
                    State::Published { published: Arc::clone(published), skip, new: new.clone() }
                }
                Err(refusal) => State::Refused(refusal.clone()),
            };
            skip += messages;
            self.waiting.push_back(Waiting { correlation, messages, bytes, state });
        }
    }

    /// Commits what was published, and returns the results of the batches whose outcome is known.
    fn answers(&mut self) -> Vec<PublishResult> {
        if std::mem::take(&mut self.uncommitted) {
            self.core.broker.commit();
        }
        let mut results = Vec::new();
        let (mut messages, mut bytes) = (0, 0);
        let (broker, wake) = (&self.core.broker, &self.wake);
        self.waiting.retain(|waiting| {
            let Some(result) = waiting.result(broker, wake) else { return true };
            results.push(result);
            messages += waiting.messages;
            bytes += waiting.bytes;
            false
        });
        self.messages -= messages;
        self.bytes -= bytes;
        results
    }
}

impl Waiting {
    /// The batch's result, once its outcome is known.
    fn result(&self, broker: &mq_core::Broker, wake: &Arc<dyn Wake>) -> Option<PublishResult> {
        let correlation = self.correlation;
        let decided = |result| Some(PublishResult { correlation, result: Some(result) });
        let failed = |refusal: Refusal| decided(Outcomes::Failure(refusal.into()));
        match &self.state {
            State::Refused(refusal) => failed(refusal.clone()),
            State::Published { published, skip, new } => match broker.outcome(published.ticket) {
                Outcome::Pending => None,
                Outcome::Done if new.as_ref().is_some_and(|topic| !topic.is_announced(wake)) => None,
                Outcome::Done => {
                    let offsets = publish_batch::offsets(published, *skip, self.messages);
                    decided(Outcomes::Stored(PublishStored { offsets }))
                }
                Outcome::Failed(error) => failed(error.into()),
            },
        }
    }
}

impl Stream for PublishStream {
    type Item = Result<PublishStreamResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let stream = &mut *self;
        stream.signal.register(cx.waker());
        if !std::mem::replace(&mut stream.announced, true) {
            let window = Answer::Window(stream.window());
            return Poll::Ready(Some(Ok(PublishStreamResponse { response: Some(window) })));
        }
        if stream.end.is_none()
            && let Poll::Ready(status) = stream.stream_end.poll(cx)
        {
            stream.end = Some(Err(status));
        }
        loop {
            stream.signal.look();
            let progress = stream.read(cx);
            let results = stream.answers();
            if !results.is_empty() {
                let results = Answer::Results(PublishResults { results });
                return Poll::Ready(Some(Ok(PublishStreamResponse { response: Some(results) })));
            }
            if stream.waiting.is_empty()
                && let Some(end) = stream.end.take()
            {
                // Not to be polled again, but if so it ends again.
                stream.end = Some(Ok(()));
                return Poll::Ready(end.err().map(Err));
            }
            if !progress {
                if stream.signal.rest() {
                    return Poll::Pending;
                }
                // Something changed meanwhile: it looks again, unless others have waited for long.
                ready!(coop::poll_proceed(cx)).made_progress();
            }
        }
    }
}

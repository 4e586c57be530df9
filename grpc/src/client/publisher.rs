//! Batches on their way to a broker.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, interval, sleep, timeout_at};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Streaming};

use super::backoff::Backoff;
use super::target::{Connected, refused};
use super::{Error, Target};
use crate::v1::publish_result::Result as Decided;
use crate::v1::publish_service_client::PublishServiceClient;
use crate::v1::publish_stream_response::Response as Answer;
use crate::v1::{
    OffsetRange, OutgoingMessage, PublishResult, PublishStored, PublishStreamRequest, PublishStreamResponse,
    PublishWindow,
};

/// Batches between a publisher's handles and its task.
const QUEUE: usize = 64;
/// Batches between the task and the connection.
const SENDING: usize = 64;
/// Longest time for opening a stream.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);
/// Interval between two searches for batches whose time is over.
const LOOK_EVERY: Duration = Duration::from_millis(100);

type Outcome = Result<Vec<OffsetRange>, Error>;

/// Settings of a publisher.
#[derive(Clone, Debug)]
pub struct PublisherOptions {
    /// Batches that may be unanswered, at least 1; never more than the window that the server announces.
    pub window: usize,
    /// Longest time for a batch, reconnects included.
    pub timeout: Duration,
    /// Send a batch again whose answer was lost, though it may be stored twice. Batches whose messages all
    /// have ids for deduplication are sent again in any case, and stored once.
    pub at_least_once: bool,
}

impl Default for PublisherOptions {
    fn default() -> Self {
        Self { window: 256, timeout: Duration::from_secs(30), at_least_once: false }
    }
}

/// Publishes over one stream, which is opened again when it breaks. A handle, cheap to clone; when the last
/// is dropped, what is on its way is still answered.
#[derive(Clone, Debug)]
pub struct Publisher {
    batches: mpsc::Sender<Batch>,
    timeout: Duration,
}

/// The outcome of a batch: a future of its offsets.
#[derive(Debug)]
pub struct Receipt(oneshot::Receiver<Outcome>);

impl Future for Receipt {
    type Output = Outcome;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Outcome> {
        // The task answers all it took, unless its runtime ends.
        Pin::new(&mut self.0).poll(cx).map(|outcome| outcome.unwrap_or(Err(Error::Unknown)))
    }
}

struct Batch {
    topic: String,
    messages: Vec<OutgoingMessage>,
    deadline: Instant,
    /// Whether it was handed to a connection, and so may have been stored.
    sent: bool,
    /// Not to be sent before.
    not_before: Option<Instant>,
    answer: oneshot::Sender<Outcome>,
}

impl Publisher {
    /// Publishes to the first of `targets` that can be reached, and to the next when it breaks. Starts a
    /// task.
    pub fn new(targets: Vec<Target>, options: PublisherOptions) -> Self {
        let (batches, queue) = mpsc::channel(QUEUE);
        let timeout = options.timeout;
        let task = Task { targets, options, queue, open: true, unanswered: BTreeMap::new(), next: 1 };
        tokio::spawn(task.run());
        Self { batches, timeout }
    }

    /// Hands a batch over, all or nothing, and returns what becomes of it. Waits while too much is
    /// unanswered. Batches are stored in the order they were handed over, but for those that had to be
    /// sent again.
    ///
    /// # Errors
    /// `Closed`.
    pub async fn send(&self, topic: &str, messages: Vec<OutgoingMessage>) -> Result<Receipt, Error> {
        let (answer, receipt) = oneshot::channel();
        let deadline = Instant::now() + self.timeout;
        let topic = topic.to_owned();
        let batch = Batch { topic, messages, deadline, sent: false, not_before: None, answer };
        self.batches.send(batch).await.map_err(|_| Error::Closed)?;
        Ok(Receipt(receipt))
    }

    /// Hands a batch over and waits until it is stored.
    ///
    /// # Errors
    /// `Refused` if the server does not want it; `Unknown`, `Unreachable`, `Closed`.
    pub async fn publish(
        &self,
        topic: &str,
        messages: Vec<OutgoingMessage>,
    ) -> Result<Vec<OffsetRange>, Error> {
        self.send(topic, messages).await?.await
    }
}

/// Owns the stream.
struct Task {
    targets: Vec<Target>,
    options: PublisherOptions,
    queue: mpsc::Receiver<Batch>,
    /// Whether more may come from the queue.
    open: bool,
    /// Batches by number: in the order they were handed over.
    unanswered: BTreeMap<u64, Batch>,
    next: u64,
}

/// One stream.
struct Link {
    requests: mpsc::Sender<PublishStreamRequest>,
    responses: Streaming<PublishStreamResponse>,
    window: usize,
    /// Numbers that are to be sent again.
    again: Vec<u64>,
}

impl Task {
    async fn run(mut self) {
        let mut backoff = Backoff::default();
        let mut at = 0;
        while self.open || !self.unanswered.is_empty() {
            // Nobody needs a connection before there is something to send.
            if self.unanswered.is_empty() {
                match self.queue.recv().await {
                    Some(batch) => self.keep(batch),
                    None => return,
                };
            }
            let error = match self.targets.get(at) {
                Some(target) => match connect(target).await {
                    Ok(link) => {
                        backoff.reset();
                        self.serve(link).await
                    }
                    Err(error) => error,
                },
                None => Error::Address("a publisher needs at least one server".to_owned()),
            };
            if !self.open && self.unanswered.is_empty() {
                return;
            }
            tracing::debug!(%error, "a publisher has no connection");
            at = (at + 1) % self.targets.len().max(1);
            self.lost(&error);
            sleep(backoff.next()).await;
            self.expire(&error);
        }
    }

    fn keep(&mut self, batch: Batch) -> u64 {
        let number = self.next;
        self.next += 1;
        self.unanswered.insert(number, batch);
        number
    }

    /// Sends and takes answers in until the stream breaks, or all is done.
    async fn serve(&mut self, mut link: Link) -> Error {
        let mut ticks = interval(LOOK_EVERY);
        link.again = self.unanswered.keys().rev().copied().collect();
        let window = self.options.window.clamp(1, link.window.max(1));
        // The reason why the server takes no more: then only answers to what was sent are awaited.
        let mut gone = None;
        loop {
            if !self.open && self.unanswered.is_empty() {
                return Error::Closed;
            }
            if let Some(error) = gone.take_if(|_| self.unanswered.values().all(|batch| !batch.sent)) {
                return error;
            }
            let may_send = gone.is_none() && !link.again.is_empty();
            let may_take =
                gone.is_none() && self.open && link.again.is_empty() && self.unanswered.len() < window;
            tokio::select! {
                permit = link.requests.reserve(), if may_send => {
                    let Ok(permit) = permit else { return Error::Unknown };
                    if let Some(request) = link.again.pop().and_then(|number| self.request(number)) {
                        permit.send(request);
                    }
                }
                batch = self.queue.recv(), if may_take => match batch {
                    Some(batch) => {
                        let number = self.keep(batch);
                        link.again.push(number);
                    }
                    None => self.open = false,
                },
                response = link.responses.message() => match response {
                    Ok(Some(PublishStreamResponse { response: Some(Answer::Results(results)) })) => {
                        for result in results.results {
                            gone = gone.or(self.answered(result));
                        }
                    }
                    Ok(Some(_)) => {}
                    Ok(None) => return Error::Unknown,
                    Err(status) => return refused(status),
                },
                _ = ticks.tick() => {
                    self.expire(&Error::Unknown);
                    let now = Instant::now();
                    let due = |batch: &Batch| batch.not_before.is_some_and(|at| at <= now);
                    for (number, batch) in &mut self.unanswered {
                        if due(batch) {
                            batch.not_before = None;
                            link.again.insert(0, *number);
                        }
                    }
                }
            }
        }
    }

    /// A batch as it is sent, unless it is answered already, or not to be sent yet.
    fn request(&mut self, number: u64) -> Option<PublishStreamRequest> {
        let batch = self.unanswered.get_mut(&number).filter(|batch| batch.not_before.is_none())?;
        batch.sent = true;
        let (topic, messages) = (batch.topic.clone(), batch.messages.clone());
        Some(PublishStreamRequest { correlation: number, topic, messages })
    }

    /// Takes a result in. Returns why the server takes no more batches, if that is what it says.
    fn answered(&mut self, result: PublishResult) -> Option<Error> {
        let PublishResult { correlation, result } = result;
        let outcome = match result {
            Some(Decided::Stored(PublishStored { offsets })) => Ok(offsets),
            Some(Decided::Failure(failure)) => Err(failure),
            // Something that a later version says.
            None => return None,
        };
        let batch = self.unanswered.get_mut(&correlation)?;
        if let Err(failure) = &outcome
            && Instant::now() < batch.deadline
        {
            let is_gone = failure.code == Code::Unavailable as u32 && failure.retry_after_ms == 0;
            if is_gone || failure.retry_after_ms > 0 {
                // It was not stored.
                batch.sent = false;
                batch.not_before = Some(Instant::now() + Duration::from_millis(failure.retry_after_ms));
                return is_gone.then(|| failure.clone().into());
            }
        }
        let batch = self.unanswered.remove(&correlation)?;
        // The publisher may have dropped its receipt.
        let _ = batch.answer.send(outcome.map_err(Error::from));
        None
    }

    /// The connection is gone: what may have been stored is kept only if it can be sent again.
    fn lost(&mut self, error: &Error) {
        let at_least_once = self.options.at_least_once;
        let mut kept = BTreeMap::new();
        for (number, mut batch) in std::mem::take(&mut self.unanswered) {
            let safe = at_least_once || batch.messages.iter().all(|message| !message.dedup_id.is_empty());
            if error.is_final() && !batch.sent {
                let _ = batch.answer.send(Err(error.clone()));
            } else if batch.sent && !safe {
                let _ = batch.answer.send(Err(Error::Unknown));
            } else {
                batch.not_before = None;
                kept.insert(number, batch);
            }
        }
        self.unanswered = kept;
    }

    /// Gives up what took too long.
    fn expire(&mut self, error: &Error) {
        let now = Instant::now();
        if self.unanswered.values().all(|batch| batch.deadline > now) {
            return;
        }
        for (number, batch) in std::mem::take(&mut self.unanswered) {
            if batch.deadline > now {
                self.unanswered.insert(number, batch);
                continue;
            }
            let error = if batch.sent { Error::Unknown } else { error.clone() };
            let _ = batch.answer.send(Err(error));
        }
    }
}

async fn connect(target: &Target) -> Result<Link, Error> {
    let connected = target.connect().await?;
    open(&connected).await
}

async fn open(connected: &Connected) -> Result<Link, Error> {
    let (requests, sending) = mpsc::channel(SENDING);
    let mut client =
        PublishServiceClient::new(connected.channel.clone()).max_encoding_message_size(usize::MAX);
    let opened = client.publish_stream(connected.request(ReceiverStream::new(sending)));
    let deadline = Instant::now() + OPEN_TIMEOUT;
    let late = |_| Error::Unreachable("the stream was not opened in time".to_owned());
    let mut responses = timeout_at(deadline, opened).await.map_err(late)?.map_err(refused)?.into_inner();
    let first = timeout_at(deadline, responses.message()).await.map_err(late)?.map_err(refused)?;
    let window = match first.and_then(|first| first.response) {
        Some(Answer::Window(window)) => window,
        _ => PublishWindow { batches: 1, ..Default::default() },
    };
    let window = usize::try_from(window.batches).unwrap_or(usize::MAX);
    Ok(Link { requests, responses, window, again: Vec::new() })
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;
    use crate::v1::Failure;

    #[tokio::test(start_paused = true)]
    async fn a_batch_that_every_broker_refuses_fails_with_their_reason_when_its_time_is_over() {
        let (options, (_batches, queue)) = (PublisherOptions::default(), mpsc::channel(1));
        let (targets, unanswered) = (Vec::new(), BTreeMap::new());
        let mut task = Task { targets, options, queue, open: true, unanswered, next: 1 };
        let (answer, mut outcome) = oneshot::channel();
        let deadline = Instant::now() + task.options.timeout;
        let messages = vec![OutgoingMessage::default()];
        let number =
            task.keep(Batch { topic: "t".into(), messages, deadline, sent: false, not_before: None, answer });
        // A broker that is drained refuses it, and so does the next.
        let refuse = |task: &mut Task| {
            assert!(task.request(number).is_some());
            let failure =
                Failure { code: Code::Unavailable as u32, message: "drained".into(), ..Default::default() };
            let result = Some(Decided::Failure(failure));
            let gone = task.answered(PublishResult { correlation: number, result }).unwrap();
            task.lost(&gone);
            task.expire(&gone);
        };
        refuse(&mut task);
        advance(task.options.timeout - Duration::from_millis(1)).await;
        refuse(&mut task);
        assert!(outcome.try_recv().is_err(), "its time is not over");
        advance(Duration::from_millis(1)).await;
        task.expire(&Error::Refused(Code::Unavailable, "drained".to_owned()));
        let outcome = outcome.await.unwrap();
        assert!(matches!(&outcome, Err(Error::Refused(Code::Unavailable, _))), "{outcome:?}");
    }
}

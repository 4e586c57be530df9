//! One broker's part of a consumer: a task with a stream that is opened again when it breaks.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, sleep, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Streaming};

use super::acks::Acks;
use super::backoff::Backoff;
use super::in_flight::{InFlight, Place};
use super::target::refused;
use super::{Error, Target};
use crate::v1::subscribe_request::Request;
use crate::v1::subscribe_response::Response as Body;
use crate::v1::subscribe_service_client::SubscribeServiceClient;
use crate::v1::{
    ReceivedMessage, SubscribeCredit, SubscribeOpen, SubscribeRequest, SubscribeResponse, SubscribeUpdate,
};

/// Longest time for opening a stream.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest time for the last acknowledgements of a consumer that is closed.
const LINGER: Duration = Duration::from_secs(1);

/// Touches within a message's timeout.
const TOUCHES: u32 = 3;

/// A message, and the way back to where it came from. It stays in flight as long as this is kept, up to the
/// longest the broker allows; once dropped without a word, until its timeout.
#[derive(Debug)]
pub struct Delivery {
    message: ReceivedMessage,
    acks: Arc<Acks>,
    place: Place,
}

impl Delivery {
    /// The message.
    pub fn message(&self) -> &ReceivedMessage {
        &self.message
    }

    /// Its body.
    pub fn body(&self) -> &[u8] {
        &self.message.body
    }

    /// It is done. Sent with others; if the stream broke since, it comes again.
    pub fn finish(self) {
        self.acks.finish(self.message.token.clone());
    }

    /// It is to be delivered again, after `delay`.
    pub fn requeue(self, delay: Duration) {
        self.acks.requeue(self.message.token.clone(), delay);
    }

    /// Nobody looked at it: it is delivered again at once, and this delivery does not count as an attempt.
    pub fn release(self) {
        self.acks.release(self.message.token.clone());
    }

    /// It takes longer: its timeout starts anew. The consumer does the same three times within each timeout.
    pub fn touch(&self) {
        self.acks.touch(self.message.token.clone());
    }

    /// Whether it is in flight, as far as is known here. If not, it comes again.
    pub(super) fn is_in_flight(&self) -> bool {
        self.place.is_open()
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        self.place.close();
    }
}

/// A feed's outcome: some deliveries, or the reason why none come any more.
pub(super) type Fed = Result<Vec<Delivery>, Error>;

/// One broker's part.
pub(super) struct Feed {
    pub(super) target: Target,
    pub(super) open: SubscribeOpen,
    pub(super) deliveries: mpsc::Sender<Fed>,
    /// Dropped when the feed has ended.
    pub(super) _alive: mpsc::Sender<Infallible>,
    /// Whether the broker is among those to consume from: if not, its stream is not opened again.
    pub(super) wanted: Arc<AtomicBool>,
}

impl Feed {
    /// Until nobody listens any more, or the broker is not wanted, or refuses for good.
    pub(super) async fn run(self) {
        let mut backoff = Backoff::default();
        while !self.deliveries.is_closed() && self.wanted.load(Ordering::Relaxed) {
            let error = match self.open().await {
                Ok((requests, responses)) => {
                    backoff.reset();
                    self.serve(requests, responses).await
                }
                Err(error) => error,
            };
            if error.is_final() {
                // Nobody may listen any more.
                let _ = self.deliveries.send(Err(error)).await;
                return;
            }
            tracing::debug!(%error, broker = self.target.address(), "a consumer has no connection");
            tokio::select! {
                () = sleep(backoff.next()) => {}
                () = self.deliveries.closed() => return,
            }
        }
    }

    async fn open(&self) -> Result<(mpsc::Sender<SubscribeRequest>, Streaming<SubscribeResponse>), Error> {
        let connected = self.target.connect().await?;
        let (requests, sending) = mpsc::channel(4);
        let first = SubscribeRequest { request: Some(Request::Open(self.open.clone())) };
        requests.send(first).await.map_err(|_| Error::Closed)?;
        let mut client =
            SubscribeServiceClient::new(connected.channel.clone()).max_decoding_message_size(usize::MAX);
        let opened = client.subscribe(connected.request(ReceiverStream::new(sending)));
        let opened = timeout(OPEN_TIMEOUT, opened).await;
        let late = |_| Error::Unreachable("the stream was not opened in time".to_owned());
        Ok((requests, opened.map_err(late)?.map_err(refused)?.into_inner()))
    }

    /// Relays until the stream breaks. What waits by then comes again, and is not handed out.
    async fn serve(
        &self,
        requests: mpsc::Sender<SubscribeRequest>,
        responses: Streaming<SubscribeResponse>,
    ) -> Error {
        let mut in_flight = InFlight::default();
        let error = self.relay(requests, responses, &mut in_flight).await;
        in_flight.lose_all();
        error
    }

    /// Hands over what comes and sends back what is said of it.
    async fn relay(
        &self,
        requests: mpsc::Sender<SubscribeRequest>,
        mut responses: Streaming<SubscribeResponse>,
        in_flight: &mut InFlight,
    ) -> Error {
        let acks = Arc::new(Acks::default());
        let mut waiting: Option<Vec<Delivery>> = None;
        let mut touching = None;
        loop {
            tokio::select! {
                biased;
                // Read by the broker at all times, so this does not wait for what comes the other way.
                update = acks.take() => if requests.send(change(update)).await.is_err() {
                    return Error::Unreachable("the stream broke".to_owned());
                },
                () = tick(&mut touching) => in_flight.tokens().into_iter().for_each(|token| acks.touch(token)),
                permit = self.deliveries.reserve(), if waiting.is_some() => match (permit, waiting.take()) {
                    (Ok(permit), Some(batch)) => permit.send(Ok(batch)),
                    (_, batch) => return self.linger(&acks, batch, requests, responses).await,
                },
                () = self.deliveries.closed() => return self.linger(&acks, waiting, requests, responses).await,
                response = responses.message() => match response.map(|one| one.map(|one| one.response)) {
                    Ok(Some(Some(Body::Batch(batch)))) => {
                        let places = in_flight.add(&batch.messages);
                        let new = batch.messages.into_iter().zip(places);
                        let delivery = |(message, place)| Delivery { message, acks: Arc::clone(&acks), place };
                        waiting.get_or_insert_default().extend(new.map(delivery));
                    }
                    Ok(Some(Some(Body::Opened(opened)))) => touching = Some(touches(opened.msg_timeout_ms)),
                    Ok(Some(Some(Body::Failures(failures)))) => {
                        let refused = failures.failures.len();
                        tracing::debug!(refused, "acknowledgements of messages that are not in flight");
                        in_flight.lose(&failures.failures);
                        // What the program does not take must not grow with each time that it comes again.
                        if let Some(waiting) = &mut waiting {
                            waiting.retain(Delivery::is_in_flight);
                        }
                    }
                    Ok(Some(_)) => {}
                    Ok(None) => return Error::Unreachable("the broker closed the stream".to_owned()),
                    Err(status) if status.code() == Code::FailedPrecondition => return status.into(),
                    Err(status) => return refused(status),
                },
            }
        }
    }

    /// The consumer was closed: gives back what nobody took, sends what was said last, and waits until the
    /// broker has taken it.
    async fn linger(
        &self,
        acks: &Acks,
        waiting: Option<Vec<Delivery>>,
        requests: mpsc::Sender<SubscribeRequest>,
        mut responses: Streaming<SubscribeResponse>,
    ) -> Error {
        waiting.into_iter().flatten().for_each(Delivery::release);
        let last = async {
            // Nothing more comes while the rest is given back.
            let stop = SubscribeCredit { messages: Some(0), bytes: None };
            let last = SubscribeUpdate { credit: Some(stop), ..acks.take_now().unwrap_or_default() };
            let _ = requests.send(change(last)).await;
            // The end of the requests ends the stream behind them. What came meanwhile returns with it.
            drop(requests);
            while let Ok(Some(_)) = responses.message().await {}
        };
        let _ = timeout(LINGER, last).await;
        Error::Closed
    }
}

fn change(update: SubscribeUpdate) -> SubscribeRequest {
    SubscribeRequest { request: Some(Request::Update(update)) }
}

/// The rhythm of touches.
fn touches(msg_timeout_ms: u64) -> Interval {
    let every = (Duration::from_millis(msg_timeout_ms) / TOUCHES).max(Duration::from_millis(1));
    let mut touches = interval_at(Instant::now() + every, every);
    touches.set_missed_tick_behavior(MissedTickBehavior::Delay);
    touches
}

/// Completes with the rhythm; without one never.
async fn tick(rhythm: &mut Option<Interval>) {
    match rhythm {
        Some(rhythm) => drop(rhythm.tick().await),
        None => std::future::pending().await,
    }
}

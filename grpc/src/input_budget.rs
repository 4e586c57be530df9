//! Memory for half-received messages: one budget for all connections of a server.
//!
//! gRPC's messages have their lengths in front, and the decoder makes room for all of one as soon as
//! it knows. So the body of each request is followed on its way to the decoder: a large message that does not
//! come in one piece needs a place in the budget for all of it, or is refused. It does not wait for one,
//! since what was sent of it would take room from its connection's other streams.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame};
use mq_core::Wake;
use mq_net::budget::{Account, Budget, Closed, STREAM_BYTES};
use mq_net::signal::Signal;
use tokio::time::{Instant, Sleep, sleep};
use tonic::body::Body;
use tonic::{Code, Status};

use crate::status::Refusal;

/// A message up to this size is not counted: the place of its stream is as large.
const UNCOUNTED_BYTES: usize = STREAM_BYTES;

/// Interval at which messages that take too long are looked for. While the server itself does not read, this
/// counts once.
const TICK: Duration = Duration::from_secs(10);

/// Most ticks that a message with a place may take to come.
const TICKS_MAX: u32 = 12;

/// Bytes before a message: a flag, and its length.
const PREFIX_BYTES: usize = 5;

/// The budget for messages on their way in.
#[derive(Clone, Debug)]
pub(crate) struct InputBudget {
    budget: Budget,
    /// The largest message there may be: the decoder refuses what is larger.
    max_message: usize,
}

impl InputBudget {
    /// Messages have places in `budget`; any has one if it is alone.
    pub(crate) fn new(budget: Budget, max_message: usize) -> Self {
        Self { budget, max_message }
    }

    /// Bytes of the largest message there may be.
    pub(crate) fn max_message(&self) -> usize {
        self.max_message
    }

    /// Has the messages of a request counted on their way.
    pub(crate) fn follow(&self, body: Body) -> Body {
        let (at, clock, signal) = (Position::default(), Clock::default(), Arc::default());
        Body::new(MeteredBody { body, budget: self.clone(), at, place: None, signal, clock, refused: None })
    }

    /// A place for what is received, or was and has to wait; none if it needs none.
    ///
    /// # Errors
    /// There is no room for it.
    pub(crate) fn take(&self, bytes: usize) -> Result<Option<Account>, Refusal> {
        self.take_into(self.budget.standing_account(), bytes)
    }

    fn take_into(&self, mut account: Account, bytes: usize) -> Result<Option<Account>, Refusal> {
        if bytes <= UNCOUNTED_BYTES {
            return Ok(None);
        }
        if account.take(bytes) {
            return Ok(Some(account));
        }
        let text = format!("there is no memory for a message of {bytes} bytes: too many are on their way");
        Err(Refusal::full(text))
    }
}

/// A request's body on its way to the decoder, with a place in the budget for the message that is coming.
struct MeteredBody {
    body: Body,
    budget: InputBudget,
    at: Position,
    /// The place of the message that is being received.
    place: Option<Account>,
    /// Wakes when others need the place.
    signal: Arc<Signal>,
    clock: Clock,
    /// The refusal that comes behind the pieces that were let through.
    refused: Option<Refusal>,
}

impl MeteredBody {
    /// The part of `data` that goes on to the decoder.
    fn admit(&mut self, mut data: Bytes) -> Result<Bytes, Refusal> {
        let begun = self.at.pass(&data);
        if begun.is_some() || self.at.missing == 0 {
            self.place = None;
        }
        if let Some((start, bytes)) = begun.filter(|(_, bytes)| *bytes <= self.budget.max_message) {
            self.clock.restart();
            let account = self.budget.budget.account(Arc::clone(&self.signal) as Arc<dyn Wake>);
            match self.budget.take_into(account, bytes) {
                Ok(place) => self.place = place,
                Err(refusal) if start == 0 => return Err(refusal),
                Err(refusal) => {
                    data.truncate(start);
                    self.refused = Some(refusal);
                }
            }
        }
        Ok(data)
    }
}

impl HttpBody for MeteredBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        if let Some(refusal) = this.refused.take() {
            return Poll::Ready(Some(Err(refusal.into())));
        }
        if let Some(place) = &this.place {
            this.signal.register(cx.waker());
            if place.is_closed() {
                return Poll::Ready(Some(Err(Refusal::full(Closed.to_string()).into())));
            }
        }
        let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(cx) else {
            this.signal.register(cx.waker());
            if this.place.is_some() && this.clock.poll(cx) >= TICKS_MAX {
                let max = (TICK * TICKS_MAX).as_secs();
                let text = format!("a message takes longer than {max} s to come: send smaller batches");
                let refusal = Refusal::new(Code::DeadlineExceeded, "TOO_SLOW", text);
                return Poll::Ready(Some(Err(refusal.into())));
            }
            return Poll::Pending;
        };
        Poll::Ready(frame.map(|frame| match frame.map_err(abrupt)?.into_data() {
            Ok(data) => Ok(Frame::data(this.admit(data)?)),
            Err(trailers) => Ok(trailers),
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.refused.is_none() && self.body.is_end_stream()
    }
}

/// The failure of a request's body. The decoder takes `CANCELLED` for the end of the requests, but a client
/// that cancels its call has not said goodbye.
fn abrupt(status: Status) -> Status {
    match status.code() {
        Code::Cancelled => Status::unavailable("the client cancelled the call"),
        _ => status,
    }
}

/// The position of a body's bytes in its sequence of messages.
#[derive(Debug, Default)]
struct Position {
    /// Bytes that the message that has begun still lacks.
    missing: usize,
    prefix: [u8; PREFIX_BYTES],
    /// Bytes of the prefix that are there.
    got: usize,
}

impl Position {
    /// Goes on behind `data`. If a message begins there and does not end there: where it does, and its
    /// length.
    fn pass(&mut self, data: &[u8]) -> Option<(usize, usize)> {
        let mut at = 0;
        let mut begun = None;
        while at < data.len() {
            if self.missing > 0 {
                let taken = self.missing.min(data.len() - at);
                self.missing -= taken;
                at += taken;
                continue;
            }
            let start = at;
            while self.got < PREFIX_BYTES && at < data.len() {
                self.prefix[self.got] = data[at];
                self.got += 1;
                at += 1;
            }
            if self.got == PREFIX_BYTES {
                let [_, a, b, c, d] = self.prefix;
                self.got = 0;
                self.missing = u32::from_be_bytes([a, b, c, d]) as usize;
                begun = Some((start, self.missing));
            }
        }
        begun.filter(|_| self.missing > 0)
    }
}

/// Counts ticks. Has a timer once it is asked.
#[derive(Debug, Default)]
struct Clock {
    timer: Option<Pin<Box<Sleep>>>,
    runs: bool,
    ticks: u32,
}

impl Clock {
    fn restart(&mut self) {
        self.runs = false;
        self.ticks = 0;
    }

    /// The ticks since it was asked for the first time. Wakes at the next.
    fn poll(&mut self, cx: &mut Context<'_>) -> u32 {
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(TICK)));
        if !self.runs {
            self.runs = true;
            timer.as_mut().reset(Instant::now() + TICK);
        }
        while timer.as_mut().poll(cx).is_ready() {
            self.ticks += 1;
            timer.as_mut().reset(Instant::now() + TICK);
        }
        self.ticks
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use std::convert::Infallible;

    use http_body_util::{BodyExt, StreamBody};
    use tokio::sync::mpsc;
    use tokio::time::timeout;
    use tokio_stream::StreamExt;
    use tokio_stream::wrappers::ReceiverStream;
    use tonic_types::StatusExt;

    use super::*;

    const KIB: usize = 1024;

    fn message(len: usize) -> Vec<u8> {
        let prefix = [&[0][..], &u32::try_from(len).unwrap().to_be_bytes()].concat();
        [prefix, (0..len).map(|at| at as u8).collect()].concat()
    }

    /// A body, and where it comes from.
    fn body(budget: &InputBudget) -> (mpsc::Sender<Bytes>, Body) {
        let (sender, receiver) = mpsc::channel(1024);
        let frames = ReceiverStream::new(receiver).map(|data| Ok::<_, Infallible>(Frame::data(data)));
        (sender, budget.follow(Body::new(StreamBody::new(frames))))
    }

    fn send(sender: &mpsc::Sender<Bytes>, data: &[u8]) {
        sender.try_send(Bytes::copy_from_slice(data)).unwrap();
    }

    /// Bytes that come out of the body now.
    async fn taken(body: &mut Body) -> usize {
        let mut bytes = 0;
        while let Ok(frame) = timeout(Duration::ZERO, body.frame()).await {
            bytes += frame.unwrap().unwrap().into_data().unwrap().len();
        }
        bytes
    }

    /// The status that the body ends with.
    async fn end(body: &mut Body) -> Status {
        loop {
            if let Err(status) = body.frame().await.unwrap() {
                return status;
            }
        }
    }

    #[tokio::test]
    async fn wherever_it_is_cut_all_of_it_comes() {
        let lengths = [0, 3, 40 * KIB, 17 * KIB, 5, 0, 16 * KIB];
        let all = lengths.map(message).concat();
        let budget = InputBudget::new(Budget::new(0), 40 * KIB);
        for piece in [1, 2, 7, 4_099, 33 * KIB, all.len()] {
            let (frames, followed) = (all.chunks(piece).map(Bytes::copy_from_slice), budget.clone());
            let frames: Vec<_> = frames.map(|data| Ok::<_, Infallible>(Frame::data(data))).collect();
            let body = followed.follow(Body::new(StreamBody::new(tokio_stream::iter(frames))));
            let got = body.collect().await.unwrap().to_bytes();
            assert!(got == all, "{piece}");
            assert_eq!(budget.budget.used(), 0, "{piece}");
        }
    }

    #[tokio::test]
    async fn what_has_no_place_is_told_to_come_again() {
        let budget = InputBudget::new(Budget::new(130 * KIB), 40 * KIB);
        let large = message(40 * KIB);
        let (first, mut first_body) = body(&budget);
        send(&first, &large[..39 * KIB]);
        assert_eq!(taken(&mut first_body).await, 39 * KIB);
        // What comes before it goes on, and so do small ones, and those that come in one piece.
        let (second, mut second_body) = body(&budget);
        send(&second, &[&large[..], &message(10), &large[..KIB]].concat());
        assert_eq!(second_body.frame().await.unwrap().unwrap().into_data().unwrap().len(), large.len() + 15);
        let status = end(&mut second_body).await;
        assert_eq!(status.code(), Code::ResourceExhausted);
        assert!(status.get_details_retry_info().unwrap().retry_delay.is_some());
        let (small, mut small_body) = body(&budget);
        send(&small, &message(16 * KIB)[..9 * KIB]);
        assert_eq!(taken(&mut small_body).await, 9 * KIB);
        // What waits for room in the broker has a place in the same.
        assert_eq!(Status::from(budget.take(25 * KIB).unwrap_err()).code(), Code::ResourceExhausted);
        assert!(budget.take(16 * KIB).unwrap().is_none());
        // The first is whole: others have its place.
        send(&first, &large[39 * KIB..]);
        assert_eq!(taken(&mut first_body).await, KIB + PREFIX_BYTES);
        let (third, mut third_body) = body(&budget);
        send(&third, &large[..KIB]);
        assert_eq!(taken(&mut third_body).await, KIB);
        drop(third_body);
        assert_eq!(budget.budget.used(), 0);
        assert!(budget.take(1 << 30).unwrap().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_message_that_does_not_end_is_given_up() {
        let budget = InputBudget::new(Budget::new(0), 40 * KIB);
        let (sender, mut body) = body(&budget);
        send(&sender, &message(40 * KIB)[..KIB]);
        let trickle = tokio::spawn(async move {
            // A byte a second.
            while sender.send(Bytes::from_static(b"x")).await.is_ok() {
                sleep(Duration::from_secs(1)).await;
            }
        });
        let begun = Instant::now();
        let status = end(&mut body).await;
        assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
        assert!((120..=121).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
        drop(body);
        trickle.await.unwrap();
        assert_eq!(budget.budget.used(), 0);
    }
}

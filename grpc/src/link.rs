//! A connection as its calls see it: how many there are, and what is held for its client.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use mq_core::Wake;
use mq_net::budget::{Account, Beginning, Budget, FREE_BYTES, StatePlace, Turn};
use mq_net::http::Peer;
use mq_net::signal::Signal;
use parking_lot::Mutex;
use tonic::body::Body;
use tonic::{Code, Status};

use crate::status::Refusal;

/// Calls at a time of a connection on which nobody has shown who they are: health checks, and first calls
/// that are on their way.
pub(crate) const UNADMITTED_STREAMS_MAX: usize = 16;

/// Bytes of output by which a client has to go on for it to count as slow, not as stuck.
const MOVED_BYTES: usize = 16 * 1024;

/// A connection, shared by its socket and its calls.
#[derive(Debug)]
pub(crate) struct Link {
    peer: Arc<Peer>,
    budget: Budget,
    /// Most calls at a time.
    streams_max: usize,
    streams: AtomicUsize,
    /// Whether a call was admitted: its caller may use the services.
    is_admitted: AtomicBool,
    wakes: Arc<AccountWaiters>,
    held: Mutex<HeldBytes>,
}

/// Bytes that are held for the client, and the account in the budget that has them.
#[derive(Debug)]
struct HeldBytes {
    account: Account,
    bytes: usize,
    /// Bytes that TLS holds until the socket takes them.
    unsent: usize,
    moved: usize,
}

impl HeldBytes {
    fn set(&mut self) {
        self.account.set(self.bytes + self.unsent);
    }
}

/// Waiters for room in the account: the connection's task, and sessions with messages to send.
#[derive(Default)]
struct AccountWaiters {
    connection: Signal,
    sessions: Mutex<Vec<Arc<dyn Wake>>>,
}

impl std::fmt::Debug for AccountWaiters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AccountWaiters").finish_non_exhaustive()
    }
}

impl Wake for AccountWaiters {
    fn wake(&self) {
        let sessions = std::mem::take(&mut *self.sessions.lock());
        sessions.iter().for_each(|session| session.wake());
        self.connection.wake();
    }
}

impl Link {
    pub(crate) fn new(peer: Peer, budget: &Budget, streams_max: usize) -> Arc<Self> {
        let wakes = Arc::new(AccountWaiters::default());
        let account = budget.account(Arc::clone(&wakes) as Arc<dyn Wake>);
        Arc::new(Self {
            peer: Arc::new(peer),
            budget: budget.clone(),
            streams_max,
            streams: AtomicUsize::new(0),
            is_admitted: AtomicBool::new(false),
            wakes,
            held: Mutex::new(HeldBytes { account, bytes: 0, unsent: 0, moved: 0 }),
        })
    }

    pub(crate) fn peer(&self) -> &Arc<Peer> {
        &self.peer
    }

    /// A new count of the input that the client has begun to send.
    pub(crate) fn beginning(&self) -> Beginning {
        self.budget.beginning()
    }

    /// Notes that a caller who may use the services was admitted on this connection.
    pub(crate) fn admit(&self) {
        self.is_admitted.store(true, Ordering::Release);
    }

    /// Whether one more call needs an admitted caller first.
    pub(crate) fn needs_admission(&self) -> bool {
        !self.is_admitted.load(Ordering::Acquire)
            && self.streams.load(Ordering::Acquire) >= UNADMITTED_STREAMS_MAX
    }

    /// A place for one more call.
    ///
    /// # Errors
    /// The connection, or the server, has all the streams it may have.
    pub(crate) fn begin(self: &Arc<Self>) -> Result<CallPlace, Refusal> {
        let max = match self.is_admitted.load(Ordering::Acquire) {
            true => self.streams_max,
            false => UNADMITTED_STREAMS_MAX.min(self.streams_max),
        };
        let begun = self.streams.try_update(Ordering::AcqRel, Ordering::Acquire, |streams| {
            (streams < max).then_some(streams + 1)
        });
        let Ok(others) = begun else {
            let text = format!(
                "this connection has {max} streams, the most it may have (--grpc-max-streams; \
                 {UNADMITTED_STREAMS_MAX} before a call was admitted)"
            );
            return Err(crowded(text));
        };
        let mut place = CallPlace { link: Arc::clone(self), _stream: None };
        place._stream = self.budget.stream(others);
        if place._stream.is_none() {
            let text = "all clients together have as many streams as the broker has memory for \
                        (half of what --memory-limit leaves for clients)";
            return Err(crowded(text.to_owned()));
        }
        Ok(place)
    }

    /// Counts bytes that are held for the client until the guard is dropped.
    pub(crate) fn count(self: &Arc<Self>, bytes: usize) -> Option<Counted> {
        if bytes <= FREE_BYTES {
            return None;
        }
        self.add(bytes);
        Some(Counted { link: Arc::clone(self), bytes })
    }

    fn add(&self, bytes: usize) {
        let mut held = self.held.lock();
        held.bytes += bytes;
        held.set();
    }

    /// TLS holds `bytes` now until the socket takes them.
    pub(crate) fn set_unsent(&self, bytes: usize) {
        let mut held = self.held.lock();
        held.unsent = bytes;
        held.set();
    }

    fn subtract(&self, bytes: usize) {
        let mut held = self.held.lock();
        held.bytes -= bytes;
        held.moved += bytes;
        let bytes = held.bytes;
        held.set();
        if held.moved >= MOVED_BYTES {
            held.moved = 0;
            held.account.progress();
        }
        drop(held);
        // Those that wait until nothing else is held.
        if bytes == 0 && !self.wakes.sessions.lock().is_empty() {
            self.wakes.wake();
        }
    }

    /// A turn to make up a response that may be as large as a message, once there is none beside it.
    pub(crate) async fn sole_turn(&self) -> Option<Turn> {
        self.budget.sole_turn().await
    }

    /// Counts the `bytes` of a response that is made up.
    pub(crate) fn count_response(self: &Arc<Self>, bytes: usize) -> Unencoded {
        Unencoded(Arc::new(self.count(bytes)))
    }

    /// Whether a large answer may be made up although the budget is spent: alone. If not, `wake` is woken to
    /// ask again.
    pub(crate) fn may_grow(&self, wake: &Arc<dyn Wake>) -> bool {
        if !self.budget.is_spent() {
            return true;
        }
        let mut sessions = self.wakes.sessions.lock();
        if !sessions.iter().any(|session| Arc::ptr_eq(session, wake)) {
            sessions.push(Arc::clone(wake));
        }
        drop(sessions);
        let mut held = self.held.lock();
        held.bytes == 0 && held.account.may_grow()
    }

    /// To be called by the connection's task before it reads. Whether it is to close.
    pub(crate) fn is_closed(&self, cx: &Context<'_>) -> bool {
        self.wakes.connection.register(cx.waker());
        self.held.lock().account.is_closed()
    }
}

fn crowded(text: String) -> Refusal {
    Refusal::new(Code::ResourceExhausted, "TOO_MANY_STREAMS", text)
}

/// Bytes held for a client.
#[derive(Debug)]
pub(crate) struct Counted {
    link: Arc<Link>,
    bytes: usize,
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.link.subtract(self.bytes);
    }
}

/// A call's place among those of its connection and of the server.
#[derive(Debug)]
pub(crate) struct CallPlace {
    link: Arc<Link>,
    _stream: Option<StatePlace>,
}

impl Drop for CallPlace {
    fn drop(&mut self) {
        self.link.streams.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Bytes of a response that is not encoded yet, counted with it until they are counted as its data.
#[derive(Clone, Debug)]
pub(crate) struct Unencoded(#[allow(dead_code, reason = "held, not looked at")] Arc<Option<Counted>>);

/// A response's body, which has a place as long as it lasts, and whose data counts until it is written.
pub(crate) struct PlacedBody {
    body: Body,
    place: CallPlace,
    /// Given up with the first data.
    unencoded: Option<Unencoded>,
}

impl PlacedBody {
    pub(crate) fn new(body: Body, place: CallPlace, unencoded: Option<Unencoded>) -> Self {
        Self { body, place, unencoded }
    }
}

/// Data on its way to the socket.
struct CountedData {
    data: Bytes,
    _counted: Option<Counted>,
}

impl AsRef<[u8]> for CountedData {
    fn as_ref(&self) -> &[u8] {
        &self.data
    }
}

impl HttpBody for PlacedBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        let frame = Pin::new(&mut this.body).poll_frame(cx).map_ok(|frame| {
            frame.map_data(|data| match this.place.link.count(data.len()) {
                None => data,
                counted => Bytes::from_owner(CountedData { data, _counted: counted }),
            })
        });
        if frame.is_ready() {
            this.unencoded = None;
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

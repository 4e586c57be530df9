//! One connection.
//!
//! The session is one future, polled by hand, so that everything it does between two waits happens in one go
//! and with one thread's buffers: take in what the socket has, let the log write what was published, answer,
//! fetch messages, write. It waits for nothing in particular: whatever changes wakes it, and it looks at
//! everything again.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use mq_core::{Broker, Subscription, TopicName, Wake};
use mq_net::budget::{Account, FREE_BYTES, StatePlace};
use mq_net::clients::Client;
use tokio::io::AsyncWriteExt;
use tokio::task::{coop, yield_now};
use tokio::time::{Instant, Sleep, timeout};

use super::auth::AuthClient;
use super::authorize::Authorization;
use super::coalesce::{COALESCE_TIME, Coalescer};
use super::config::Config;
use super::extension::Extension;
use super::group_commit::{CommitTurn, CommitTurns};
use super::input::Input;
use super::output::{Output, UNSENT_BYTES_MAX};
use super::phase::{End, Phase};
use super::replies::{Emitted, Replies};
use super::stats::Publishing;
use crate::wire::error::{Code, WireError};
use crate::wire::identify::{Bounds, Settings};
use crate::wire::{Limits, State};
use mq_net::linger::{LINGER, linger};
use mq_net::transport::Transport;
use mq_net::transport::tls::TlsConfig;

/// Full reads taken in before answers and messages get their turn.
const READS_MAX: usize = 4;

/// Longest wait for the answers to commands already read, after reading has stopped.
const DRAIN: Duration = Duration::from_secs(30);

/// Delay of the first message after SUB's answer on a compressed connection: there are clients that lose one
/// that comes with it.
const KEEP_BEHIND: Duration = Duration::from_millis(10);

/// State that all sessions of a server share.
pub(super) struct Shared {
    pub(super) broker: Broker,
    pub(super) config: Config,
    pub(super) limits: Limits,
    pub(super) bounds: Bounds,
    pub(super) tls: Option<TlsConfig>,
    /// Whether only IDENTIFY may come without TLS.
    pub(super) tls_required: bool,
    /// The auth servers, if clients have to AUTH.
    pub(super) auth: Option<Arc<AuthClient>>,
    pub(super) publishing: Arc<Publishing>,
    pub(super) turns: CommitTurns,
}

/// One connection's state.
pub(super) struct Session {
    pub(super) shared: Arc<Shared>,
    pub(super) client: Arc<Client>,
    /// The client's signal, as the core wants it.
    pub(super) wake: Arc<dyn Wake>,
    pub(super) transport: Transport,
    pub(super) phase: Phase,
    pub(super) state: State,
    pub(super) settings: Settings,
    pub(super) authorization: Authorization,
    pub(super) extension: Extension,
    /// There while a publish waits for discovery to know of its new topic.
    pub(super) announcement: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    /// Memory of input and output.
    pub(super) account: Account,
    /// There where the client compresses with deflate.
    pub(super) deflate: Option<StatePlace>,
    pub(super) input: Input,
    pub(super) replies: Replies,
    pub(super) output: Output,
    pub(super) subscription: Option<Subscription>,
    /// Whether SUB was answered: no message goes out before.
    pub(super) delivering: bool,
    /// Whether the subscription gave up its turn, and has not pulled since.
    pub(super) resting: bool,
    /// Whether the log says that a requeue's delay was cut.
    pub(super) said_cut: bool,
    /// The name last published to, parsed.
    pub(super) topic: Option<TopicName>,
    /// Time at which the last command ended. Renews the deadline of the next.
    pub(super) last_command: Instant,
    pub(super) next_heartbeat: Instant,
    /// Due at the earliest deadline there was when it was set; never moved for a later one. `None`: no
    /// heartbeats.
    pub(super) timer: Option<Pin<Box<Sleep>>>,
    /// Whether the timer was set since it was polled.
    pub(super) timer_moved: bool,
    /// Time from which messages may go out: [`KEEP_BEHIND`] after SUB's answer, or once they were
    /// [`COALESCE_TIME`].
    pub(super) delivers_at: Option<Instant>,
    /// Whether messages are coalesced.
    coalescer: Coalescer,
    turn: CommitTurn,
    /// Time at which the command being executed was read, where latency is measured.
    pub(super) read_at: Option<Instant>,
}

impl Session {
    pub(super) fn new(shared: Arc<Shared>, client: Arc<Client>, transport: Transport) -> Self {
        let settings = Settings::new(shared.config.msg_timeout);
        let wake = Arc::clone(client.signal()) as Arc<dyn Wake>;
        let account = shared.config.budget.account(Arc::clone(&wake));
        let now = Instant::now();
        let mut session = Self {
            wake,
            shared,
            client,
            transport,
            phase: Phase::Magic,
            state: State::Init,
            settings,
            authorization: Authorization::default(),
            extension: Extension::default(),
            announcement: None,
            account,
            deflate: None,
            input: Input::new(),
            replies: Replies::default(),
            output: Output::default(),
            subscription: None,
            delivering: false,
            resting: false,
            said_cut: false,
            topic: None,
            last_command: now,
            next_heartbeat: now,
            timer: None,
            timer_moved: false,
            delivers_at: None,
            coalescer: Coalescer::new(now),
            turn: CommitTurn::default(),
            read_at: None,
        };
        session.start_timer(now);
        session
    }

    /// Serves the connection to its end.
    pub(super) async fn run(mut self) {
        let end = loop {
            match poll_fn(|cx| self.poll(cx)).await {
                // On the heap, since it would be part of every session's task otherwise.
                End::Upgrade(upgrade) => {
                    if let Err(end) = Box::pin(self.upgrade(upgrade)).await {
                        break end;
                    }
                }
                end => break end,
            }
        };
        // Its messages return now, not when the other end has taken note; what it published is written,
        // answered or not.
        self.subscription = None;
        if self.replies.wants_write() {
            self.shared.broker.commit();
        }
        self.input.clear();
        self.output = Output::default();
        self.count();
        tracing::debug!(
            client = self.client.id,
            reason = ?end,
            published = self.client.published(),
            delivered = self.client.delivered(),
            finished = self.client.finished(),
            requeued = self.client.requeued(),
            "connection ends"
        );
        if end == End::Fatal {
            linger(&mut self.transport).await;
        } else {
            // Whatever the other end still wants, it is not there.
            let _ = timeout(LINGER, self.transport.shutdown()).await;
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        self.client.signal().register(cx.waker());
        if let Some(end) = self.poll_timer(cx) {
            return Poll::Ready(end);
        }
        let mut reads = 0;
        loop {
            self.client.signal().look();
            if self.client.signal().is_stopped() {
                self.drain(End::Stopped);
            }
            if self.account.is_closed()
                && let Some(end) = self.give_way()
            {
                return Poll::Ready(end);
            }
            self.read_at = self.shared.publishing.is_on().then(Instant::now);
            let mut progress = self.poll_authorization(cx);
            progress |= self.poll_announcement(cx);
            progress |= self.take_in_rest();
            match self.poll_reads(&mut reads, cx) {
                Ok(has_read) => progress |= has_read,
                Err(error) => return Poll::Ready(self.lost(&error)),
            }
            if self.replies.wants_write() && !self.turn.ended(&self.shared.turns, cx) {
                return Poll::Pending;
            }
            self.answer(cx);
            self.deliver();
            match self.output.poll_write(&mut self.transport, cx) {
                Poll::Ready(Ok(wrote)) => {
                    match self.phase {
                        Phase::Draining(end, _) if self.replies.is_empty() => return Poll::Ready(end),
                        Phase::Upgrading(upgrade) if self.replies.is_empty() => {
                            return Poll::Ready(End::Upgrade(upgrade));
                        }
                        _ => {}
                    }
                    progress |= wrote;
                }
                Poll::Ready(Err(error)) => return Poll::Ready(self.lost(&error)),
                Poll::Pending => {
                    if self.output.has_moved() {
                        self.account.progress();
                    }
                }
            }
            self.count();
            if reads >= READS_MAX {
                // A client that always has more to be read leaves others their turn, those included whose
                // sockets have something by now: tokio's own budget would let it go on for 128 reads.
                let _ = pin!(yield_now()).poll(cx);
                return Poll::Pending;
            }
            if !progress {
                if self.timer_moved {
                    if let Some(end) = self.poll_timer(cx) {
                        return Poll::Ready(end);
                    }
                } else if self.client.signal().rest() {
                    return Poll::Pending;
                } else {
                    // Something changed meanwhile: it looks again, unless others have waited for long.
                    ready!(coop::poll_proceed(cx)).made_progress();
                }
            }
        }
    }

    /// Takes in what the socket has, at most [`READS_MAX`] reads, and counts them in `reads`. Returns whether
    /// there was anything.
    fn poll_reads(&mut self, reads: &mut usize, cx: &mut Context<'_>) -> io::Result<bool> {
        let mut has_read = false;
        for _ in 0..READS_MAX {
            let room = if self.may_read() { self.room() } else { 0 };
            if room == 0 {
                break;
            }
            let was_large = self.input.is_large();
            let Poll::Ready(read) = self.poll_input(room, cx) else { break };
            let is_full = read?;
            has_read = true;
            *reads += 1;
            if !was_large && self.input.is_large() {
                self.expect_rest();
            }
            if !is_full {
                break;
            }
            // Commands without an answer gain nothing by more of them at once.
            if self.replies.is_empty() {
                *reads = READS_MAX;
                break;
            }
        }
        Ok(has_read)
    }

    /// Whether there is room for what more commands would bring about.
    pub(super) fn may_read(&self) -> bool {
        let waits = matches!(self.phase, Phase::Draining(..) | Phase::Upgrading(_))
            || self.replies.is_full()
            || self.authorization.is_pending()
            || self.announcement.is_some()
            || self.output.unsent() >= UNSENT_BYTES_MAX
            // A consumer's acknowledgements are always read: they are what frees memory.
            || (self.client.published() > 0 && self.shared.broker.is_congested(&self.wake));
        !waits
    }

    /// Bytes that it holds for its client.
    fn held(&self) -> usize {
        self.input.bytes() + self.output.bytes() + self.transport.held()
    }

    /// Counts what it holds.
    pub(super) fn count(&mut self) {
        let held = self.held();
        self.account.set(held);
        self.replies.counted();
    }

    /// Bytes there is memory to read: few where the budget is spent, and none if it holds those already. Then
    /// it is woken when there is more.
    fn room(&mut self) -> usize {
        if !self.account.budget().is_spent() {
            return usize::MAX;
        }
        match self.input.room().max(FREE_BYTES.saturating_sub(self.held())) {
            // One that does not read its answers gets no more of them.
            0 if self.output.bytes() > FREE_BYTES => 0,
            0 if self.account.may_grow() => usize::MAX,
            room => room,
        }
    }

    /// Ends a session that holds much memory while others wait for some. A client in the middle of a command
    /// gets an error; one that does not read can't get any.
    fn give_way(&mut self) -> Option<End> {
        if self.output.unsent() > 0 || matches!(self.phase, Phase::Draining(..)) {
            return Some(End::Closed);
        }
        let text = format!(
            "the memory for clients is spent, and this one held {} KiB of it for long",
            self.account.reserved() / 1024
        );
        self.fail(WireError::new(Code::Invalid, text));
        self.drain(End::Fatal);
        None
    }

    fn answer(&mut self, cx: &mut Context<'_>) {
        if self.replies.is_empty() {
            return;
        }
        let emitted = self.replies.emit(&self.shared.broker, self.output.buf(), cx);
        self.replies.measured.report(&self.shared.publishing);
        match emitted {
            Emitted::Fine => {}
            Emitted::Subscribed if self.transport.is_compressed() => {
                self.deliver_at(Instant::now() + KEEP_BEHIND);
            }
            Emitted::Subscribed => self.delivering = true,
            Emitted::Fatal => self.drain(End::Fatal),
        }
    }

    /// Takes note of a delivery of `count` messages, all there were, to a client that could have taken
    /// `spare` more.
    pub(super) fn delivered(&mut self, count: u64, spare: u32) {
        let now = Instant::now();
        if self.coalescer.delivered(count, spare.into(), now) {
            self.deliver_at(now + COALESCE_TIME);
        }
    }

    /// Answers with an error; one that ends the connection ends what is taken in.
    pub(super) fn fail(&mut self, error: WireError) {
        let fatal = error.code().is_fatal();
        tracing::debug!(client = self.client.id, error = %error.without_echo(), "command refused");
        self.replies.error(error);
        if fatal {
            self.drain(End::Fatal);
        }
    }

    /// Takes in no more; the first reason counts. The messages in flight return at once.
    pub(super) fn drain(&mut self, end: End) {
        if matches!(self.phase, Phase::Draining(..)) {
            return;
        }
        let deadline = Instant::now() + DRAIN;
        self.phase = Phase::Draining(end, deadline);
        self.subscription = None;
        self.delivering = false;
        self.delivers_at = None;
        self.input.clear();
        self.set_timer(Some(deadline));
    }

    fn lost(&self, error: &io::Error) -> End {
        tracing::debug!(client = self.client.id, %error, "connection lost");
        End::Lost
    }
}

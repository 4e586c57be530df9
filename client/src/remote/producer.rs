//! The connection that publishes: to one broker at a time, in order. Only what was never sent, or surely not
//! looked at, goes to another broker. What was sent and not answered is sent again to the broker that may
//! have it, if its messages have ids; else nobody knows what became of it.

use std::collections::{BTreeSet, VecDeque};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mq_core::sync::Mutex;
use mq_nsq::client::{Connection, Error as WireError, Results};
use mq_nsq::wire::Together;
use mq_nsq::wire::extension::Run;

use super::{Backoff, Brokers, discovery};
use crate::config::Retry;
use crate::error::{Error, Result};
use crate::events::ConnectionEvent;
use crate::publish::{Buffer, Freed, Next, Publication, Queue, Resend, Stored};
use crate::subscription::Failure;
use crate::url::Place;

/// Commands on the way over one connection: enough for the way there and back, and for one write and one
/// read for many of them. Brokers take at least 4,096 without an answer.
const UNANSWERED_MAX: usize = 512;
/// Bytes published over one connection without an answer while more are sent.
const UNANSWERED_BYTES_MAX: usize = 4 << 20;
/// Bytes that are written at once: few calls, and the broker gets some while more are encoded.
const WRITE_BYTES: usize = 128 << 10;
/// Single messages that follow each other go out as one batch, of so many and so many bytes at most: one
/// answer for all, and far below what brokers take.
const TOGETHER_MAX: usize = 256;
const TOGETHER_BYTES_MAX: usize = 64 << 10;

/// Longest time that a few publishes wait for the answers to those before them, so that they go out together.
const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// Sends what is queued, until the queue is closed and empty, or closed and no broker is reached.
pub(super) async fn run(brokers: Arc<Brokers>, queue: Arc<Queue>) {
    let mut backoff = Backoff::new(brokers.max_delay);
    // Clients begin at any of the brokers, so that each gets some.
    let mut turn = fastrand::usize(..);
    let mut is_down = false;
    loop {
        queue.signal.until(|| queue.is_due().then_some(())).await;
        let addresses = addresses(&brokers).await;
        let mut served = false;
        for _ in 0..addresses.len() {
            let address = &addresses[turn % addresses.len()];
            match brokers.dial(address, None).await {
                Ok(connection) => {
                    is_down = false;
                    let Some(ended) = serve(&brokers, &queue, address, connection).await else { return };
                    // Where there are other brokers, they get all but what only this one may have.
                    let (resend, unsent) = ended
                        .left
                        .into_iter()
                        .partition(|publication| publication.resend.is_some() && !brokers.is_one());
                    queue.put_back(unsent);
                    spawn_resend(&brokers, &queue.buffer, address.clone(), resend);
                    served = ended.has_outcomes;
                    turn = turn.wrapping_add(1);
                    break;
                }
                Err(error) => not_reached(&brokers, address, &error, &mut is_down),
            }
            turn = turn.wrapping_add(1);
        }
        if served {
            backoff.reset();
            continue;
        }
        if queue.is_closed() {
            queue.fail(&Error::Closed);
            return;
        }
        queue.expire((brokers.tuning.now)());
        tokio::select! {
            () = tokio::time::sleep(backoff.delay()) => {}
            () = queue.signal.until(|| queue.is_closed().then_some(())) => {}
        }
    }
}

/// Remains of a connection that ended.
struct Ended {
    /// Publications to be sent again.
    left: VecDeque<Publication>,
    /// Whether the broker answered any.
    has_outcomes: bool,
}

/// Sends what is queued over a connection until it ends. `None`: the queue is closed, and all has its
/// outcome.
async fn serve(brokers: &Brokers, queue: &Queue, address: &str, connection: Connection) -> Option<Ended> {
    let mut link = Link::new(connection, address, brokers, &queue.buffer);
    brokers.events.push(super::connected(&link.connection, &link.broker));
    let ended = link.serve(queue).await;
    queue.look_soon(false);
    let error = ended.err()?;
    brokers.failed(&link.broker, error.to_string());
    brokers.events.push(ConnectionEvent::Closed { broker: Arc::clone(&link.broker) });
    let (why, left) = link.end(error);
    *brokers.obstacle.lock() = why;
    Some(Ended { left, has_outcomes: link.has_outcomes })
}

impl Brokers {
    /// Reports the end of a connection, or that there is none.
    fn failed(&self, broker: &Arc<str>, why: String) {
        let error = Error::Unreachable { why, broker: broker.to_string() };
        let failure = Failure { broker: Arc::clone(broker), message: None, error };
        self.events.push(ConnectionEvent::Failed(failure));
    }
}

/// Notes that a broker can't be reached. Of attempts that fail one after the other, the first is reported.
fn not_reached(brokers: &Brokers, address: &str, error: &WireError, is_down: &mut bool) {
    if !std::mem::replace(is_down, true) {
        brokers.failed(&address.into(), error.to_string());
    }
    *brokers.obstacle.lock() = format!("{address}: {error}");
}

/// Sends what is queued to all brokers at once, each of which takes the next when it has room.
pub(super) async fn run_all(brokers: Arc<Brokers>, queue: Arc<Queue>) {
    let senders = Arc::new(Mutex::new(BTreeSet::new()));
    while !queue.is_closed() {
        queue.signal.until(|| queue.is_due().then_some(())).await;
        for address in addresses(&brokers).await {
            if senders.lock().insert(address.clone()) {
                tokio::spawn(run_one(
                    Arc::clone(&brokers),
                    Arc::clone(&queue),
                    address,
                    Arc::clone(&senders),
                ));
            }
        }
        // With none there it is asked again soon.
        let pause = if senders.lock().is_empty() { brokers.max_delay } else { brokers.lookup_poll_interval };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = queue.signal.until(|| queue.is_closed().then_some(())) => {}
        }
    }
    if senders.lock().is_empty() {
        queue.fail(&Error::Closed);
    }
}

/// Sends what is queued to one of all brokers, until the queue is closed or nobody names that broker any
/// more.
async fn run_one(
    brokers: Arc<Brokers>,
    queue: Arc<Queue>,
    address: String,
    senders: Arc<Mutex<BTreeSet<String>>>,
) {
    let (mut backoff, mut is_down) = (Backoff::new(brokers.max_delay), false);
    loop {
        queue.signal.until(|| queue.is_due().then_some(())).await;
        match brokers.dial(&address, None).await {
            Ok(connection) => {
                is_down = false;
                let Some(ended) = serve(&brokers, &queue, &address, connection).await else { break };
                let (resend, unsent) =
                    ended.left.into_iter().partition(|publication| publication.resend.is_some());
                queue.put_back(unsent);
                queue.signal.notify();
                spawn_resend(&brokers, &queue.buffer, address.clone(), resend);
                if ended.has_outcomes {
                    backoff.reset();
                }
            }
            Err(error) => not_reached(&brokers, &address, &error, &mut is_down),
        }
        if queue.is_closed() {
            break;
        }
        tokio::select! {
            () = tokio::time::sleep(backoff.delay()) => {}
            () = queue.signal.until(|| queue.is_closed().then_some(())) => {}
        }
        let is_gone =
            matches!(brokers.place, Place::Lookup { .. }) && !addresses(&brokers).await.contains(&address);
        if is_gone {
            break;
        }
    }
    let mut senders = senders.lock();
    senders.remove(&address);
    // The last one answers for what nobody sends any more.
    if senders.is_empty() && queue.is_closed() {
        queue.fail(&Error::Closed);
    }
}

/// Sends publications to the one broker that may have them already, until it answers or forgets their ids.
fn spawn_resend(
    brokers: &Arc<Brokers>,
    buffer: &Arc<Buffer>,
    address: String,
    publications: VecDeque<Publication>,
) {
    if publications.is_empty() {
        return;
    }
    let (brokers, queue) = (Arc::clone(brokers), Queue::new(buffer));
    queue.put_back(publications);
    queue.close();
    tokio::spawn(async move {
        let mut backoff = Backoff::new(brokers.max_delay);
        loop {
            tokio::time::sleep(backoff.delay()).await;
            queue.expire((brokers.tuning.now)());
            if queue.is_empty() {
                return;
            }
            let Ok(connection) = brokers.dial(&address, None).await else { continue };
            let mut link = Link::new(connection, &address, &brokers, &queue.buffer);
            let Err(error) = link.serve(&queue).await else { return };
            queue.put_back(link.end(error).1);
        }
    });
}

/// The brokers to publish to: those that are configured, or that lookup servers name. While none of these
/// answers, they are the brokers of the last answer.
pub(crate) async fn addresses(brokers: &Brokers) -> Vec<String> {
    match &brokers.place {
        Place::Brokers { addresses, .. } => addresses.clone(),
        Place::Lookup { servers, .. } => {
            let found =
                discovery::discover(servers, None, &brokers.tuning, brokers.lookup_tls.as_ref()).await;
            let mut last = brokers.found.lock();
            if !found.addresses.is_empty() || found.failures.is_empty() {
                *last = found.addresses;
            }
            if last.is_empty() {
                let failures: Vec<_> =
                    found.failures.iter().map(|failure| failure.error.to_string()).collect();
                *brokers.obstacle.lock() = match failures.as_slice() {
                    [] => format!("{}: there are none", brokers.name),
                    failures => failures.join("; "),
                };
            }
            last.clone()
        }
        Place::Folder(_) | Place::Memory => Vec::new(),
    }
}

/// A connection, and what is on its way over it.
struct Link {
    connection: Connection,
    broker: Arc<str>,
    buffer: Arc<Buffer>,
    retry: Retry,
    now: fn() -> Instant,
    unanswered: VecDeque<Publication>,
    /// The commands that have no answer: in all they have as many publications as `unanswered`, in its order.
    commands: VecDeque<Sent>,
    /// Messages whose outcome was passed on; only without the extension.
    settled: u64,
    /// Whether the broker answered any publish, be it with a refusal.
    has_outcomes: bool,
}

/// A command without an answer.
struct Sent {
    /// Its publications, at least 1.
    count: usize,
    /// The broker stored its messages then or later, if it did.
    at: Instant,
}

impl Link {
    fn new(connection: Connection, address: &str, brokers: &Brokers, buffer: &Arc<Buffer>) -> Self {
        Self {
            connection,
            broker: address.into(),
            buffer: Arc::clone(buffer),
            retry: brokers.retry,
            now: brokers.tuning.now,
            unanswered: VecDeque::new(),
            commands: VecDeque::new(),
            settled: 0,
            has_outcomes: false,
        }
    }

    /// Sends and takes in answers until the queue is closed and all is answered.
    async fn serve(&mut self, queue: &Queue) -> Result<(), WireError> {
        loop {
            let seen = queue.signal.seen();
            self.settle();
            let has_room = self.commands.len() < UNANSWERED_MAX
                && self.connection.unanswered_bytes() < UNANSWERED_BYTES_MAX;
            if has_room {
                match queue.pop() {
                    Next::Publication(publication) => {
                        self.send(publication, queue);
                        if self.connection.unsent_bytes() >= WRITE_BYTES {
                            self.connection.nudge().await?;
                        }
                        continue;
                    }
                    Next::Closed if self.unanswered.is_empty() => {
                        // Whatever comes now, everything has its outcome.
                        return Ok(());
                    }
                    Next::Closed | Next::Nothing => {}
                }
            }
            let waits_for_answers = !self.unanswered.is_empty();
            if queue.look_soon(waits_for_answers && has_room) && has_room {
                continue;
            }
            tokio::select! {
                progress = self.connection.progress() => progress?,
                () = queue.signal.changed(seen), if has_room => {}
                () = tokio::time::sleep(LOOK_AGAIN), if has_room && waits_for_answers => {}
            }
        }
    }

    /// Sends a publication, and with it those single messages that follow. Goes out with what is awaited
    /// next.
    fn send(&mut self, publication: Publication, queue: &Queue) {
        let first = self.unanswered.len();
        if !self.begins(&publication) {
            return;
        }
        // Before anything can fail they are among the unanswered: from here on they may have been sent.
        let is_extended = self.connection.is_extended();
        if may_share(&publication, is_extended) {
            let (topic, mut count, mut bytes) = (publication.topic.clone(), 1, publication.messages.bytes());
            let unanswered = &mut self.unanswered;
            unanswered.push_back(publication);
            let fits = |next: &Publication| {
                let fits = count < TOGETHER_MAX
                    && bytes < TOGETHER_BYTES_MAX
                    && next.topic == topic
                    && may_share(next, is_extended);
                (count, bytes) = (count + 1, bytes + next.messages.bytes());
                fits
            };
            queue.pop_while(fits, |next| unanswered.push_back(next));
            let mut at = first + 1;
            while at < self.unanswered.len() {
                if self.begins(&self.unanswered[at]) {
                    at += 1;
                } else {
                    self.unanswered.remove(at);
                }
            }
        } else {
            self.unanswered.push_back(publication);
        }
        let together = self.unanswered.range(first..);
        self.commands.push_back(Sent { count: together.len(), at: (self.now)() });
        let Publication { topic, messages, slot, .. } = &self.unanswered[first];
        let sent = if self.connection.is_extended() {
            // Those that share a command share nothing else.
            let how = if together.len() > 1 { Together::Each } else { Together::All };
            let count = together.clone().map(|publication| publication.messages.len()).sum();
            let records = together.map(|publication| publication.messages.encoded());
            self.connection.put_records(topic, how, count, records)
        } else if messages.len() == 1 && !messages.delay().is_zero() {
            let body = messages.records().next().map_or(&[][..], |record| record.body);
            self.connection.put_one(topic, body, messages.delay())
        } else {
            let records = together.flat_map(|publication| publication.messages.records());
            let bodies: Vec<_> = records.map(|record| record.body).collect();
            self.connection.put_batch(topic, &bodies)
        };
        // Nothing was sent, and the connection goes on. Only a publish that is sent by itself can be so.
        if let Err(error) = sent {
            slot.settle(&self.buffer, Err(Error::Invalid(error.to_string())));
            self.unanswered.truncate(first);
            self.commands.pop_back();
        }
    }

    /// Notes that a publication is being sent, if it can be and was not withdrawn. Returns whether it is.
    fn begins(&self, publication: &Publication) -> bool {
        self.takes(publication) && publication.slot.start(&self.broker)
    }

    /// Whether a publication can be sent to this broker; else it has its outcome.
    fn takes(&self, publication: &Publication) -> bool {
        if publication.is_forgotten(&self.buffer, self.now) {
            return false;
        }
        let beyond = publication.messages.beyond_nsq().filter(|_| !self.connection.is_extended());
        if let Some(what) = beyond {
            let (what, broker) = (what.to_owned(), self.broker.to_string());
            // What was sent to a broker that had the extension then: it may be stored.
            let error = match publication.resend {
                Some(_) => Error::Unknown { why: format!("it can't be sent again: {what}"), broker },
                None => Error::Unsupported { what, broker },
            };
            publication.slot.settle(&self.buffer, Err(error));
        }
        beyond.is_none()
    }

    /// Passes on the answers that came.
    fn settle(&mut self) {
        while let Some(results) = self.connection.take_results() {
            self.has_outcomes = true;
            self.settle_results(&results);
        }
        let (mut count, mut freed) = (0, Freed::default());
        while let Some(publication) = self.unanswered.get(count).filter(|_| !self.connection.is_extended()) {
            let messages = publication.messages.len();
            if self.settled + messages as u64 > self.connection.acknowledged() {
                break;
            }
            self.settled += messages as u64;
            let mut stored = Stored::new(Arc::clone(&self.broker));
            stored.push(messages, None, false);
            freed += publication.slot.decide(Ok(stored));
            count += 1;
            if let Some(sent) = self.commands.front_mut() {
                sent.count -= 1;
                if sent.count == 0 {
                    self.commands.pop_front();
                }
            }
        }
        self.pass_on(count, freed);
    }

    /// Passes on the outcomes of the oldest publications, which are decided, to whoever waits for them.
    fn pass_on(&mut self, count: usize, freed: Freed) {
        self.has_outcomes |= count > 0;
        self.buffer.give(freed);
        self.unanswered.drain(..count).for_each(|publication| publication.slot.notify());
    }

    /// Passes on the results of the oldest command.
    fn settle_results(&mut self, results: &Results) {
        let count = self.commands.pop_front().map_or(0, |sent| sent.count);
        let count = count.min(self.unanswered.len());
        let (mut runs, mut freed) = (results.runs(), Freed::default());
        // The run that the next message is in, and the messages of it that others have.
        let (mut run, mut used) = (runs.next(), 0);
        for publication in self.unanswered.range(..count) {
            let (mut stored, mut refused) = (Stored::new(Arc::clone(&self.broker)), None);
            let mut left = publication.messages.len();
            while left > 0
                && let Some(current) = run
            {
                let some = left.min((current.count() - used) as usize);
                match current {
                    Run::Stored { first, duplicate, .. } => {
                        stored.push(some, Some(first + u64::from(used)), duplicate);
                    }
                    Run::Refused { retry, why, .. } => {
                        let why = String::from_utf8_lossy(why).into_owned();
                        let broker = self.broker.to_string();
                        refused.get_or_insert(Error::Refused { why, broker, retry });
                    }
                }
                left -= some;
                used += some as u32;
                if used == current.count() {
                    (run, used) = (runs.next(), 0);
                }
            }
            freed += publication.slot.decide(refused.map_or(Ok(stored), Err));
        }
        self.pass_on(count, freed);
    }

    /// Settles what can be after the connection's end. Returns the reason, and what is to be sent again.
    fn end(&mut self, error: WireError) -> (String, VecDeque<Publication>) {
        self.settle();
        let why = error.to_string();
        let is_unread = self.refuse(&error).is_continue();
        let window = self.connection.dedup_window();
        let sent = self.commands.drain(..).flat_map(|sent| std::iter::repeat_n(sent.at, sent.count));
        let mut left = VecDeque::new();
        for (mut publication, at) in self.unanswered.drain(..).zip(sent) {
            if publication.resend.is_some() {
                left.push_back(publication);
            } else if is_unread {
                publication.slot.restart();
                left.push_back(publication);
            } else if self.connection.is_extended() && publication.messages.has_ids() {
                let (broker, until) = (Arc::clone(&self.broker), at + window);
                publication.resend = Some(Box::new(Resend { broker, until }));
                left.push_back(publication);
            } else if self.retry == Retry::AtLeastOnce {
                publication.slot.restart();
                left.push_back(publication);
            } else {
                let broker = self.broker.to_string();
                publication.slot.settle(&self.buffer, Err(Error::Unknown { why: why.clone(), broker }));
            }
        }
        (format!("{}: {why}", self.broker), left)
    }

    /// Settles the publish that the broker refused, which is the oldest without an answer. Continues if the
    /// broker read no further. Where more than one were refused together, each is sent again by itself.
    fn refuse(&mut self, error: &WireError) -> ControlFlow<()> {
        let WireError::Server { code, .. } = error else { return ControlFlow::Break(()) };
        let Some(&Sent { count, .. }) = self.commands.front() else { return ControlFlow::Break(()) };
        self.has_outcomes = true;
        // A failure to store may be found while more is read.
        let is_late = code.ends_with("PUB_FAILED");
        if count > 1 && !is_late {
            self.unanswered.iter_mut().take(count).for_each(|publication| publication.alone = true);
        } else {
            let (why, broker) = (error.to_string(), self.broker.to_string());
            let refused = Error::Refused { why, broker, retry: is_late };
            self.commands.pop_front();
            let some = self.unanswered.drain(..count);
            some.for_each(|publication| publication.slot.settle(&self.buffer, Err(refused.clone())));
        }
        if is_late { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

/// Whether a publication is a single message that may be sent in one command with others.
fn may_share(publication: &Publication, is_extended: bool) -> bool {
    let messages = &publication.messages;
    let is_plain = || messages.delay().is_zero() && messages.beyond_nsq().is_none();
    publication.is_single() && messages.bytes() < TOGETHER_BYTES_MAX && (is_extended || is_plain())
}

//! The inbox of a subscription over connections: the messages that nobody has taken yet, and what each
//! connection may bring. A state machine: what happens and the time in, commands to connections out.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::UnboundedSender;

use super::answers::Command;
use super::roster::Roster;
use crate::byte_shares::{ByteShares, SetBytes};
use crate::credit::{ConnectionId, Distributor, Event, SetCredit};
use crate::delivery::{Answer, Delivery, DeliveryKey};
use crate::error::{Error, Result};
use crate::turns::{TurnLimits, Turns};

/// The shortest and the longest interval at which messages that wait are looked at: often enough for the
/// shortest timeout of a message, 1 s.
const KEEP_EVERY: [Duration; 2] = [Duration::from_millis(250), Duration::from_secs(15)];

/// A message that nobody has taken yet.
pub(super) struct Fetched {
    pub(super) delivery: Delivery,
    /// It is delivered again then.
    pub(super) deadline: Instant,
    /// No touch extends its deadline beyond this.
    pub(super) latest: Instant,
}

/// Times until a message of a connection is delivered again.
#[derive(Clone, Copy)]
pub(super) struct Timeouts {
    /// Without an answer.
    pub(super) untouched: Duration,
    /// With all its touches; at least `untouched`.
    pub(super) longest: Duration,
}

/// The inbox's end of a connection.
pub(super) struct Link {
    pub(super) commands: UnboundedSender<Command>,
    /// Whether its broker can confirm answers.
    pub(super) confirms: bool,
    pub(super) broker: Arc<str>,
    pub(super) timeouts: Timeouts,
}

pub(super) struct Inbox {
    /// Messages that nobody has taken yet.
    pub(super) fetched: VecDeque<Fetched>,
    pub(super) distributor: Distributor,
    /// Turns, if the settings bound them.
    turns: Option<Turns>,
    /// There where bytes in flight are bounded.
    bytes: Option<ByteShares>,
    pub(super) links: BTreeMap<ConnectionId, Link>,
    last_connection: ConnectionId,
    /// The brokers there are.
    pub(super) roster: Roster,
    /// The brokers that a task connects to, and whether its first attempt is over.
    pub(super) running: BTreeMap<String, bool>,
    /// Whether the lookup servers have been asked once.
    pub(super) has_discovered: bool,
    /// Whether a broker created the channel; `None` before one has said.
    pub(super) is_new: Option<bool>,
    /// The broker that can't do what the options want, and why.
    pub(super) refusal: Option<Error>,
    pub(super) closed: bool,
}

impl Inbox {
    pub(super) fn new(max_in_flight: u32, turns: Option<TurnLimits>, roster: Roster) -> Self {
        Self {
            fetched: VecDeque::new(),
            distributor: Distributor::new(max_in_flight),
            turns: turns.map(Turns::new),
            bytes: None,
            links: BTreeMap::new(),
            last_connection: 0,
            roster,
            running: BTreeMap::new(),
            has_discovered: false,
            is_new: None,
            refusal: None,
            closed: false,
        }
    }

    /// Bounds the bytes of bodies in flight over all connections, before there is any; 0: any number.
    pub(super) fn bound_bytes(&mut self, max: u64) {
        self.bytes = (max > 0).then(|| ByteShares::new(max));
    }

    /// A connection's broker goes by the next `count` shares of bytes that it was sent.
    pub(super) fn confirm_bytes(&mut self, connection: ConnectionId, count: usize) {
        for _ in 0..count {
            self.share_bytes(|bytes| bytes.confirmed(connection));
        }
    }

    fn share_bytes(&mut self, change: impl FnOnce(&mut ByteShares) -> Vec<SetBytes>) {
        let Some(bytes) = &mut self.bytes else { return };
        for SetBytes { connection, bytes } in change(bytes) {
            // One that ended meanwhile needs no share.
            let _ = self.command(connection, Command::ByteCredit(bytes));
        }
    }

    /// Adds a connection that is subscribed, whose broker sends at most `max` messages without an answer.
    pub(super) fn open(&mut self, link: Link, max: u32) -> ConnectionId {
        self.last_connection += 1;
        let id = self.last_connection;
        if self.closed {
            // It is there to receive it.
            let _ = link.commands.send(Command::Close);
        }
        self.links.insert(id, link);
        self.handle(Event::Opened { connection: id, max });
        id
    }

    /// Removes a connection that ended. What nobody has taken of its messages is delivered again.
    pub(super) fn end(&mut self, connection: ConnectionId) {
        self.links.remove(&connection);
        self.handle(Event::Ended(connection));
        self.fetched.retain(|fetched| fetched.delivery.key.connection != connection);
    }

    pub(super) fn handle(&mut self, event: Event) {
        if let Some(turns) = &mut self.turns {
            turns.follow(event, Instant::now());
        }
        // Before there is credit in messages.
        self.share_bytes(|bytes| bytes.follow(event));
        for SetCredit { connection, credit } in self.distributor.handle(event) {
            if let Some(turns) = &mut self.turns {
                turns.credit(connection, credit, Instant::now());
            }
            // One that ended meanwhile needs no credit.
            let _ = self.command(connection, Command::Credit(credit));
        }
    }

    /// Whether the first attempt at every broker there is so far is over.
    pub(super) fn is_open(&self) -> bool {
        let knows_brokers = self.has_discovered || self.roster.lookups().is_empty();
        self.closed || self.refusal.is_some() || knows_brokers && self.running.values().all(|tried| *tried)
    }

    /// Lets connections without credit have some.
    pub(super) fn rotate(&mut self) {
        let Some(turns) = &self.turns else { return self.handle(Event::Rotate) };
        for connection in turns.over(Instant::now()) {
            self.handle(Event::Yielded(connection));
        }
    }

    /// Adds messages that a connection brought.
    pub(super) fn put(&mut self, connection: ConnectionId, mut messages: VecDeque<Fetched>) {
        (0..messages.len()).for_each(|_| self.handle(Event::Delivered(connection)));
        if let Some(bytes) = &mut self.bytes {
            let bodies = messages.iter().map(|fetched| fetched.delivery.body.len() as u64);
            bytes.delivered(connection, bodies.sum());
        }
        if self.fetched.is_empty() {
            self.fetched = messages;
        } else {
            self.fetched.append(&mut messages);
        }
    }

    /// Gives up to `max` messages, and no more than may be without an answer: a connection whose credit was
    /// lowered may have sent some before it knew. Returns how many.
    pub(super) fn take(&mut self, max: usize, now: Instant, sink: &mut dyn FnMut(Delivery)) -> usize {
        if self.fetched.is_empty() {
            return 0;
        }
        let given = (self.distributor.in_flight() as usize).saturating_sub(self.fetched.len());
        let max = max.min((self.distributor.max_in_flight() as usize).saturating_sub(given));
        let mut count = 0;
        while count < max
            && let Some(Fetched { delivery, deadline, .. }) = self.fetched.pop_front()
        {
            if now < deadline {
                count += 1;
                sink(delivery);
            } else {
                // It is with its channel already.
                self.answered(delivery.key.connection, 1, delivery.body.len() as u64);
            }
        }
        count
    }

    /// The interval of [`Inbox::keep`]: a quarter of the shortest timeout.
    pub(super) fn keep_interval(&self) -> Duration {
        let [shortest, longest] = KEEP_EVERY;
        let timeouts = self.links.values().map(|link| link.timeouts.untouched / 4);
        timeouts.min().unwrap_or(shortest).clamp(shortest, longest)
    }

    /// Keeps messages that wait from timing out: touches those with less than half of their timeout left, and
    /// gives back those that no touch would keep.
    pub(super) fn keep(&mut self, now: Instant) {
        let mut touched: BTreeMap<ConnectionId, Vec<DeliveryKey>> = BTreeMap::new();
        let mut given_back: BTreeMap<ConnectionId, (Vec<DeliveryKey>, u64)> = BTreeMap::new();
        let links = &self.links;
        self.fetched.retain_mut(|Fetched { delivery, deadline, latest }| {
            let key = delivery.key;
            let Some(link) = links.get(&key.connection) else { return true };
            let timeout = link.timeouts.untouched;
            if now + timeout / 2 < *deadline {
                return true;
            }
            let is_kept = now + timeout / 2 < *latest;
            if is_kept {
                *deadline = (now + timeout).min(*latest);
            }
            if is_kept {
                touched.entry(key.connection).or_default().push(key);
            } else {
                let (keys, bytes) = given_back.entry(key.connection).or_default();
                keys.push(key);
                *bytes += delivery.body.len() as u64;
            }
            is_kept
        });
        for (connection, keys) in touched {
            // One that ended meanwhile has nothing to touch.
            let _ = self.command(connection, Command::Answers(keys, Answer::Touch));
        }
        for (connection, (keys, bytes)) in given_back {
            let count = keys.len();
            let _ = self.command(connection, Command::Answers(keys, Answer::Release));
            self.answered(connection, count, bytes);
        }
    }

    /// Messages of the connection, with so many bytes of bodies, are not in flight any more.
    pub(super) fn answered(&mut self, connection: ConnectionId, count: usize, bytes: u64) {
        (0..count).for_each(|_| self.handle(Event::Answered(connection)));
        self.share_bytes(|shares| shares.answered(connection, bytes));
        self.close_retired(connection);
    }

    /// Closes a connection that gets no more messages, once all it brought are answered.
    pub(super) fn close_retired(&self, connection: ConnectionId) {
        if self.distributor.is_drained(connection) {
            // One that ended meanwhile is closed already.
            let _ = self.command(connection, Command::Close);
        }
    }

    /// Gives a connection something to do, or the command back if there is no such connection any more.
    pub(super) fn command(&self, connection: ConnectionId, command: Command) -> Result<(), Command> {
        match self.links.get(&connection) {
            Some(link) => link.commands.send(command).map_err(|unsent| unsent.0),
            None => Err(command),
        }
    }

    /// Closes all connections; what nobody has taken is delivered again.
    pub(super) fn close(&mut self) {
        if std::mem::replace(&mut self.closed, true) {
            return;
        }
        let fetched = std::mem::take(&mut self.fetched);
        for (id, link) in &self.links {
            // nsqd keeps what a connection that ends had until it times out; `mq` gives it out again, and
            // does not count that it was here.
            if !link.confirms {
                let keys = fetched.iter().map(|fetched| fetched.delivery.key);
                let keys: Vec<_> = keys.filter(|key| key.connection == *id).collect();
                let _ = link.commands.send(Command::Answers(keys, Answer::Release));
            }
            // One that ended meanwhile is closed already.
            let _ = link.commands.send(Command::Close);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use mq_core::{MessageId, Offset};
    use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

    const TIMEOUTS: Timeouts =
        Timeouts { untouched: Duration::from_secs(60), longest: Duration::from_secs(150) };

    /// An inbox with one connection.
    struct World {
        inbox: Inbox,
        commands: UnboundedReceiver<Command>,
        start: Instant,
        next: u64,
    }

    impl World {
        fn new(max_in_flight: u32) -> Self {
            let mut inbox = Inbox::new(max_in_flight, None, Roster::new(&[], &[]));
            let (sender, commands) = unbounded_channel();
            let link = Link { commands: sender, confirms: true, broker: "b".into(), timeouts: TIMEOUTS };
            assert_eq!(inbox.open(link, 2500), 1);
            Self { inbox, commands, start: Instant::now(), next: 0 }
        }

        fn at(&self, seconds: u64) -> Instant {
            self.start + Duration::from_secs(seconds)
        }

        /// Messages come at the start.
        fn put(&mut self, count: u64) {
            let fetched = (0..count).map(|_| {
                self.next += 1;
                let delivery = Delivery {
                    key: DeliveryKey { id: id(self.next), token: None, connection: 1 },
                    body: Bytes::new(),
                    headers: Default::default(),
                    attempts: 1,
                    timestamp: 0,
                    offset: None,
                    broker: "b".into(),
                };
                let (deadline, latest) = (self.start + TIMEOUTS.untouched, self.start + TIMEOUTS.longest);
                Fetched { delivery, deadline, latest }
            });
            let fetched = fetched.collect();
            self.inbox.put(1, fetched);
        }

        fn take(&mut self, max: usize, seconds: u64) -> Vec<MessageId> {
            let (mut taken, now) = (Vec::new(), self.at(seconds));
            let count = self.inbox.take(max, now, &mut |delivery| taken.push(delivery.key.id));
            assert_eq!(count, taken.len());
            taken
        }

        /// Answers that were given since they were asked for last.
        fn answers(&mut self) -> Vec<(Vec<MessageId>, Answer)> {
            let commands = std::iter::from_fn(|| self.commands.try_recv().ok());
            let answers = commands.filter_map(|command| match command {
                Command::Answers(keys, answer) => Some((keys.iter().map(|key| key.id).collect(), answer)),
                _ => None,
            });
            answers.collect()
        }

        fn keep(&mut self, seconds: u64) -> Vec<(Vec<MessageId>, Answer)> {
            let now = self.at(seconds);
            self.inbox.keep(now);
            self.answers()
        }
    }

    fn id(number: u64) -> MessageId {
        MessageId::new(7, Offset(number))
    }

    #[test]
    fn a_message_that_waits_is_touched_and_then_given_back_before_it_times_out() {
        let mut world = World::new(10);
        world.put(3);
        assert_eq!(world.take(1, 1), [id(1)], "which is for its taker to touch");
        let waiting = vec![id(2), id(3)];
        assert_eq!(world.keep(29), []);
        assert_eq!(world.keep(30), [(waiting.clone(), Answer::Touch)]);
        assert_eq!(world.keep(45), [], "until 90");
        assert_eq!(world.keep(60), [(waiting.clone(), Answer::Touch)]);
        assert_eq!(world.keep(90), [(waiting.clone(), Answer::Touch)]);
        assert_eq!(world.keep(119), [], "until 150");
        assert_eq!(world.keep(120), [(waiting, Answer::Release)]);
        assert_eq!(world.take(5, 120), []);
        assert_eq!(world.inbox.distributor.in_flight(), 1);
        assert_eq!(world.inbox.keep_interval(), Duration::from_secs(15));
    }

    #[test]
    fn a_message_that_timed_out_is_not_given() {
        let mut world = World::new(10);
        world.put(2);
        assert_eq!(world.take(5, 60), []);
        assert_eq!(world.inbox.distributor.in_flight(), 0);
        world.put(1);
        assert_eq!(world.take(5, 59), [id(3)]);
    }

    #[test]
    fn no_more_messages_are_given_than_may_be_without_an_answer_though_more_came() {
        let mut world = World::new(4);
        world.put(4);
        world.inbox.handle(Event::SetMax(2));
        world.put(1);
        assert_eq!(world.take(5, 1), [id(1), id(2)]);
        assert_eq!(world.take(5, 1), []);
        world.inbox.answered(1, 1, 0);
        assert_eq!(world.take(5, 1), [id(3)]);
        // Those of a connection that ended count no more.
        world.inbox.end(1);
        assert_eq!((world.take(5, 1), world.inbox.distributor.in_flight()), (vec![], 0));
    }
}

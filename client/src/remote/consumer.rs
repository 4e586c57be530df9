//! The connections of a subscription: one to each broker, made again when it fails.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mq_core::{ChannelName, MessageId, TopicName};
use mq_nsq::client::{Connection, Error as WireError, Message};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::sleep;

use super::{Backoff, Brokers, discovery, jittered};
use crate::credit::{ConnectionId, Distributor, Event, SetCredit};
use crate::delivery::{Answer, Delivery, DeliveryKey};
use crate::error::{Error, Result};
use crate::signal::Signal;
use crate::subscription::{Failure, Failures, Source, SubscribeOptions};
use crate::url::Place;

/// Interval at which credit moves on where there are more connections than messages.
const ROTATION: Duration = Duration::from_secs(5);

/// Work for a connection. As many wait as there are messages in flight, and changes of credit.
enum Command {
    Answer(MessageId, Answer),
    /// One answer for more than one message.
    Answers(Vec<MessageId>, Answer),
    Credit(u32),
    Close,
}

struct RemoteSource {
    brokers: Arc<Brokers>,
    topic: TopicName,
    channel: ChannelName,
    options: SubscribeOptions,
    inbox: Mutex<Inbox>,
    signal: Signal,
    failures: Failures,
}

/// A message that nobody has taken yet.
struct Fetched {
    delivery: Delivery,
    /// It is delivered again then.
    deadline: Instant,
}

struct Inbox {
    /// Messages that nobody has taken yet.
    fetched: VecDeque<Fetched>,
    distributor: Distributor,
    links: BTreeMap<ConnectionId, UnboundedSender<Command>>,
    last_connection: ConnectionId,
    /// The brokers there are.
    wanted: BTreeSet<String>,
    /// The brokers that a task connects to.
    running: BTreeSet<String>,
    closed: bool,
}

impl Inbox {
    fn handle(&mut self, event: Event) {
        for SetCredit { connection, credit } in self.distributor.handle(event) {
            self.command(connection, Command::Credit(credit));
        }
    }

    fn command(&self, connection: ConnectionId, command: Command) -> bool {
        self.links.get(&connection).is_some_and(|link| link.send(command).is_ok())
    }
}

/// Begins to connect to the brokers, and to look for them.
pub(super) fn start(
    brokers: Arc<Brokers>,
    runtime: &Handle,
    topic: TopicName,
    channel: ChannelName,
    options: SubscribeOptions,
) -> Arc<dyn Source> {
    let inbox = Inbox {
        fetched: VecDeque::new(),
        distributor: Distributor::new(options.max_in_flight),
        links: BTreeMap::new(),
        last_connection: 0,
        wanted: BTreeSet::new(),
        running: BTreeSet::new(),
        closed: false,
    };
    let (signal, failures) = (Signal::default(), Failures::default());
    let source = Arc::new(RemoteSource {
        brokers,
        topic,
        channel,
        options,
        inbox: Mutex::new(inbox),
        signal,
        failures,
    });
    if let Place::Brokers { addresses, .. } = &source.brokers.place {
        source.connect_to(runtime, addresses.clone());
    }
    runtime.spawn(Arc::clone(&source).rotate());
    runtime.spawn(Arc::clone(&source).discover(runtime.clone()));
    source
}

impl RemoteSource {
    /// Starts a task for each broker that has none.
    fn connect_to(self: &Arc<Self>, runtime: &Handle, addresses: Vec<String>) {
        let mut inbox = self.inbox.lock();
        inbox.wanted = addresses.into_iter().collect();
        let new: Vec<_> = inbox.wanted.difference(&inbox.running).cloned().collect();
        for address in new {
            if !inbox.closed {
                inbox.running.insert(address.clone());
                runtime.spawn(Arc::clone(self).consume(address));
            }
        }
    }

    async fn closed(&self) {
        self.signal.until(|| self.inbox.lock().closed.then_some(())).await;
    }

    async fn rotate(self: Arc<Self>) {
        loop {
            tokio::select! {
                () = self.closed() => return,
                () = sleep(ROTATION) => self.inbox.lock().handle(Event::Rotate),
            }
        }
    }

    /// Asks the lookup servers again and again.
    async fn discover(self: Arc<Self>, runtime: Handle) {
        let Place::Lookup(servers) = &self.brokers.place else { return };
        loop {
            let found = tokio::select! {
                () = self.closed() => return,
                found = discovery::discover(servers, Some(self.topic.as_str())) => found,
            };
            // While no server answers, the brokers are those they named last.
            if found.failures.len() < servers.len() {
                self.connect_to(&runtime, found.addresses);
            }
            found.failures.into_iter().for_each(|failure| self.failures.push(failure));
            tokio::select! {
                () = self.closed() => return,
                () = sleep(jittered(self.brokers.lookup_poll_interval)) => {}
            }
        }
    }

    /// Keeps a connection to one broker until the subscription is closed, or the broker is gone and no longer
    /// wanted.
    async fn consume(self: Arc<Self>, address: String) {
        let broker: Arc<str> = address.as_str().into();
        let mut backoff = Backoff::new(self.brokers.max_delay);
        let mut is_down = false;
        loop {
            {
                let mut inbox = self.inbox.lock();
                if inbox.closed || !inbox.wanted.contains(&address) {
                    inbox.running.remove(&address);
                    break;
                }
            }
            let connected = tokio::select! {
                () = self.closed() => continue,
                connected = self.subscribe(&address) => connected,
            };
            let ended = match connected {
                Ok(connection) => {
                    is_down = false;
                    let (ended, messages) = self.serve(connection, &broker).await;
                    if messages > 0 {
                        backoff.reset();
                    }
                    ended
                }
                Err(error) => Some(error),
            };
            // Of attempts that fail one after the other, the first is reported.
            if let Some(error) = ended
                && !std::mem::replace(&mut is_down, true)
            {
                let error = Error::Unreachable { why: error.to_string(), broker: address.clone() };
                self.failures.push(Failure { broker: Arc::clone(&broker), message: None, error });
            }
            tokio::select! {
                () = self.closed() => {}
                () = sleep(backoff.delay()) => {}
            }
        }
        self.signal.notify();
    }

    async fn subscribe(&self, address: &str) -> Result<Connection, WireError> {
        let mut connection = self.brokers.dial(address, Some(&self.options)).await?;
        connection.subscribe(&self.topic, &self.channel, 0).await?;
        Ok(connection)
    }

    /// Passes messages and answers on until the connection ends. Returns why, unless it was closed from here,
    /// and how many messages came.
    async fn serve(&self, mut connection: Connection, broker: &Arc<str>) -> (Option<WireError>, u64) {
        let (sender, mut commands) = unbounded_channel();
        let max = match connection.max_rdy() {
            0 => u32::MAX,
            max => max,
        };
        let id = {
            let mut inbox = self.inbox.lock();
            inbox.last_connection += 1;
            let id = inbox.last_connection;
            inbox.links.insert(id, sender.clone());
            inbox.handle(Event::Opened { connection: id, max });
            if inbox.closed {
                inbox.command(id, Command::Close);
            }
            id
        };
        let mut messages = 0;
        let ended = loop {
            messages += self.deliver(id, &mut connection, broker);
            while let Some(late) = connection.take_late() {
                self.refused(&late, broker);
            }
            tokio::select! {
                // Answers first: they make room for messages.
                biased;
                command = commands.recv() => match command {
                    Some(Command::Answer(id, answer)) => send(&mut connection, id, answer),
                    Some(Command::Answers(ids, answer)) => {
                        ids.into_iter().for_each(|id| send(&mut connection, id, answer));
                    }
                    Some(Command::Credit(credit)) => connection.ready(credit),
                    Some(Command::Close) | None => break None,
                },
                progress = connection.progress() => if let Err(error) = progress {
                    break Some(error);
                },
            }
        };
        {
            let mut inbox = self.inbox.lock();
            inbox.links.remove(&id);
            inbox.handle(Event::Ended(id));
            // They are delivered again.
            inbox.fetched.retain(|fetched| fetched.delivery.key.connection != id);
        }
        self.lose(&mut commands, broker);
        if ended.is_none() {
            let closed = connection.close().await;
            if let Err(error) = closed {
                let error = Error::Unreachable { why: error.to_string(), broker: broker.to_string() };
                self.failures.push(Failure { broker: Arc::clone(broker), message: None, error });
            }
        }
        (ended, messages)
    }

    /// Reports the answers that came too late for their connection.
    fn lose(&self, commands: &mut UnboundedReceiver<Command>, broker: &Arc<str>) {
        while let Ok(command) = commands.try_recv() {
            match command {
                Command::Answer(id, answer) => self.report(id, answer, broker),
                Command::Answers(ids, answer) => {
                    ids.into_iter().for_each(|id| self.report(id, answer, broker));
                }
                Command::Credit(_) | Command::Close => {}
            }
        }
    }

    fn report(&self, id: MessageId, answer: Answer, broker: &Arc<str>) {
        // What was to be delivered again is.
        if answer == Answer::Finish {
            let why = "the connection ended before the message was finished".to_owned();
            let error = Error::Unreachable { why, broker: broker.to_string() };
            self.failures.push(Failure { broker: Arc::clone(broker), message: Some(id), error });
        }
    }

    /// Reports an answer that the broker refused.
    fn refused(&self, error: &WireError, broker: &Arc<str>) {
        let why = error.to_string();
        // The text names the message: "E_FIN_FAILED FIN 0123456789abcdef failed ID not in flight".
        let message = why.split(' ').find_map(|word| MessageId::from_hex(word.as_bytes()));
        let error = Error::Refused { why, broker: broker.to_string(), retry: false };
        self.failures.push(Failure { broker: Arc::clone(broker), message, error });
    }

    /// Passes on the messages that came. Returns how many.
    fn deliver(&self, connection: ConnectionId, from: &mut Connection, broker: &Arc<str>) -> u64 {
        let mut count = 0;
        let deadline = Instant::now() + self.options.msg_timeout;
        let mut inbox = self.inbox.lock();
        while let Some(Message { id, timestamp, attempts, body }) = from.take_message() {
            count += 1;
            inbox.handle(Event::Delivered(connection));
            let delivery = Delivery {
                key: DeliveryKey {
                    id,
                    #[cfg(feature = "embedded")]
                    token: None,
                    connection,
                },
                body,
                headers: Vec::new(),
                attempts,
                timestamp,
                offset: None,
                broker: Arc::clone(broker),
            };
            inbox.fetched.push_back(Fetched { delivery, deadline });
        }
        drop(inbox);
        if count > 0 {
            self.signal.notify();
        }
        count
    }
}

/// Messages of one connection that get one answer.
struct Run {
    first: MessageId,
    /// All of them, where they are more than one: nothing is allocated for one.
    ids: Vec<MessageId>,
}

impl Run {
    fn new(first: &Delivery) -> Self {
        Self { first: first.key.id, ids: Vec::new() }
    }

    fn push(&mut self, delivery: &Delivery) {
        if self.ids.is_empty() {
            self.ids.push(self.first);
        }
        self.ids.push(delivery.key.id);
    }

    fn len(&self) -> usize {
        self.ids.len().max(1)
    }

    fn ids(&self) -> impl Iterator<Item = MessageId> + '_ {
        let one = self.ids.is_empty().then_some(self.first);
        one.into_iter().chain(self.ids.iter().copied())
    }

    fn command(&self, answer: Answer) -> Command {
        match self.ids.as_slice() {
            [] => Command::Answer(self.first, answer),
            ids => Command::Answers(ids.to_vec(), answer),
        }
    }
}

fn send(connection: &mut Connection, id: MessageId, answer: Answer) {
    match answer {
        Answer::Finish => connection.finish(id),
        Answer::Requeue(delay) => connection.requeue(id, delay),
        Answer::Touch => connection.touch(id),
    }
}

impl Source for RemoteSource {
    fn take(&self, max: usize, sink: &mut dyn FnMut(Delivery)) -> Option<Result<()>> {
        let mut inbox = self.inbox.lock();
        if inbox.closed {
            return Some(Err(Error::Closed));
        }
        let (now, mut count) = (Instant::now(), 0);
        while count < max
            && let Some(Fetched { delivery, deadline }) = inbox.fetched.pop_front()
        {
            if now < deadline {
                count += 1;
                sink(delivery);
            } else {
                inbox.handle(Event::Answered(delivery.key.connection));
            }
        }
        (count > 0).then_some(Ok(()))
    }

    fn signal(&self) -> &Signal {
        &self.signal
    }

    fn rest(&self) {}

    fn answer(&self, deliveries: &mut dyn Iterator<Item = &Delivery>, answer: Answer) {
        let mut lost = Vec::new();
        let mut inbox = self.inbox.lock();
        if inbox.closed {
            return;
        }
        let mut next = deliveries.next();
        while let Some(first) = next {
            let connection = first.key.connection;
            let mut run = Run::new(first);
            next = deliveries.next();
            while let Some(another) = next.filter(|delivery| delivery.key.connection == connection) {
                run.push(another);
                next = deliveries.next();
            }
            let count = run.len();
            match inbox.command(connection, run.command(answer)) {
                true if answer != Answer::Touch => {
                    (0..count).for_each(|_| inbox.handle(Event::Answered(connection)));
                }
                true => {}
                false => lost.push((run, Arc::clone(&first.broker))),
            }
        }
        drop(inbox);
        for (run, broker) in lost {
            run.ids().for_each(|id| self.report(id, answer, &broker));
        }
    }

    fn failures(&self) -> &Failures {
        &self.failures
    }

    fn close(&self) {
        let mut inbox = self.inbox.lock();
        if !std::mem::replace(&mut inbox.closed, true) {
            inbox.fetched.clear();
            for link in inbox.links.values() {
                // One that ended meanwhile is closed already.
                let _ = link.send(Command::Close);
            }
        }
        drop(inbox);
        self.signal.notify();
    }

    fn is_over(&self) -> bool {
        let inbox = self.inbox.lock();
        inbox.closed && inbox.running.is_empty()
    }

    fn msg_timeout(&self) -> Duration {
        self.options.msg_timeout
    }

    fn is_new(&self) -> Option<bool> {
        None
    }

    fn set_max_in_flight(&self, max: u32) {
        self.inbox.lock().handle(Event::SetMax(max));
    }
}

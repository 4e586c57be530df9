//! The connections of a subscription: one to each broker, made again when it fails.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mq_core::sync::Mutex;
use mq_core::{ChannelName, MessageId, TopicName};
use mq_nsq::client::{Connection, Error as WireError, Message};
use tokio::runtime::Handle;
use tokio::sync::mpsc::unbounded_channel;
use tokio::time::sleep;

use super::answers::{Answers, Command, Confirmation, Run, lost};
use super::inbox::{Fetched, Inbox, Link, Timeouts};
use super::roster::{Filter, Roster};
use super::{Backoff, Brokers, discovery, jittered};
use crate::credit::{ConnectionId, Event};
use crate::delivery::{Answer, Delivery, DeliveryKey};
use crate::error::{Error, Result};
use crate::events::ConnectionEvent;
use crate::signal::Signal;
use crate::subscription::{Failure, Failures, MSG_TIMEOUT, Source, SubscribeOptions};
use crate::url::Place;

/// A subscription over connections to brokers.
pub(crate) struct RemoteSource {
    brokers: Arc<Brokers>,
    runtime: Handle,
    topic: TopicName,
    channel: ChannelName,
    options: SubscribeOptions,
    inbox: Mutex<Inbox>,
    signal: Signal,
    failures: Failures,
}

/// Begins to connect to the brokers, and to look for them.
pub(super) fn start(
    brokers: Arc<Brokers>,
    runtime: &Handle,
    topic: TopicName,
    channel: ChannelName,
    options: SubscribeOptions,
) -> Arc<RemoteSource> {
    let (given, lookups) = match &brokers.place {
        Place::Brokers { addresses, .. } => (&addresses[..], &[][..]),
        Place::Lookup { servers, .. } => (&[][..], &servers[..]),
        Place::Folder(_) | Place::Memory => Default::default(),
    };
    let mut inbox = Inbox::new(options.max_in_flight, brokers.tuning.turns, Roster::new(given, lookups));
    inbox.bound_bytes(options.max_in_flight_bytes);
    let (signal, failures) = (Signal::default(), Failures::default());
    let source = Arc::new(RemoteSource {
        brokers,
        runtime: runtime.clone(),
        topic,
        channel,
        options,
        inbox: Mutex::new(inbox),
        signal,
        failures,
    });
    source.connect(|_| ());
    runtime.spawn(Arc::clone(&source).rotate());
    runtime.spawn(Arc::clone(&source).keep());
    runtime.spawn(Arc::clone(&source).discover());
    source
}

impl RemoteSource {
    /// Changes which brokers there are, and starts a task for each that has none.
    fn connect<T>(self: &Arc<Self>, change: impl FnOnce(&mut Roster) -> T) -> T {
        let mut inbox = self.inbox.lock();
        let result = change(&mut inbox.roster);
        let new = inbox.roster.addresses().filter(|address| !inbox.running.contains_key(*address));
        for address in new.cloned().collect::<Vec<_>>() {
            if !inbox.closed {
                inbox.running.insert(address.clone(), false);
                self.runtime.spawn(Arc::clone(self).consume(address));
            }
        }
        drop(inbox);
        self.signal.notify();
        result
    }

    /// Adds a broker. `false` if it is there.
    pub(crate) fn connect_broker(self: &Arc<Self>, address: &str) -> bool {
        self.connect(|roster| roster.add(address))
    }

    /// Removes a broker: it sends no more, and its connection ends once what it sent is answered. `false` if
    /// it is not there.
    pub(crate) fn disconnect_broker(&self, address: &str) -> bool {
        let mut inbox = self.inbox.lock();
        if !inbox.roster.remove(address) {
            return false;
        }
        let links = inbox.links.iter().filter(|(_, link)| *link.broker == *address);
        for connection in links.map(|(id, _)| *id).collect::<Vec<_>>() {
            inbox.handle(Event::Retired(connection));
            inbox.close_retired(connection);
        }
        true
    }

    /// Asks one more lookup server from now on, at once.
    pub(crate) fn add_lookup(self: &Arc<Self>, address: &str) {
        self.connect(|roster| roster.add_lookup(address));
    }

    /// Asks a lookup server no more; what it named stays. `false` if it is not asked.
    pub(crate) fn remove_lookup(self: &Arc<Self>, address: &str) -> bool {
        self.connect(|roster| roster.remove_lookup(address))
    }

    /// Passes what lookup servers name through a filter from now on.
    pub(crate) fn set_filter(self: &Arc<Self>, filter: Filter) {
        self.connect(|roster| roster.set_filter(filter));
    }

    /// The number of connections.
    pub(crate) fn connections(&self) -> usize {
        self.inbox.lock().links.len()
    }

    /// Messages without an answer.
    pub(crate) fn in_flight(&self) -> u32 {
        self.inbox.lock().distributor.in_flight()
    }

    async fn closed(&self) {
        self.signal.until(|| self.inbox.lock().closed.then_some(())).await;
    }

    async fn rotate(self: Arc<Self>) {
        loop {
            tokio::select! {
                () = self.closed() => return,
                () = sleep(self.brokers.tuning.rotation) => self.inbox.lock().rotate(),
            }
        }
    }

    /// Keeps what nobody takes from timing out.
    async fn keep(self: Arc<Self>) {
        loop {
            let every = self.inbox.lock().keep_interval();
            tokio::select! {
                () = self.closed() => return,
                () = sleep(every) => self.inbox.lock().keep(Instant::now()),
            }
        }
    }

    /// Asks the lookup servers again and again.
    async fn discover(self: Arc<Self>) {
        let (tuning, tls) = (&self.brokers.tuning, self.brokers.lookup_tls.as_ref());
        loop {
            let asked = self.signal.until(|| {
                let inbox = self.inbox.lock();
                let roster = &inbox.roster;
                let is_due = inbox.closed || !roster.lookups().is_empty();
                is_due.then(|| (roster.lookups().to_vec(), roster.filter(), roster.version()))
            });
            let (servers, filter, version) = asked.await;
            let found = tokio::select! {
                () = self.closed() => return,
                found = discovery::discover(&servers, Some(self.topic.as_str()), tuning, tls) => found,
            };
            // While no server answers, the brokers are those they named last.
            if found.failures.len() < servers.len() {
                let addresses = match filter {
                    Some(filter) => filter(found.addresses),
                    None => found.addresses,
                };
                self.connect(|roster| roster.find(addresses));
            }
            found.failures.into_iter().for_each(|failure| self.failures.push(failure));
            self.inbox.lock().has_discovered = true;
            self.signal.notify();
            let changed = || (self.inbox.lock().roster.version() != version).then_some(());
            tokio::select! {
                () = self.closed() => return,
                () = self.signal.until(changed) => {}
                () = sleep(jittered(self.brokers.lookup_poll_interval, tuning.lookup_jitter)) => {}
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
            let mut was_ready = false;
            {
                let mut inbox = self.inbox.lock();
                if inbox.closed || !inbox.roster.contains(&address) {
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
                    self.tried(&address);
                    (is_down, was_ready) = (false, true);
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
            // Whoever waits for the first attempt finds its failure then.
            self.tried(&address);
            if was_ready {
                self.failures.events.push(ConnectionEvent::Closed { broker: Arc::clone(&broker) });
            }
            tokio::select! {
                () = self.closed() => {}
                () = sleep(backoff.delay()) => {}
            }
        }
        self.signal.notify();
    }

    /// Notes that an attempt at a broker is over.
    fn tried(&self, address: &str) {
        if let Some(tried) = self.inbox.lock().running.get_mut(address) {
            *tried = true;
        }
        self.signal.notify();
    }

    async fn subscribe(&self, address: &str) -> Result<Connection, WireError> {
        let mut connection = self.brokers.dial(address, Some(&self.options)).await?;
        let (topic, channel, start) = (&self.topic, &self.channel, self.options.start);
        if connection.is_extended() {
            let bytes_max = self.options.message_bytes_max();
            let is_new = connection.subscribe_at(topic, channel, start.into(), bytes_max, 0).await?;
            let mut inbox = self.inbox.lock();
            inbox.is_new = Some(is_new || inbox.is_new == Some(true));
            inbox.refusal = None;
            return Ok(connection);
        }
        let Some(missing) = self.options.beyond_nsq() else {
            connection.subscribe(topic, channel, 0).await?;
            return Ok(connection);
        };
        let refusal = Error::Unsupported { what: missing.to_owned(), broker: address.to_owned() };
        let error = WireError::Input(refusal.to_string());
        self.inbox.lock().refusal = Some(refusal);
        self.signal.notify();
        Err(error)
    }

    /// Passes messages and answers on until the connection ends. Returns why, unless it was closed from here,
    /// and how many messages came.
    async fn serve(&self, mut connection: Connection, broker: &Arc<str>) -> (Option<WireError>, u64) {
        let (sender, mut commands) = unbounded_channel();
        let max = match connection.max_rdy() {
            0 => u32::MAX,
            max => max,
        };
        let [granted, longest] = connection.message_timeouts();
        let untouched = self.options.msg_timeout_or(granted);
        // A broker that does not say extends no timeout.
        let timeouts = Timeouts { untouched, longest: longest.max(untouched) };
        let confirms = connection.is_extended();
        let link = Link { commands: sender, confirms, broker: Arc::clone(broker), timeouts };
        let id = self.inbox.lock().open(link, max);
        self.failures.events.push(super::connected(&connection, broker));
        let (mut messages, mut answers) = (0, Answers::default());
        let ended = loop {
            messages += self.deliver((id, timeouts), &mut connection, broker);
            while let Some(late) = connection.take_late() {
                self.refused(&late, broker);
            }
            answers.confirm(&mut connection, broker);
            if let count @ 1.. = connection.take_byte_credits() {
                self.inbox.lock().confirm_bytes(id, count);
            }
            tokio::select! {
                // Answers first: they make room for messages.
                biased;
                command = commands.recv() => {
                    if answers.run(command, &mut commands, &mut connection).is_break() {
                        break None;
                    }
                }
                progress = connection.progress() => if let Err(error) = progress {
                    break Some(error);
                },
            }
        };
        self.inbox.lock().end(id);
        answers.end(broker);
        while let Ok(command) = commands.try_recv() {
            self.lose(command, broker);
        }
        if ended.is_none() {
            let closed = connection.close().await;
            if let Err(error) = closed {
                let error = Error::Unreachable { why: error.to_string(), broker: broker.to_string() };
                self.failures.push(Failure { broker: Arc::clone(broker), message: None, error });
            }
        }
        (ended, messages)
    }

    /// Reports answers that came too late for their connection.
    fn lose(&self, command: Command, broker: &Arc<str>) {
        match command {
            Command::Answer(key, answer) => self.report(key.id, answer, broker),
            Command::Answers(keys, answer) => {
                keys.into_iter().for_each(|key| self.report(key.id, answer, broker));
            }
            Command::Confirm(confirmation) => confirmation.settle(Err(lost(broker))),
            Command::Credit(_) | Command::ByteCredit(_) | Command::Close => {}
        }
    }

    fn report(&self, id: MessageId, answer: Answer, broker: &Arc<str>) {
        // What was to be delivered again is.
        if answer == Answer::Finish {
            let error = lost(broker);
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
    fn deliver(
        &self,
        (connection, timeouts): (ConnectionId, Timeouts),
        from: &mut Connection,
        broker: &Arc<str>,
    ) -> u64 {
        let count = from.messages();
        if count == 0 {
            return 0;
        }
        let now = Instant::now();
        let (deadline, latest) = (now + timeouts.untouched, now + timeouts.longest);
        // Decoded before the lock: whoever takes messages does not wait meanwhile.
        let mut fetched = VecDeque::with_capacity(count);
        while let Some(message) = from.take_message() {
            let Message { id, timestamp, attempts, body, token, offset, headers } = message;
            let delivery = Delivery {
                key: DeliveryKey { id, token, connection },
                body,
                headers,
                attempts,
                timestamp,
                offset,
                broker: Arc::clone(broker),
            };
            fetched.push_back(Fetched { delivery, deadline, latest });
        }
        self.inbox.lock().put(connection, fetched);
        self.signal.notify();
        count as u64
    }
}

impl Source for RemoteSource {
    fn take(&self, max: usize, sink: &mut dyn FnMut(Delivery)) -> Option<Result<()>> {
        let mut inbox = self.inbox.lock();
        if inbox.closed {
            return Some(Err(Error::Closed));
        }
        let count = inbox.take(max, Instant::now(), sink);
        match (count, &inbox.refusal) {
            (0, Some(refusal)) => Some(Err(refusal.clone())),
            (0, None) => None,
            _ => Some(Ok(())),
        }
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
            let (count, bytes) = (run.len(), run.bytes);
            match inbox.command(connection, run.command(answer)) {
                Ok(()) if answer != Answer::Touch => inbox.answered(connection, count, bytes),
                Ok(()) => {}
                Err(command) => lost.push((command, Arc::clone(&first.broker))),
            }
        }
        let is_waited_for = !inbox.fetched.is_empty();
        drop(inbox);
        // What the maximum kept back may be taken now.
        if is_waited_for {
            self.signal.notify();
        }
        for (command, broker) in lost {
            self.lose(command, &broker);
        }
    }

    fn failures(&self) -> &Failures {
        &self.failures
    }

    fn close(&self) {
        let mut inbox = self.inbox.lock();
        inbox.close();
        drop(inbox);
        self.signal.notify();
    }

    fn is_over(&self) -> bool {
        let inbox = self.inbox.lock();
        inbox.closed && inbox.running.is_empty()
    }

    fn msg_timeout(&self) -> Duration {
        // Bounds the delay of what nobody answers: the default does for brokers whose own is in force.
        self.options.msg_timeout_or(MSG_TIMEOUT)
    }

    fn is_new(&self) -> Option<bool> {
        self.inbox.lock().is_new
    }

    fn is_open(&self) -> bool {
        self.inbox.lock().is_open()
    }

    fn confirm(&self, deadline: Option<Instant>) -> Result<bool> {
        let confirmation = Arc::new(Confirmation::default());
        {
            let inbox = self.inbox.lock();
            if inbox.closed {
                return Err(Error::Closed);
            }
            if let Some(link) = inbox.links.values().find(|link| !link.confirms) {
                let what = "to confirm that messages are finished".to_owned();
                return Err(Error::Unsupported { what, broker: link.broker.to_string() });
            }
            for link in inbox.links.values() {
                confirmation.expect();
                if link.commands.send(Command::Confirm(Arc::clone(&confirmation))).is_err() {
                    confirmation.settle(Err(lost(&link.broker)));
                }
            }
        }
        confirmation.wait(deadline)
    }

    fn set_max_in_flight(&self, max: u32) {
        self.inbox.lock().handle(Event::SetMax(max));
        self.signal.notify();
    }

    fn add_broker(self: Arc<Self>, address: String) -> Result<()> {
        self.connect_broker(&address);
        Ok(())
    }

    fn is_starved(&self) -> bool {
        self.inbox.lock().distributor.is_starved()
    }
}

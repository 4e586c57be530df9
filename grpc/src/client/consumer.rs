//! Consuming a channel from one or many brokers.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_stream::Stream;

use super::brokers::{Brokers, Found, watch};
use super::feed::{Delivery, Fed, Feed};
use super::{Error, Target};
use crate::v1::{StartPosition, SubscribeCredit, SubscribeOpen};

/// Batches that wait to be taken, of all brokers.
const BATCHES: usize = 2;

/// Settings of a consumer.
#[derive(Clone, Debug)]
pub struct ConsumerOptions {
    /// Messages in flight, of each broker. They are in the program's memory, and touched until the program
    /// has answered them.
    pub in_flight: u32,
    /// Bytes of bodies in flight, of each broker; 0 for any number.
    pub in_flight_bytes: u64,
    /// Longest time for a message in flight; zero for the broker's default.
    pub msg_timeout: Duration,
    /// The percentage of the messages to be delivered; 0 for all.
    pub sample_rate: u8,
    /// The position at which a new channel starts.
    pub start: Option<StartPosition>,
    /// A name that brokers know it by.
    pub client_name: String,
}

impl Default for ConsumerOptions {
    fn default() -> Self {
        Self {
            in_flight: 256,
            in_flight_bytes: 0,
            msg_timeout: Duration::ZERO,
            sample_rate: 0,
            start: None,
            client_name: String::new(),
        }
    }
}

/// A subscription to a channel at each broker there is, kept up through restarts of them. Dropping it ends
/// it: what was said of its messages is still sent, what the program never took is given back without
/// counting as an attempt, and the rest returns to the channel at once.
#[derive(Debug)]
pub struct Consumer {
    batches: mpsc::Receiver<Fed>,
    deliveries: VecDeque<Delivery>,
    /// Ends when all feeds have.
    alive: mpsc::Receiver<Infallible>,
}

impl Consumer {
    /// Consumes `channel` of `topic`. Starts a task for each broker.
    pub fn new(brokers: Brokers, topic: &str, channel: &str, options: ConsumerOptions) -> Self {
        let (sender, batches) = mpsc::channel(BATCHES);
        let (living, alive) = mpsc::channel(1);
        let open = SubscribeOpen {
            topic: topic.to_owned(),
            channel: channel.to_owned(),
            start: options.start,
            credit: Some(SubscribeCredit {
                messages: Some(options.in_flight),
                bytes: Some(options.in_flight_bytes),
            }),
            msg_timeout_ms: u64::try_from(options.msg_timeout.as_millis()).unwrap_or(u64::MAX),
            sample_rate: options.sample_rate.into(),
            client_name: options.client_name.clone(),
            // Its stream takes messages of any size.
            max_message_bytes: Some(0),
        };
        match brokers {
            Brokers::Fixed(targets) => {
                let wanted = Arc::new(AtomicBool::new(true));
                for target in targets {
                    let (open, deliveries) = (open.clone(), sender.clone());
                    let (wanted, _alive) = (Arc::clone(&wanted), living.clone());
                    tokio::spawn(Feed { target, open, deliveries, _alive, wanted }.run());
                }
            }
            Brokers::Discovered(services) => {
                tokio::spawn(discover(services, open, sender, living));
            }
        }
        Self { batches, deliveries: VecDeque::new(), alive }
    }

    /// Ends the subscriptions, as dropping it does, and waits until the brokers have what was said last, a
    /// second at most.
    pub async fn close(mut self) {
        self.end();
        // Nothing ever comes.
        let _ = self.alive.recv().await;
    }

    /// The next message, unless it is known to come again: its stream broke, or its timeout had passed when
    /// it was touched. `None` when no broker is left to ask.
    ///
    /// # Errors
    /// `Refused` if a broker refuses for good, which ends its part.
    pub async fn next(&mut self) -> Option<Result<Delivery, Error>> {
        std::future::poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }
}

impl Consumer {
    /// Has the feeds end.
    fn end(&mut self) {
        // Before they hear of it, and send what was said last; what arrives in between once more.
        self.give_back();
        self.batches.close();
        self.give_back();
    }

    /// Releases the messages that the program has not taken.
    fn give_back(&mut self) {
        self.deliveries.drain(..).for_each(Delivery::release);
        while let Ok(batch) = self.batches.try_recv() {
            batch.into_iter().flatten().for_each(Delivery::release);
        }
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.end();
    }
}

impl Stream for Consumer {
    type Item = Result<Delivery, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            // Others come again, and are then handed out.
            while let Some(delivery) = self.deliveries.pop_front() {
                if delivery.is_in_flight() {
                    return Poll::Ready(Some(Ok(delivery)));
                }
            }
            match ready!(self.batches.poll_recv(cx)) {
                None => return Poll::Ready(None),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                Some(Ok(batch)) => self.deliveries = batch.into(),
            }
        }
    }
}

/// Keeps a feed for each broker that a service names.
async fn discover(
    services: Vec<Target>,
    open: SubscribeOpen,
    deliveries: mpsc::Sender<Fed>,
    alive: mpsc::Sender<Infallible>,
) {
    let (sender, mut found) = mpsc::channel(services.len().max(1));
    for (number, service) in services.iter().enumerate() {
        tokio::spawn(watch(number, service.clone(), open.topic.clone(), sender.clone()));
    }
    drop(sender);
    let mut said: Vec<BTreeSet<String>> = vec![BTreeSet::new(); services.len()];
    let mut feeds: BTreeMap<String, (Arc<AtomicBool>, tokio::task::JoinHandle<()>)> = BTreeMap::new();
    loop {
        let Found { service, addresses } = tokio::select! {
            found = found.recv() => match found {
                Some(found) => found,
                None => return,
            },
            () = deliveries.closed() => return,
        };
        said[service] = addresses;
        for (address, (wanted, _)) in &feeds {
            wanted.store(said.iter().any(|addresses| addresses.contains(address)), Ordering::Relaxed);
        }
        feeds.retain(|_, (_, task)| !task.is_finished());
        for address in &said[service] {
            let Entry::Vacant(vacant) = feeds.entry(address.clone()) else { continue };
            let target = match services[service].at(address) {
                Ok(target) => target,
                Err(error) => {
                    tracing::warn!(%error, "a broker that discovery names can't be reached");
                    continue;
                }
            };
            let wanted = Arc::new(AtomicBool::new(true));
            let feed = Feed {
                target,
                open: open.clone(),
                deliveries: deliveries.clone(),
                _alive: alive.clone(),
                wanted: Arc::clone(&wanted),
            };
            vacant.insert((wanted, tokio::spawn(feed.run())));
        }
    }
}

//! Brokers over the network. `producer` sends what is published, `consumer` keeps the connections of
//! subscriptions to those of its `roster`, `inbox` has what they bring, `answers` passes on what becomes of
//! messages, `discovery` asks lookup servers, `tuning` has the settings of go-nsq's surface.

mod answers;
mod consumer;
mod discovery;
mod inbox;
mod peeker;
mod producer;
#[cfg(test)]
mod resend_test;
mod roster;
mod tuning;

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use mq_core::sync::Mutex;
use mq_core::{ChannelName, MessageId, TopicName};
use mq_nsq::client::{ClientTls, ClientTlsOptions, Connection, Identify, Secret};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::config::{Compression, Config, PublishTo, Retry};
use crate::error::{Error, Result};
use crate::events::{ConnectionEvent, Events};
use crate::fork::OncePerProcess;
use crate::peeked::Peeked;
use crate::publish::{Buffer, Publication, Queue};
use crate::subscription::{Source, SubscribeOptions};
use crate::url::{HTTPS, Place};

pub(crate) use consumer::RemoteSource;
use peeker::Peeker;
use producer::addresses;
pub(crate) use tuning::Tuning;

/// Threads of the one runtime of the process: they only move bytes. With a second one, each wake-up of a
/// connection went through both: one of them ran it, and woke the other to watch the sockets.
const THREADS: usize = 1;
/// Time for which an address at which the extension was refused is spoken to without.
const PLAIN: Duration = Duration::from_secs(10 * 60);
/// Delay before the first new attempt to connect.
const DELAY_MIN: Duration = Duration::from_millis(10);

/// The runtime that all clients of the process share.
pub(crate) fn runtime() -> Result<&'static Handle> {
    /// The runtime of the process of this generation: in a child of `fork` the threads of the parent's are
    /// not there. Never freed.
    static RUNTIME: OncePerProcess<Runtime> = OncePerProcess::new();
    let runtime = RUNTIME.get_or_try_init(|| {
        let build = || {
            let mut builder = Builder::new_multi_thread();
            builder.worker_threads(THREADS).thread_name("libmq").enable_all().build()
        };
        // It panics where the process has no descriptors or threads left.
        let none_left = || std::io::Error::other("no threads or file descriptors are left");
        std::panic::catch_unwind(build).unwrap_or_else(|_| Err(none_left()))
    });
    let refused = |error: std::io::Error| Error::Refused {
        why: error.to_string(),
        broker: "the system of this process".to_owned(),
        retry: true,
    };
    Ok(runtime.map_err(refused)?.handle())
}

/// Begins a subscription whose brokers are named later.
pub(crate) fn consume(
    is_tls: bool,
    config: &Config,
    tuning: Tuning,
    (topic, channel): (TopicName, ChannelName),
    options: SubscribeOptions,
) -> Result<Arc<RemoteSource>> {
    let place = Place::Brokers { addresses: Vec::new(), tls: is_tls };
    let brokers = Arc::new(Brokers::new(place, config, tuning)?);
    Ok(consumer::start(brokers, runtime()?, topic, channel, options))
}

/// A client's brokers over the network.
pub(crate) struct Remote {
    brokers: Arc<Brokers>,
    queue: Arc<Queue>,
    peeker: Arc<tokio::sync::Mutex<Peeker>>,
    runtime: &'static Handle,
}

/// The brokers of a client, and what it says to them.
pub(crate) struct Brokers {
    place: Place,
    name: String,
    identify: Identify,
    /// Settings of questions to lookup servers over TLS, if there are such servers.
    lookup_tls: Option<ClientTls>,
    max_delay: Duration,
    lookup_poll_interval: Duration,
    retry: Retry,
    tuning: Tuning,
    /// The last reason why nothing could be sent.
    obstacle: Mutex<String>,
    /// Brokers that lookup servers named last. They count as long as no server answers.
    found: Mutex<Vec<String>>,
    /// Addresses at which the extension was offered and not taken, and until when it is not tried again.
    /// Bounded by the addresses there are.
    plain: Mutex<HashMap<String, Instant>>,
    /// Events of the connection that publishes.
    events: Events,
}

impl Brokers {
    pub(crate) async fn dial(
        &self,
        address: &str,
        options: Option<&SubscribeOptions>,
    ) -> Result<Connection, mq_nsq::client::Error> {
        let msg_timeout = options.map(|options| options.msg_timeout).filter(|timeout| !timeout.is_zero());
        let sample_rate = options.map_or(0, |options| options.sample_rate);
        let extension = self.identify.extension && !self.is_plain(address);
        let identify = Identify { msg_timeout, sample_rate, extension, ..self.identify.clone() };
        match self.connect(address, identify.clone()).await {
            // Something in between knows only NSQ's commands.
            Err(mq_nsq::client::Error::NotUpgraded(_)) => {
                self.plain.lock().insert(address.to_owned(), Instant::now() + PLAIN);
                self.connect(address, Identify { extension: false, ..identify }).await
            }
            other => other,
        }
    }

    async fn connect(&self, address: &str, identify: Identify) -> Result<Connection, mq_nsq::client::Error> {
        let connected = timeout(self.tuning.dial_timeout, Connection::connect(address, identify)).await;
        connected.map_err(|_| mq_nsq::client::Error::Timeout)?
    }

    async fn ping(&self) -> Result<()> {
        let mut failed = Error::Invalid("there is no broker to ask".to_owned());
        for address in addresses(self).await {
            match self.dial(&address, None).await {
                Ok(connection) => {
                    // It was there, however its connection ends.
                    let _ = connection.close().await;
                    return Ok(());
                }
                Err(error) => failed = Error::Unreachable { why: error.to_string(), broker: address },
            }
        }
        Err(failed)
    }

    /// Whether there is only one, and always the same.
    fn is_one(&self) -> bool {
        matches!(&self.place, Place::Brokers { addresses, .. } if addresses.len() == 1)
    }

    /// Whether the extension is not to be tried at this address for now.
    fn is_plain(&self, address: &str) -> bool {
        let mut plain = self.plain.lock();
        let now = Instant::now();
        plain.retain(|_, until| *until > now);
        plain.contains_key(address)
    }
}

impl Brokers {
    fn new(place: Place, config: &Config, tuning: Tuning) -> Result<Self> {
        let name = match &place {
            Place::Brokers { addresses, .. } => addresses.join(","),
            Place::Lookup { servers, .. } => format!("the brokers of {}", servers.join(",")),
            Place::Folder(_) | Place::Memory => String::new(),
        };
        let tls = ClientTlsOptions {
            root_ca_file: config.tls_root_ca_file.clone(),
            insecure_skip_verify: config.tls_insecure,
            server_name: config.tls_server_name.clone(),
            identity: config.tls_cert_file.clone().zip(config.tls_key_file.clone()),
            min_version: tuning.tls_min_version,
        };
        let is_tls = matches!(place, Place::Brokers { tls: true, .. } | Place::Lookup { tls: true, .. });
        let asks_over_tls = matches!(&place, Place::Lookup { servers, .. } if servers.iter().any(|server| server.starts_with(HTTPS)));
        let loaded = (is_tls || asks_over_tls).then(|| ClientTls::load(&tls));
        let loaded = loaded.transpose().map_err(Error::invalid)?;
        let (tls, lookup_tls) = (loaded.clone().filter(|_| is_tls), loaded.filter(|_| asks_over_tls));
        let identify = Identify {
            client_id: config.client_id.clone(),
            user_agent: match &config.user_agent {
                user_agent if user_agent.is_empty() => {
                    concat!("libmq/", env!("CARGO_PKG_VERSION")).to_owned()
                }
                user_agent => user_agent.clone(),
            },
            heartbeat_interval: Some(config.heartbeat_interval),
            snappy: config.compression == Compression::Snappy,
            deflate: match config.compression {
                Compression::Deflate(level) => Some(level),
                Compression::None | Compression::Snappy => None,
            },
            tls,
            extension: config.extension,
            auth_secret: config.auth_secret.as_ref().map(|secret| Secret::new(secret.as_bytes().into())),
            ..tuning.identify.clone()
        };
        Ok(Self {
            place,
            name,
            identify,
            lookup_tls,
            max_delay: config.max_reconnect_delay,
            lookup_poll_interval: config.lookup_poll_interval,
            retry: config.retry,
            tuning,
            obstacle: Mutex::default(),
            found: Mutex::default(),
            plain: Mutex::default(),
            events: Events::default(),
        })
    }
}

impl Remote {
    pub(crate) fn start(place: Place, config: &Config, tuning: Tuning, buffer: &Arc<Buffer>) -> Result<Self> {
        let brokers = Arc::new(Brokers::new(place, config, tuning)?);
        let queue = Arc::new(Queue::new(buffer));
        let runtime = runtime()?;
        let (to, from) = (Arc::clone(&brokers), Arc::clone(&queue));
        match config.publish_to {
            PublishTo::One => runtime.spawn(producer::run(to, from)),
            PublishTo::All => runtime.spawn(producer::run_all(to, from)),
        };
        Ok(Self { brokers, queue, peeker: Arc::default(), runtime })
    }

    pub(crate) fn name(&self) -> &str {
        &self.brokers.name
    }

    pub(crate) fn obstacle(&self) -> String {
        match &*self.brokers.obstacle.lock() {
            obstacle if obstacle.is_empty() => format!("{} does not answer", self.name()),
            obstacle => obstacle.clone(),
        }
    }

    pub(crate) fn events(&self) -> &Events {
        &self.brokers.events
    }

    /// Connects before there is anything to send, and again whenever the connection is lost.
    pub(crate) fn stay_connected(&self) {
        self.queue.stay_due();
    }

    pub(crate) fn push(&self, publication: Publication) {
        self.queue.push(publication);
    }

    pub(crate) fn subscribe(
        &self,
        topic: TopicName,
        channel: ChannelName,
        options: SubscribeOptions,
    ) -> Result<Arc<dyn Source>> {
        Ok(consumer::start(Arc::clone(&self.brokers), self.runtime, topic, channel, options))
    }

    /// Connects to one of the brokers, and closes that connection again.
    pub(crate) fn ping(&self) -> Result<()> {
        let brokers = Arc::clone(&self.brokers);
        self.wait(async move { brokers.ping().await })
    }

    /// Looks at a topic of one of the brokers, on the runtime.
    pub(crate) fn peek(
        &self,
        topic: TopicName,
        from: Option<MessageId>,
        max: usize,
    ) -> impl Future<Output = Result<Peeked>> + Send + use<> {
        let (brokers, peeker) = (Arc::clone(&self.brokers), Arc::clone(&self.peeker));
        async move { peeker.lock().await.peek(&brokers, &topic, from, max).await }
    }

    pub(crate) fn spawn<R: Send + 'static>(
        &self,
        work: impl Future<Output = R> + Send + 'static,
    ) -> JoinHandle<R> {
        self.runtime.spawn(work)
    }

    /// Waits for work on the runtime.
    pub(crate) fn wait<R: Send + 'static>(
        &self,
        work: impl Future<Output = Result<R>> + Send + 'static,
    ) -> Result<R> {
        let (sender, answer) = sync_channel(1);
        self.runtime.spawn(async move {
            // Nobody waits any more where it can't be sent.
            let _ = sender.send(work.await);
        });
        answer.recv().map_err(|_| Error::Closed)?
    }

    /// Sends what is queued, as long as a broker is reached, and takes no more.
    pub(crate) fn close(&self) {
        self.queue.close();
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        self.close();
    }
}

/// The event of a connection that is ready.
fn connected(connection: &Connection, broker: &Arc<str>) -> ConnectionEvent {
    let [msg_timeout, max_msg_timeout] = connection.message_timeouts();
    ConnectionEvent::Connected { broker: Arc::clone(broker), msg_timeout, max_msg_timeout }
}

/// Delays between attempts: each twice the last, and each cut by up to a half at random, so that the clients
/// of a broker that was restarted don't come all at once.
struct Backoff {
    next: Duration,
    max: Duration,
}

impl Backoff {
    fn new(max: Duration) -> Self {
        Self { next: DELAY_MIN, max }
    }

    fn reset(&mut self) {
        self.next = DELAY_MIN;
    }

    fn delay(&mut self) -> Duration {
        let delay = self.next;
        self.next = (2 * delay).min(self.max);
        delay.mul_f64(0.5 + fastrand::f64() / 2.0)
    }
}

/// An interval lengthened by up to `share` of it at random.
fn jittered(interval: Duration, share: f64) -> Duration {
    interval.mul_f64(1.0 + share * fastrand::f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_their_bound() {
        let mut backoff = Backoff::new(Duration::from_millis(35));
        for longest in [10, 20, 35, 35] {
            let longest = Duration::from_millis(longest);
            let delay = backoff.delay();
            assert!(delay >= longest / 2 && delay <= longest, "{delay:?} of {longest:?}");
        }
        backoff.reset();
        assert!(backoff.delay() <= DELAY_MIN);
    }
}

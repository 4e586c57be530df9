//! The connection to one lookup server.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use mq_core::{TopicName, TopicNo};
use parking_lot::{Mutex, MutexGuard};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until, timeout};

use super::names::Names;
use super::registration::{Next, Registration};
use crate::wire::lookup::{self, Identity};
use mq_net::transport::Transport;

/// Longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Longest time without progress in writing to the server.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);

/// State of the registration at one lookup server.
#[derive(Clone, Debug, Default)]
pub(super) struct LinkState {
    /// The server's description of itself: there while the broker is registered at it.
    pub(super) server: Option<Identity>,
    /// The latest names that it knows all of.
    pub(super) confirmed: Arc<Names>,
    /// Reason why the last connection ended or was not made.
    pub(super) error: Option<String>,
}

/// The state of each link, shared by the announcer and its links.
#[derive(Default)]
pub(super) struct LinkStates {
    by_address: Mutex<BTreeMap<String, LinkState>>,
    /// Wakes the announcer's task when a link's state has changed.
    pub(super) changed: Notify,
}

impl LinkStates {
    /// Locks the states, by address. Held for moments.
    pub(super) fn lock(&self) -> MutexGuard<'_, BTreeMap<String, LinkState>> {
        self.by_address.lock()
    }

    fn change(&self, address: &str, change: impl FnOnce(&mut LinkState)) {
        if let Some(state) = self.by_address.lock().get_mut(address) {
            change(state);
        }
        self.changed.notify_one();
    }

    /// Whether every server that the broker is registered at knows the topic.
    pub(super) fn all_know(&self, topic: &TopicName, no: TopicNo) -> bool {
        let states = self.by_address.lock();
        let mut registered = states.values().filter(|state| state.server.is_some());
        registered.all(|state| state.confirmed.has(topic, no))
    }
}

/// Keeps the server at `address` registered with `names`. Never ends.
pub(super) async fn run(
    address: String,
    identity: Arc<lookup::BrokerIdentity>,
    mut names: watch::Receiver<Arc<Names>>,
    states: Arc<LinkStates>,
) {
    let mut registration = Registration::new(identity, Instant::now());
    loop {
        let next = registration.step(Instant::now(), &names.borrow().clone(), &mut Vec::new());
        if let Ok(Next::Wait(until)) = next {
            sleep_until(until).await;
            continue;
        }
        let connected = timeout(CONNECT_TIMEOUT, Transport::connect(&address)).await;
        let why = match connected {
            Ok(Ok(transport)) => {
                let Err(why) = talk(&mut registration, transport, &mut names, &address, &states).await;
                why
            }
            Ok(Err(error)) => format!("no connection: {error}"),
            Err(_) => format!("no connection within {CONNECT_TIMEOUT:?}"),
        };
        states.change(&address, |state| {
            *state = LinkState { error: Some(why.clone()), ..LinkState::default() };
        });
        let pause = registration.lost(Instant::now(), fastrand::f64());
        tracing::warn!(lookupd = address, ?pause, "{why}");
    }
}

/// A type without values.
enum Never {}

/// Talks until the connection is of no use any more.
async fn talk(
    registration: &mut Registration,
    mut transport: Transport,
    names: &mut watch::Receiver<Arc<Names>>,
    address: &str,
    states: &LinkStates,
) -> Result<Never, String> {
    let mut out = Vec::new();
    let mut piece = [0; 4096];
    let mut is_registered = false;
    let mut confirmed = Arc::default();
    registration.connected(Instant::now(), &mut out);
    loop {
        let current = names.borrow_and_update().clone();
        let next = registration.step(Instant::now(), &current, &mut out)?;
        if !Arc::ptr_eq(&confirmed, registration.confirmed()) {
            confirmed = registration.confirmed().clone();
            states.change(address, |state| state.confirmed = confirmed.clone());
        }
        if !out.is_empty() {
            let written = timeout(WRITE_TIMEOUT, transport.write_all(&out)).await;
            written.map_err(|_| "it takes nothing".to_owned())?.map_err(|error| error.to_string())?;
            out.clear();
        }
        let until = match next {
            Next::Wait(until) => until,
            Next::Connect => return Err("not connected".to_owned()),
        };
        tokio::select! {
            read = transport.read(&mut piece) => match read {
                Ok(0) => return Err("it closed the connection".to_owned()),
                Ok(count) => {
                    if let Some(complaint) = registration.receive(&piece[..count], &current)? {
                        tracing::warn!(lookupd = address, "{complaint}");
                    }
                    if let (false, Some(server)) = (is_registered, registration.server()) {
                        is_registered = true;
                        tracing::info!(lookupd = address, version = server.version, "registered");
                        let server = Some(server.clone());
                        states.change(address, |state| {
                            *state = LinkState { server, ..LinkState::default() };
                        });
                    }
                }
                Err(error) => return Err(error.to_string()),
            },
            changed = names.changed() => changed.map_err(|_| "the broker stops".to_owned())?,
            () = sleep_until(until) => {}
        }
    }
}

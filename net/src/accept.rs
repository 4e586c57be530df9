//! The loop that accepts connections, for every protocol: each connection gets a task of its own, a bounded
//! number at a time, until the server stops.

use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::linger::{LINGER, linger};
use crate::transport::{Listener, Transport};

/// Pause after a failed accept, doubled by each further one: most often the process is out of file
/// descriptors, and others give some back in this time.
const PAUSE_MIN: Duration = Duration::from_millis(5);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// Longest time for a handshake of TLS or compression: a slow phone needs 3 s.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Connections that get the reason of their refusal at a time, each for a second at most. Further ones are
/// closed without a word, or a flood would take the file descriptors that the log needs.
const REFUSALS_MAX: usize = 256;

/// Fate of a connection beyond the limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Excess {
    /// The connection waits in the system's queue until another has ended.
    Waits,
    /// The connection gets these bytes and is closed.
    Refused(Vec<u8>),
}

/// A place among the connections of a server, free again when dropped.
#[derive(Debug)]
pub struct Place {
    _permit: OwnedSemaphorePermit,
}

/// A server's rule for connections: their protocol, as log lines name it, and how many there may be.
#[derive(Debug)]
pub struct Acceptor {
    protocol: &'static str,
    connections_max: usize,
    places: Arc<Semaphore>,
    excess: Excess,
}

impl Acceptor {
    /// At most `connections_max` places; a connection beyond them is `excess`.
    pub fn new(protocol: &'static str, connections_max: usize, excess: Excess) -> Self {
        let places = Arc::new(Semaphore::new(connections_max.min(Semaphore::MAX_PERMITS)));
        Self { protocol, connections_max, places, excess }
    }

    /// Accepts until `stop`. The future that `serve` makes of a connection and its peer's address runs in a
    /// task of its own. The connection counts as long as its [`Place`] is held.
    pub async fn run<F>(
        &self,
        listener: &Listener,
        stop: impl Future<Output = ()>,
        serve: impl FnMut(Transport, String, Place) -> F,
    ) -> Connections
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.run_on(|| listener.accept(), stop, serve).await
    }

    async fn run_on<A, F>(
        &self,
        mut next: impl FnMut() -> A,
        stop: impl Future<Output = ()>,
        mut serve: impl FnMut(Transport, String, Place) -> F,
    ) -> Connections
    where
        A: Future<Output = io::Result<(Transport, String)>>,
        F: Future<Output = ()> + Send + 'static,
    {
        let mut stop = pin!(stop);
        let mut tasks = JoinSet::new();
        let mut refusals = JoinSet::new();
        let mut pause = PAUSE_MIN;
        loop {
            let accepted = tokio::select! {
                () = &mut stop => break,
                Some(_) = tasks.join_next() => continue,
                Some(_) = refusals.join_next() => continue,
                accepted = self.admit(&mut next) => accepted,
            };
            match accepted {
                Ok((transport, peer, Some(place))) => {
                    pause = PAUSE_MIN;
                    tasks.spawn(serve(transport, peer, place));
                }
                Ok((transport, peer, None)) => {
                    pause = PAUSE_MIN;
                    let (protocol, limit) = (self.protocol, self.connections_max);
                    tracing::warn!(protocol, peer, limit, "connection refused: limit reached");
                    if let Excess::Refused(reason) = &self.excess
                        && !reason.is_empty()
                        && refusals.len() < REFUSALS_MAX
                    {
                        refusals.spawn(refuse(transport, reason.clone()));
                    }
                }
                Err(error) => {
                    tracing::warn!(protocol = self.protocol, %error, ?pause, "accept failed");
                    tokio::select! {
                        () = &mut stop => break,
                        () = sleep(pause) => {}
                    }
                    pause = (pause * 2).min(PAUSE_MAX);
                }
            }
        }
        Connections { protocol: self.protocol, tasks }
    }

    /// The next connection and its place; `None` if there is none for it.
    async fn admit<A>(&self, next: &mut impl FnMut() -> A) -> io::Result<(Transport, String, Option<Place>)>
    where
        A: Future<Output = io::Result<(Transport, String)>>,
    {
        let waited = match self.excess {
            // The semaphore is never closed.
            Excess::Waits => Arc::clone(&self.places).acquire_owned().await.ok(),
            Excess::Refused(_) => None,
        };
        let (transport, peer) = next().await?;
        let permit = waited.or_else(|| Arc::clone(&self.places).try_acquire_owned().ok());
        Ok((transport, peer, permit.map(|permit| Place { _permit: permit })))
    }
}

/// Sends the reason and leaves a second to read it, whatever the client has sent meanwhile.
async fn refuse(mut transport: Transport, reason: Vec<u8>) {
    // A client that takes nothing loses the reason.
    if let Ok(Ok(())) = timeout(LINGER, transport.write_all(&reason)).await {
        linger(&mut transport).await;
    }
}

/// The connections of a server that has stopped to accept. Dropped, they end at once.
#[derive(Debug)]
pub struct Connections {
    protocol: &'static str,
    tasks: JoinSet<()>,
}

impl Connections {
    /// Waits until all have ended by themselves; cuts off those that have not after `patience`.
    pub async fn drain(mut self, patience: Duration) {
        let deadline = Instant::now() + patience;
        let ended = timeout_at(deadline, async { while self.tasks.join_next().await.is_some() {} }).await;
        if ended.is_err() {
            tracing::warn!(protocol = self.protocol, connections = self.tasks.len(), "connections cut off");
            self.tasks.shutdown().await;
        }
    }

    /// Drops all connections, and waits until their tasks have ended.
    pub async fn cut(mut self) {
        self.tasks.shutdown().await;
    }
}

/// Awaits the handshake of a connection. `None` if it fails, or takes longer than [`HANDSHAKE_TIMEOUT`].
pub async fn handshake<E: std::fmt::Display>(
    protocol: &'static str,
    peer: &str,
    handshake: impl Future<Output = Result<Transport, E>>,
) -> Option<Transport> {
    match timeout(HANDSHAKE_TIMEOUT, handshake).await {
        Ok(Ok(transport)) => Some(transport),
        Ok(Err(error)) => {
            tracing::debug!(protocol, peer, %error, "TLS handshake failed");
            None
        }
        Err(_) => {
            tracing::debug!(protocol, peer, limit = ?HANDSHAKE_TIMEOUT, "TLS handshake takes too long");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::ready;

    use tokio::sync::mpsc;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn after_failed_accepts_the_next_one_comes_later_and_later() {
        let acceptor = Acceptor::new("test", 1, Excess::Waits);
        let began = Instant::now();
        let (sender, mut tried) = mpsc::unbounded_channel();
        let next = || {
            let _ = sender.send(began.elapsed());
            ready(Err(io::Error::from_raw_os_error(24)))
        };
        let serve = |_, _, _| ready(());
        let mut times = Vec::new();
        let stop = async {
            while times.len() < 11 {
                times.extend(tried.recv().await);
            }
        };
        acceptor.run_on(next, stop, serve).await;
        let pauses: Vec<u128> = times.windows(2).map(|pair| (pair[1] - pair[0]).as_millis()).collect();
        assert_eq!(pauses, [5, 10, 20, 40, 80, 160, 320, 640, 1000, 1000]);
    }
}

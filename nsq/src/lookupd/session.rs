//! A broker's connection.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use mq_core::discovery::{Producer, ProducerId};
use mq_core::{ChannelName, Error, TopicName, Wake};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::config::PING_INTERVAL;
use crate::wire::error::{Code, WireError};
use crate::wire::lookup::{self, BODY_BYTES_MAX, BrokerIdentity, Command, LINE_BYTES_MAX, Parse};
use crate::wire::name::Name;
use mq_net::budget::{Account, Budget, Closed, FREE_BYTES};
use mq_net::directory::Directory;
use mq_net::linger::linger;
use mq_net::signal::Signal;
use mq_net::transport::Transport;

/// Longest wait for IDENTIFY on a new connection.
const IDENTIFY_TIMEOUT: Duration = Duration::from_secs(4 * PING_INTERVAL.as_secs());
/// Longest time without progress in writing answers to a broker.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// Read at a time, and at most one command more is held.
const READ_BYTES: usize = 4 * 1024;

/// State that all sessions share.
pub(super) struct Shared {
    pub(super) directory: Arc<Directory>,
    /// The answer to IDENTIFY.
    pub(super) identity: String,
    /// Longest silence of a broker.
    pub(super) idle_timeout: Duration,
    /// Memory for half-read commands and unread answers.
    pub(super) budget: Budget,
}

/// Serves a broker until it leaves, breaks a rule or falls silent.
pub(super) async fn serve(shared: Arc<Shared>, mut transport: Transport, peer: String) {
    let signal = Arc::new(Signal::default());
    let account = shared.budget.account(Arc::clone(&signal) as Arc<dyn Wake>);
    let mut session = Session { shared, peer, registered: None, account, signal };
    let why = session.run(&mut transport).await;
    tracing::info!(peer = session.peer, "lookup connection ends: {}", why.unwrap_or("closed".into()));
}

struct Session {
    shared: Arc<Shared>,
    /// The other end's address.
    peer: String,
    /// Since IDENTIFY.
    registered: Option<ProducerId>,
    account: Account,
    /// Wakes when the account may grow, or is to close.
    signal: Arc<Signal>,
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Some(id) = self.registered {
            self.shared.directory.disconnect(id);
        }
    }
}

impl Session {
    /// Runs the session. Returns the reason of its end, if that is not the broker's close.
    async fn run(&mut self, transport: &mut Transport) -> Option<String> {
        let mut buf = Vec::new();
        let mut out = Vec::new();
        let mut greeted = false;
        loop {
            if !greeted && buf.len() >= lookup::MAGIC.len() {
                if buf[..4] != lookup::MAGIC {
                    let error = WireError::new(Code::BadProtocol, "");
                    return Some(refuse(transport, &mut out, &error).await);
                }
                buf.drain(..4);
                greeted = true;
            }
            let mut stage = None;
            if greeted {
                match self.commands(&mut buf, &mut out) {
                    Ok(incomplete) => stage = Some(incomplete),
                    Err(error) => return Some(refuse(transport, &mut out, &error).await),
                }
            }
            self.account.set(buf.capacity() + out.capacity());
            if let Err(error) = write(transport, &mut out).await {
                return Some(error.to_string());
            }
            self.account.set(buf.capacity());
            let patience = match self.registered {
                Some(_) => self.shared.idle_timeout,
                None => IDENTIFY_TIMEOUT,
            };
            let (account, signal) = (&mut self.account, &self.signal);
            let reading = async {
                let spent = |closed| io::Error::new(io::ErrorKind::OutOfMemory, closed);
                if buf.len() >= FREE_BYTES {
                    account.room(signal).await.map_err(spent)?;
                }
                tokio::select! {
                    read = read(transport, &mut buf) => read,
                    () = account.closed(signal) => Err(spent(Closed)),
                }
            };
            match timeout(patience, reading).await {
                Ok(Ok(0)) => {
                    // The broker may have closed only its own side.
                    let error = stage.and_then(lookup::Stage::at_end)?;
                    return Some(refuse(transport, &mut out, &error).await);
                }
                Ok(Ok(_)) => {}
                Ok(Err(error)) => return Some(error.to_string()),
                Err(_) => return Some(format!("silent for {patience:?}")),
            }
        }
    }

    /// Does what is in `buf` and takes it out. Gives how far the last command got, or the error that ends it
    /// all.
    fn commands(&mut self, buf: &mut Vec<u8>, out: &mut Vec<u8>) -> Result<lookup::Stage, WireError> {
        let mut at = 0;
        let outcome = loop {
            match lookup::parse(&buf[at..], self.registered.is_some()) {
                Parse::Command(command, consumed) => {
                    if let Err(error) = self.execute(command, out) {
                        break Err(error);
                    }
                    at += consumed;
                }
                Parse::Incomplete(stage) => break Ok(stage),
                Parse::Error(error) => break Err(error),
            }
        };
        buf.drain(..at);
        if buf.is_empty() {
            // An idle connection owns no buffer.
            *buf = Vec::new();
        }
        outcome
    }

    /// Executes a command and appends its answer to `out`. An error ends the connection.
    fn execute(&mut self, command: Command<'_>, out: &mut Vec<u8>) -> Result<(), WireError> {
        let directory = &self.shared.directory;
        match (command, self.registered) {
            (Command::Identify(body), _) => {
                let producer = producer(BrokerIdentity::parse(body)?, &self.peer);
                tracing::info!(
                    peer = self.peer,
                    address = producer.broadcast_address,
                    tcp_port = producer.tcp_port,
                    version = producer.version,
                    "broker registers"
                );
                let id = directory.identify(producer).map_err(|error| refused("IDENTIFY", &error))?;
                self.registered = Some(id);
                lookup::put_answer(out, self.shared.identity.as_bytes());
                return Ok(());
            }
            (Command::Ping, id) => {
                if let Some(id) = id {
                    directory.ping(id);
                }
            }
            (Command::Register(topic, channel), Some(id)) => {
                let (topic, channel) = names(topic, channel)?;
                // Not fatal, or a broker with too many topics could not have any.
                if let Err(error) = directory.register(id, &topic, channel.as_ref()) {
                    let error = refused("REGISTER", &error);
                    tracing::warn!(peer = self.peer, %topic, "{error}");
                    lookup::put_error(out, &error);
                    return Ok(());
                }
            }
            (Command::Unregister(topic, channel), Some(id)) => {
                let (topic, channel) = names(topic, channel)?;
                directory.unregister(id, &topic, channel.as_ref());
            }
            (Command::Register(..) | Command::Unregister(..), None) => {
                return Err(WireError::new(Code::Invalid, "client must IDENTIFY"));
            }
        }
        lookup::put_answer(out, lookup::OK);
        Ok(())
    }
}

fn producer(peer: BrokerIdentity, remote_address: &str) -> Producer {
    Producer {
        remote_address: remote_address.to_owned(),
        hostname: peer.hostname,
        broadcast_address: peer.broadcast_address,
        tcp_port: peer.tcp_port,
        http_port: peer.http_port,
        grpc_port: peer.grpc_port,
        version: peer.version,
        topology_zone: peer.topology_zone,
        topology_region: peer.topology_region,
    }
}

/// The core's names: they follow the same rule.
fn names(topic: Name<'_>, channel: Option<Name<'_>>) -> Result<(TopicName, Option<ChannelName>), WireError> {
    let invalid = |error: Error| WireError::new(Code::Invalid, error.to_string());
    let topic = TopicName::parse(topic.as_str()).map_err(invalid)?;
    let channel = channel.map(|name| ChannelName::parse(name.as_str())).transpose().map_err(invalid)?;
    Ok((topic, channel))
}

fn refused(command: &str, error: &Error) -> WireError {
    WireError::new(Code::Invalid, format!("{command} failed: {error}"))
}

async fn read(transport: &mut Transport, buf: &mut Vec<u8>) -> io::Result<usize> {
    // A command that is incomplete is shorter than the longest, so there is a bound.
    debug_assert!(buf.len() < LINE_BYTES_MAX + 4 + BODY_BYTES_MAX);
    let mut piece = [0; READ_BYTES];
    let count = transport.read(&mut piece).await?;
    buf.extend_from_slice(&piece[..count]);
    Ok(count)
}

async fn write(transport: &mut Transport, out: &mut Vec<u8>) -> io::Result<()> {
    if !out.is_empty() {
        timeout(WRITE_TIMEOUT, transport.write_all(out)).await??;
        *out = Vec::new();
    }
    Ok(())
}

/// Sends the broker the error that ends the connection. Returns the same for the log.
async fn refuse(transport: &mut Transport, out: &mut Vec<u8>, error: &WireError) -> String {
    lookup::put_error(out, error);
    if write(transport, out).await.is_ok() {
        linger(transport).await;
    }
    error.to_string()
}

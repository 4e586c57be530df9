//! The services of a server.
//!
//! - [`Core`]: what all services share; `stream_end`: when streams end
//! - `publish`, `publish_stream`: messages in; `publish_batch`: checks and encodes them, for both
//! - `subscribe`: opening a subscription; `session`: one while it lasts; `response_queue`: its responses on
//!   their way out; `acks`: acknowledgements by token; `confirm`: those that are in the log
//! - `leases`: messages given out without a stream; `start`: where a new channel starts; `pages`: long lists
//!   in parts
//! - `admin`, `settings`, `peek`, `stats`, `subscribers`: administering; `discovery`: who has which topic

mod acks;
mod admin;
mod channel_settings;
mod confirm;
mod discovery;
mod leases;
mod pages;
mod peek;
mod publish;
mod publish_batch;
mod publish_stream;
mod response_queue;
mod session;
mod settings;
mod start;
mod stats;
mod stream_end;
mod subscribe;
mod subscribers;

pub(crate) use admin::AdminHandler;
pub(crate) use discovery::DiscoveryHandler;
pub(crate) use leases::Leases;
pub(crate) use publish::PublishHandler;
pub(crate) use subscribe::SubscribeHandler;

use std::sync::Arc;

use mq_core::{Broker, ChannelName, Error, ErrorKind, TopicName, Wake};
use mq_net::access::{Access, Caller};
use mq_net::clients::Clients;
use mq_net::http::Peer;
use mq_net::signal::Signal;
use tokio_util::sync::CancellationToken;
use tonic::Request;

use crate::config::Config;
use crate::guarded::bearer;
use crate::input_budget::InputBudget;
use crate::link::Link;
use crate::status::Refusal;

/// State that the services of a broker share.
pub(crate) struct Core {
    pub(crate) broker: Broker,
    pub(crate) config: Config,
    /// Rights of callers; `None`: everybody may do everything.
    pub(crate) access: Option<Arc<Access>>,
    /// The list of clients, consumers among them.
    pub(crate) clients: Clients,
    /// Memory for requests that are being received or served.
    pub(crate) input: InputBudget,
    /// Time of the server's start, by the broker's clock.
    pub(crate) started: u64,
    /// Messages that are leased by `Pull`.
    pub(crate) leases: Leases,
    /// Cancelled when the server stops: streams end.
    pub(crate) stop: CancellationToken,
}

impl Core {
    /// The caller, with the rights that its token gives it.
    pub(crate) async fn caller<T>(&self, request: &Request<T>) -> Result<Caller, Refusal> {
        let caller = match &self.access {
            Some(access) => caller(access, request).await?,
            None => Caller::anybody(),
        };
        if let Some(link) = link(request) {
            link.admit();
        }
        Ok(caller)
    }
}

impl Core {
    /// Checks that there is memory for an answer that may be large.
    ///
    /// # Errors
    /// `RESOURCE_EXHAUSTED` if there is none.
    pub(crate) fn room<T>(&self, request: &Request<T>) -> Result<(), Refusal> {
        let nobody = || Arc::new(Signal::default()) as Arc<dyn Wake>;
        match link(request) {
            Some(link) if !link.may_grow(&nobody()) => {
                Err(Refusal::full("the memory for clients is spent: ask again".to_owned()))
            }
            _ => Ok(()),
        }
    }
}

/// The connection that a call comes by.
pub(crate) fn link<T>(request: &Request<T>) -> Option<&Arc<Link>> {
    request.extensions().get()
}

/// The caller, with the rights that its token gives it.
pub(crate) async fn caller<T>(access: &Access, request: &Request<T>) -> Result<Caller, Refusal> {
    let peer = peer(request);
    let authorization = request.metadata().get("authorization").map(|value| value.as_encoded_bytes());
    Ok(access.caller(authorization.and_then(bearer), &peer).await?)
}

/// The peer that a call comes from.
fn peer<T>(request: &Request<T>) -> Arc<Peer> {
    let known = request.extensions().get::<Arc<Peer>>();
    known.cloned().unwrap_or_default()
}

/// The name in a field of a request.
pub(crate) fn topic_name(name: &str, field: &str) -> Result<TopicName, Refusal> {
    TopicName::parse(name).map_err(|error| Refusal::from(error).of(field))
}

/// The name in a field of a request.
pub(crate) fn channel_name(name: &str, field: &str) -> Result<ChannelName, Refusal> {
    ChannelName::parse(name).map_err(|error| Refusal::from(error).of(field))
}

/// Runs work that may wait for a disk on a thread of the blocking pool.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> mq_core::Result<T> + Send + 'static,
) -> mq_core::Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|_| Err(Error::new(ErrorKind::Closed, "the server is stopping")))
}

//! The brokers that a consumer gets its messages from.

use std::collections::BTreeSet;

use tokio::sync::mpsc;
use tokio::time::sleep;

use super::backoff::Backoff;
use super::target::refused;
use super::{Error, Target};
use crate::v1::discovery_service_client::DiscoveryServiceClient;
use crate::v1::{BrokerInfo, WatchRequest};

/// The brokers that a consumer gets its messages from.
#[derive(Clone, Debug)]
pub enum Brokers {
    /// At these, always.
    Fixed(Vec<Target>),
    /// At those that have the topic, by what these discovery services say. What is shown to them is shown to
    /// brokers too.
    Discovered(Vec<Target>),
}

/// The brokers that one discovery service names.
pub(super) struct Found {
    /// The service's number.
    pub(super) service: usize,
    pub(super) addresses: BTreeSet<String>,
}

/// Passes on what one service says of a topic until nobody listens any more.
pub(super) async fn watch(service: usize, target: Target, topic: String, found: mpsc::Sender<Found>) {
    let mut backoff = Backoff::default();
    while !found.is_closed() {
        if let Err(error) = follow(service, &target, &topic, &found, &mut backoff).await {
            // Its last answer still holds: a lookup server that is away takes no broker along.
            tracing::debug!(%error, service = target.address(), "discovery is not watched");
        }
        tokio::select! {
            () = sleep(backoff.next()) => {}
            () = found.closed() => return,
        }
    }
}

async fn follow(
    service: usize,
    target: &Target,
    topic: &str,
    found: &mpsc::Sender<Found>,
    backoff: &mut Backoff,
) -> Result<(), Error> {
    let connected = target.connect().await?;
    let mut client = DiscoveryServiceClient::new(connected.channel.clone());
    let request = connected.request(WatchRequest { topic: topic.to_owned() });
    let mut answers = client.watch(request).await.map_err(refused)?.into_inner();
    while let Some(answer) = answers.message().await.map_err(refused)? {
        backoff.reset();
        let addresses = answer.brokers.iter().filter_map(address).collect();
        if found.send(Found { service, addresses }).await.is_err() {
            return Ok(());
        }
    }
    Ok(())
}

/// The address at which a broker serves gRPC, if it does.
fn address(broker: &BrokerInfo) -> Option<String> {
    let host = &broker.address;
    match broker.grpc_port {
        0 => None,
        port if host.contains(':') && !host.starts_with('[') => Some(format!("[{host}]:{port}")),
        port => Some(format!("{host}:{port}")),
    }
}

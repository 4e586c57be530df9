//! `ListSubscribers`: the subscribers of a channel, whatever they speak.

use std::sync::Arc;
use std::time::UNIX_EPOCH;

use mq_core::{ChannelName, TopicName};
use mq_net::clients::Client;

use super::Core;
use super::pages::Page;
use crate::v1::Subscriber;

/// A page of a channel's subscribers, and the token of the next. The key of a subscriber is the number of its
/// connection.
pub(super) fn list(
    core: &Core,
    topic: &TopicName,
    channel: &ChannelName,
    page: &Page,
) -> (Vec<Subscriber>, String) {
    let mut clients: Vec<(String, Arc<Client>)> = core
        .clients
        .list()
        .into_iter()
        .filter(|client| client.consumes(topic, channel))
        .map(|client| (format!("{:020}", client.id), client))
        .collect();
    clients.retain(|(key, _)| page.goes_on_at(key));
    clients.sort_by(|(a, _), (b, _)| a.cmp(b));
    page.fill(clients.iter().map(|(key, client)| (key.clone(), subscriber(client))))
}

fn subscriber(client: &Client) -> Subscriber {
    let identity = client.identity();
    let connected = client.connected_at.duration_since(UNIX_EPOCH).unwrap_or_default();
    Subscriber {
        name: identity.client_id,
        address: client.remote_address.clone(),
        protocol: client.protocol.to_owned(),
        user_agent: identity.user_agent,
        connected_ns: u64::try_from(connected.as_nanos()).unwrap_or(u64::MAX),
        credit: client.ready_count(),
        in_flight: client.in_flight(),
        delivered: client.delivered(),
        finished: client.finished(),
        requeued: client.requeued(),
    }
}

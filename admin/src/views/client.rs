//! A connection of a broker.

use serde::Serialize;

use crate::upstream::answers::{Client, PubCount};

/// A connection, as the page shows it.
#[derive(Serialize)]
pub(super) struct ClientRow {
    node: String,
    client_id: String,
    hostname: String,
    remote_address: String,
    user_agent: String,
    protocol: String,
    state: u64,
    ready: u64,
    in_flight: u64,
    messages: u64,
    finished: u64,
    requeued: u64,
    connected_at: u64,
    sample_rate: u64,
    compression: &'static str,
    /// Its version; empty without TLS.
    tls: String,
    identity: String,
    identity_url: String,
    zone: String,
    region: String,
    published: Vec<PubCount>,
}

impl ClientRow {
    pub(super) fn new(node: &str, client: Client) -> Self {
        let tls = match (client.tls, client.tls_version.is_empty()) {
            (true, true) => "TLS".to_owned(),
            _ => client.tls_version,
        };
        Self {
            node: node.to_owned(),
            client_id: client.client_id,
            hostname: client.hostname,
            remote_address: client.remote_address,
            user_agent: client.user_agent,
            protocol: client.version,
            state: client.state,
            ready: client.ready_count,
            in_flight: client.in_flight_count,
            messages: client.message_count,
            finished: client.finish_count,
            requeued: client.requeue_count,
            connected_at: client.connect_ts,
            sample_rate: client.sample_rate,
            compression: match (client.deflate, client.snappy) {
                (true, _) => "deflate",
                (_, true) => "snappy",
                _ => "",
            },
            tls,
            identity: client.auth_identity,
            identity_url: client.auth_identity_url,
            zone: client.topology_zone,
            region: client.topology_region,
            published: client.pub_counts,
        }
    }
}

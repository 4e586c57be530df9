//! Turns settings into the gRPC server.

use mq_core::Broker;
use mq_grpc::{Config as GrpcConfig, Parts, Server};
use mq_nsq::server;

use crate::config::{Config, InvokedAs};
use crate::host;
use crate::pages;
use crate::serve::bind_refused;

/// Listens where `config` says, with the secrets and the TLS of `beside`; `None`: nowhere.
///
/// # Errors
/// If the address can't be listened on.
pub(crate) async fn bind(
    config: &Config,
    invoked_as: InvokedAs,
    broker: Broker,
    beside: &server::Server,
) -> Result<Option<Server>, String> {
    let Some(address) = &config.grpc_address.0 else { return Ok(None) };
    let size = |size: u32| usize::try_from(size).unwrap_or(usize::MAX);
    let settings = GrpcConfig {
        address: address.to_string(),
        max_message_bytes: size(config.max_msg_size.0),
        max_batch_bytes: size(config.max_body_size.0),
        msg_timeout: config.msg_timeout,
        max_msg_timeout: config.max_msg_timeout,
        max_delay: config.max_req_timeout,
        max_credit: config.max_rdy_count,
        max_streams: config.grpc_max_streams,
        budget: beside.budget(),
        keepalive_interval: config.grpc_keepalive_interval,
        keepalive_timeout: config.grpc_keepalive_timeout,
        ..GrpcConfig::default()
    };
    let broadcast = host::broadcast(&config.broadcast_address, &config.tcp_address, invoked_as);
    let allowed = config.http_allowed_hosts.0.iter().map(|host| host.0.as_str());
    let parts = Parts {
        hosts: pages::names(&broadcast, allowed),
        broker: Some(broker),
        access: Some(beside.access()),
        clients: beside.clients(),
        tls: beside.tls(),
        directory: None,
    };
    let bound = Server::bind(settings, parts).await;
    bound.map(Some).map_err(|error| bind_refused(&format!("--grpc-address {address}"), &error))
}

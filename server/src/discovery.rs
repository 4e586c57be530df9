//! How the broker is found: it registers at lookup servers, and may have one in its own process.

use std::future::Future;

use mq_core::Broker;
use mq_nsq::announcer::{Announcer, AnnouncerConfig};
use mq_nsq::lookupd::{LookupConfig, Lookupd};
use mq_nsq::transport::Address;
use mq_nsq::wire::lookup::Peer;

use crate::config::{Config, Face};
use crate::{host, lookup};

/// What makes the broker known.
pub(crate) struct Discovery {
    pub(crate) announcer: Announcer,
    lookup: Option<Lookupd>,
}

impl Discovery {
    /// Gets ready what `config` asks for. `tcp`: where the broker listens; `http_port`: where its HTTP is served.
    ///
    /// # Errors
    /// What is wrong with which setting.
    pub(crate) async fn bind(
        config: &Config,
        face: Face,
        broker: Broker,
        tcp: &Address,
        http_port: Option<u16>,
    ) -> Result<Self, String> {
        let mut peers = Vec::new();
        for peer in &config.lookupd_tcp_address.0 {
            peers.push(peer.0.parse().map_err(|error| format!("--lookupd-tcp-address: {error}"))?);
        }
        let lookup = match config.lookup {
            true => {
                let own = LookupConfig {
                    tcp_address: lookup::text(&config.lookup_tcp_address),
                    http_address: lookup::text(&config.lookup_http_address),
                    broadcast_address: String::new(),
                    ..LookupConfig::default()
                };
                let server = lookup::bind(own, "lookup-", face).await?;
                peers.push(local(server.tcp_address())?);
                Some(server)
            }
            false => None,
        };
        let identity = identity(config, face, tcp, http_port);
        if !peers.is_empty() {
            check(&identity)?;
        }
        let config = AnnouncerConfig {
            peers,
            identity,
            connect_timeout: config.http_client_connect_timeout,
            request_timeout: config.http_client_request_timeout,
            ..AnnouncerConfig::default()
        };
        Ok(Self { announcer: Announcer::new(broker, config), lookup })
    }

    /// Tells on stdout where the lookup server is, if there is one.
    pub(crate) fn announce(&self) {
        if let Some(server) = &self.lookup {
            lookup::announce(server, "lookup ");
        }
    }

    /// Makes the broker known until `leave`; its own lookup server answers until `end`.
    pub(crate) async fn run(self, leave: impl Future<Output = ()>, end: impl Future<Output = ()>) {
        let lookup = async {
            match self.lookup {
                Some(server) => server.run(end).await,
                None => end.await,
            }
        };
        tokio::join!(self.announcer.run(leave), lookup);
    }
}

fn identity(config: &Config, face: Face, tcp: &Address, http_port: Option<u16>) -> Peer {
    let own_port = match tcp {
        Address::Tcp(address) => address.port(),
        Address::Unix(_) => 0,
    };
    let or = |given: u16, own: u16| if given == 0 { own } else { given };
    Peer {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        tcp_port: or(config.broadcast_tcp_port, own_port),
        http_port: or(config.broadcast_http_port, http_port.unwrap_or(0)),
        hostname: host::name(),
        broadcast_address: host::broadcast(&config.broadcast_address, tcp, face),
        topology_zone: config.topology_zone.clone(),
        topology_region: config.topology_region.clone(),
    }
}

/// Lookup servers refuse a broker without ports.
fn check(identity: &Peer) -> Result<(), String> {
    for (port, what, flag) in [
        (identity.tcp_port, "TCP", "broadcast-tcp-port"),
        (identity.http_port, "HTTP", "broadcast-http-port"),
    ] {
        if port == 0 {
            return Err(format!(
                "lookup servers want to know a broker's {what} port, and this one has none: give --{flag}"
            ));
        }
    }
    Ok(())
}

/// How this process reaches a server of its own.
fn local(address: &Address) -> Result<mq_nsq::announcer::Address, String> {
    let Address::Tcp(address) = address else {
        return Err("--lookup-tcp-address must be host:port".to_owned());
    };
    let mut address = *address;
    if address.ip().is_unspecified() {
        let loopback =
            if address.is_ipv4() { [127, 0, 0, 1].into() } else { std::net::Ipv6Addr::LOCALHOST.into() };
        address.set_ip(loopback);
    }
    address.to_string().parse()
}

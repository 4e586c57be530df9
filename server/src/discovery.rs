//! Discovery: a broker registers at lookup servers, and may run one in its own process.

use std::future::Future;
use std::sync::Arc;

use mq_core::Broker;
use mq_net::budget::Budget;
use mq_net::directory::Directory;
use mq_net::http::HttpLimits;
use mq_net::transport::Address;
use mq_nsq::announcer::{self, Announcer, AnnouncerConfig};
use mq_nsq::lookupd::{LookupConfig, Lookupd};
use mq_nsq::server::NSQ_VERSION;
use mq_nsq::wire::lookup::BrokerIdentity;

use crate::config::value::MaybeAddress;
use crate::config::{Config, InvokedAs};
use crate::startup_banner::Banner;
use crate::{host, lookup, pages};

/// The broker's end of discovery.
pub(crate) struct Discovery {
    pub(crate) lookups: Lookups,
    lookup: Option<Lookupd>,
}

/// The lookup servers that the broker registers at. A handle, cheap to clone.
#[derive(Clone)]
pub(crate) struct Lookups {
    announcer: Announcer,
    /// The one in this process: always among them.
    own: Arc<[announcer::Address]>,
    /// Reason why the broker can't register anywhere.
    unfit: Option<String>,
}

impl Lookups {
    /// Registers at these from now on, and leaves others.
    ///
    /// # Errors
    /// Why not; then nothing changes.
    pub(crate) fn set(&self, addresses: &[String]) -> Result<(), String> {
        let wanted = parse(addresses.iter().map(String::as_str))?;
        if let (false, Some(unfit)) = (wanted.is_empty(), &self.unfit) {
            return Err(unfit.clone());
        }
        self.announcer.set_peers([&wanted[..], &self.own].concat());
        Ok(())
    }

    /// Leaves all, for good.
    pub(crate) fn leave(&self) {
        self.announcer.leave();
    }
}

impl Discovery {
    /// Gets ready what `config` asks for. `tcp`, `http`, `grpc`: where the broker serves these.
    ///
    /// # Errors
    /// A setting that is wrong, by name.
    pub(crate) async fn bind(
        config: &Config,
        invoked_as: InvokedAs,
        broker: Broker,
        (tcp, http, grpc): (&Address, Option<&Address>, Option<&Address>),
        budget: Budget,
    ) -> Result<Self, String> {
        let wanted = config.lookupd_tcp_address.0.iter().map(|peer| peer.0.as_str());
        let wanted = parse(wanted).map_err(|error| format!("--lookupd-tcp-address: {error}"))?;
        let mut own = Vec::new();
        let lookup = match config.lookup {
            true => {
                let http = &config.lookup_http_address;
                let settings = LookupConfig {
                    tcp_address: config.lookup_tcp_address.to_string(),
                    http_address: http.to_string(),
                    broadcast_address: host::broadcast("", http, invoked_as),
                    hostname: host::name(),
                    http_allowed_hosts: config.http_allowed_hosts.0.iter().map(|h| h.0.clone()).collect(),
                    http: HttpLimits { budget, ..HttpLimits::default() },
                    ..LookupConfig::default()
                };
                let (hosts, name) = (settings.http_allowed_hosts.clone(), settings.broadcast_address.clone());
                let server = lookup::bind(settings, "lookup-").await?;
                pages::of_lookup(config.admin, &MaybeAddress(None), &hosts, &name, &server).await?;
                own.push(local(server.tcp_address())?);
                Some(server)
            }
            false => None,
        };
        let peers = [wanted.as_slice(), &own].concat();
        let identity = identity(config, invoked_as, tcp, http, grpc);
        let unfit = check(&identity).err();
        if let (false, Some(unfit)) = (peers.is_empty(), &unfit) {
            return Err(unfit.clone());
        }
        let config = AnnouncerConfig {
            peers,
            identity,
            connect_timeout: config.http_client_connect_timeout,
            request_timeout: config.http_client_request_timeout,
            ..AnnouncerConfig::default()
        };
        let lookups = Lookups { announcer: Announcer::new(broker, config), own: own.into(), unfit };
        Ok(Self { lookups, lookup })
    }

    /// The directory of the lookup server in this process, if there is one.
    pub(crate) fn directory(&self) -> Option<Arc<Directory>> {
        self.lookup.as_ref().map(|server| Arc::clone(server.directory()))
    }

    /// Prints where the lookup server is, if there is one.
    pub(crate) fn announce(&self, banner: &Banner) {
        if let Some(server) = &self.lookup {
            banner.lookup(server, "lookup ");
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
        tokio::join!(self.lookups.announcer.run(leave), lookup);
    }
}

fn identity(
    config: &Config,
    invoked_as: InvokedAs,
    tcp: &Address,
    http: Option<&Address>,
    grpc: Option<&Address>,
) -> BrokerIdentity {
    let port = |address: &Address| match address {
        Address::Tcp(address) => address.port(),
        Address::Unix(_) => 0,
    };
    let or = |given: u16, own: u16| if given == 0 { own } else { given };
    BrokerIdentity {
        version: NSQ_VERSION.to_owned(),
        tcp_port: or(config.broadcast_tcp_port, port(tcp)),
        http_port: or(config.broadcast_http_port, http.map_or(0, port)),
        grpc_port: or(config.broadcast_grpc_port, grpc.map_or(0, port)),
        hostname: host::name(),
        broadcast_address: host::broadcast(&config.broadcast_address, &config.tcp_address, invoked_as),
        topology_zone: config.topology_zone.clone(),
        topology_region: config.topology_region.clone(),
    }
}

fn parse<'a>(addresses: impl Iterator<Item = &'a str>) -> Result<Vec<announcer::Address>, String> {
    addresses.map(str::parse).collect()
}

/// Lookup servers refuse a broker without ports.
fn check(identity: &BrokerIdentity) -> Result<(), String> {
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

/// The address by which this process reaches a server of its own.
fn local(address: &Address) -> Result<announcer::Address, String> {
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

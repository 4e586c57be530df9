//! The admin page of a broker or a lookup server: under /admin/ of its HTTP API, and on a port of its own.

use std::future::Future;
use std::sync::Arc;

use mq_admin::{Admin, Alone, Mode, Settings};
use mq_net::access::Access;
use mq_net::budget::Budget;
use mq_net::http::{HostNames, HttpLimits, HttpServer};
use mq_net::transport::Address;
use mq_net::transport::tls::{TlsConfig, TlsRequired};
use mq_nsq::lookupd::Lookupd;
use mq_nsq::server::Server;

use crate::config::value::MaybeAddress;
use crate::config::{Config, InvokedAs};
use crate::features::word;
use crate::host;
use crate::serve::bind_refused;

/// Path of the page beside an API.
const BESIDE_AN_API: &str = "/admin/";

/// A page's own port, if it has one.
#[derive(Default)]
pub(crate) struct Port(Option<(HttpServer, Arc<Alone>)>);

/// A page's own port, as settings say.
struct Wanted<'a> {
    address: &'a MaybeAddress,
    hosts: HostNames,
    budget: Budget,
    tls: Option<TlsConfig>,
}

impl Port {
    /// Its address.
    pub(crate) fn address(&self) -> Option<String> {
        self.0.as_ref().map(|(server, _)| server.local_addr().to_string())
    }

    /// Serves until `stop`.
    pub(crate) async fn run(self, stop: impl Future<Output = ()>) {
        match self.0 {
            Some((server, page)) => server.run(page, stop).await,
            None => stop.await,
        }
    }

    async fn bind(wanted: Wanted<'_>, mut settings: Settings) -> Result<Self, String> {
        let Some(address) = &wanted.address.0 else { return Ok(Self::default()) };
        let limits = HttpLimits { budget: wanted.budget, ..HttpLimits::default() };
        let bound = HttpServer::bind(&address.to_string(), wanted.tls, limits).await;
        let server = bound.map_err(|error| bind_refused(&format!("--admin-address {address}"), &error))?;
        "/".clone_into(&mut settings.base);
        settings.name = server.local_addr().to_string();
        Ok(Self(Some((server, Alone::new(Admin::new(settings), wanted.hosts)))))
    }
}

/// Adds the page to a broker, and listens on its own port, as `config` says.
pub(crate) async fn of_broker(
    config: &Config,
    invoked_as: InvokedAs,
    server: &Server,
) -> Result<Port, String> {
    let host = host::broadcast(&config.broadcast_address, &config.tcp_address, invoked_as);
    let http = server.http_addr().or(server.https_addr());
    let id = known_as(&host, config.broadcast_http_port, http);
    let mut settings = Settings::new(Mode::Broker, &id, BESIDE_AN_API);
    settings.local_broker = Some((id, server.local_http()));
    settings.access = Some(server.access());
    if config.admin {
        server.add_pages(Admin::new(settings.clone()));
    }
    let allowed = config.http_allowed_hosts.0.iter().map(|host| host.0.as_str());
    let hosts = names(&host, allowed);
    // A broker that refuses plain HTTP does so there, too.
    let required: TlsRequired = word("tls-required", config.tls_required.0)?;
    let tls = server.tls().filter(|_| required == TlsRequired::True);
    Port::bind(Wanted { address: &config.admin_address, hosts, budget: server.budget(), tls }, settings).await
}

/// Adds the page to a lookup server, and listens on its own port where `address` says.
pub(crate) async fn of_lookup(
    is_wanted: bool,
    address: &MaybeAddress,
    allowed_hosts: &[String],
    broadcast: &str,
    server: &Lookupd,
) -> Result<Port, String> {
    let id = known_as(broadcast, 0, Some(server.http_address()));
    let mut settings = Settings::new(Mode::Lookup, &id, BESIDE_AN_API);
    settings.local_lookup = Some((id, server.local_http()));
    settings.access = Some(Arc::new(Access::new(None, None)));
    if is_wanted {
        server.add_pages(Admin::new(settings.clone()));
    }
    let hosts = names(broadcast, allowed_hosts.iter().map(String::as_str));
    Port::bind(Wanted { address, hosts, budget: server.budget(), tls: None }, settings).await
}

/// Names by which pages in a browser may reach a server: this machine's, the one it is announced under, and
/// those that settings allow.
pub(crate) fn names<'a>(broadcast: &'a str, allowed: impl IntoIterator<Item = &'a str>) -> HostNames {
    let own = host::name();
    let mut names: Vec<&str> = allowed.into_iter().collect();
    names.extend([own.as_str(), broadcast]);
    HostNames::new(names)
}

/// `host:port` by which others know a server.
fn known_as(host: &str, given: u16, http: Option<&Address>) -> String {
    let port = match (given, http) {
        (0, Some(Address::Tcp(address))) => address.port(),
        (0, Some(Address::Unix(path))) => return path.display().to_string(),
        (given, _) => given,
    };
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

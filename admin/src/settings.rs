//! Settings of an admin page.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use mq_net::access::Access;
use mq_net::http::LocalHttp;
use mq_net::secret::Secret;
use mq_net::transport::tls::ClientTls;

/// The place of a page, which decides what it shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Beside a broker's HTTP API: that broker.
    Broker,
    /// Beside a lookup server's: it, and the brokers registered there.
    Lookup,
    /// A process of its own.
    Fleet,
}

impl Mode {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Broker => "broker",
            Self::Lookup => "lookup",
            Self::Fleet => "fleet",
        }
    }
}

/// Token that configured servers are shown. No other server is shown any.
#[derive(Clone, Debug)]
pub enum Credentials {
    /// The viewer's own: rights are the viewer's.
    Viewers,
    /// One token for all viewers, or none.
    Own(Option<Secret<Arc<[u8]>>>),
}

/// Settings of a page.
#[derive(Clone)]
pub struct Settings {
    /// Its place.
    pub mode: Mode,
    /// Name of the page: the address it is at.
    pub name: String,
    /// Version of the program.
    pub version: String,
    /// Path of the page; begins and ends with a slash.
    pub base: String,
    /// A broker in this process, and the address it is known by.
    pub local_broker: Option<(String, Arc<dyn LocalHttp>)>,
    /// A lookup server in this process, and its address.
    pub local_lookup: Option<(String, Arc<dyn LocalHttp>)>,
    /// HTTP addresses of brokers.
    pub nodes: Vec<String>,
    /// HTTP addresses of lookup servers.
    pub lookups: Vec<String>,
    /// TLS to those; `None`: plain HTTP.
    pub tls: Option<ClientTls>,
    /// The decision who may look; `None`: everybody.
    pub access: Option<Arc<Access>>,
    /// Token for upstreams.
    pub credentials: Credentials,
    /// Longest time for a connection to an upstream.
    pub connect_timeout: Duration,
    /// Longest time for an upstream's answer.
    pub request_timeout: Duration,
    /// Rules of nsqadmin's.
    pub nsqadmin: NsqadminSettings,
}

/// A graphite that may be asked.
#[derive(Clone, Debug)]
pub struct Graphite {
    /// Host, maybe with a port.
    pub(crate) authority: String,
    /// Path before `/render`.
    pub(crate) path: String,
    /// `name:password` of its URL.
    pub(crate) login: Option<Secret<String>>,
    /// Whether browsers may ask it through this page.
    pub(crate) is_proxied: bool,
    /// Interval of the brokers' statistics.
    pub(crate) interval: Duration,
}

impl Graphite {
    /// The graphite at an `http://` URL; `None` if it is none.
    pub fn new(url: &str, is_proxied: bool, interval: Duration) -> Option<Self> {
        let rest = url.strip_prefix("http://")?;
        let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let (login, authority) = match host.rsplit_once('@') {
            Some((login, authority)) => (Some(Secret::new(login.to_owned())), authority),
            None => (None, host),
        };
        let is_plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
        let path = path.trim_end_matches('/');
        let is_good = !authority.is_empty() && is_plain(authority) && is_plain(path) && !path.contains('?');
        is_good.then(|| Self {
            authority: authority.to_owned(),
            path: path.to_owned(),
            login,
            is_proxied,
            interval,
        })
    }
}

/// The value of a setting, as `/config` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OptionValue {
    /// Text, shown unchanged.
    Text(String),
    /// A number, a switch or a list: JSON.
    Json(String),
}

/// The settings of the process, which `/config` shows and changes.
pub trait PageOptions: Send + Sync {
    /// The value of a setting by its name in nsqadmin's file; `None` if there is none of that name.
    fn get(&self, name: &str) -> Option<OptionValue>;

    /// Changes the least severe lines that are logged. Whether `word` is a level.
    fn set_log_level(&self, word: &str) -> bool;
}

/// Settings that only nsqadmin has.
#[derive(Clone)]
pub struct NsqadminSettings {
    /// Users who may change something; none: all may.
    pub admin_users: Vec<String>,
    /// Header with the user's name, which a proxy sets.
    pub acl_http_header: String,
    /// Proxies whose header is believed.
    pub acl_http_proxies: Vec<Cidr>,
    /// Addresses from which `/config` may be used; none: all.
    pub allow_config_from: Option<Cidr>,
    /// URL that hears of each change; plain HTTP.
    pub notification_endpoint: Option<String>,
    /// Name of this host, for notifications.
    pub via: String,
    /// Graphite, for who asks for charts by nsqadmin's API.
    pub graphite: Option<Graphite>,
    /// Options that `/config` shows; `None`: the lists of servers alone.
    pub options: Option<Arc<dyn PageOptions>>,
}

impl Default for NsqadminSettings {
    fn default() -> Self {
        Self {
            admin_users: Vec::new(),
            acl_http_header: "X-Forwarded-User".to_owned(),
            acl_http_proxies: vec![
                Cidr { address: IpAddr::from([127, 0, 0, 0]), bits: 8 },
                Cidr { address: IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1]), bits: 128 },
            ],
            allow_config_from: Some(Cidr { address: IpAddr::from([127, 0, 0, 0]), bits: 8 }),
            notification_endpoint: None,
            via: String::new(),
            graphite: None,
            options: None,
        }
    }
}

impl Settings {
    /// A page at `base` that shows nothing yet.
    pub fn new(mode: Mode, name: &str, base: &str) -> Self {
        Self {
            mode,
            name: name.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            base: base_path(base),
            local_broker: None,
            local_lookup: None,
            nodes: Vec::new(),
            lookups: Vec::new(),
            tls: None,
            access: None,
            credentials: Credentials::Viewers,
            connect_timeout: Duration::from_secs(2),
            request_timeout: Duration::from_secs(5),
            nsqadmin: NsqadminSettings::default(),
        }
    }
}

/// A path with one slash at its beginning, at its end, and between its parts.
fn base_path(path: &str) -> String {
    let parts: Vec<_> = path.split('/').filter(|part| !part.is_empty()).collect();
    if parts.is_empty() { "/".to_owned() } else { format!("/{}/", parts.join("/")) }
}

/// A range of IP addresses, such as `10.0.0.0/8`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    address: IpAddr,
    bits: u8,
}

impl Cidr {
    /// Whether `ip` is in it.
    pub fn contains(&self, ip: IpAddr) -> bool {
        let common = |a: &[u8], b: &[u8]| {
            let bits = usize::from(self.bits);
            let (whole, rest) = (bits / 8, bits % 8);
            let mask = if rest == 0 { 0 } else { 0xffu8 << (8 - rest) };
            a[..whole] == b[..whole] && (rest == 0 || a[whole] & mask == b[whole] & mask)
        };
        match (self.address, ip.to_canonical()) {
            (IpAddr::V4(a), IpAddr::V4(b)) => common(&a.octets(), &b.octets()),
            (IpAddr::V6(a), IpAddr::V6(b)) => common(&a.octets(), &b.octets()),
            _ => false,
        }
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

impl FromStr for Cidr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no range of addresses such as 10.0.0.0/8");
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let max = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Ok(max), str::parse).map_err(|_| wrong())?;
        if bits <= max { Ok(Self { address, bits }) } else { Err(wrong()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_contains_what_begins_as_it_does() {
        let contains = |range: &str, ip: &str| range.parse::<Cidr>().unwrap().contains(ip.parse().unwrap());
        for (range, ip, inside) in [
            ("127.0.0.1/8", "127.9.9.9", true),
            ("127.0.0.1/8", "128.0.0.1", false),
            ("10.0.0.0/9", "10.127.0.1", true),
            ("10.0.0.0/9", "10.128.0.1", false),
            ("10.0.0.7", "10.0.0.7", true),
            ("10.0.0.7", "10.0.0.8", false),
            ("0.0.0.0/0", "1.2.3.4", true),
            ("0.0.0.0/0", "::1", false),
            ("::1/128", "::1", true),
            ("10.0.0.0/8", "::ffff:10.1.1.1", true),
        ] {
            assert_eq!(contains(range, ip), inside, "{range} {ip}");
        }
        for bad in ["", "10.0.0.0/33", "10.0.0/8", "::/129", "a/8"] {
            assert!(bad.parse::<Cidr>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_base_path_has_a_slash_at_both_ends() {
        for (given, path) in [("", "/"), ("/", "/"), ("a", "/a/"), ("/a//b/", "/a/b/")] {
            assert_eq!(base_path(given), path);
        }
    }
}

//! Addresses of lookup servers.

use std::fmt;
use std::io;
use std::str::FromStr;

use super::srv;

/// Most addresses taken for one name from the system's resolver; no more are connected to.
const ADDRESSES_MAX: usize = 64;

/// The address of a lookup server, or of several under one name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Address {
    /// `host:port`: one server. A name is resolved anew at each connection, and its addresses are tried in
    /// turn.
    One(String),
    /// `dns:host:port`: a server at each address of the name (A and AAAA), looked up again and again.
    Each(String),
    /// `srv:name`: the servers that DNS lists under the name, as `_nsqlookupd._tcp.example.org`, looked up
    /// again and again.
    Service(String),
}

impl Address {
    /// The servers' addresses by now.
    ///
    /// # Errors
    /// If the name can't be resolved.
    pub(super) async fn resolve(&self) -> io::Result<Vec<String>> {
        match self {
            Self::One(address) => Ok(vec![address.clone()]),
            Self::Each(name) => {
                let found = tokio::net::lookup_host(name).await?;
                let mut all: Vec<_> = found.take(ADDRESSES_MAX).map(|address| address.to_string()).collect();
                all.sort();
                all.dedup();
                Ok(all)
            }
            Self::Service(name) => {
                let mut all = srv::servers(name).await?;
                all.truncate(ADDRESSES_MAX);
                Ok(all)
            }
        }
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(name) = text.strip_prefix("srv:") {
            let labels = || name.strip_suffix('.').unwrap_or(name).split('.');
            return match labels().all(|label| (1..=63).contains(&label.len())) && !name.contains([':', '/']) {
                true => Ok(Self::Service(name.to_owned())),
                false => Err(format!(
                    "{text:?} is not `srv:` and the name of a service, as srv:_nsqlookupd._tcp.example.org"
                )),
            };
        }
        let (name, each) = match text.strip_prefix("dns:") {
            Some(name) => (name, true),
            None => (text, false),
        };
        let host_and_port = name.rsplit_once(':').filter(|(host, port)| {
            let bare_v6 = host.contains(':') && !(host.starts_with('[') && host.ends_with(']'));
            !host.is_empty() && !bare_v6 && port.parse::<u16>().is_ok_and(|port| port != 0)
        });
        match (host_and_port, each) {
            (None, _) => Err(format!("{text:?} is neither `host:port`, `dns:host:port` nor `srv:name`")),
            (Some(_), true) => Ok(Self::Each(name.to_owned())),
            (Some(_), false) => Ok(Self::One(name.to_owned())),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(address) => f.write_str(address),
            Self::Each(name) => write!(f, "dns:{name}"),
            Self::Service(name) => write!(f, "srv:{name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_three_forms() {
        let names = ["a:4160", "127.0.0.1:4160", "[::1]:4160", "dns:lookups.internal:4160", "dns:[::1]:1"];
        for good in names.into_iter().chain(["srv:_nsqlookupd._tcp.example.org", "srv:lookups."]) {
            assert_eq!(good.parse::<Address>().unwrap().to_string(), good);
        }
        for bad in ["srv:", "srv:.", "srv:a..b", "srv:a:4160"] {
            assert!(bad.parse::<Address>().unwrap_err().contains("srv:_nsqlookupd._tcp"), "{bad}");
        }
        for bad in ["", "a", ":4160", "a:0", "a:x", "a:70000", "::1:4160", "dns:a", "dns::1"] {
            assert!(bad.parse::<Address>().unwrap_err().contains("host:port"), "{bad}");
        }
    }

    #[tokio::test]
    async fn a_name_gives_each_of_its_addresses() {
        let each: Address = "dns:127.0.0.1:4160".parse().unwrap();
        assert_eq!(each.resolve().await.unwrap(), ["127.0.0.1:4160"]);
        let one: Address = "localhost:4160".parse().unwrap();
        assert_eq!(one.resolve().await.unwrap(), ["localhost:4160"]);
    }
}

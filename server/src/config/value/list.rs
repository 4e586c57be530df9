//! Settings that can be given more than once, or as one text with commas.

use mq_admin::Cidr;
use mq_nsq::server::OptionValue;

use crate::config::redacted::without_password;
use crate::config::value::{Address, Value};

/// A list of settings' values: each flag and each part between commas is one.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct List<T>(pub(crate) Vec<T>);

impl<T: Item> Value for List<T> {
    const FORM: &'static str = T::FORM;
    const LIST: bool = true;

    fn parse(text: &str) -> Option<Self> {
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        parts.map(T::parse).collect::<Option<Vec<_>>>().map(Self)
    }

    fn show(&self) -> OptionValue {
        let parts: Vec<_> = self.0.iter().map(T::json).collect();
        OptionValue::Json(format!("[{}]", parts.join(",")))
    }
}

/// An element of a [`List`].
pub(crate) trait Item: Sized {
    /// The right form of the whole list.
    const FORM: &'static str;

    fn parse(text: &str) -> Option<Self>;

    /// The part as JSON. Shows no password.
    fn json(&self) -> String;
}

/// `text` as JSON.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Host and port of a server that we call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Peer(pub(crate) String);

impl Item for Peer {
    const FORM: &'static str =
        "host:port, dns:host:port or srv:name, several as a list with commas or by giving the flag again";

    fn parse(text: &str) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        (!host.is_empty() && port.parse::<u16>().is_ok()).then(|| Self(text.to_owned()))
    }

    fn json(&self) -> String {
        quoted(&self.0)
    }
}

/// A host's name, as clients write it in `Host`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HostName(pub(crate) String);

impl Item for HostName {
    const FORM: &'static str =
        "a host's name without scheme and port, several as a list with commas or by giving the flag again";

    fn parse(text: &str) -> Option<Self> {
        let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
        text.bytes().all(good).then(|| Self(text.to_owned()))
    }

    fn json(&self) -> String {
        quoted(&self.0)
    }
}

/// Host and port of a server's HTTP API, or the path of a unix socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HttpAddress(pub(crate) String);

impl Item for HttpAddress {
    const FORM: &'static str =
        "host:port, or the path of a unix socket, several as a list with commas or by giving the flag again";

    fn parse(text: &str) -> Option<Self> {
        Address::parse(text).map(|address| Self(address.to_string()))
    }

    fn json(&self) -> String {
        quoted(&self.0)
    }
}

/// A user's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UserName(pub(crate) String);

impl Item for UserName {
    const FORM: &'static str = "a user's name, several as a list with commas or by giving the flag again";

    fn parse(text: &str) -> Option<Self> {
        Some(Self(text.to_owned()))
    }

    fn json(&self) -> String {
        quoted(&self.0)
    }
}

/// A range of IP addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Network(pub(crate) Cidr);

impl Item for Network {
    const FORM: &'static str = "a range of addresses such as 10.0.0.0/8, several as a list with commas";

    fn parse(text: &str) -> Option<Self> {
        text.parse().ok().map(Self)
    }

    fn json(&self) -> String {
        quoted(&self.0.to_string())
    }
}

/// An auth server: host and port, or a URL with a path of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AuthServer(pub(crate) String);

impl Item for AuthServer {
    const FORM: &'static str = "host:port or a URL such as https://host:port/auth, several as a list with commas or by giving the flag again";

    fn parse(text: &str) -> Option<Self> {
        let good = match text.split_once("://") {
            Some((scheme, rest)) => matches!(scheme, "http" | "https") && !rest.is_empty(),
            None => Peer::parse(text).is_some(),
        };
        good.then(|| Self(text.to_owned()))
    }

    fn json(&self) -> String {
        quoted(&without_password(&self.0))
    }
}

/// A part of all values, 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Fraction(pub(crate) f64);

impl Item for Fraction {
    const FORM: &'static str =
        "a number above 0 and up to 1, several as a list with commas or by giving the flag again";

    fn parse(text: &str) -> Option<Self> {
        text.parse().ok().filter(|part| *part > 0.0 && *part <= 1.0).map(Self)
    }

    fn json(&self) -> String {
        self.0.to_string()
    }
}

/// Something nsqd has under trial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Experiment;

impl Item for Experiment {
    const FORM: &'static str = "topology-aware-consumption";

    fn parse(text: &str) -> Option<Self> {
        (text == <Self as Item>::FORM).then_some(Self)
    }

    fn json(&self) -> String {
        quoted(<Self as Item>::FORM)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_split_at_commas() {
        let peers = |text: &str| List::<Peer>::parse(text).map(|list| list.0.len());
        assert_eq!(peers(""), Some(0));
        assert_eq!(peers("a:1"), Some(1));
        assert_eq!(peers("a:1, b:2"), Some(2));
        assert_eq!(peers("a:1,b"), None);
    }

    #[test]
    fn host_names_have_neither_scheme_nor_port() {
        assert!(HostName::parse("mq.example.org").is_some());
        for bad in ["mq:4151", "http://mq", "*.example.org", "[::1]", "a b"] {
            assert_eq!(HostName::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn auth_servers_are_addresses_or_urls() {
        for good in ["auth:1234", "http://auth:1/x?y", "https://auth/check"] {
            assert!(AuthServer::parse(good).is_some(), "{good}");
        }
        for bad in ["auth", ":1", "ftp://auth/", "http://", "auth:http"] {
            assert_eq!(AuthServer::parse(bad), None, "{bad}");
        }
    }
}

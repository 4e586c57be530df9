//! URLs of clients. Pure: nothing is opened or asked.

use std::path::PathBuf;

use crate::config::Config;
use crate::error::{Error, Result};

/// Beginning of the address of a lookup server that is asked over TLS.
pub(crate) const HTTPS: &str = "https://";

/// The place of a client's brokers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// In this process, on a folder.
    Folder(PathBuf),
    /// In this process, on a folder that goes with the client.
    Memory,
    /// At these addresses, `host:port` or the path of a unix socket each.
    Brokers { addresses: Vec<String>, tls: bool },
    /// Wherever these lookup servers say: `host:port`, with `https://` before it where it is asked so.
    Lookup { servers: Vec<String>, tls: bool },
}

/// Parses a URL. Its parameters are set in `config`. No error holds a parameter's value of a secret, nor more
/// of the URL than what stands before the parameters.
pub(crate) fn parse(url: &str, mut config: Config) -> Result<(Place, Config)> {
    let (place, query) = url.split_once('?').map_or((url, None), |(place, query)| (place, Some(query)));
    for pair in query.into_iter().flat_map(|query| query.split('&')) {
        let (key, value) = pair.split_once('=').ok_or_else(|| {
            Error::Invalid(format!("the URL of {} has a parameter without \"=\"", shown(place)))
        })?;
        let value = decode(value).ok_or_else(|| {
            Error::Invalid(format!("the value of {key} in the URL has a % that escapes nothing"))
        })?;
        config.set(key, &value)?;
    }
    config.validate()?;
    Ok((parse_place(place)?, config))
}

fn parse_place(place: &str) -> Result<Place> {
    if is_path(place) {
        return Ok(Place::Folder(place.into()));
    }
    match place.split_once(':') {
        Some(("mq", "memory")) => Ok(Place::Memory),
        Some(("mq", rest)) if !rest.starts_with("//") => match rest {
            "" => Err(Error::Invalid("mq: needs a folder behind it: mq:PATH, or mq:memory".to_owned())),
            _ => Ok(Place::Folder(rest.into())),
        },
        Some((scheme @ ("mq+unix" | "mqs+unix"), rest)) => {
            Ok(Place::Brokers { addresses: sockets(scheme, rest)?, tls: scheme == "mqs+unix" })
        }
        Some((scheme @ ("mq" | "mqs" | "mq+lookup" | "mqs+lookup"), rest)) if rest.starts_with("//") => {
            let addresses = addresses(scheme, &rest[2..])?;
            let tls = scheme.starts_with("mqs");
            Ok(match scheme {
                "mq" | "mqs" => Place::Brokers { addresses, tls },
                _ => Place::Lookup { servers: addresses, tls },
            })
        }
        _ if place.contains("://") => Err(Error::Invalid(format!(
            "{} is no URL of brokers: there are mq://host:port, mqs://host:port, mq+lookup://host:port, \
             mqs+lookup://host:port, for a unix socket mq+unix:PATH, and for a folder mq:PATH",
            shown(place)
        ))),
        _ => Err(ambiguous(&shown(place), &shown(place))),
    }
}

/// The addresses of a list, each once. A lookup server's can begin with `https://`.
pub(crate) fn addresses(scheme: &str, list: &str) -> Result<Vec<String>> {
    if list.contains('@') {
        let parameter = "a secret is the parameter auth_secret";
        return Err(Error::Invalid(format!("a URL of {scheme}:// has no user before a host: {parameter}")));
    }
    let list = list.strip_suffix('/').unwrap_or(list);
    let mut addresses = Vec::new();
    for address in list.split(',') {
        let is_lookup = scheme.ends_with("+lookup");
        let place = address.strip_prefix(HTTPS).filter(|_| is_lookup).unwrap_or(address);
        check_address(scheme, list, place)?;
        if !addresses.iter().any(|known| known == address) {
            addresses.push(address.to_owned());
        }
    }
    Ok(addresses)
}

/// The paths of a list of unix sockets, each once. A comma in a path is `%2C`.
fn sockets(scheme: &str, list: &str) -> Result<Vec<String>> {
    // As in file:///path: an empty host.
    let list = list.strip_prefix("//").filter(|rest| rest.starts_with('/')).unwrap_or(list);
    let mut paths = Vec::new();
    for path in list.split(',') {
        let read =
            decode(path).filter(|path| is_path(path) && !path.starts_with("//") && !path.ends_with('/'));
        let path = read.ok_or_else(|| {
            let (list, path) = (shown(list), shown(path));
            Error::Invalid(format!(
                "{scheme}:{list} has {path:?} where the path of a unix socket belongs: {scheme}:/run/mq.sock"
            ))
        })?;
        if !paths.contains(&path) {
            paths.push(path);
        }
    }
    Ok(paths)
}

fn is_path(text: &str) -> bool {
    ["/", "./", "../"].iter().any(|start| text.starts_with(start))
}

/// Checks that an address of a list is `host:port`.
fn check_address(scheme: &str, list: &str, address: &str) -> Result<()> {
    let invalid = |why: String| Err(Error::Invalid(format!("{scheme}://{list} {why}")));
    if address.is_empty() && list != address {
        return invalid("has an empty address between its commas".to_owned());
    }
    let ends_the_host = |at: &usize| address[*at..].find(']').is_none();
    let (host, port) = match address.rfind(':').filter(ends_the_host) {
        Some(at) => (&address[..at], Some(&address[at + 1..])),
        None => (address, None),
    };
    let ip6 = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let is_host = match ip6 {
        Some(ip) => ip.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            let fits = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
            !host.is_empty() && host.bytes().all(fits)
        }
    };
    let is_port = |port: &str| {
        port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0)
    };
    match port {
        Some(port) if is_host && is_port(port) => Ok(()),
        Some(port) if is_host => match port.split_once('/') {
            Some((port, path)) if is_port(port) => invalid(format!("has /{path} behind an address")),
            _ => invalid(format!("has {port:?} where a port belongs: a number from 1 to 65535")),
        },
        Some(_) => invalid(format!("has {host:?} where a host belongs")),
        None => {
            let port = if scheme.ends_with("+lookup") { 4161 } else { 4150 };
            let host = if is_host { host } else { "localhost" };
            let broker = format!("{scheme}://{host}:{port}");
            invalid(format!(
                "is not host:port[,host:port...]: did you mean {broker} or the folder mq:{list}?"
            ))
        }
    }
}

fn ambiguous(place: &str, broker: &str) -> Error {
    if place.is_empty() {
        return Error::Invalid("the URL is empty: a folder such as ./data, or mq://host:4150".to_owned());
    }
    let broker = if broker.contains(':') { broker.to_owned() } else { format!("{broker}:4150") };
    Error::Invalid(format!(
        "{place:?} may be a broker or a folder: did you mean mq://{broker} or the folder ./{place}?"
    ))
}

/// The part of a URL that can be shown: nothing before an `@`.
fn shown(place: &str) -> String {
    match place.rsplit_once('@') {
        Some((_, rest)) => format!("...@{rest}"),
        None => place.to_owned(),
    }
}

/// Decodes `%XX`.
fn decode(value: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let digit = |at: usize| tail.get(at).and_then(|&b| char::from(b).to_digit(16));
        bytes.push(u8::try_from(digit(0)? * 16 + digit(1)?).ok()?);
        rest = &tail[2..];
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn place(url: &str) -> Result<Place> {
        parse(url, Config::default()).map(|(place, _)| place)
    }

    fn brokers(addresses: &[&str], tls: bool) -> Place {
        Place::Brokers { addresses: addresses.iter().map(ToString::to_string).collect(), tls }
    }

    fn lookup(servers: &[&str], tls: bool) -> Place {
        Place::Lookup { servers: servers.iter().map(ToString::to_string).collect(), tls }
    }

    #[test]
    fn each_form_is_read_as_it_is_meant() {
        for path in ["/var/lib/mq", "./data", "../data", "/a:b"] {
            assert_eq!(place(path).unwrap(), Place::Folder(path.into()));
        }
        for (url, want) in [
            ("mq:orders", Place::Folder("orders".into())),
            ("mq:/var/lib/mq", Place::Folder("/var/lib/mq".into())),
            ("mq:memory", Place::Memory),
            ("mq:./memory", Place::Folder("./memory".into())),
            ("mq://a:1,b:2,a:1", brokers(&["a:1", "b:2"], false)),
            ("mq://[::1]:4150/", brokers(&["[::1]:4150"], false)),
            ("mqs://a:1", brokers(&["a:1"], true)),
            ("mq+lookup://a:4161", lookup(&["a:4161"], false)),
            ("mqs+lookup://a:1,https://b:443/", lookup(&["a:1", "https://b:443"], true)),
            ("mq+unix:/run/mq.sock", brokers(&["/run/mq.sock"], false)),
            ("mq+unix:///run/mq.sock,./b%2C%20c,/run/mq.sock", brokers(&["/run/mq.sock", "./b, c"], false)),
            ("mqs+unix:../mq.sock?tls_server_name=a", brokers(&["../mq.sock"], true)),
        ] {
            assert_eq!(place(url).unwrap(), want, "{url}");
        }
    }

    #[test]
    fn an_error_names_both_readings() {
        for (url, first, second) in [
            ("localhost:4150", "mq://localhost:4150", "./localhost:4150"),
            ("orders", "mq://orders:4150", "./orders"),
            ("", "mq://", "./"),
            ("mq://orders-data", "mq://orders-data:4150", "mq:orders-data"),
            ("mq:///var/lib/mq", "mq://", "mq:/var/lib/mq"),
            ("mq+lookup://host", "mq+lookup://host:4161", "mq:host"),
            ("http://a:1", "mq://host:port", "mq:PATH"),
            ("mq+unix:", "\"\"", "mq+unix:/run/mq.sock"),
            ("mq+unix://run/mq.sock", "//run/mq.sock", "mq+unix:/run/mq.sock"),
            ("mqs+unix:/a,b:1", "\"b:1\"", "mqs+unix:/run/mq.sock"),
            ("mq+unix:/run/", "\"/run/\"", "mq+unix:/run/mq.sock"),
            ("mq+unix:/run/%", "\"/run/%\"", "mq+unix:/run/mq.sock"),
        ] {
            let error = place(url).unwrap_err().to_string();
            assert!(error.contains(first) && error.contains(second), "{url}: {error}");
        }
        for url in [
            "mq:",
            "mq+unix:",
            "mq+unix://",
            "mq://a:0",
            "mq://a:70000",
            "mq://a:+1",
            "mq://a:1,",
            "mq://[::x]:1",
            "mq://a b:1",
            "mq://https://a:1",
            "mq+lookup://https://a",
        ] {
            assert!(place(url).is_err(), "{url}");
        }
    }

    #[test]
    fn an_error_about_an_address_names_the_part_that_is_wrong() {
        for (url, part) in [
            ("mq://h:99999", "\"99999\" where a port belongs"),
            ("mq://h:x", "\"x\" where a port belongs"),
            ("mq://h:0", "\"0\" where a port belongs"),
            ("mq://h:", "\"\" where a port belongs"),
            ("mq://h:1/path", "/path behind an address"),
            ("mq://a:1,,b:2", "empty address"),
            ("mq://a:1,", "empty address"),
            ("mq://a b:1", "\"a b\" where a host belongs"),
            ("mq://[::x]:1", "\"[::x]\" where a host belongs"),
            ("mq://[::1]", "mq://[::1]:4150"),
        ] {
            let error = place(url).unwrap_err().to_string();
            assert!(
                error.contains(part) && (part.contains("4150") || !error.contains("folder")),
                "{url}: {error}"
            );
        }
    }

    #[test]
    fn parameters_win_over_the_config_and_are_decoded() {
        let url = "mq://a:1?auth_secret=hush%26%3D1&client_id=me";
        let config = Config { client_id: "other".to_owned(), ..Config::default() };
        let (_, config) = parse(url, config).unwrap();
        assert_eq!((config.auth_secret.as_deref(), config.client_id.as_str()), (Some("hush&=1"), "me"));
        for url in ["mq:memory?x", "mq:memory?x=1", "mq:memory?client_id=%", "mq:memory?client_id=%f"] {
            assert!(place(url).is_err(), "{url}");
        }
    }

    #[test]
    fn a_secret_is_in_no_error_and_no_debug_output() {
        for url in [
            "mq://a:1?auth_secret=hush%",
            "a:1?auth_secret=hush",
            "mq://me:hush@a:1",
            "me:hush@a:1",
            "http://me:hush@a:1",
            "mq+unix:me:hush@a:1",
            "mq://a:1?auth_secret=hush&publish_timeout=never",
        ] {
            let error = place(url).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("hush"), "{url}: {error}");
        }
        let (_, config) = parse("mq://a:1?auth_secret=hush", Config::default()).unwrap();
        assert!(!format!("{config:?}").contains("hush"));
    }

    proptest! {
        #[test]
        fn any_text_is_a_place_or_an_error(url in "(mq|mqs|mq\\+lookup)?(:|://)?[\\PC]{0,30}") {
            let _ = place(&url);
        }

        #[test]
        fn an_escaped_value_is_read_as_it_was(value in "\\PC{0,20}") {
            let escaped: String = value.bytes().map(|byte| format!("%{byte:02X}")).collect();
            prop_assert_eq!(decode(&escaped), Some(value));
        }
    }
}

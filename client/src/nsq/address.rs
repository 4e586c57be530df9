//! Addresses as go-nsq takes them.

use crate::error::{Error, Result};
use crate::url;

/// Checks a broker's `host:port`.
pub(super) fn broker(address: &str) -> Result<String> {
    one("mq", address).ok_or_else(|| {
        Error::Invalid(format!("{address:?} is no broker's address: host:port is, such as localhost:4150"))
    })
}

/// Checks a list of brokers, `host:port[,host:port...]`.
pub(super) fn brokers(addresses: &str) -> Result<Vec<String>> {
    addresses.split(',').map(broker).collect()
}

/// Gives the `host:port` of a lookup server that may be named by its URL.
pub(super) fn lookup(address: &str) -> Result<String> {
    if address.starts_with("https://") {
        return Err(Error::Invalid(format!("{address:?}: lookup servers are asked over http, not https")));
    }
    let place = address.strip_prefix("http://").unwrap_or(address);
    let place = place.split(['/', '?']).next().unwrap_or_default();
    one("mq+lookup", place).ok_or_else(|| {
        Error::Invalid(format!(
            "{address:?} is no lookup server's address: host:port is, such as localhost:4161"
        ))
    })
}

fn one(scheme: &str, address: &str) -> Option<String> {
    match url::addresses(scheme, address).ok()?.as_slice() {
        [one] => Some(one.clone()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_as_go_nsq_takes_them() {
        assert_eq!(broker("[::1]:4150").unwrap(), "[::1]:4150");
        assert_eq!(brokers("a:1,b:2").unwrap(), ["a:1", "b:2"]);
        for given in ["l:4161", "http://l:4161", "http://l:4161/lookup?topic=t", "l:4161/"] {
            assert_eq!(lookup(given).unwrap(), "l:4161");
        }
        for wrong in ["", "a", "a:", "a:1,b:2", "http://a:1"] {
            assert!(broker(wrong).unwrap_err().to_string().contains("host:port"), "{wrong}");
        }
        for wrong in ["", "http://", "http://l", "https://l:4161"] {
            assert!(lookup(wrong).is_err(), "{wrong}");
        }
    }
}

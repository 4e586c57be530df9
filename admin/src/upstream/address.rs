//! Addresses that lookup servers report, and whether they may be called.

use std::net::IpAddr;

/// `host:port`, with brackets around an IPv6 address.
pub(crate) fn joined(host: &str, port: u16) -> String {
    match host.parse::<IpAddr>() {
        Ok(IpAddr::V6(address)) => format!("[{address}]:{port}"),
        _ => format!("{host}:{port}"),
    }
}

/// The host of `host:port`, without brackets.
fn host_of(address: &str) -> &str {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

/// Whether the machine itself is meant: a loopback address or name, or the path of a unix socket.
fn is_this_machine(address: &str) -> bool {
    let host = host_of(address);
    let is_loopback = host.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback());
    address.contains('/') || host.is_empty() || is_loopback || host.eq_ignore_ascii_case("localhost")
}

/// Whether a broker that registered with `host` and `port` at the lookup server `lookup` may be called.
///
/// Anybody who reaches a lookup server can register any address. What only this machine or this link can
/// reach is no broker's address unless the lookup server is there too.
pub(crate) fn is_reachable_for(lookup: &str, host: &str, port: u16) -> bool {
    let name_is_plain = !host.is_empty()
        && host.len() <= 253
        && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b':'));
    if port == 0 || !name_is_plain {
        return false;
    }
    if is_this_machine(lookup) {
        return true;
    }
    if host.eq_ignore_ascii_case("localhost") || host.to_ascii_lowercase().ends_with(".localhost") {
        return false;
    }
    !host.parse::<IpAddr>().is_ok_and(|ip| is_private_to_a_machine(ip.to_canonical()))
}

/// Loopback, link-local (clouds have their metadata there), unspecified and multicast addresses.
fn is_private_to_a_machine(ip: IpAddr) -> bool {
    let is_link_local = match ip {
        IpAddr::V4(ip) => ip.is_link_local() || ip.is_broadcast(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    ip.is_loopback() || ip.is_unspecified() || ip.is_multicast() || is_link_local
}

/// Whether the address that a name was resolved to may be called, given what [`is_reachable_for`] allows.
pub(super) fn is_callable(lookup_is_here: bool, ip: IpAddr) -> bool {
    lookup_is_here || !is_private_to_a_machine(ip.to_canonical())
}

/// Whether an upstream at `address` is on this machine.
pub(super) fn is_here(address: &str) -> bool {
    is_this_machine(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_only_this_machine_has_is_no_brokers_unless_the_lookup_is_here() {
        let far = "10.0.0.1:4161";
        for (host, port, from_far, from_here) in [
            ("10.0.0.2", 4151, true, true),
            ("broker-7.example", 4151, true, true),
            ("2001:db8::1", 4151, true, true),
            ("127.0.0.1", 4151, false, true),
            ("::1", 4151, false, true),
            ("::ffff:127.0.0.1", 4151, false, true),
            ("localhost", 4151, false, true),
            ("a.LOCALHOST", 4151, false, true),
            ("169.254.169.254", 80, false, true),
            ("fe80::1", 4151, false, true),
            ("0.0.0.0", 4151, false, true),
            ("224.0.0.1", 4151, false, true),
            ("10.0.0.2", 0, false, false),
            ("", 4151, false, false),
            ("a/b", 4151, false, false),
            ("/tmp/mq.sock", 4151, false, false),
            ("a@b", 4151, false, false),
            ("a b", 4151, false, false),
        ] {
            assert_eq!(is_reachable_for(far, host, port), from_far, "{host} from afar");
            for here in ["127.0.0.1:4161", "localhost:4161", ":4161", "/tmp/lookup.sock", "[::1]:4161"] {
                assert_eq!(is_reachable_for(here, host, port), from_here, "{host} from {here}");
            }
        }
    }

    #[test]
    fn ipv6_has_brackets() {
        assert_eq!(joined("::1", 1), "[::1]:1");
        assert_eq!(joined("h", 1), "h:1");
    }
}

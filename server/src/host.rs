//! The name of this machine.

use crate::config::value::Address;
use crate::invoked_as::InvokedAs;

/// The host's name.
pub(crate) fn name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// The name that others reach this process by: the `given` one; else, under NSQ's names, the host's; else the
/// host of the `listen` address, unless that is a wildcard.
pub(crate) fn broadcast(given: &str, listen: &Address, invoked_as: InvokedAs) -> String {
    match (given, listen, invoked_as) {
        ("", Address::Tcp(address), InvokedAs::Mq) => {
            let host = address.rsplit_once(':').map_or("", |(host, _)| host).trim_matches(['[', ']']);
            if matches!(host, "" | "0.0.0.0" | "::") { name() } else { host.to_owned() }
        }
        ("", ..) => name(),
        _ => given.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn others_reach_us_by_what_we_listen_on_or_the_hosts_name() {
        let tcp = |address: &str| Address::Tcp(address.to_owned());
        assert_eq!(broadcast("", &tcp("127.0.0.1:1"), InvokedAs::Mq), "127.0.0.1");
        assert_eq!(broadcast("", &tcp("[::1]:1"), InvokedAs::Mq), "::1");
        for everywhere in ["0.0.0.0:1", "[::]:1", ":1"] {
            assert_eq!(broadcast("", &tcp(everywhere), InvokedAs::Mq), name());
        }
        assert_eq!(broadcast("", &tcp("127.0.0.1:1"), InvokedAs::Nsqd), name());
        assert_eq!(broadcast("", &Address::Unix("/x".into()), InvokedAs::Mq), name());
        assert_eq!(broadcast("b", &tcp("127.0.0.1:1"), InvokedAs::Nsqlookupd), "b");
    }
}

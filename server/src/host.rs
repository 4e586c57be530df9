//! What this machine is called.

use mq_nsq::transport::Address;

use crate::settings::Face;

/// The host's name.
pub(crate) fn name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// What others are told to reach us by: what is `given`; else, as NSQ's programs do, the host's name; we ourselves tell
/// the address we listen on where it is one.
pub(crate) fn broadcast(given: &str, listening: &Address, face: Face) -> String {
    match (given, listening, face) {
        ("", Address::Tcp(address), Face::Mq) if !address.ip().is_unspecified() => address.ip().to_string(),
        ("", ..) => name(),
        _ => given.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn others_reach_us_by_what_we_listen_on_or_the_hosts_name() {
        let tcp = |address: &str| Address::Tcp(address.parse().unwrap());
        assert_eq!(broadcast("", &tcp("127.0.0.1:1"), Face::Mq), "127.0.0.1");
        assert_eq!(broadcast("", &tcp("[::1]:1"), Face::Mq), "::1");
        assert_eq!(broadcast("", &tcp("0.0.0.0:1"), Face::Mq), name());
        assert_eq!(broadcast("", &tcp("127.0.0.1:1"), Face::Nsqd), name());
        assert_eq!(broadcast("", &Address::Unix("/x".into()), Face::Mq), name());
        assert_eq!(broadcast("b", &tcp("127.0.0.1:1"), Face::Nsqlookupd), "b");
    }
}

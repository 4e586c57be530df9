//! Ports of one broker that a command asks.

use mq_bench::broker_flags::{HttpAddressFlag, TcpFlags};

/// The ports that are asked: what the flags name, and both of the broker on this machine if they name none.
/// The other port of a broker whose one port is named may be that of a stranger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) tcp: bool,
    pub(crate) http: bool,
}

impl Asked {
    pub(crate) fn of(tcp: &TcpFlags, http: &HttpAddressFlag) -> Self {
        Self { tcp: tcp.is_given() || !http.is_given(), http: http.is_given() || !tcp.is_given() }
    }

    /// Each port that was not asked, and the flag that has it asked.
    pub(crate) fn left_out(self) -> Option<&'static str> {
        match self {
            Self { http: false, .. } => Some("http was not asked: --http-address names it"),
            Self { tcp: false, .. } => Some("tcp was not asked: --tcp-address names it"),
            Self { tcp: true, http: true } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{Args, Command, FromArgMatches};

    #[test]
    fn a_port_is_asked_if_it_is_named_or_neither_is() {
        let of = |flags: &[&str]| {
            let command = HttpAddressFlag::augment_args(TcpFlags::augment_args(Command::new("mq")));
            let matches = command.get_matches_from([&["mq"], flags].concat());
            let tcp = TcpFlags::from_arg_matches(&matches).unwrap();
            Asked::of(&tcp, &HttpAddressFlag::from_arg_matches(&matches).unwrap())
        };
        let both = Asked { tcp: true, http: true };
        let (tcp, http) = ("--tcp-address=a:1", "--http-address=a:2");
        assert_eq!((of(&[]), of(&[tcp, http])), (both, both));
        assert_eq!(of(&[tcp]), Asked { tcp: true, http: false });
        assert_eq!(of(&[http]), Asked { tcp: false, http: true });
        assert_eq!(both.left_out(), None);
        assert!(of(&[tcp]).left_out().unwrap().contains("--http-address"));
        assert!(of(&[http]).left_out().unwrap().contains("--tcp-address"));
    }
}

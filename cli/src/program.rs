//! Names that the program is started under.

use std::ffi::OsStr;
use std::path::Path;

use mq_server::config::InvokedAs;

/// NSQ's tools: each is a hidden command of its name.
pub(crate) const NSQ_TOOLS: [&str; 6] =
    ["nsq_stat", "nsq_tail", "nsq_to_file", "nsq_to_http", "nsq_to_nsq", "to_nsq"];

/// The program that a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Program {
    /// A broker, a lookup server or the admin page under NSQ's names, or `mq`.
    Mq(InvokedAs),
    /// One of NSQ's tools.
    Tool(&'static str),
}

impl Program {
    /// The one that `path`, the first word of a command line, names.
    pub(crate) fn named(path: Option<&OsStr>) -> Self {
        let name =
            path.and_then(|path| Path::new(path).file_name()).and_then(OsStr::to_str).unwrap_or_default();
        match (name, NSQ_TOOLS.iter().find(|tool| **tool == name)) {
            ("nsqd", _) => Self::Mq(InvokedAs::Nsqd),
            ("nsqlookupd", _) => Self::Mq(InvokedAs::Nsqlookupd),
            ("nsqadmin", _) => Self::Mq(InvokedAs::Nsqadmin),
            (_, Some(tool)) => Self::Tool(tool),
            _ => Self::Mq(InvokedAs::Mq),
        }
    }

    /// The command that the name stands for; none of `mq`, whose command comes next.
    pub(crate) fn subcommand(self) -> Option<&'static str> {
        match self {
            Self::Mq(InvokedAs::Mq) => None,
            Self::Mq(InvokedAs::Nsqd) => Some("serve"),
            Self::Mq(InvokedAs::Nsqlookupd) => Some("lookup"),
            Self::Mq(InvokedAs::Nsqadmin) => Some("admin"),
            Self::Tool(tool) => Some(tool),
        }
    }

    /// The name before a complaint.
    pub(crate) fn shown(self, subcommand: &str) -> String {
        match self {
            Self::Mq(InvokedAs::Nsqd) => "nsqd".to_owned(),
            Self::Mq(InvokedAs::Nsqlookupd) => "nsqlookupd".to_owned(),
            Self::Mq(InvokedAs::Nsqadmin) => "nsqadmin".to_owned(),
            _ if NSQ_TOOLS.contains(&subcommand) => subcommand.to_owned(),
            _ => format!("mq {subcommand}"),
        }
    }

    /// The flags and defaults that a broker, a lookup server or the admin page takes.
    pub(crate) fn invoked_as(self) -> InvokedAs {
        match self {
            Self::Mq(invoked_as) => invoked_as,
            Self::Tool(_) => InvokedAs::Mq,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_decides() {
        for (name, is) in [
            ("nsqlookupd", Program::Mq(InvokedAs::Nsqlookupd)),
            ("nsqadmin", Program::Mq(InvokedAs::Nsqadmin)),
            ("nsqd", Program::Mq(InvokedAs::Nsqd)),
            ("/usr/bin/nsqd", Program::Mq(InvokedAs::Nsqd)),
            ("mq", Program::Mq(InvokedAs::Mq)),
            ("/nsqd/mq", Program::Mq(InvokedAs::Mq)),
            ("/usr/bin/nsq_tail", Program::Tool("nsq_tail")),
        ] {
            assert_eq!(Program::named(Some(name.as_ref())), is, "{name}");
        }
        assert_eq!(Program::Tool("to_nsq").shown("to_nsq"), "to_nsq");
        assert_eq!(Program::named(None).shown("tail"), "mq tail");
    }
}

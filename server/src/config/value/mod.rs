//! Types of settings: how each is written, and what the right form is called in an error.

pub(crate) mod list;
pub(crate) mod word;

use std::path::PathBuf;
use std::time::Duration;

use mq_nsq::server::OptionValue;
use tracing::level_filters::LevelFilter;

use crate::config::units;

/// A type a setting can have.
pub trait Value: Sized {
    /// The right form, to end "it must be ...".
    const FORM: &'static str;
    /// Whether the flag stands alone: `--flag` means `true`, and only `=` gives it another value.
    const SWITCH: bool = false;
    /// Whether it can be given more than once, each adding to it.
    const LIST: bool = false;

    /// The value `text` means, `None` if it has not the right form.
    fn parse(text: &str) -> Option<Self>;

    /// The value as `/config` answers it.
    fn show(&self) -> OptionValue;
}

/// The flag of the setting `key`.
pub(crate) fn flag(key: &str) -> String {
    key.replace('_', "-")
}

fn number(number: u64) -> OptionValue {
    OptionValue::Json(number.to_string())
}

/// An address to listen on or connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// `host:port`; an empty host is every interface.
    Tcp(String),
    /// Path of a unix socket.
    Unix(PathBuf),
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => path.display().fmt(f),
        }
    }
}

impl Value for Address {
    const FORM: &'static str = "host:port, or the path of a unix socket with a / in it";

    fn parse(text: &str) -> Option<Self> {
        // Somebody means a port, and no file has such a name.
        if text.contains("://") {
            return None;
        }
        // A path has a slash: a host without its port must not quietly become a socket file of that name.
        if text.contains('/') || text.ends_with(".sock") {
            return Some(Self::Unix(text.into()));
        }
        let (host, port) = text.rsplit_once(':')?;
        let bare_v6 = host.contains(':') && !(host.starts_with('[') && host.ends_with(']'));
        let digits = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
        (digits && port.parse::<u16>().is_ok() && !bare_v6).then(|| Self::Tcp(text.to_owned()))
    }

    fn show(&self) -> OptionValue {
        OptionValue::Text(self.to_string())
    }
}

/// An address, or none: then nobody listens or connects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct MaybeAddress(pub(crate) Option<Address>);

impl Value for MaybeAddress {
    const FORM: &'static str =
        "host:port such as 127.0.0.1:4151, the path of a unix socket with a / in it, or nothing";

    fn parse(text: &str) -> Option<Self> {
        if text.is_empty() {
            Some(Self(None))
        } else {
            Address::parse(text).map(|address| Self(Some(address)))
        }
    }

    fn show(&self) -> OptionValue {
        self.0.as_ref().map_or(OptionValue::Text(String::new()), Address::show)
    }
}

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
pub struct Size(pub u64);

impl Value for Size {
    const FORM: &'static str = units::SIZE_FORM;

    fn parse(text: &str) -> Option<Self> {
        units::parse_size(text).map(Self)
    }

    fn show(&self) -> OptionValue {
        number(self.0)
    }
}

/// A number of bytes that a length on NSQ's wire can say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
pub(crate) struct WireSize(pub(crate) u32);

impl Value for WireSize {
    const FORM: &'static str = "a number of bytes below 2GiB, or one with a unit such as 64KiB, 1MiB";

    fn parse(text: &str) -> Option<Self> {
        // Lengths are signed 32-bit numbers there.
        let bytes = units::parse_size(text).and_then(|bytes| i32::try_from(bytes).ok())?;
        u32::try_from(bytes).ok().map(Self)
    }

    fn show(&self) -> OptionValue {
        number(self.0.into())
    }
}

impl Value for Duration {
    const FORM: &'static str = units::DURATION_FORM;

    fn parse(text: &str) -> Option<Self> {
        units::parse_duration(text)
    }

    fn show(&self) -> OptionValue {
        OptionValue::Json(self.as_nanos().to_string())
    }
}

impl Value for PathBuf {
    const FORM: &'static str = "a path";

    fn parse(text: &str) -> Option<Self> {
        (!text.is_empty()).then(|| text.into())
    }

    fn show(&self) -> OptionValue {
        OptionValue::Text(self.display().to_string())
    }
}

/// A path, or none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct MaybePath(pub(crate) Option<PathBuf>);

impl Value for MaybePath {
    const FORM: &'static str = "a path, or nothing";

    fn parse(text: &str) -> Option<Self> {
        Some(Self((!text.is_empty()).then(|| text.into())))
    }

    fn show(&self) -> OptionValue {
        OptionValue::Text(self.0.as_ref().map(|path| path.display().to_string()).unwrap_or_default())
    }
}

impl Value for String {
    const FORM: &'static str = "any text";

    fn parse(text: &str) -> Option<Self> {
        Some(text.to_owned())
    }

    fn show(&self) -> OptionValue {
        OptionValue::Text(self.clone())
    }
}

impl Value for bool {
    const FORM: &'static str = "true or false, with = between the flag and the value";
    const SWITCH: bool = true;

    fn parse(text: &str) -> Option<Self> {
        match text {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
            _ => None,
        }
    }

    fn show(&self) -> OptionValue {
        OptionValue::Json(self.to_string())
    }
}

impl Value for u64 {
    const FORM: &'static str = "a whole number";

    fn parse(text: &str) -> Option<Self> {
        text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten()
    }

    fn show(&self) -> OptionValue {
        number(*self)
    }
}

impl Value for u32 {
    const FORM: &'static str = "a whole number below 2^32";

    fn parse(text: &str) -> Option<Self> {
        u64::parse(text).and_then(|number| Self::try_from(number).ok())
    }

    fn show(&self) -> OptionValue {
        number((*self).into())
    }
}

impl Value for u16 {
    const FORM: &'static str = "a whole number below 65536";

    fn parse(text: &str) -> Option<Self> {
        u64::parse(text).and_then(|number| Self::try_from(number).ok())
    }

    fn show(&self) -> OptionValue {
        number((*self).into())
    }
}

impl Value for mq_core::Durability {
    const FORM: &'static str = "memory, flush or sync";

    fn parse(text: &str) -> Option<Self> {
        Self::parse(text)
    }

    fn show(&self) -> OptionValue {
        OptionValue::Text(self.name().to_owned())
    }
}

/// A broker's number within its cluster, below 1024.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NodeId(pub(crate) u16);

impl Value for NodeId {
    const FORM: &'static str = "0 to 1023, or auto";

    fn parse(text: &str) -> Option<Self> {
        if text == "auto" {
            return Some(Self::of_host(rustix::system::uname().nodename().to_bytes()));
        }
        let id = u64::parse(text).filter(|id| *id < u64::from(Self::COUNT))?;
        u16::try_from(id).ok().map(Self)
    }

    fn show(&self) -> OptionValue {
        number(self.0.into())
    }
}

impl NodeId {
    const COUNT: u32 = 1024;

    /// The same number for a host name on every run: FNV-1a, folded.
    fn of_host(name: &[u8]) -> Self {
        let hash = name
            .iter()
            .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193));
        Self(((hash ^ (hash >> 16)) % Self::COUNT) as u16)
    }
}

/// The least severe log lines that are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LogLevel(pub(crate) LevelFilter);

impl Value for LogLevel {
    const FORM: &'static str = "trace, debug, info, warn or error";

    fn parse(text: &str) -> Option<Self> {
        Some(Self(match text.to_ascii_lowercase().as_str() {
            "trace" => LevelFilter::TRACE,
            "debug" => LevelFilter::DEBUG,
            "info" => LevelFilter::INFO,
            "warn" | "warning" => LevelFilter::WARN,
            // `fatal` is a level of nsqd's; an error is the worst we write.
            "error" | "fatal" => LevelFilter::ERROR,
            _ => return None,
        }))
    }

    fn show(&self) -> OptionValue {
        // nsqd's numbers; it knows nothing below debug.
        OptionValue::Json(match self.0 {
            LevelFilter::TRACE | LevelFilter::DEBUG => "1".to_owned(),
            LevelFilter::INFO => "2".to_owned(),
            LevelFilter::WARN => "3".to_owned(),
            _ => "4".to_owned(),
        })
    }
}

/// Form of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogFormat {
    /// Lines of text.
    Text,
    /// One object a line.
    Json,
}

impl Value for LogFormat {
    const FORM: &'static str = "text or json";

    fn parse(text: &str) -> Option<Self> {
        match text {
            "text" => Some(Self::Text),
            "json" => Some(Self::Json),
            _ => None,
        }
    }

    fn show(&self) -> OptionValue {
        OptionValue::Text(match self {
            Self::Text => "text".to_owned(),
            Self::Json => "json".to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_host_and_port_or_a_path() {
        for tcp in ["127.0.0.1:4150", "localhost:0", ":4150", "[::1]:4150"] {
            assert_eq!(Address::parse(tcp), Some(Address::Tcp(tcp.to_owned())), "{tcp}");
        }
        for unix in ["/run/mq.sock", "./mq", "mq.sock"] {
            assert_eq!(Address::parse(unix), Some(Address::Unix(unix.into())), "{unix}");
        }
        for bad in
            ["", "127.0.0.1", "4150", "host:", "host:65536", "host:+1", "::1:4150", "http://h:1", "tcp://h:1"]
        {
            assert_eq!(Address::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn sizes_on_the_wire_fit_its_lengths() {
        assert_eq!(WireSize::parse("1MiB"), Some(WireSize(1 << 20)));
        assert_eq!(WireSize::parse("2147483647"), Some(WireSize(i32::MAX as u32)));
        assert_eq!(WireSize::parse("2GiB"), None);
    }

    #[test]
    fn node_ids_fit_their_bits() {
        assert_eq!(NodeId::parse("0"), Some(NodeId(0)));
        assert_eq!(NodeId::parse("1023"), Some(NodeId(1023)));
        for bad in ["1024", "-1", "", "65536", "x"] {
            assert_eq!(NodeId::parse(bad), None, "{bad}");
        }
        assert_eq!(NodeId::of_host(b"a"), NodeId::of_host(b"a"));
        assert_ne!(NodeId::of_host(b"broker-1"), NodeId::of_host(b"broker-2"));
    }
}

//! Settings of a client, and their ranges.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use mq_core::Durability;
use mq_nsq::client::shown;

use crate::error::{Error, Result};

/// Settings of a client. Each can be a query parameter of the URL too, which wins:
/// `mq://broker:4150?publish_timeout=5s`.
///
/// ```
/// use std::time::Duration;
/// let config = libmq::Config { publish_timeout: Duration::from_secs(5), ..libmq::Config::default() };
/// let client = libmq::connect_with("mq:memory", config)?;
/// # Ok::<(), libmq::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Config {
    /// Bytes of messages that may wait in the client for their outcome. Default 64 MiB; 1 KiB to 1 TiB. One
    /// larger message has room alone.
    pub max_buffered_bytes: usize,
    /// Longest time that a publish which waits takes. Default 30 s; 1 ms to 1 day.
    pub publish_timeout: Duration,
    /// Longest delay before an unreachable broker is tried again. Default 15 s; 10 ms to 1 hour. Delays
    /// begin at 10 ms and double, each cut by up to a half at random.
    pub max_reconnect_delay: Duration,
    /// Interval between questions to the lookup servers, lengthened by up to 30 % at random. Default 60 s;
    /// 10 ms to 5 minutes.
    pub lookup_poll_interval: Duration,
    /// The client's name in the brokers' statistics. Default: the brokers choose.
    pub client_id: String,
    /// A secret that brokers ask for. Never printed.
    pub auth_secret: Option<String>,
    /// A PEM file, or the text of one, with the certificates that `mqs://` trusts. Default: the system's.
    pub tls_root_ca_file: Option<PathBuf>,
    /// PEM files, or the texts of some, with the certificate that the client shows to `mqs://` brokers, and
    /// its key. Both or none.
    pub tls_cert_file: Option<PathBuf>,
    /// See [`Config::tls_cert_file`].
    pub tls_key_file: Option<PathBuf>,
    /// The name that the certificates of `mqs://` brokers must have. Default: the host connected to, and
    /// `localhost` over a unix socket.
    pub tls_server_name: Option<String>,
    /// Compression of connections, where the broker has it. Default none.
    pub compression: Compression,
    /// Interval of the brokers' heartbeats: a connection on which nothing comes for twice as long is made
    /// again. Default 30 s; 1 s to 60 s.
    pub heartbeat_interval: Duration,
    /// The program's name and version in the brokers' statistics. Default: those of this crate.
    pub user_agent: String,
    /// Whether brokers that have it are spoken to in libmq's extension of NSQ's protocol: without it there
    /// are no headers, ids, offsets and start positions, as with nsqd. Default `true`.
    pub extension: bool,
    /// Choice of the brokers that get what is published. Default [`PublishTo::One`].
    pub publish_to: PublishTo,
    /// Choice of what is sent again when a connection ended before its answer came. Default [`Retry::ById`].
    pub retry: Retry,
    /// Takes any certificate: whoever is on the way can read and change everything. Default `false`.
    pub tls_insecure: bool,
    /// Level of topics that an embedded broker creates: `memory`, `flush` or `sync`. Default `flush`, and
    /// `memory` for `mq:memory`.
    pub durability: Option<Durability>,
    /// Bytes of memory that an embedded broker fills with messages before it writes those at level `memory`
    /// to its folder too; what `mq:memory` would write there is in memory beside it, at most 512 MiB.
    /// Default 256 MiB; 4 MiB to 1 TiB.
    pub memory_limit: u64,
    /// Whether the time of `mq:memory` stands still but for [`Client::advance`](crate::Client::advance).
    /// Default `false`.
    pub test_clock: bool,
}

/// Choice of the brokers, of several, that get what is published.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PublishTo {
    /// One at a time, in order; another when it is lost.
    #[default]
    One,
    /// All that are reached: each takes the next of what waits when it has room, so that those which are
    /// quick or idle get more. In order for each broker.
    All,
}

/// Fate of a message that was sent and not answered when its connection ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Retry {
    /// A message with an id is sent again to the same broker, which knows whether it has it, for as long as
    /// that remembers ids. Any other is [`Error::Unknown`].
    #[default]
    ById,
    /// The others are sent again too, to any broker: they may be stored twice.
    AtLeastOnce,
}

/// Compression of connections to brokers over the network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// None.
    #[default]
    None,
    /// Snappy: quick.
    Snappy,
    /// Deflate of this level, 1 to 9: small.
    Deflate(u8),
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_buffered_bytes: 64 << 20,
            publish_timeout: Duration::from_secs(30),
            max_reconnect_delay: Duration::from_secs(15),
            lookup_poll_interval: Duration::from_secs(60),
            client_id: String::new(),
            auth_secret: None,
            tls_root_ca_file: None,
            tls_cert_file: None,
            tls_key_file: None,
            tls_server_name: None,
            compression: Compression::None,
            heartbeat_interval: Duration::from_secs(30),
            user_agent: String::new(),
            extension: true,
            publish_to: PublishTo::One,
            retry: Retry::ById,
            tls_insecure: false,
            durability: None,
            memory_limit: 256 << 20,
            test_clock: false,
        }
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("max_buffered_bytes", &self.max_buffered_bytes)
            .field("publish_timeout", &self.publish_timeout)
            .field("max_reconnect_delay", &self.max_reconnect_delay)
            .field("lookup_poll_interval", &self.lookup_poll_interval)
            .field("client_id", &self.client_id)
            .field("auth_secret", &self.auth_secret.as_ref().map(|_| "..."))
            .field("tls_root_ca_file", &self.tls_root_ca_file.as_deref().map(shown))
            .field("tls_cert_file", &self.tls_cert_file.as_deref().map(shown))
            .field("tls_key_file", &self.tls_key_file.as_deref().map(shown))
            .field("tls_server_name", &self.tls_server_name)
            .field("compression", &self.compression)
            .field("heartbeat_interval", &self.heartbeat_interval)
            .field("user_agent", &self.user_agent)
            .field("extension", &self.extension)
            .field("publish_to", &self.publish_to)
            .field("retry", &self.retry)
            .field("tls_insecure", &self.tls_insecure)
            .field("tls_server_name", &self.tls_server_name)
            .field("durability", &self.durability)
            .field("memory_limit", &self.memory_limit)
            .field("test_clock", &self.test_clock)
            .finish()
    }
}

impl Config {
    /// Sets the setting called `key`, as the URL's query parameters do. Durations are numbers with a unit:
    /// `250ms`, `5s`, `2m`. Ranges are checked by [`Config::validate`].
    ///
    /// # Errors
    /// `Invalid` for a key that is none, or a value of another form.
    pub fn set(&mut self, key: &str, value: &str) -> Result<()> {
        // A secret's value is in no error.
        let bad = |wants: &str| Err(Error::Invalid(format!("{key} is {value:?}: {wants}")));
        let late = "a number with ms, s, m or h";
        match key {
            "max_buffered_bytes" => match value.parse() {
                Ok(bytes) => self.max_buffered_bytes = bytes,
                Err(_) => return bad("a number of bytes"),
            },
            "memory_limit" => match value.parse() {
                Ok(bytes) => self.memory_limit = bytes,
                Err(_) => return bad("a number of bytes"),
            },
            "publish_timeout" | "max_reconnect_delay" | "lookup_poll_interval" | "heartbeat_interval" => {
                let Some(duration) = duration(value) else { return bad(late) };
                match key {
                    "publish_timeout" => self.publish_timeout = duration,
                    "max_reconnect_delay" => self.max_reconnect_delay = duration,
                    "heartbeat_interval" => self.heartbeat_interval = duration,
                    _ => self.lookup_poll_interval = duration,
                }
            }
            "client_id" => self.client_id = value.to_owned(),
            "auth_secret" => self.auth_secret = Some(value.to_owned()),
            "user_agent" => self.user_agent = value.to_owned(),
            "tls_cert_file" => self.tls_cert_file = Some(value.into()),
            "tls_key_file" => self.tls_key_file = Some(value.into()),
            "tls_server_name" => self.tls_server_name = Some(value.to_owned()),
            "compression" => {
                let level = value.strip_prefix("deflate-").and_then(|level| level.parse().ok());
                self.compression = match (value, level) {
                    ("none", _) => Compression::None,
                    ("snappy", _) => Compression::Snappy,
                    ("deflate", _) => Compression::Deflate(6),
                    (_, Some(level @ 1..=9)) => Compression::Deflate(level),
                    _ => return bad("none, snappy, deflate, or deflate-1 to deflate-9"),
                };
            }
            "tls_root_ca_file" => self.tls_root_ca_file = Some(value.into()),
            "publish_to" => {
                self.publish_to = match value {
                    "one" => PublishTo::One,
                    "all" => PublishTo::All,
                    _ => return bad("one or all"),
                }
            }
            "retry" => {
                self.retry = match value {
                    "by_id" => Retry::ById,
                    "at_least_once" => Retry::AtLeastOnce,
                    _ => return bad("by_id or at_least_once"),
                }
            }
            "tls_insecure" | "test_clock" | "extension" => match (value.parse(), key) {
                (Ok(is_on), "test_clock") => self.test_clock = is_on,
                (Ok(is_on), "extension") => self.extension = is_on,
                (Ok(is_on), _) => self.tls_insecure = is_on,
                (Err(_), _) => return bad("true or false"),
            },
            "durability" => {
                self.durability = Some(match value {
                    "memory" => Durability::Memory,
                    "flush" => Durability::Flush,
                    "sync" => Durability::Sync,
                    _ => return bad("memory, flush or sync"),
                });
            }
            _ => {
                return Err(Error::Invalid(format!(
                    "{key:?} is no setting: there are max_buffered_bytes, publish_timeout, max_reconnect_delay, \
                     lookup_poll_interval, heartbeat_interval, client_id, user_agent, auth_secret, compression, \
                     extension, publish_to, retry, tls_root_ca_file, tls_cert_file, tls_key_file, \
                     tls_server_name, tls_insecure, durability, memory_limit, test_clock"
                )));
            }
        }
        Ok(())
    }

    /// Checks that every setting is in its range.
    ///
    /// # Errors
    /// `Invalid`, naming the setting and its range.
    pub fn validate(&self) -> Result<()> {
        let ms = Duration::from_millis;
        let day = ms(24 * 60 * 60 * 1000);
        in_range("max_buffered_bytes", &self.max_buffered_bytes, &(1 << 10), &(1 << 40))?;
        in_range("memory_limit", &self.memory_limit, &(4 << 20), &(1 << 40))?;
        in_range("publish_timeout", &self.publish_timeout, &ms(1), &day)?;
        if self.tls_cert_file.is_some() != self.tls_key_file.is_some() {
            return Err(Error::Invalid(
                "tls_cert_file and tls_key_file go together: one is missing".to_owned(),
            ));
        }
        if let Compression::Deflate(level) = &self.compression {
            in_range("compression: the level of deflate", level, &1, &9)?;
        }
        in_range("heartbeat_interval", &self.heartbeat_interval, &ms(1000), &ms(60_000))?;
        in_range("max_reconnect_delay", &self.max_reconnect_delay, &ms(10), &ms(60 * 60 * 1000))?;
        in_range("lookup_poll_interval", &self.lookup_poll_interval, &ms(10), &ms(5 * 60 * 1000))
    }
}

pub(crate) fn in_range<T: PartialOrd + fmt::Debug>(name: &str, value: &T, min: &T, max: &T) -> Result<()> {
    if (min..=max).contains(&value) {
        return Ok(());
    }
    Err(Error::Invalid(format!("{name} is {value:?}: at least {min:?}, at most {max:?}")))
}

fn duration(text: &str) -> Option<Duration> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    let ms = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60 * 1000,
        "h" => 60 * 60 * 1000,
        _ => return None,
    };
    Some(Duration::from_millis(number.checked_mul(ms)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_out_of_its_range_is_refused_by_name() {
        for (key, value) in [
            ("max_buffered_bytes", "1"),
            ("max_buffered_bytes", "many"),
            ("memory_limit", "1000"),
            ("publish_timeout", "0s"),
            ("publish_timeout", "18446744073709551615h"),
            ("max_reconnect_delay", "2h"),
            ("lookup_poll_interval", "1s 5"),
            ("tls_insecure", "yes"),
            ("extension", "on"),
            ("retry", "always"),
            ("publish_to", "some"),
            ("durability", "forever"),
            ("compression", "deflate-0"),
            ("compression", "zip"),
            ("heartbeat_interval", "10ms"),
            ("tls_cert_file", "cert.pem"),
        ] {
            let mut config = Config::default();
            let error = config.set(key, value).and_then(|()| config.validate()).unwrap_err().to_string();
            assert!(error.starts_with(key), "{key}={value}: {error}");
        }
        let error = Config::default().set("timeout", "1s").unwrap_err().to_string();
        assert!(error.contains("publish_timeout"), "{error}");
        let mut config = Config::default();
        config.set("publish_timeout", "2m").unwrap();
        assert_eq!(config.publish_timeout, Duration::from_secs(120));
    }
}

//! Settings of consumers and producers, as go-nsq has them, and their ranges.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use mq_nsq::client::{Identify, Secret, TlsVersion, shown};

use super::strategy::{BackoffStrategy, ExponentialStrategy};
use crate::config::{Compression, Config, in_range};
use crate::error::{Error, Result};
use crate::remote::Tuning;
use crate::subscription::SubscribeOptions;
use crate::turns::TurnLimits;

const HOUR: Duration = Duration::from_secs(60 * 60);
const FIVE_MINUTES: Duration = Duration::from_secs(5 * 60);
/// Timeout of messages where the program does not choose: nsqd's.
const MSG_TIMEOUT: Duration = Duration::from_secs(60);

/// Settings of a [`Consumer`](super::Consumer) and a [`Producer`](super::Producer): go-nsq's, by the same
/// names and with the same defaults where nothing else is said. [`NsqConfig::set`] sets them by name.
///
/// ```
/// use std::time::Duration;
/// use libmq::nsq::Config;
///
/// let mut config = Config { max_in_flight: 100, max_attempts: 10, ..Config::default() };
/// config.set("msg-timeout", "90s")?;
/// assert_eq!(config.msg_timeout, Duration::from_secs(90));
/// config.validate()?;
///
/// config.set("read_timeout", "5s")?;
/// let error = config.validate().unwrap_err().to_string();
/// assert!(error.contains("heartbeat_interval"));
/// # Ok::<(), libmq::Error>(())
/// ```
#[derive(Clone)]
pub struct NsqConfig {
    /// Longest time until a new connection is made and its broker has answered to IDENTIFY, TLS and AUTH.
    /// Default 10 s, as it includes more than go-nsq's; 1 ms to 10 s.
    pub dial_timeout: Duration,
    /// Longest time in which nothing comes over a connection: then it is made again. Default 60 s; 100 ms to
    /// 5 minutes, and no less than `heartbeat_interval`.
    pub read_timeout: Duration,
    /// Longest time in which a broker takes nothing of what is to be written: then its connection is made
    /// again. Default 30 s, as go-nsq's 1 s ends connections to brokers that wait for a disk; 100 ms to 5
    /// minutes.
    pub write_timeout: Duration,
    /// The address of this machine from which brokers are connected to, with port 0. Default: the system
    /// chooses one.
    pub local_addr: Option<SocketAddr>,
    /// Interval between questions to the lookup servers; the longest delay before a broker is connected to
    /// again is the same, but 15 s at most. Default 60 s; 10 ms to 5 minutes.
    pub lookupd_poll_interval: Duration,
    /// The share of the interval by which a question is late at most, at random. Default 0.3; 0 to 1.
    pub lookupd_poll_jitter: f64,
    /// Longest time for an answer of a lookup server. Default 60 s; 1 ms to 5 minutes.
    pub lookupd_poll_timeout: Duration,
    /// Whether lookup servers are not shown `auth_secret`. Default `true`, other than in go-nsq: they are
    /// asked over plain HTTP.
    pub skip_lookupd_authorization: bool,
    /// Longest delay that a requeue without a delay of its own gets. Default 15 minutes; 0 to 1 hour.
    pub max_requeue_delay: Duration,
    /// Delay of such a requeue for each attempt. Default 90 s; 0 to 1 hour.
    pub default_requeue_delay: Duration,
    /// The curve of the pauses after failures. Default [`ExponentialStrategy`].
    pub backoff_strategy: Arc<dyn BackoffStrategy>,
    /// Longest pause after failures; 0: none. Default 2 minutes; 0 to 1 hour.
    pub max_backoff_duration: Duration,
    /// Unit of the pauses. Default 1 s; 0 to 1 hour.
    pub backoff_multiplier: Duration,
    /// Attempts after which a message is given up and finished; 0: never. Default 5.
    pub max_attempts: u16,
    /// Time without a message after which a broker's credit goes to another, where there are more brokers
    /// than `max_in_flight`. Default 10 s; 1 s to 5 minutes.
    pub low_rdy_idle_timeout: Duration,
    /// Time after which it does in any case. Default 30 s; 1 s to 5 minutes.
    pub low_rdy_timeout: Duration,
    /// Interval at which both are looked at. Default 5 s; 1 ms to 5 s.
    pub rdy_redistribute_interval: Duration,
    /// The client's name in the brokers' statistics. Default: the hostname up to its first dot.
    pub client_id: String,
    /// The host's name in the brokers' statistics. Default: the system's.
    pub hostname: String,
    /// The program's name and version in the brokers' statistics. Default: those of this crate.
    pub user_agent: String,
    /// The region in which the program is, for brokers that prefer consumers nearby. Default: none.
    pub topology_region: String,
    /// The zone of that region.
    pub topology_zone: String,
    /// Interval of the brokers' heartbeats. Default 30 s; 1 s to 60 s.
    pub heartbeat_interval: Duration,
    /// Percent of the messages that come; the others count as delivered. Default 0: all; at most 99.
    pub sample_rate: u8,
    /// Whether brokers are spoken to over TLS, and not without. Default `false`.
    pub tls_v1: bool,
    /// A PEM file, or the text of one, with the certificates that TLS trusts. Default: the system's.
    pub tls_root_ca_file: Option<PathBuf>,
    /// PEM files, or the texts of some, with the certificate that the client shows, and its key. Both or
    /// none.
    pub tls_cert: Option<PathBuf>,
    /// See [`NsqConfig::tls_cert`].
    pub tls_key: Option<PathBuf>,
    /// Takes any certificate: whoever is on the way can read and change everything. Default `false`.
    pub tls_insecure_skip_verify: bool,
    /// The lowest version of TLS. Default 1.2, which 1.0 and 1.1 mean too.
    pub tls_min_version: TlsVersion,
    /// Compresses with deflate, where the broker has it. Not together with snappy. Default `false`.
    pub deflate: bool,
    /// Level of deflate. Default 6; 1 to 9.
    pub deflate_level: u8,
    /// Compresses with snappy, where the broker has it. Default `false`.
    pub snappy: bool,
    /// Bytes that a broker gathers for a connection before it writes; 0: none. Default 16 KiB. `mq` chooses
    /// them itself.
    pub output_buffer_size: u32,
    /// Longest time for which it does; 0: it waits for no more. Default 250 ms.
    pub output_buffer_timeout: Duration,
    /// Most messages that are here without an answer, over all brokers; 0: none comes. Default 1; at most
    /// 1,000,000.
    pub max_in_flight: u32,
    /// Longest time that a message is with a consumer that does not touch it. Default 0: 60 s, as in nsqd;
    /// else 1 s to 15 minutes.
    pub msg_timeout: Duration,
    /// Most bytes of a frame from a broker, of which a message has 30 besides its body: more ends the
    /// connection, and the message is delivered again. Default 0: no limit of this kind.
    pub max_msg_size: u32,
    /// A secret that brokers ask for. Never printed.
    pub auth_secret: Option<String>,
    /// Longest time that [`Consumer::stop`](super::Consumer::stop) gives to messages in flight. Default 30
    /// s, as go-nsq has it fixed; 0 to 1 hour.
    pub stop_timeout: Duration,
    /// Longest time that a publish which waits takes. go-nsq waits for ever. Default 30 s; 1 ms to 1 hour.
    pub publish_timeout: Duration,
}

impl Default for NsqConfig {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        let hostname = hostname();
        Self {
            dial_timeout: seconds(10),
            read_timeout: seconds(60),
            write_timeout: seconds(30),
            local_addr: None,
            lookupd_poll_interval: seconds(60),
            lookupd_poll_jitter: 0.3,
            lookupd_poll_timeout: seconds(60),
            skip_lookupd_authorization: true,
            max_requeue_delay: seconds(15 * 60),
            default_requeue_delay: seconds(90),
            backoff_strategy: Arc::new(ExponentialStrategy),
            max_backoff_duration: seconds(120),
            backoff_multiplier: seconds(1),
            max_attempts: 5,
            low_rdy_idle_timeout: seconds(10),
            low_rdy_timeout: seconds(30),
            rdy_redistribute_interval: seconds(5),
            client_id: hostname.split('.').next().unwrap_or_default().to_owned(),
            hostname,
            user_agent: String::new(),
            topology_region: String::new(),
            topology_zone: String::new(),
            heartbeat_interval: seconds(30),
            sample_rate: 0,
            tls_v1: false,
            tls_root_ca_file: None,
            tls_cert: None,
            tls_key: None,
            tls_insecure_skip_verify: false,
            tls_min_version: TlsVersion::default(),
            deflate: false,
            deflate_level: 6,
            snappy: false,
            output_buffer_size: 16 << 10,
            output_buffer_timeout: Duration::from_millis(250),
            max_in_flight: 1,
            msg_timeout: Duration::ZERO,
            max_msg_size: 0,
            auth_secret: None,
            stop_timeout: seconds(30),
            publish_timeout: seconds(30),
        }
    }
}

impl fmt::Debug for NsqConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("dial_timeout", &self.dial_timeout)
            .field("read_timeout", &self.read_timeout)
            .field("write_timeout", &self.write_timeout)
            .field("local_addr", &self.local_addr)
            .field("lookupd_poll_interval", &self.lookupd_poll_interval)
            .field("lookupd_poll_jitter", &self.lookupd_poll_jitter)
            .field("lookupd_poll_timeout", &self.lookupd_poll_timeout)
            .field("skip_lookupd_authorization", &self.skip_lookupd_authorization)
            .field("max_requeue_delay", &self.max_requeue_delay)
            .field("default_requeue_delay", &self.default_requeue_delay)
            .field("backoff_strategy", &self.backoff_strategy)
            .field("max_backoff_duration", &self.max_backoff_duration)
            .field("backoff_multiplier", &self.backoff_multiplier)
            .field("max_attempts", &self.max_attempts)
            .field("low_rdy_idle_timeout", &self.low_rdy_idle_timeout)
            .field("low_rdy_timeout", &self.low_rdy_timeout)
            .field("rdy_redistribute_interval", &self.rdy_redistribute_interval)
            .field("client_id", &self.client_id)
            .field("hostname", &self.hostname)
            .field("user_agent", &self.user_agent)
            .field("topology_region", &self.topology_region)
            .field("topology_zone", &self.topology_zone)
            .field("heartbeat_interval", &self.heartbeat_interval)
            .field("sample_rate", &self.sample_rate)
            .field("tls_v1", &self.tls_v1)
            .field("tls_root_ca_file", &self.tls_root_ca_file.as_deref().map(shown))
            .field("tls_cert", &self.tls_cert.as_deref().map(shown))
            .field("tls_key", &self.tls_key.as_deref().map(shown))
            .field("tls_insecure_skip_verify", &self.tls_insecure_skip_verify)
            .field("tls_min_version", &self.tls_min_version)
            .field("deflate", &self.deflate)
            .field("deflate_level", &self.deflate_level)
            .field("snappy", &self.snappy)
            .field("output_buffer_size", &self.output_buffer_size)
            .field("output_buffer_timeout", &self.output_buffer_timeout)
            .field("max_in_flight", &self.max_in_flight)
            .field("msg_timeout", &self.msg_timeout)
            .field("max_msg_size", &self.max_msg_size)
            .field("auth_secret", &self.auth_secret.as_ref().map(|_| "..."))
            .field("stop_timeout", &self.stop_timeout)
            .field("publish_timeout", &self.publish_timeout)
            .finish()
    }
}

impl NsqConfig {
    /// Checks that every setting is in its range, and fits the others.
    /// [`Consumer::new`](super::Consumer::new) and [`Producer::new`](super::Producer::new) do it too.
    ///
    /// # Errors
    /// `Invalid`, naming the setting and its range.
    pub fn validate(&self) -> Result<()> {
        let (ms, second) = (Duration::from_millis(1), Duration::from_secs(1));
        in_range("dial_timeout", &self.dial_timeout, &ms, &(10 * second))?;
        in_range("read_timeout", &self.read_timeout, &(100 * ms), &FIVE_MINUTES)?;
        in_range("write_timeout", &self.write_timeout, &(100 * ms), &FIVE_MINUTES)?;
        in_range("lookupd_poll_interval", &self.lookupd_poll_interval, &(10 * ms), &FIVE_MINUTES)?;
        in_range("lookupd_poll_jitter", &self.lookupd_poll_jitter, &0.0, &1.0)?;
        in_range("lookupd_poll_timeout", &self.lookupd_poll_timeout, &ms, &FIVE_MINUTES)?;
        for (name, value) in [
            ("max_requeue_delay", self.max_requeue_delay),
            ("default_requeue_delay", self.default_requeue_delay),
            ("max_backoff_duration", self.max_backoff_duration),
            ("backoff_multiplier", self.backoff_multiplier),
            ("stop_timeout", self.stop_timeout),
        ] {
            in_range(name, &value, &Duration::ZERO, &HOUR)?;
        }
        in_range("publish_timeout", &self.publish_timeout, &ms, &HOUR)?;
        in_range("low_rdy_idle_timeout", &self.low_rdy_idle_timeout, &second, &FIVE_MINUTES)?;
        in_range("low_rdy_timeout", &self.low_rdy_timeout, &second, &FIVE_MINUTES)?;
        in_range("rdy_redistribute_interval", &self.rdy_redistribute_interval, &ms, &(5 * second))?;
        in_range("heartbeat_interval", &self.heartbeat_interval, &second, &(60 * second))?;
        if self.heartbeat_interval > self.read_timeout {
            return Err(Error::Invalid(format!(
                "heartbeat_interval is {:?} and read_timeout {:?}: it must be no less, or connections end between two \
                 heartbeats",
                self.heartbeat_interval, self.read_timeout
            )));
        }
        in_range("sample_rate", &self.sample_rate, &0, &99)?;
        in_range("deflate_level", &self.deflate_level, &1, &9)?;
        in_range("max_in_flight", &self.max_in_flight, &0, &1_000_000)?;
        if !self.msg_timeout.is_zero() {
            in_range("msg_timeout", &self.msg_timeout, &second, &(15 * 60 * second))?;
        }
        if self.deflate && self.snappy {
            return Err(Error::Invalid("deflate and snappy are both on: one of them can be".to_owned()));
        }
        if self.tls_cert.is_some() != self.tls_key.is_some() {
            return Err(Error::Invalid("tls_cert and tls_key go together: one is missing".to_owned()));
        }
        let has_tls_settings =
            self.tls_root_ca_file.is_some() || self.tls_cert.is_some() || self.tls_insecure_skip_verify;
        if has_tls_settings && !self.tls_v1 {
            return Err(Error::Invalid(
                "tls_v1 is false, and other settings of TLS are there: set it to true".to_owned(),
            ));
        }
        Ok(())
    }

    /// The part of them that is a client's.
    pub(super) fn client(&self) -> Config {
        Config {
            publish_timeout: self.publish_timeout,
            max_reconnect_delay: self.lookupd_poll_interval.min(Duration::from_secs(15)),
            lookup_poll_interval: self.lookupd_poll_interval,
            client_id: self.client_id.clone(),
            auth_secret: self.auth_secret.clone(),
            tls_root_ca_file: self.tls_root_ca_file.clone(),
            tls_cert_file: self.tls_cert.clone(),
            tls_key_file: self.tls_key.clone(),
            tls_insecure: self.tls_insecure_skip_verify,
            compression: match (self.snappy, self.deflate) {
                (true, _) => Compression::Snappy,
                (false, true) => Compression::Deflate(self.deflate_level),
                (false, false) => Compression::None,
            },
            heartbeat_interval: self.heartbeat_interval,
            user_agent: self.user_agent.clone(),
            ..Config::default()
        }
    }

    fn identify(&self) -> Identify {
        Identify {
            hostname: self.hostname.clone(),
            topology_region: self.topology_region.clone(),
            topology_zone: self.topology_zone.clone(),
            output_buffer_size: Some(self.output_buffer_size),
            output_buffer_timeout: Some(self.output_buffer_timeout),
            local_address: self.local_addr,
            read_timeout: Some(self.read_timeout),
            write_timeout: Some(self.write_timeout),
            frame_bytes_max: Some(self.max_msg_size).filter(|max| *max > 0),
            ..Identify::default()
        }
    }

    pub(super) fn tuning(&self) -> Tuning {
        let token = self.auth_secret.as_ref().filter(|_| !self.skip_lookupd_authorization);
        Tuning {
            dial_timeout: self.dial_timeout,
            identify: self.identify(),
            lookup_timeout: self.lookupd_poll_timeout,
            lookup_jitter: self.lookupd_poll_jitter,
            lookup_token: token.map(|token| Secret::new(token.as_bytes().into())),
            rotation: self.rdy_redistribute_interval,
            turns: Some(TurnLimits { idle: self.low_rdy_idle_timeout, longest: self.low_rdy_timeout }),
            tls_min_version: self.tls_min_version,
            ..Tuning::default()
        }
    }

    pub(super) fn subscription(&self) -> SubscribeOptions {
        SubscribeOptions {
            max_in_flight: self.max_in_flight,
            msg_timeout: if self.msg_timeout.is_zero() { MSG_TIMEOUT } else { self.msg_timeout },
            sample_rate: self.sample_rate,
            ..SubscribeOptions::default()
        }
    }
}

/// The system's name, where it says one.
fn hostname() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let name = name.or_else(|| std::env::var("HOSTNAME").ok());
    name.unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_set_is_as_in_go_nsq_and_in_its_range() {
        let config = NsqConfig::default();
        config.validate().unwrap();
        config.client().validate().unwrap();
        assert_eq!((config.max_in_flight, config.max_attempts, config.deflate_level), (1, 5, 6));
        assert_eq!(config.subscription().msg_timeout, Duration::from_secs(60));
        assert!(config.tuning().lookup_token.is_none());
    }

    #[test]
    fn settings_that_contradict_each_other_are_refused() {
        let both = NsqConfig { deflate: true, snappy: true, ..NsqConfig::default() };
        let plain = NsqConfig { tls_insecure_skip_verify: true, ..NsqConfig::default() };
        let no_key = NsqConfig { tls_v1: true, tls_cert: Some("a".into()), ..NsqConfig::default() };
        let deaf = NsqConfig { read_timeout: Duration::from_secs(29), ..NsqConfig::default() };
        for (config, word) in
            [(both, "snappy"), (plain, "tls_v1"), (no_key, "tls_key"), (deaf, "heartbeat_interval")]
        {
            let error = config.validate().unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
    }

    #[test]
    fn a_secret_is_not_printed_and_lookup_servers_see_it_only_if_told() {
        let mut config = NsqConfig { auth_secret: Some("hush".to_owned()), ..NsqConfig::default() };
        assert!(!format!("{config:?}").contains("hush"));
        assert!(config.tuning().lookup_token.is_none());
        config.skip_lookupd_authorization = false;
        assert!(config.tuning().lookup_token.is_some());
    }
}

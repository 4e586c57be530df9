//! `--consumer-opt` and `--producer-opt`: settings of go-nsq by their names.

use std::path::PathBuf;
use std::time::Duration;

use libmq::{Compression, Config};
use mq_server::config::units;

/// Options of go-nsq that have nothing to act on here: what they tune is done another way, or not at all.
const WITHOUT_EFFECT: [&str; 16] = [
    "backoff_strategy",
    "dial_timeout",
    "hostname",
    "local_addr",
    "lookupd_poll_jitter",
    "lookupd_poll_timeout",
    "low_rdy_idle_timeout",
    "low_rdy_timeout",
    "max_in_flight",
    "output_buffer_size",
    "output_buffer_timeout",
    "rdy_redistribute_interval",
    "read_timeout",
    "skip_lookupd_authorization",
    "tls_min_version",
    "write_timeout",
];

/// Settings of a consumer, with go-nsq's defaults where libmq has none of its own.
#[derive(Clone)]
pub(crate) struct Consumer {
    pub(crate) config: Config,
    pub(crate) tls: bool,
    pub(crate) msg_timeout: Option<Duration>,
    pub(crate) sample_rate: u8,
    /// Deliveries after which a message that fails is given up; 0: never.
    pub(crate) max_attempts: u16,
    /// Delay of a requeue, times the attempts.
    pub(crate) requeue_delay: Duration,
    pub(crate) requeue_delay_max: Duration,
    pub(crate) backoff_unit: Duration,
    pub(crate) backoff_max: Duration,
    deflate: bool,
    deflate_level: u8,
}

impl Default for Consumer {
    fn default() -> Self {
        Self {
            config: Config::default(),
            tls: false,
            msg_timeout: None,
            sample_rate: 0,
            max_attempts: 5,
            requeue_delay: Duration::from_secs(90),
            requeue_delay_max: Duration::from_secs(15 * 60),
            backoff_unit: Duration::from_secs(1),
            backoff_max: Duration::from_secs(2 * 60),
            deflate: false,
            deflate_level: 6,
        }
    }
}

/// Settings of a producer: those of a consumer that are about the connection.
#[derive(Default)]
pub(crate) struct Producer {
    pub(crate) config: Config,
    pub(crate) tls: bool,
    all: Consumer,
}

impl Producer {
    /// The same as [`Consumer::set`].
    pub(crate) fn set<'a>(&mut self, option: &'a str) -> Result<Option<&'a str>, String> {
        self.all.config = self.config.clone();
        let without = self.all.set(option)?;
        self.config = self.all.config.clone();
        self.tls = self.all.tls;
        Ok(without)
    }
}

impl Consumer {
    /// Sets `name,value`. Returns the name if it is one of go-nsq's that does nothing here.
    ///
    /// # Errors
    /// Fails for a name that go-nsq does not have either, and for a value of another form.
    pub(crate) fn set<'a>(&mut self, option: &'a str) -> Result<Option<&'a str>, String> {
        let (given, value) = option.split_once(',').unwrap_or((option, "true"));
        let name = given.replace('-', "_");
        // A secret's value is in no error.
        let bad = |form: &str| format!("option {given}: it must be {form}");
        let time = || units::parse_duration(value).ok_or_else(|| bad(units::DURATION_FORM));
        let switch = || match value {
            "1" | "true" => Ok(true),
            "0" | "false" => Ok(false),
            _ => Err(bad("true or false")),
        };
        match name.as_str() {
            "auth_secret" => self.config.auth_secret = Some(value.to_owned()),
            "client_id" => self.config.client_id = value.to_owned(),
            "user_agent" => self.config.user_agent = value.to_owned(),
            "heartbeat_interval" => self.config.heartbeat_interval = time()?,
            "lookupd_poll_interval" => self.config.lookup_poll_interval = time()?,
            "msg_timeout" => self.msg_timeout = Some(time()?),
            "default_requeue_delay" => self.requeue_delay = time()?,
            "max_requeue_delay" => self.requeue_delay_max = time()?,
            "backoff_multiplier" => self.backoff_unit = time()?,
            "max_backoff_duration" => self.backoff_max = time()?,
            "max_attempts" => self.max_attempts = value.parse().map_err(|_| bad("0 to 65535"))?,
            "sample_rate" => {
                let percent = value.parse().ok().filter(|percent| *percent <= 99);
                self.sample_rate = percent.ok_or_else(|| bad("0 to 99"))?;
            }
            "tls_v1" => self.tls = switch()?,
            "tls_root_ca_file" => self.config.tls_root_ca_file = Some(PathBuf::from(value)),
            "tls_cert" => self.config.tls_cert_file = Some(PathBuf::from(value)),
            "tls_key" => self.config.tls_key_file = Some(PathBuf::from(value)),
            "tls_insecure_skip_verify" => self.config.tls_insecure = switch()?,
            "snappy" => match switch()? {
                true => self.config.compression = Compression::Snappy,
                false if self.config.compression == Compression::Snappy => {
                    self.config.compression = Compression::None;
                }
                false => {}
            },
            "deflate" => {
                self.deflate = switch()?;
                self.deflate();
            }
            "deflate_level" => {
                let level = value.parse().ok().filter(|level| (1..=9).contains(level));
                self.deflate_level = level.ok_or_else(|| bad("1 to 9"))?;
                self.deflate();
            }
            known if WITHOUT_EFFECT.contains(&known) => return Ok(Some(given)),
            _ => return Err(format!("there is no option {given}")),
        }
        Ok(None)
    }

    fn deflate(&mut self) {
        match (self.deflate, self.config.compression) {
            (true, _) => self.config.compression = Compression::Deflate(self.deflate_level),
            (false, Compression::Deflate(_)) => self.config.compression = Compression::None,
            (false, _) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_set_by_either_spelling() {
        let mut consumer = Consumer::default();
        for option in ["msg_timeout,5s", "max-attempts,0", "tls_v1", "deflate,true", "deflate_level,9"] {
            assert_eq!(consumer.set(option), Ok(None), "{option}");
        }
        assert_eq!(consumer.msg_timeout, Some(Duration::from_secs(5)));
        assert_eq!((consumer.max_attempts, consumer.tls), (0, true));
        assert_eq!(consumer.config.compression, Compression::Deflate(9));
        assert_eq!(consumer.set("read-timeout,1s"), Ok(Some("read-timeout")));
        for wrong in ["nonsense,1", "msg_timeout,soon", "tls_v1,maybe", "sample_rate,100", "deflate_level,0"]
        {
            assert!(consumer.set(wrong).is_err(), "{wrong}");
        }
        let mut producer = Producer::default();
        producer.set("snappy").unwrap();
        producer.set("client_id,me").unwrap();
        assert_eq!(
            (producer.config.compression, producer.config.client_id.as_str()),
            (Compression::Snappy, "me")
        );
    }
}

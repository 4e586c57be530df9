//! Names of settings, and the forms of their values.

use std::sync::Arc;
use std::time::Duration;

use super::config::NsqConfig;
use super::strategy::{ExponentialStrategy, FullJitterStrategy};
use crate::error::{Error, Result};

/// Why there is no setting of go-nsq's that is an object of Go.
const TLS_CONFIG: &str = "tls_config is no setting here: there are tls_root_ca_file, tls_cert, tls_key, \
                          tls_insecure_skip_verify and tls_min_version";

/// Go-nsq's word for no buffer.
const OFF: &str = "-1";

impl NsqConfig {
    /// Sets the setting called `key`, in which `-` is `_`. Durations are as in Go, `1m30s`, or a number of
    /// milliseconds; `backoff_strategy` is `exponential` or `full_jitter`; `tls_min_version` is `tls1.0`,
    /// `tls1.1`, `tls1.2` or `tls1.3`, of which the first three all are 1.2. Ranges are checked by
    /// [`NsqConfig::validate`].
    ///
    /// # Errors
    /// `Invalid` for a key that is none, or a value of another form; for `tls_config`, with what is there
    /// instead.
    pub fn set(&mut self, key: &str, value: &str) -> Result<()> {
        let key = key.replace('-', "_");
        let is_set = self.set_duration(&key, value)?
            || self.set_number(&key, value)?
            || self.set_switch(&key, value)?;
        if is_set {
            return Ok(());
        }
        match key.as_str() {
            "client_id" => self.client_id = value.to_owned(),
            "hostname" => self.hostname = value.to_owned(),
            "topology_region" => self.topology_region = value.to_owned(),
            "topology_zone" => self.topology_zone = value.to_owned(),
            "local_addr" => {
                let address = value.parse().map_err(|_| bad(&key, value, "an address such as 10.0.0.1:0"))?;
                self.local_addr = Some(address);
            }
            "tls_config" => return Err(Error::Invalid(TLS_CONFIG.to_owned())),
            "user_agent" => self.user_agent = value.to_owned(),
            "auth_secret" => self.auth_secret = Some(value.to_owned()).filter(|secret| !secret.is_empty()),
            "tls_root_ca_file" => self.tls_root_ca_file = Some(value.into()),
            "tls_cert" => self.tls_cert = Some(value.into()),
            "tls_key" => self.tls_key = Some(value.into()),
            "tls_min_version" => {
                self.tls_min_version =
                    value.parse().map_err(|_| bad(&key, value, "tls1.0, tls1.1, tls1.2 or tls1.3"))?;
            }
            "backoff_strategy" => match value {
                "" | "exponential" => self.backoff_strategy = Arc::new(ExponentialStrategy),
                "full_jitter" => self.backoff_strategy = Arc::new(FullJitterStrategy),
                _ => return Err(bad(&key, value, "exponential or full_jitter")),
            },
            _ => {
                return Err(Error::Invalid(format!(
                    "{key:?} is no setting: see the fields of libmq::nsq::Config"
                )));
            }
        }
        Ok(())
    }

    /// Whether `key` is a duration, which is set then.
    fn set_duration(&mut self, key: &str, value: &str) -> Result<bool> {
        if key == "heartbeat_interval" && value.trim().starts_with('-') {
            return Err(bad(key, value, "1s to 60s: without heartbeats a lost broker would not be noticed"));
        }
        if key == "output_buffer_timeout" && value == OFF {
            self.output_buffer_timeout = Duration::ZERO;
            return Ok(true);
        }
        let field = match key {
            "dial_timeout" => &mut self.dial_timeout,
            "read_timeout" => &mut self.read_timeout,
            "write_timeout" => &mut self.write_timeout,
            "output_buffer_timeout" => &mut self.output_buffer_timeout,
            "lookupd_poll_interval" => &mut self.lookupd_poll_interval,
            "lookupd_poll_timeout" => &mut self.lookupd_poll_timeout,
            "max_requeue_delay" => &mut self.max_requeue_delay,
            "default_requeue_delay" => &mut self.default_requeue_delay,
            "max_backoff_duration" => &mut self.max_backoff_duration,
            "backoff_multiplier" => &mut self.backoff_multiplier,
            "low_rdy_idle_timeout" => &mut self.low_rdy_idle_timeout,
            "low_rdy_timeout" => &mut self.low_rdy_timeout,
            "rdy_redistribute_interval" => &mut self.rdy_redistribute_interval,
            "heartbeat_interval" => &mut self.heartbeat_interval,
            "msg_timeout" => &mut self.msg_timeout,
            "stop_timeout" => &mut self.stop_timeout,
            "publish_timeout" => &mut self.publish_timeout,
            _ => return Ok(false),
        };
        *field = duration(value)
            .ok_or_else(|| bad(key, value, "a duration such as 1m30s, 250ms, or a number of milliseconds"))?;
        Ok(true)
    }

    /// Whether `key` is a number, which is set then.
    fn set_number(&mut self, key: &str, value: &str) -> Result<bool> {
        let wrong = |wants| move |_| bad(key, value, wants);
        match key {
            "lookupd_poll_jitter" => {
                self.lookupd_poll_jitter = value.parse().map_err(|_| bad(key, value, "0 to 1"))?;
            }
            "max_attempts" => self.max_attempts = value.parse().map_err(wrong("0 to 65535"))?,
            "sample_rate" => self.sample_rate = value.parse().map_err(wrong("0 to 99"))?,
            "deflate_level" => self.deflate_level = value.parse().map_err(wrong("1 to 9"))?,
            "output_buffer_size" if value == OFF => self.output_buffer_size = 0,
            "output_buffer_size" => {
                self.output_buffer_size =
                    value.parse().map_err(wrong("a number of bytes, or -1 for none"))?;
            }
            "max_msg_size" => {
                self.max_msg_size = value.parse().map_err(wrong("a number of bytes, 0 for any"))?
            }
            "max_in_flight" => self.max_in_flight = value.parse().map_err(wrong("0 to 1000000"))?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Whether `key` is on or off, which is set then.
    fn set_switch(&mut self, key: &str, value: &str) -> Result<bool> {
        let field = match key {
            "tls_v1" => &mut self.tls_v1,
            "tls_insecure_skip_verify" => &mut self.tls_insecure_skip_verify,
            "deflate" => &mut self.deflate,
            "snappy" => &mut self.snappy,
            "skip_lookupd_authorization" => &mut self.skip_lookupd_authorization,
            _ => return Ok(false),
        };
        *field = match value {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => true,
            "0" | "f" | "F" | "false" | "FALSE" | "False" => false,
            _ => return Err(bad(key, value, "true or false")),
        };
        Ok(true)
    }
}

/// The error of a value, which is never a secret's: any text is one.
fn bad(key: &str, value: &str, wants: &str) -> Error {
    Error::Invalid(format!("{key} is {value:?}: {wants}"))
}

/// Parses a duration as Go writes it, or a number of milliseconds.
fn duration(text: &str) -> Option<Duration> {
    if let Ok(ms) = text.parse() {
        return Some(Duration::from_millis(ms));
    }
    let (mut rest, mut sum) = (text, Duration::ZERO);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(digits);
        let letters = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, next) = after.split_at(letters);
        let unit = match unit {
            "ns" => 1e-9,
            "us" | "µs" | "μs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        sum = sum.checked_add(Duration::try_from_secs_f64(number.parse::<f64>().ok()? * unit).ok()?)?;
        rest = next;
    }
    (!text.is_empty()).then_some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_key_that_is_acted_on_can_be_set_and_printed() {
        let mut config = NsqConfig::default();
        for (key, value, printed) in [
            ("dial-timeout", "1s", "dial_timeout: 1s"),
            ("read_timeout", "5m", "read_timeout: 300s"),
            ("write_timeout", "100ms", "write_timeout: 100ms"),
            ("local_addr", "127.0.0.1:0", "local_addr: Some(127.0.0.1:0)"),
            ("topology-region", "eu", "topology_region: \"eu\""),
            ("topology_zone", "eu-1", "topology_zone: \"eu-1\""),
            ("output_buffer_size", "1024", "output_buffer_size: 1024"),
            ("output_buffer_size", "-1", "output_buffer_size: 0"),
            ("output_buffer_timeout", "1s", "output_buffer_timeout: 1s"),
            ("output_buffer_timeout", "-1", "output_buffer_timeout: 0ns"),
            ("max_msg_size", "4096", "max_msg_size: 4096"),
            ("lookupd_poll_interval", "1m30s", "lookupd_poll_interval: 90s"),
            ("lookupd-poll_jitter", "0.5", "lookupd_poll_jitter: 0.5"),
            ("lookupd_poll_timeout", "1500", "lookupd_poll_timeout: 1.5s"),
            ("skip_lookupd_authorization", "F", "skip_lookupd_authorization: false"),
            ("max_requeue_delay", "1h", "max_requeue_delay: 3600s"),
            ("default_requeue_delay", "1.5s", "default_requeue_delay: 1.5s"),
            ("backoff_strategy", "full_jitter", "backoff_strategy: FullJitterStrategy"),
            ("max_backoff_duration", "0", "max_backoff_duration: 0ns"),
            ("backoff_multiplier", "10us", "backoff_multiplier: 10µs"),
            ("max_attempts", "0", "max_attempts: 0"),
            ("low_rdy_idle_timeout", "1s", "low_rdy_idle_timeout: 1s"),
            ("low_rdy_timeout", "5m", "low_rdy_timeout: 300s"),
            ("rdy_redistribute_interval", "1ms", "rdy_redistribute_interval: 1ms"),
            ("client_id", "me", "client_id: \"me\""),
            ("hostname", "here", "hostname: \"here\""),
            ("user_agent", "billing/2", "user_agent: \"billing/2\""),
            ("heartbeat_interval", "1s", "heartbeat_interval: 1s"),
            ("sample_rate", "99", "sample_rate: 99"),
            ("tls_v1", "1", "tls_v1: true"),
            ("tls_root_ca_file", "ca", "tls_root_ca_file: Some(\"ca\")"),
            ("tls_cert", "cert", "tls_cert: Some(\"cert\")"),
            ("tls_key", "key", "tls_key: Some(\"key\")"),
            ("tls_insecure_skip_verify", "true", "tls_insecure_skip_verify: true"),
            ("tls_min_version", "tls1.3", "tls_min_version: Tls13"),
            ("deflate", "t", "deflate: true"),
            ("deflate_level", "9", "deflate_level: 9"),
            ("max_in_flight", "200", "max_in_flight: 200"),
            ("msg_timeout", "15m", "msg_timeout: 900s"),
            ("auth_secret", "hush", "auth_secret: Some(\"...\")"),
            ("stop_timeout", "5s", "stop_timeout: 5s"),
            ("publish_timeout", "5s", "publish_timeout: 5s"),
        ] {
            config.set(key, value).unwrap();
            let text = format!("{config:?}");
            assert!(text.contains(printed), "{key}={value}: {text}");
        }
        config.validate().unwrap();
        config.set("deflate", "0").unwrap();
        config.set("snappy", "true").unwrap();
        config.validate().unwrap();
    }

    #[test]
    fn what_is_no_setting_or_out_of_its_range_is_refused_by_name() {
        for (key, value) in [
            ("dial_timeout", "11s"),
            ("lookupd_poll_interval", "1"),
            ("lookupd_poll_jitter", "1.1"),
            ("lookupd_poll_jitter", "NaN"),
            ("max_requeue_delay", "61m"),
            ("max_backoff_duration", "1d"),
            ("msg_timeout", "999ms"),
            ("msg_timeout", "-1s"),
            ("heartbeat_interval", "-1"),
            ("low_rdy_idle_timeout", "999ms"),
            ("low_rdy_timeout", "6m"),
            ("rdy_redistribute_interval", "6s"),
            ("sample_rate", "100"),
            ("deflate_level", "0"),
            ("max_in_flight", "-1"),
            ("max_attempts", "65536"),
            ("backoff_strategy", "linear"),
            ("tls_min_version", "ssl3.0"),
            ("tls_v1", "yes"),
            ("tls_config", "{}"),
            ("read_timeout", "99ms"),
            ("read_timeout", "6m"),
            ("write_timeout", "99ms"),
            ("local_addr", "localhost"),
            ("output_buffer_size", "-2"),
            ("max_msg_size", "-1"),
        ] {
            let mut config = NsqConfig::default();
            let error = config.set(key, value).and_then(|()| config.validate()).unwrap_err().to_string();
            assert!(error.starts_with(key), "{key}={value}: {error}");
        }
        assert!(NsqConfig::default().set("colour", "red").unwrap_err().to_string().contains("\"colour\""));
    }

    proptest! {
        #[test]
        fn any_text_is_a_duration_or_none(text in "[-0-9.nuµmshd ]{0,12}") {
            let _ = duration(&text);
        }

        #[test]
        fn a_duration_is_the_sum_of_its_parts(hours in 0u64..100, minutes in 0u64..100, ms in 0u64..100_000) {
            let want = Duration::from_secs(3600 * hours + 60 * minutes) + Duration::from_millis(ms);
            prop_assert_eq!(duration(&format!("{hours}h{minutes}m{ms}ms")), Some(want));
        }
    }
}

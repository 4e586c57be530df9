//! The settings of `mq serve`, `mq lookup` and `mq admin`: declared once, read from where they can be
//! written, checked as a whole.
//!
//! - `settings`: the list of `mq serve`'s; `lookup_settings`: of `mq lookup`'s; `admin_settings`: of
//!   `mq admin`'s
//! - [`value`]: the types of settings and how each is written; [`units`]: sizes and durations
//! - `sources`: command line, environment, file, default; `file`: the TOML file; `redacted`: values
//!   without secrets
//! - `document`: holds docs/configuration.md against the lists

pub(crate) mod admin_settings;
#[cfg(test)]
mod document;
mod file;
pub(crate) mod lookup_settings;
mod redacted;
pub(crate) mod settings;
mod sources;
pub mod units;
pub mod value;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use mq_nsq::server::OptionValue;

pub use self::admin_settings::augment as augment_admin;
use self::file::ConfigFile;
pub use self::lookup_settings::augment as augment_lookup;
pub(crate) use self::settings::Config;
use self::settings::{Effect, SERVE, SETTINGS, Schema};
use self::sources::Sources;
use self::value::word::CertificatePolicy;
use self::value::{Address, MaybePath, Size, WireSize, flag};
pub use crate::invoked_as::InvokedAs;
use crate::log::LogOptions;

/// Least memory a broker works with.
const MEMORY_MIN: Size = Size(4 << 20);
/// Least budget of the disk: eight files of the log.
const DISK_MIN: Size = Size(512 << 20);
/// Longest time an fsync is put off.
const SYNC_WAIT_MAX: Duration = Duration::from_secs(10);
/// Longest time an id is known, and the most ids.
const DEDUP_WINDOW_MAX: Duration = Duration::from_secs(7 * 24 * 3600);
const DEDUP_IDS_MAX: u64 = 10_000_000;

/// Flag that names the configuration file; not a setting, since the file cannot name itself.
const CONFIG_FLAG: &str = "config";

/// Adds `mq serve`'s flags to `command`.
pub fn augment_serve(command: Command, invoked_as: InvokedAs) -> Command {
    augment_with(command, &SERVE, invoked_as)
}

/// Adds the flags of `schema` to `command`.
pub(crate) fn augment_with(command: Command, schema: &Schema, invoked_as: InvokedAs) -> Command {
    let config =
        Arg::new(CONFIG_FLAG).long(CONFIG_FLAG).value_name("FILE").value_parser(value_parser!(PathBuf)).help(
            format!(
                "TOML file of settings, keys as the flags with _ for - [env: {}]",
                schema.variable(CONFIG_FLAG)
            ),
        );
    schema.settings.iter().fold(command.arg(config), |command, setting| {
        let default = setting.default(invoked_as);
        let effect = match setting.effect {
            Effect::Full => String::new(),
            Effect::None(instead) => format!(" (accepted without effect: {instead})"),
            Effect::Later => " (accepted, not served yet)".to_owned(),
        };
        let help = format!("{}{effect}", setting.help());
        let arg = Arg::new(setting.key)
            .long(flag(setting.key))
            .value_name("VALUE")
            .help(format!("{help} [default: {default}]"))
            .long_help(format!(
                "{help}\n\n[default: {default}] [env: {}] [form: {}]",
                schema.variable(setting.key),
                setting.form,
            ));
        let arg = if setting.list { arg.action(ArgAction::Append) } else { arg };
        command.arg(if setting.switch {
            arg.num_args(0..=1).require_equals(true).default_missing_value("true")
        } else {
            arg
        })
    })
}

/// The configuration file that is named, if one is.
pub(crate) fn file(
    flags: &ArgMatches,
    env: &dyn Fn(&str) -> Option<OsString>,
    schema: &'static Schema,
) -> Result<Option<ConfigFile>, String> {
    let named = flags.get_one::<PathBuf>(CONFIG_FLAG).cloned();
    let path = named
        .or_else(|| env(&schema.variable(CONFIG_FLAG)).filter(|path| !path.is_empty()).map(PathBuf::from));
    path.map(|path| ConfigFile::read(&path, schema)).transpose()
}

/// Settings in force, and what is to be said about how they were given.
pub(crate) struct Loaded {
    pub(crate) config: Config,
    /// Settings that were given though they have no effect.
    pub(crate) idle: Vec<Idle>,
    /// Text of each setting that was given anywhere.
    texts: BTreeMap<&'static str, String>,
    invoked_as: InvokedAs,
}

/// A setting that was given though it has no effect.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Idle {
    pub(crate) key: &'static str,
    pub(crate) effect: Effect,
}

impl Idle {
    /// Writes its line to the log.
    pub(crate) fn log(&self) {
        let flag = flag(self.key);
        match self.effect {
            Effect::Full => {}
            Effect::None(instead) => tracing::info!("--{flag} has no effect here: {instead}"),
            Effect::Later => tracing::warn!("--{flag} is accepted, but what it is for is not served yet"),
        }
    }
}

impl Loaded {
    /// The settings in force, given the parsed flags and the process's environment.
    pub(crate) fn load(flags: &ArgMatches, invoked_as: InvokedAs) -> Result<Self, String> {
        let env = |name: &str| std::env::var_os(name);
        let file = file(flags, &env, &SERVE)?;
        Self::resolve(flags, &env, file.as_ref(), invoked_as)
    }

    /// Settings of a command line alone, without a file and without the environment.
    pub(crate) fn from_flags(flags: &ArgMatches) -> Result<Self, String> {
        Self::resolve(flags, &|_| None, None, InvokedAs::Mq)
    }

    /// Whether the setting called `key` was written anywhere.
    pub(crate) fn is_given(&self, key: &str) -> bool {
        self.texts.contains_key(key)
    }

    fn resolve(
        flags: &ArgMatches,
        env: &dyn Fn(&str) -> Option<OsString>,
        file: Option<&ConfigFile>,
        invoked_as: InvokedAs,
    ) -> Result<Self, String> {
        let sources = Sources { schema: &SERVE, flags, env, file, invoked_as };
        let config = Config::from_sources(&sources)?;
        config.check(&sources)?;
        let mut idle = Vec::new();
        for setting in SETTINGS.iter().filter(|setting| setting.effect != Effect::Full) {
            if sources.check(setting)?.is_some() {
                idle.push(Idle { key: setting.key, effect: setting.effect });
            }
        }
        let texts =
            SETTINGS.iter().filter_map(|setting| Some((setting.key, sources.text(setting)?))).collect();
        Ok(Self { config, idle, texts, invoked_as })
    }

    /// Every setting in force, by its name in the file, as `/config` shows it.
    pub(crate) fn shown(&self) -> BTreeMap<&'static str, OptionValue> {
        let shown = SETTINGS.iter().map(|setting| {
            let text = self.texts.get(setting.key).map_or(setting.default(self.invoked_as), String::as_str);
            // What has no effect may have no value.
            let value = (setting.show)(text).unwrap_or_else(|| OptionValue::Text(text.to_owned()));
            (setting.file_key, value)
        });
        shown.collect()
    }

    /// Flags of the settings that are written differently in `self` than in `old`.
    pub(crate) fn changes(&self, old: &Self) -> Vec<String> {
        let keys = SETTINGS.iter().map(|setting| setting.key);
        keys.filter(|key| self.texts.get(key) != old.texts.get(key)).map(flag).collect()
    }
}

impl Config {
    /// Checks what no setting's type can know alone.
    fn check(&self, sources: &Sources<'_>) -> Result<(), String> {
        let place = |key: &str| sources.place(key);
        let at_most = |(low, low_is): (&str, u128), (high, high_is): (&str, u128)| match low_is <= high_is {
            true => Ok(()),
            false => Err(format!(
                "{} is more than {}: lower the first or raise the second",
                place(low),
                place(high)
            )),
        };
        let time = |key, time: Duration| (key, time.as_nanos());
        let size = |key, size: WireSize| (key, u128::from(size.0));
        at_most(time("msg_timeout", self.msg_timeout), time("max_msg_timeout", self.max_msg_timeout))?;
        at_most(size("max_msg_size", self.max_msg_size), size("max_body_size", self.max_body_size))?;
        at_most(
            time("min_output_buffer_timeout", self.min_output_buffer_timeout),
            time("max_output_buffer_timeout", self.max_output_buffer_timeout),
        )?;
        let zeros = [
            ("msg_timeout", self.msg_timeout.is_zero()),
            ("max_msg_size", self.max_msg_size == WireSize(0)),
            ("max_rdy_count", self.max_rdy_count == 0),
            ("grpc_max_streams", self.grpc_max_streams == 0),
            ("grpc_keepalive_interval", self.grpc_keepalive_interval.is_zero()),
            ("grpc_keepalive_timeout", self.grpc_keepalive_timeout.is_zero()),
            ("statsd_interval", self.statsd_interval.is_zero()),
            ("e2e_processing_latency_window_time", self.e2e_processing_latency_window_time.is_zero()),
        ];
        if let Some((key, _)) = zeros.iter().find(|(_, zero)| *zero) {
            return Err(format!("{}: it must be more than 0", place(key)));
        }
        let ranges = [
            ("memory_limit", self.memory_limit >= MEMORY_MIN, "4MiB or more"),
            (
                "max_disk_bytes",
                self.max_disk_bytes == Size(0) || self.max_disk_bytes >= DISK_MIN,
                "0 for no limit, or 512MiB or more",
            ),
            ("sync_wait", self.sync_wait <= SYNC_WAIT_MAX, "10s at most"),
            ("dedup_window", self.dedup_window <= DEDUP_WINDOW_MAX, "168h at most"),
            ("dedup_max_ids", (1..=DEDUP_IDS_MAX).contains(&self.dedup_max_ids), "1 to 10000000"),
            ("max_deflate_level", (1..=9).contains(&self.max_deflate_level), "1 to 9"),
            (
                "statsd_address",
                !matches!(self.statsd_address.0, Some(Address::Unix(_))),
                "host:port, no path",
            ),
        ];
        if let Some((key, _, form)) = ranges.iter().find(|(_, fits, _)| !fits) {
            return Err(format!("{}: it must be {form}", place(key)));
        }
        if self.data_path.exists() && !self.data_path.is_dir() {
            return Err(format!(
                "{} is a file: it must be a folder, or a path where one can be made",
                place("data_path")
            ));
        }
        self.check_tls()
    }

    fn check_tls(&self) -> Result<(), String> {
        check_certificate(&self.tls_cert, &self.tls_key, &self.tls_client_auth_policy)?;
        match self.tls_required.0 != "false" && self.tls_cert.0.is_none() {
            true => Err(needs_certificate("--tls-required")),
            false => Ok(()),
        }
    }

    /// Options of the log.
    pub(crate) fn log(&self) -> LogOptions {
        LogOptions { level: self.log_level, format: self.log_format, prefix: self.log_prefix.clone() }
    }
}

/// A certificate and its key come together, and a policy for clients' certificates needs them.
pub(crate) fn check_certificate(
    cert: &MaybePath,
    key: &MaybePath,
    policy: &CertificatePolicy,
) -> Result<(), String> {
    match (&cert.0, &key.0) {
        (Some(_), None) => Err("--tls-cert needs its key: give --tls-key too".to_owned()),
        (None, Some(_)) => Err("--tls-key needs its certificate: give --tls-cert too".to_owned()),
        (None, None) if !policy.0.is_empty() => Err(needs_certificate("--tls-client-auth-policy")),
        _ => Ok(()),
    }
}

fn needs_certificate(flag: &str) -> String {
    format!("{flag} needs a certificate: give --tls-cert and --tls-key, or leave it out")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::document;
    use crate::config::value::list::AuthServer;

    fn resolve(flags: &[&str], env: &[(&str, &str)], file: Option<&str>) -> Result<Config, String> {
        Ok(load(flags, env, file, InvokedAs::Mq)?.config)
    }

    fn load(
        flags: &[&str],
        env: &[(&str, &str)],
        file: Option<&str>,
        invoked_as: InvokedAs,
    ) -> Result<Loaded, String> {
        let command = augment_serve(Command::new("serve").args_override_self(true), invoked_as);
        let args = ["serve"].iter().chain(flags);
        let matches = command.try_get_matches_from(args).map_err(|e| e.to_string())?;
        let file = file.map(|text| ConfigFile::parse(Path::new("mq.toml"), text, &SERVE)).transpose()?;
        let env = |name: &str| env.iter().find(|(have, _)| *have == name).map(|(_, value)| value.into());
        Loaded::resolve(&matches, &env, file.as_ref(), invoked_as)
    }

    #[test]
    fn defaults_are_nsqds() {
        let config = resolve(&[], &[], None).unwrap();
        assert_eq!(config.tcp_address, Address::Tcp("127.0.0.1:4150".to_owned()));
        assert_eq!(config.data_path, PathBuf::from("mq-data"));
        assert_eq!(config.memory_limit, Size(256 << 20));
        assert_eq!(config.mem_queue_size, 10_000);
        assert_eq!(config.msg_timeout, Duration::from_secs(60));
        assert_eq!(config.max_req_timeout, Duration::from_secs(3_600));
        assert_eq!(config.max_output_buffer_timeout, Duration::from_secs(30));
        assert!(config.node_id.0 < 1024);
    }

    #[test]
    fn command_line_over_environment_over_file_over_default() {
        let file = Some("mem_queue_size = 3\nmsg_timeout = \"3s\"\nmax_rdy_count = 3\n");
        let env = [("MQ_MEM_QUEUE_SIZE", "2"), ("MQ_MSG_TIMEOUT", "2s")];
        let config = resolve(&["--mem-queue-size=1", "--mem-queue-size=7"], &env, file).unwrap();
        assert_eq!(config.mem_queue_size, 7, "the last flag counts");
        assert_eq!(config.msg_timeout, Duration::from_secs(2));
        assert_eq!(config.max_rdy_count, 3);
        assert_eq!(config.max_heartbeat_interval, Duration::from_secs(60));
    }

    #[test]
    fn errors_name_the_flag_and_the_right_form() {
        /// Flags, environment, file; and what the error must say.
        type Case = (
            &'static [&'static str],
            &'static [(&'static str, &'static str)],
            Option<&'static str>,
            &'static [&'static str],
        );
        let cases: [Case; 21] = [
            (&["--msg-timeout=60x"], &[], None, &["--msg-timeout 60x", "250ms"]),
            (&[], &[("MQ_NODE_ID", "1024")], None, &["MQ_NODE_ID=1024", "--node-id", "0 to 1023"]),
            (
                &[],
                &[],
                Some("memory_limit = \"lots\""),
                &["mq.toml", "memory_limit", "--memory-limit", "MiB"],
            ),
            (&[], &[], Some("msg-timout = 1"), &["mq.toml", "msg-timout", "\"msg_timeout\""]),
            (&[], &[], Some("frobnicate = 1"), &["frobnicate", "mq serve --help"]),
            (&[], &[], Some("msg_timeout = [1]"), &["--msg-timeout", "array", "60s"]),
            (&["--sync-every=often"], &[], None, &["--sync-every often", "whole number"]),
            (&["--snappy=yes"], &[], None, &["--snappy yes", "true or false"]),
            (&["--tls-cert=c.pem"], &[], None, &["--tls-key"]),
            (&["--tls-required"], &[], None, &["--tls-required", "--tls-cert"]),
            (&["--max-deflate-level=10"], &[], None, &["--max-deflate-level 10", "1 to 9"]),
            (&[], &[], Some("id = 1\nnode_id = 2"), &["node_id and id", "same"]),
            (&["--auth-http-address=ftp://u:secret@h/"], &[], None, &["--auth-http-address ftp://***@h/"]),
            (&[], &[], Some("msg_timeout = "), &["mq.toml", "line 1"]),
            (
                &["--msg-timeout=16m"],
                &[],
                None,
                &["--msg-timeout 16m", "--max-msg-timeout 15m (its default)"],
            ),
            (&[], &[("MQ_MEMORY_LIMIT", "1")], None, &["MQ_MEMORY_LIMIT=1 (that is --memory-limit)", "4MiB"]),
            (&[], &[], Some("max_disk_bytes = \"1MiB\""), &["mq.toml", "--max-disk-bytes", "512MiB"]),
            (&["--dedup-window=169h"], &[], None, &["--dedup-window 169h", "168h"]),
            (&["--dedup-max-ids=0"], &[], None, &["--dedup-max-ids 0", "1 to 10000000"]),
            (&["--sync-wait=11s"], &[], None, &["--sync-wait 11s", "10s"]),
            (&["--statsd-interval=0"], &[], None, &["--statsd-interval 0", "more than 0"]),
        ];
        for (flags, env, file, parts) in cases {
            let error = resolve(flags, env, file).unwrap_err();
            for part in parts {
                assert!(error.contains(part), "{part:?} is not in {error:?}");
            }
        }
    }

    #[test]
    fn keys_are_told_apart_by_clap_too() {
        augment_serve(Command::new("serve"), InvokedAs::Mq).debug_assert();
        assert!(resolve(&["--tcp-adress=x:1"], &[], None).unwrap_err().contains("--tcp-address"));
    }

    #[test]
    fn every_setting_takes_its_own_defaults() {
        for setting in SETTINGS {
            for invoked_as in [InvokedAs::Mq, InvokedAs::Nsqd] {
                let default = setting.default(invoked_as);
                assert!(default.is_empty() || (setting.show)(default).is_some(), "{} {default}", setting.key);
            }
        }
    }

    #[test]
    fn under_nsqds_name_defaults_are_nsqds() {
        let config = load(&[], &[], None, InvokedAs::Nsqd).unwrap().config;
        assert_eq!(config.tcp_address, Address::Tcp("0.0.0.0:4150".to_owned()));
        assert_eq!(config.data_path, PathBuf::from("."));
        assert_eq!(config.log_prefix, "[nsqd] ");
    }

    #[test]
    fn lists_are_repeated_flags_commas_and_arrays() {
        let servers = |flags: &[&str], env: &[(&str, &str)], file: Option<&str>| {
            let list = resolve(flags, env, file).unwrap().auth_http_address.0;
            list.into_iter().map(|AuthServer(address)| address).collect::<Vec<_>>()
        };
        let both = ["a:1", "http://b/x"];
        assert_eq!(servers(&["--auth-http-address=a:1", "--auth-http-address=http://b/x"], &[], None), both);
        assert_eq!(servers(&["--auth-http-address=a:1,http://b/x"], &[], None), both);
        assert_eq!(servers(&[], &[("MQ_AUTH_HTTP_ADDRESS", "a:1,http://b/x")], None), both);
        assert_eq!(servers(&[], &[], Some("auth_http_addresses = [\"a:1\", \"http://b/x\"]")), both);
        assert_eq!(servers(&[], &[], Some("auth_http_address = \"a:1,http://b/x\"")), both);
    }

    #[test]
    fn a_file_of_nsqds_is_read() {
        // Every key of the sample that nsqd ships, some with another value.
        let text = r#"
            verbose = false
            id = 5
            tcp_address = "0.0.0.0:4150"
            http_address = "0.0.0.0:4151"
            nsqlookupd_tcp_addresses = ["127.0.0.1:4160"]
            http_client_connect_timeout = "2s"
            http_client_request_timeout = 5000
            mem_queue_size = 10000
            max_bytes_per_file = 104857600
            sync_every = 2500
            sync_timeout = "2s"
            msg_timeout = "60s"
            max_msg_timeout = "15m"
            max_msg_size = 1024768
            max_req_timeout = "1h"
            max_body_size = 5123840
            max_heartbeat_interval = "60s"
            max_rdy_count = 2500
            max_output_buffer_size = 65536
            max_output_buffer_timeout = "1s"
            statsd_prefix = "nsq.%s"
            statsd_interval = "60s"
            statsd_mem_stats = true
            e2e_processing_latency_percentiles = [1.0, 0.99, 0.95]
            e2e_processing_latency_window_time = "10m"
            tls_required = false
            deflate = true
            max_deflate_level = 6
            snappy = true
        "#;
        let loaded = load(&[], &[], Some(text), InvokedAs::Nsqd).unwrap();
        assert_eq!(loaded.config.node_id.0, 5);
        assert_eq!(loaded.config.http_client_request_timeout, Duration::from_secs(5));
        let idle: Vec<_> = loaded.idle.iter().map(|idle| idle.key).collect();
        assert!(idle.contains(&"sync_every") && idle.contains(&"verbose"), "{idle:?}");
        assert!(!idle.contains(&"statsd_address"), "not given: {idle:?}");
    }

    #[test]
    fn changes_name_flags() {
        let old = load(&[], &[], Some("log_level = \"info\""), InvokedAs::Mq).unwrap();
        let new = load(&[], &[], Some("log_level = \"debug\"\nsnappy = false"), InvokedAs::Mq).unwrap();
        assert_eq!(new.changes(&old), ["snappy", "log-level"]);
    }

    #[test]
    fn the_document_lists_every_setting() {
        document::check(&SERVE, InvokedAs::Nsqd);
    }
}

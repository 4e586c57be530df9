//! Settings of `mq serve`: each declared once, read from the command line, else the environment, else the file, else
//! its default.

use std::ffi::OsString;
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Arg, ArgMatches, Command, value_parser};

use crate::setting::{Address, LogFormat, LogLevel, NodeId, Size, Value, WireSize};
use crate::telemetry::Telemetry;

/// One setting as far as its type does not matter.
struct Setting {
    /// Name of the field and key of the file; the flag has dashes for underscores.
    key: &'static str,
    help: &'static str,
    default: &'static str,
    form: &'static str,
    switch: bool,
}

/// Declares [`Config`] and [`SETTINGS`] from one list. Defaults are written as a user would, and read the same way.
macro_rules! settings {
    ($($(#[doc = $help:literal])+ $key:ident: $type:ty = $default:literal,)+) => {
        /// What `mq serve` runs with.
        #[derive(Clone, Debug)]
        pub(crate) struct Config {
            $($(#[doc = $help])+ pub(crate) $key: $type,)+
        }

        const SETTINGS: &[Setting] = &[$(Setting {
            key: stringify!($key),
            help: concat!($($help),+),
            default: $default,
            form: <$type as Value>::FORM,
            switch: <$type as Value>::SWITCH,
        }),+];

        impl Config {
            fn from_sources(sources: &Sources<'_>) -> Result<Self, String> {
                Ok(Self { $($key: sources.read(stringify!($key), $default)?,)+ })
            }
        }
    };
}

settings! {
    /// Where NSQ clients connect: host:port, or the path of a unix socket
    tcp_address: Address = "127.0.0.1:4150",
    /// Folder of the broker's data, made if absent
    data_path: PathBuf = "mq-data",
    /// Memory for messages; what is beyond it lies on disk
    memory_limit: Size = "256MiB",
    /// What OK means for a new topic's messages: written to the operating system (flush), or in memory (memory)
    durability: mq_core::Durability = "flush",
    /// Part of every message id, different on each broker of a cluster; auto = from the host's name
    node_id: NodeId = "auto",
    /// Newest messages an ephemeral channel keeps
    mem_queue_size: u64 = "10000",
    /// How long a consumer may take for a message before it is delivered again
    msg_timeout: Duration = "60s",
    /// The longest such time a consumer may ask for, and reach by TOUCH
    max_msg_timeout: Duration = "15m",
    /// The longest delay of a requeue or a deferred publish
    max_req_timeout: Duration = "1h",
    /// The largest message
    max_msg_size: WireSize = "1048576",
    /// The largest body of one command (MPUB)
    max_body_size: WireSize = "5242880",
    /// The most messages a consumer may have in flight (RDY)
    max_rdy_count: u32 = "2500",
    /// The longest interval between heartbeats a client may ask for
    max_heartbeat_interval: Duration = "60s",
    /// The largest output buffer a client may ask for
    max_output_buffer_size: WireSize = "65536",
    /// The shortest time a client may ask its output to be held back for
    min_output_buffer_timeout: Duration = "25ms",
    /// The longest such time
    max_output_buffer_timeout: Duration = "30s",
    /// The most consumers of a channel, 0 = any number
    max_channel_consumers: u64 = "0",
    /// The least severe log lines to write: trace, debug, info, warn, error
    log_level: LogLevel = "info",
    /// How log lines look on stderr: text, or one JSON object a line
    log_format: LogFormat = "text",
}

/// Flag that names the configuration file; not a setting, since the file cannot name itself.
const CONFIG_FLAG: &str = "config";

/// Adds `mq serve`'s flags to `command`.
pub(crate) fn augment(command: Command) -> Command {
    let config = Arg::new(CONFIG_FLAG)
        .long(CONFIG_FLAG)
        .value_name("FILE")
        .value_parser(value_parser!(PathBuf))
        .help("TOML file of settings, keys as the flags with _ for - [env: MQ_CONFIG]");
    SETTINGS.iter().fold(command.arg(config), |command, setting| {
        let arg = Arg::new(setting.key)
            .long(flag(setting.key))
            .value_name("VALUE")
            .help(format!("{} [default: {}]", setting.help.trim(), setting.default))
            .long_help(format!(
                "{}\n\n[default: {}] [env: {}] [form: {}]",
                setting.help.trim(),
                setting.default,
                variable(setting.key),
                setting.form,
            ));
        command.arg(if setting.switch {
            arg.num_args(0..=1).require_equals(true).default_missing_value("true")
        } else {
            arg
        })
    })
}

impl Config {
    /// The settings in force, given the parsed flags and the process's environment.
    pub(crate) fn load(flags: &ArgMatches) -> Result<Self, String> {
        let env = |name: &str| std::env::var_os(name);
        let path = flags
            .get_one::<PathBuf>(CONFIG_FLAG)
            .cloned()
            .or_else(|| env(&variable(CONFIG_FLAG)).filter(|path| !path.is_empty()).map(PathBuf::from));
        let file = match path {
            None => None,
            Some(path) => Some(
                std::fs::read_to_string(&path)
                    .map_err(|e| format!("--{CONFIG_FLAG} {}: {e}", path.display()))
                    .and_then(|text| ConfigFile::parse(&path, &text))?,
            ),
        };
        Self::resolve(flags, &env, file.as_ref())
    }

    fn resolve(
        flags: &ArgMatches,
        env: &dyn Fn(&str) -> Option<OsString>,
        file: Option<&ConfigFile>,
    ) -> Result<Self, String> {
        let config = Self::from_sources(&Sources { flags, env, file })?;
        config.check()?;
        Ok(config)
    }

    /// What no setting can know alone.
    fn check(&self) -> Result<(), String> {
        at_most("msg_timeout", self.msg_timeout, "max_msg_timeout", self.max_msg_timeout)?;
        at_most("max_msg_size", self.max_msg_size, "max_body_size", self.max_body_size)?;
        let (min, max) = (self.min_output_buffer_timeout, self.max_output_buffer_timeout);
        at_most("min_output_buffer_timeout", min, "max_output_buffer_timeout", max)?;
        let zeros = [
            ("msg_timeout", self.msg_timeout.is_zero()),
            ("max_msg_size", self.max_msg_size == WireSize(0)),
            ("memory_limit", self.memory_limit == Size(0)),
            ("max_rdy_count", self.max_rdy_count == 0),
        ];
        match zeros.iter().find(|(_, zero)| *zero) {
            Some((key, _)) => Err(format!("--{} is 0: it must be more", flag(key))),
            None => Ok(()),
        }
    }

    /// What the log needs.
    pub(crate) fn telemetry(&self) -> Telemetry {
        Telemetry { level: self.log_level, format: self.log_format }
    }
}

fn at_most<T: PartialOrd + ShowSetting>(low: &str, low_is: T, high: &str, high_is: T) -> Result<(), String> {
    if low_is <= high_is {
        return Ok(());
    }
    Err(format!(
        "--{} ({}) is more than --{} ({}): lower the first or raise the second",
        flag(low),
        low_is.show(),
        flag(high),
        high_is.show(),
    ))
}

/// A value in a message about two settings.
trait ShowSetting {
    fn show(&self) -> String;
}

impl ShowSetting for Duration {
    fn show(&self) -> String {
        format!("{self:?}")
    }
}

impl ShowSetting for WireSize {
    fn show(&self) -> String {
        self.0.to_string()
    }
}

/// Where a setting can be written, strongest first.
struct Sources<'a> {
    flags: &'a ArgMatches,
    env: &'a dyn Fn(&str) -> Option<OsString>,
    file: Option<&'a ConfigFile>,
}

impl Sources<'_> {
    fn read<T: Value>(&self, key: &str, default: &str) -> Result<T, String> {
        let flag = flag(key);
        if let Some(text) = self.flags.get_one::<String>(key) {
            return parse(text, format_args!("--{flag} {text}"));
        }
        let variable = variable(key);
        if let Some(text) = (self.env)(&variable) {
            let text = text.to_string_lossy();
            return parse(&text, format_args!("{variable}={text} (that is --{flag})"));
        }
        if let Some(file) = self.file
            && let Some(text) = file.get(key)
        {
            let path = file.path.display();
            return parse(text, format_args!("{path}: {key} = {text:?} (that is --{flag})"));
        }
        parse(default, format_args!("--{flag} {default}"))
    }
}

fn parse<T: Value>(text: &str, what: impl Display) -> Result<T, String> {
    T::parse(text).ok_or_else(|| format!("{what} is not valid: it must be {}", T::FORM))
}

/// A configuration file whose keys are all known.
struct ConfigFile {
    path: PathBuf,
    values: Vec<(String, String)>,
}

impl ConfigFile {
    fn parse(path: &Path, text: &str) -> Result<Self, String> {
        let shown = path.display();
        let table: toml::Table = text.parse().map_err(|e| format!("{shown}: {e}"))?;
        let mut values = Vec::with_capacity(table.len());
        for (key, value) in table {
            let Some(setting) = SETTINGS.iter().find(|setting| setting.key == key) else {
                return Err(match nearest(&key) {
                    Some(right) => format!("{shown}: there is no setting {key:?}: did you mean {right:?}?"),
                    None => format!("{shown}: there is no setting {key:?}: `mq serve --help` lists all"),
                });
            };
            let text = match value {
                toml::Value::String(text) => text,
                toml::Value::Integer(number) => number.to_string(),
                toml::Value::Boolean(switch) => switch.to_string(),
                other => {
                    let (kind, flag, form) = (other.type_str(), flag(&key), setting.form);
                    return Err(format!(
                        "{shown}: {key} (that is --{flag}) is of type {kind}: it must be {form}"
                    ));
                }
            };
            values.push((key, text));
        }
        Ok(Self { path: path.to_owned(), values })
    }

    fn get(&self, key: &str) -> Option<&str> {
        self.values.iter().find(|(have, _)| have == key).map(|(_, text)| text.as_str())
    }
}

/// The key that was probably meant.
fn nearest(key: &str) -> Option<&'static str> {
    /// Above this likeness a name is worth suggesting; clap uses the same for flags.
    const ALIKE: f64 = 0.8;
    let key = key.replace('-', "_").to_ascii_lowercase();
    let alike = SETTINGS.iter().map(|setting| (strsim::jaro_winkler(&key, setting.key), setting.key));
    alike.filter(|(likeness, _)| *likeness > ALIKE).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, key)| key)
}

fn flag(key: &str) -> String {
    key.replace('_', "-")
}

fn variable(key: &str) -> String {
    format!("MQ_{}", key.to_ascii_uppercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(flags: &[&str], env: &[(&str, &str)], file: Option<&str>) -> Result<Config, String> {
        let command = augment(Command::new("serve").args_override_self(true));
        let args = ["serve"].iter().chain(flags);
        let matches = command.try_get_matches_from(args).map_err(|e| e.to_string())?;
        let file = file.map(|text| ConfigFile::parse(Path::new("mq.toml"), text)).transpose()?;
        let env = |name: &str| env.iter().find(|(have, _)| *have == name).map(|(_, value)| value.into());
        Config::resolve(&matches, &env, file.as_ref())
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
        let cases: [Case; 8] = [
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
            (&[], &[], Some("msg_timeout = 1.5"), &["--msg-timeout", "float", "60s"]),
            (&[], &[], Some("msg_timeout = "), &["mq.toml", "line 1"]),
            (&["--msg-timeout=16m"], &[], None, &["--msg-timeout (960s)", "--max-msg-timeout (900s)"]),
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
        augment(Command::new("serve")).debug_assert();
        assert!(resolve(&["--tcp-adress=x:1"], &[], None).unwrap_err().contains("--tcp-address"));
    }
}

//! The settings of `mq lookup`, and what nsqlookupd's are.

use std::ffi::OsString;
use std::time::Duration;

use clap::{ArgMatches, Command};

use crate::config::settings::{Effect, Schema, Setting, settings};
use crate::config::sources::Sources;
use crate::config::value::list::{HostName, List};
use crate::config::value::word::{CertificatePolicy, TlsVersion};
use crate::config::value::{Address, LogFormat, LogLevel, MaybeAddress, MaybePath, Value};
use crate::config::{Idle, augment_with, check_certificate, file};
use crate::invoked_as::InvokedAs;
use crate::log::LogOptions;

settings! {
    /// Settings of `mq lookup`.
    ;

    /// Address where brokers register: host:port, or the path of a unix socket
    tcp_address: Address = "127.0.0.1:4160", nsqd "0.0.0.0:4160";
    /// Address of the HTTP API
    http_address: Address = "127.0.0.1:4161", nsqd "0.0.0.0:4161";
    /// Address of gRPC; empty = not served
    grpc_address: MaybeAddress = "127.0.0.1:4165", nsqd "";
    /// File of the tokens, one a line, of which gRPC requests must show one (authorization: Bearer)
    grpc_auth_token_file: MaybePath = "";
    /// PEM file of the certificate for TLS over gRPC, and the intermediate ones
    tls_cert: MaybePath = "";
    /// PEM file of the certificate's private key
    tls_key: MaybePath = "";
    /// PEM file of the roots that clients' certificates are verified against
    tls_root_ca_file: MaybePath = "";
    /// Client certificates: require any, or require-verify one signed by a root
    tls_client_auth_policy: CertificatePolicy = "";
    /// Lowest version of TLS
    tls_min_version: TlsVersion = "tls1.2";
    /// Names in a request's Host by which clients on this machine may reach HTTP, beside IP addresses, localhost,
    /// the host's name and --broadcast-address
    http_allowed_hosts: List<HostName> = "";
    /// Serves the admin page under /admin/ of the HTTP API
    admin: bool = "true", nsqd "false";
    /// Address of a port of its own for the admin page; empty = none
    admin_address: MaybeAddress = "";
    /// Name brokers reach this server's HTTP API by; empty = the address it listens on, or the host's name
    broadcast_address: String = "";
    /// Time after its last ping at which a broker is left out of answers and its connection closed (not
    /// before 60s)
    inactive_producer_timeout: Duration = "300s";
    /// Time a tombstone hides a broker from a topic's lookups
    tombstone_lifetime: Duration = "45s";
    /// Time a topic or channel that no broker has is remembered
    idle_lifetime: Duration = "24h";
    /// Least severe log lines to write: trace, debug, info, warn, error
    log_level: LogLevel = "info";
    /// Prefix of each line of a text log
    log_prefix: String = "", nsqd "[nsqlookupd] ";
    /// Form of log lines on stderr: text, or one JSON object a line (json)
    log_format: LogFormat = "text";
    ---
    /// nsqlookupd: no effect there either
    verbose: bool = "false" => Effect::None("--log-level debug writes more");
}

/// `mq lookup`'s.
pub(crate) const LOOKUP: Schema =
    Schema { settings: SETTINGS, prefix: "MQ_LOOKUP_", help: "mq lookup --help" };

/// Adds `mq lookup`'s flags to `command`.
pub fn augment(command: Command, invoked_as: InvokedAs) -> Command {
    augment_with(command, &LOOKUP, invoked_as)
}

impl Config {
    /// The settings in force, and those that were given though they have no effect.
    pub(crate) fn load(flags: &ArgMatches, invoked_as: InvokedAs) -> Result<(Self, Vec<Idle>), String> {
        let env = |name: &str| std::env::var_os(name);
        Self::resolve(flags, &env, invoked_as)
    }

    fn resolve(
        flags: &ArgMatches,
        env: &dyn Fn(&str) -> Option<OsString>,
        invoked_as: InvokedAs,
    ) -> Result<(Self, Vec<Idle>), String> {
        let file = file(flags, env, &LOOKUP)?;
        let sources = Sources { schema: &LOOKUP, flags, env, file: file.as_ref(), invoked_as };
        let config = Self::from_sources(&sources)?;
        check_certificate(&config.tls_cert, &config.tls_key, &config.tls_client_auth_policy)?;
        let mut idle = Vec::new();
        for setting in SETTINGS.iter().filter(|setting| setting.effect != Effect::Full) {
            if sources.check(setting)?.is_some() {
                idle.push(Idle { key: setting.key, effect: setting.effect });
            }
        }
        Ok((config, idle))
    }

    /// Options of the log.
    pub(crate) fn log(&self) -> LogOptions {
        LogOptions { level: self.log_level, format: self.log_format, prefix: self.log_prefix.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::document;

    fn resolve(
        flags: &[&str],
        env: &[(&str, &str)],
        invoked_as: InvokedAs,
    ) -> Result<(Config, Vec<Idle>), String> {
        let command = augment(Command::new("lookup").args_override_self(true), invoked_as);
        let matches = command
            .try_get_matches_from(["lookup"].iter().chain(flags))
            .map_err(|error| error.to_string())?;
        let env = |name: &str| env.iter().find(|(have, _)| *have == name).map(|(_, value)| value.into());
        Config::resolve(&matches, &env, invoked_as)
    }

    #[test]
    fn defaults_are_nsqlookupds() {
        let (config, idle) = resolve(&[], &[], InvokedAs::Nsqlookupd).unwrap();
        assert_eq!(config.tcp_address, Address::Tcp("0.0.0.0:4160".to_owned()));
        assert_eq!(config.http_address, Address::Tcp("0.0.0.0:4161".to_owned()));
        assert_eq!(config.inactive_producer_timeout, Duration::from_secs(300));
        assert_eq!(config.tombstone_lifetime, Duration::from_secs(45));
        assert_eq!(config.log_prefix, "[nsqlookupd] ");
        assert!(idle.is_empty());
        let (config, _) = resolve(&[], &[], InvokedAs::Mq).unwrap();
        assert_eq!(config.tcp_address, Address::Tcp("127.0.0.1:4160".to_owned()));
    }

    #[test]
    fn its_variables_are_its_own() {
        let env = [("MQ_TCP_ADDRESS", "127.0.0.1:1"), ("MQ_LOOKUP_HTTP_ADDRESS", "127.0.0.1:2")];
        let (config, _) = resolve(&["--tombstone-lifetime=1s"], &env, InvokedAs::Mq).unwrap();
        assert_eq!(config.tcp_address, Address::Tcp("127.0.0.1:4160".to_owned()));
        assert_eq!(config.http_address, Address::Tcp("127.0.0.1:2".to_owned()));
        assert_eq!(config.tombstone_lifetime, Duration::from_secs(1));
        let error = resolve(&[], &[("MQ_LOOKUP_IDLE_LIFETIME", "long")], InvokedAs::Mq).unwrap_err();
        assert!(error.contains("MQ_LOOKUP_IDLE_LIFETIME=long"), "{error}");
        for (flags, want) in [
            (&["--tls-cert=c"][..], "--tls-key"),
            (&["--tls-client-auth-policy=require"], "--tls-cert"),
            (&["--http-allowed-hosts=lookup:4161"], "without"),
        ] {
            let error = resolve(flags, &[], InvokedAs::Mq).unwrap_err();
            assert!(error.contains(want), "{error}");
        }
        let (_, idle) = resolve(&["--verbose=true"], &[], InvokedAs::Mq).unwrap();
        assert_eq!(idle.len(), 1);
    }

    #[test]
    fn the_document_lists_every_setting() {
        document::check(&LOOKUP, InvokedAs::Nsqlookupd);
    }
}

//! The settings of `mq admin`, and what nsqadmin's are.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::time::Duration;

use clap::{ArgMatches, Command};
use mq_admin::Graphite;
use mq_nsq::server::OptionValue;

use crate::config::redacted::without_password;
use crate::config::settings::{Effect, Schema, Setting, settings};
use crate::config::sources::Sources;
use crate::config::value::list::{HostName, HttpAddress, List, Network, UserName};
use crate::config::value::{Address, LogFormat, LogLevel, MaybePath, Value};
use crate::config::{Idle, augment_with, file};
use crate::invoked_as::InvokedAs;
use crate::log::LogOptions;

settings! {
    /// Settings of `mq admin`.
    ;

    /// Address of the page: host:port, or the path of a unix socket
    http_address: Address = "127.0.0.1:4171", nsqd "0.0.0.0:4171";
    /// Path of the page
    base_path: String = "/";
    /// HTTP addresses of lookup servers: their brokers are shown
    lookupd_http_address / "nsqlookupd_http_addresses": List<HttpAddress> = "";
    /// HTTP addresses of brokers
    nsqd_http_address / "nsqd_http_addresses": List<HttpAddress> = "";
    /// File of the tokens, one a line, of which who looks must show one; empty = everybody may look, and
    /// change everything
    http_auth_token_file: MaybePath = "";
    /// File with the token that the servers named here are shown; no other server is shown it
    auth_token_file: MaybePath = "";
    /// Names in a request's Host by which clients on this machine may reach the page without a token, beside
    /// IP addresses, localhost and the host's name; with --auth-token-file all clients
    http_allowed_hosts: List<HostName> = "";
    /// Calls the servers named here over TLS
    http_client_tls: bool = "false";
    /// Takes any certificate of theirs
    http_client_tls_insecure_skip_verify: bool = "false";
    /// PEM file of the roots that their certificates are verified against; empty = the system's
    http_client_tls_root_ca_file: MaybePath = "";
    /// PEM file of the certificate to show them
    http_client_tls_cert: MaybePath = "";
    /// PEM file of its private key
    http_client_tls_key: MaybePath = "";
    /// Longest time to connect to a server
    http_client_connect_timeout: Duration = "2s";
    /// Longest time for a server's answer
    http_client_request_timeout: Duration = "5s";
    /// Users who may change something; empty = everybody
    admin_user / "admin_users": List<UserName> = "";
    /// Header in which a proxy names the user
    acl_http_header: String = "X-Forwarded-User";
    /// Proxies whose header is believed, and their X-Forwarded-For, as ranges of addresses; nsqadmin believes
    /// everybody
    acl_http_proxies: List<Network> = "127.0.0.0/8,::1/128";
    /// Range of addresses that may ask /config; empty = all
    allow_config_from_cidr: List<Network> = "127.0.0.1/8";
    /// URL that each change is posted to, http:// only
    notification_http_endpoint: String = "";
    /// http:// URL of graphite, which is asked by nsqadmin's API and, with --proxy-graphite, by /render; our
    /// charts come from the history that each broker keeps itself
    graphite_url: String = "";
    /// Asks graphite for browsers, at /render
    proxy_graphite: bool = "false";
    /// Interval of the brokers' statistics in graphite
    statsd_interval: Duration = "60s";
    /// Least severe log lines to write: trace, debug, info, warn, error
    log_level: LogLevel = "info";
    /// Prefix of each line of a text log
    log_prefix: String = "", nsqd "[nsqadmin] ";
    /// Form of log lines on stderr: text, or one JSON object a line (json)
    log_format: LogFormat = "text";
    ---
    /// nsqadmin: prefix of statsd's names
    statsd_prefix: String = "nsq.%s" => Effect::None("charts come from the history that each broker keeps itself");
    /// nsqadmin: form of a counter's name
    statsd_counter_format: String = "stats.counters.%s.count" => Effect::None("charts come from the history that each broker keeps itself");
    /// nsqadmin: form of a gauge's name
    statsd_gauge_format: String = "stats.gauges.%s" => Effect::None("charts come from the history that each broker keeps itself");
    /// nsqadmin: folder of the page's files
    dev_static_dir: String = "" => Effect::None("the page is part of the program");
    /// nsqadmin: no effect there either
    verbose: bool = "false" => Effect::None("--log-level debug writes more");
}

/// `mq admin`'s.
pub(crate) const ADMIN: Schema = Schema { settings: SETTINGS, prefix: "MQ_ADMIN_", help: "mq admin --help" };

/// Adds `mq admin`'s flags to `command`.
pub fn augment(command: Command, invoked_as: InvokedAs) -> Command {
    augment_with(command, &ADMIN, invoked_as)
}

/// The settings in force.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) config: Config,
    /// Settings that were given though they have no effect.
    pub(crate) idle: Vec<Idle>,
    /// Each as `/config` shows it, by its name in the file, without passwords.
    pub(crate) shown: BTreeMap<&'static str, OptionValue>,
}

impl Config {
    /// The settings in force.
    pub(crate) fn load(flags: &ArgMatches, invoked_as: InvokedAs) -> Result<Loaded, String> {
        let env = |name: &str| std::env::var_os(name);
        Self::resolve(flags, &env, invoked_as)
    }

    fn resolve(
        flags: &ArgMatches,
        env: &dyn Fn(&str) -> Option<OsString>,
        invoked_as: InvokedAs,
    ) -> Result<Loaded, String> {
        let file = file(flags, env, &ADMIN)?;
        let sources = Sources { schema: &ADMIN, flags, env, file: file.as_ref(), invoked_as };
        let config = Self::from_sources(&sources)?;
        config.check(invoked_as)?;
        let mut idle = Vec::new();
        for setting in SETTINGS.iter().filter(|setting| setting.effect != Effect::Full) {
            if sources.check(setting)?.is_some() {
                idle.push(Idle { key: setting.key, effect: setting.effect });
            }
        }
        let shown = SETTINGS.iter().map(|setting| {
            let text = sources.text(setting).unwrap_or_else(|| setting.default(invoked_as).to_owned());
            let text = without_password(&text);
            // What has no effect may have no value.
            (setting.file_key, (setting.show)(&text).unwrap_or(OptionValue::Text(text)))
        });
        let shown = shown.collect();
        Ok(Loaded { config, idle, shown })
    }

    fn check(&self, invoked_as: InvokedAs) -> Result<(), String> {
        let (lookups, nodes) =
            (!self.lookupd_http_address.0.is_empty(), !self.nsqd_http_address.0.is_empty());
        if !lookups && !nodes {
            return Err("--nsqd-http-address or --lookupd-http-address required".to_owned());
        }
        // Ours shows both, where a token is for brokers that lookup servers know.
        if lookups && nodes && invoked_as == InvokedAs::Nsqadmin {
            return Err("use --nsqd-http-address or --lookupd-http-address not both".to_owned());
        }
        if self.http_client_tls_cert.0.is_some() != self.http_client_tls_key.0.is_some() {
            return Err("--http-client-tls-cert and --http-client-tls-key must be given together".to_owned());
        }
        let endpoint = &self.notification_http_endpoint;
        if !endpoint.is_empty() && !endpoint.starts_with("http://") {
            return Err(format!("--notification-http-endpoint {endpoint}: it must be an http:// URL"));
        }
        let graphite = &self.graphite_url;
        if !graphite.is_empty() && self.graphite().is_none() {
            return Err(
                "--graphite-url must be an http:// URL such as http://graphite.example:8080".to_owned()
            );
        }
        if self.proxy_graphite && graphite.is_empty() {
            return Err("--proxy-graphite needs --graphite-url".to_owned());
        }
        Ok(())
    }

    /// The graphite that may be asked.
    pub(crate) fn graphite(&self) -> Option<Graphite> {
        Graphite::new(&self.graphite_url, self.proxy_graphite, self.statsd_interval)
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

    fn resolve(flags: &[&str], invoked_as: InvokedAs) -> Result<Loaded, String> {
        let command = augment(Command::new("admin").args_override_self(true), invoked_as);
        let matches =
            command.try_get_matches_from(["admin"].iter().chain(flags)).map_err(|error| error.to_string())?;
        Config::resolve(&matches, &|_| None, invoked_as)
    }

    #[test]
    fn defaults_are_nsqadmins_but_for_the_address() {
        let nodes = "--nsqd-http-address=127.0.0.1:4151";
        let Loaded { config, idle, .. } = resolve(&[nodes], InvokedAs::Mq).unwrap();
        assert_eq!(config.http_address, Address::Tcp("127.0.0.1:4171".to_owned()));
        assert_eq!(config.acl_http_header, "X-Forwarded-User");
        assert!(idle.is_empty());
        let graphite = ["--graphite-url=http://reader:hush@graphite:80", "--proxy-graphite=true"];
        let flags = [&[nodes, "--dev-static-dir=/x"], &graphite[..]].concat();
        let Loaded { config, idle, shown } = resolve(&flags, InvokedAs::Nsqadmin).unwrap();
        assert_eq!(shown["graphite_url"], OptionValue::Text("http://***@graphite:80".to_owned()));
        assert_eq!(shown["statsd_interval"], OptionValue::Json("60000000000".to_owned()));
        assert_eq!(config.http_address, Address::Tcp("0.0.0.0:4171".to_owned()));
        assert_eq!(config.log_prefix, "[nsqadmin] ");
        assert_eq!(idle.len(), 1);
    }

    #[test]
    fn what_does_not_fit_together_is_refused() {
        let both = ["--nsqd-http-address=a:1", "--lookupd-http-address=b:2"];
        assert!(resolve(&both, InvokedAs::Mq).is_ok());
        for (flags, invoked_as, want) in [
            (&[][..], InvokedAs::Mq, "required"),
            (&both, InvokedAs::Nsqadmin, "not both"),
            (&["--nsqd-http-address=a:1", "--http-client-tls-cert=c"], InvokedAs::Mq, "together"),
            (&["--nsqd-http-address=a"], InvokedAs::Mq, "host:port"),
            (&["--nsqd-http-address=a:1", "--acl-http-proxies=x"], InvokedAs::Mq, "10.0.0.0/8"),
            (
                &["--nsqd-http-address=a:1", "--notification-http-endpoint=https://x"],
                InvokedAs::Mq,
                "http://",
            ),
            (&["--nsqd-http-address=a:1", "--graphite-url=https://x"], InvokedAs::Mq, "http://"),
            (&["--nsqd-http-address=a:1", "--proxy-graphite"], InvokedAs::Mq, "--graphite-url"),
        ] {
            let error = resolve(flags, invoked_as).unwrap_err();
            assert!(error.contains(want), "{error}");
        }
    }

    #[test]
    fn the_document_lists_every_setting() {
        document::check(&ADMIN, InvokedAs::Nsqadmin);
    }
}

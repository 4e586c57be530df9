//! Brokers of the commands on the crate `libmq`.
//!
//! - [`Brokers`]: `--url` of the commands; [`asked`]: ports of one broker; [`place`]: the same beside the
//!   address of one broker; [`start`]: `--start`; [`nsq_flags`]: the flags of NSQ's tools; [`options`]: what
//!   `--consumer-opt` and `--producer-opt` set

pub(crate) mod asked;
pub(crate) mod nsq_flags;
pub(crate) mod options;
pub(crate) mod place;
pub(crate) mod start;

use libmq::{Client, Config, Start};
use mq_bench::broker_flags::{TcpFlags, Token};
use mq_net::transport::Transport;
use mq_net::transport::tls::ClientTlsOptions;
use std::time::Duration;
use tokio::time::timeout;

use start::parse_start;

/// Longest wait for the first connection to a broker that is named by its address.
const CONNECT: Duration = Duration::from_secs(5);

/// Flags that name brokers.
#[derive(Clone, clap::Args)]
pub(crate) struct Brokers {
    /// Brokers to consume from, instead of --tcp-address: mq://host:port[,host:port...], mqs:// for TLS,
    /// mq+lookup://host:port (mqs+lookup://) for those that lookup servers name; settings as ?name=value&...
    /// (tls_root_ca_file, compression, client_id)
    #[arg(long, value_name = "URL", env = "MQ_URL", hide_env_values = true,
        conflicts_with_all = ["tls", "tls_ca", "tls_cert", "tls_server_name", "tls_insecure"])]
    url: Option<String>,
    /// Place where a channel that is new begins: waiting (the oldest message that waits in the topic, which
    /// only a topic without channels has, else the next one), earliest (the oldest that is kept), latest, an
    /// offset, or the time of the first message, such as 2026-11-28T14:00:00Z
    #[arg(long, value_name = "PLACE", default_value = "waiting", value_parser = parse_start)]
    start: Start,
    #[command(flatten)]
    broker: TcpFlags,
}

impl Brokers {
    /// The URL that was given, or that of the broker that the other flags name.
    pub(crate) fn url(&self) -> String {
        self.url.clone().unwrap_or_else(|| self.broker.url())
    }

    /// Place where a channel that is new begins.
    pub(crate) fn start(&self) -> Start {
        self.start
    }

    /// A client of them, whose name at the brokers is that of the command.
    pub(crate) fn connect(&self, command: &str) -> Result<Client, String> {
        match &self.url {
            Some(url) => connect(url, command, self.broker.token()),
            None => connect_to(&self.broker, config(command, self.broker.token())?),
        }
    }

    /// Lookup servers that the URL names; none of another URL.
    pub(crate) fn lookup_servers(&self) -> Vec<String> {
        let url = self.url();
        let rest = url.strip_prefix("mq+lookup://").or_else(|| url.strip_prefix("mqs+lookup://"));
        rest.map(list).unwrap_or_default()
    }
}

/// The addresses of brokers in a URL; none in that of lookup servers or of a folder.
pub(crate) fn broker_addresses(url: &str) -> Vec<String> {
    let starts = ["mq://", "mqs://", "mq+unix:", "mqs+unix:"];
    let rest = starts.iter().find_map(|start| url.strip_prefix(start));
    rest.map(list).unwrap_or_default()
}

/// The list of addresses that `rest` of a URL begins with. One machine has one name in it.
fn list(rest: &str) -> Vec<String> {
    let list = rest.split('?').next().unwrap_or_default();
    let list = list.strip_suffix('/').unwrap_or(list);
    list.split(',').map(|address| address.replace("localhost:", "127.0.0.1:")).collect()
}

/// A client of the brokers at `url`, with the secret in the token's file.
pub(crate) fn connect(url: &str, command: &str, token: &Token) -> Result<Client, String> {
    connect_url(url, config(command, token)?)
}

fn connect_url(url: &str, config: Config) -> Result<Client, String> {
    libmq::connect_with(url, config).map_err(|error| format!("--url: {error}"))
}

/// A client of the broker that the flags name.
fn connect_to(broker: &TcpFlags, config: Config) -> Result<Client, String> {
    let config = match broker.tls() {
        Some(tls) => with_tls(config, tls),
        None => config,
    };
    libmq::connect_with(&broker.url(), config).map_err(|error| format!("{}: {error}", broker.address()))
}

/// The settings with those of the flags about TLS.
fn with_tls(config: Config, tls: ClientTlsOptions) -> Config {
    let (tls_cert_file, tls_key_file) = tls.identity.unzip();
    Config {
        tls_root_ca_file: tls.root_ca_file,
        tls_cert_file,
        tls_key_file,
        tls_server_name: tls.server_name,
        tls_insecure: tls.insecure_skip_verify,
        ..config
    }
}

/// The settings of a command's clients.
fn config(command: &str, token: &Token) -> Result<Config, String> {
    Ok(Config { auth_secret: secret(token)?, user_agent: user_agent(command), ..Config::default() })
}

/// The secret in the token's file, if one is named.
fn secret(token: &Token) -> Result<Option<String>, String> {
    let secret = token.read()?.map(String::from_utf8).transpose();
    secret.map_err(|_| "--auth-token-file: the token is not UTF-8".to_owned())
}

/// The name of a tool at the brokers it connects to.
pub(crate) fn user_agent(tool: &str) -> String {
    format!("{tool}/{}", env!("CARGO_PKG_VERSION"))
}

/// Checks that somebody listens at each address: NSQ's tools end where one can't be reached at their start.
///
/// # Errors
/// The first address without an answer.
pub(crate) async fn reach(addresses: &[String]) -> Result<(), String> {
    for address in addresses {
        let connected = timeout(CONNECT, Transport::connect(address)).await;
        let connected = connected.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()));
        connected.map_err(|error| format!("{address}: {error}: is a broker running there?"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{Args, FromArgMatches};

    #[test]
    fn lookup_servers_are_in_the_url_that_names_them() {
        let of = |url: &str| {
            let command = Brokers::augment_args(clap::Command::new("mq"));
            let matches = command.get_matches_from(["mq", "--url", url]);
            Brokers::from_arg_matches(&matches).unwrap().lookup_servers()
        };
        assert_eq!(of("mq+lookup://a:1,b:2/?client_id=x"), ["a:1", "b:2"]);
        assert_eq!(of("mqs+lookup://a:1"), ["a:1"]);
        assert!(of("mq://a:1").is_empty());
        assert_eq!(broker_addresses("mqs://localhost:1,b:2/?x=y"), ["127.0.0.1:1", "b:2"]);
        assert_eq!(broker_addresses("mq+unix:/a/b,/c?x=y"), ["/a/b", "/c"]);
        assert!(broker_addresses("mq+lookup://a:1").is_empty() && broker_addresses("./data").is_empty());
    }
}

//! Brokers of the commands on the crate `libmq`.
//!
//! - [`Brokers`]: `--url` of the commands; [`nsq_flags`]: the flags of NSQ's tools; [`options`]: what
//!   `--consumer-opt` and `--producer-opt` set

pub(crate) mod nsq_flags;
pub(crate) mod options;

use libmq::{Client, Config};
use mq_bench::broker_flags::Token;
use mq_net::transport::Transport;
use std::time::Duration;
use tokio::time::timeout;

/// Longest wait for the first connection to a broker that is named by its address.
const CONNECT: Duration = Duration::from_secs(5);

/// Flags that name brokers.
#[derive(Clone, clap::Args)]
pub(crate) struct Brokers {
    /// Brokers to consume from: mq://host:port[,host:port...], mqs:// for TLS, mq+lookup://host:port for
    /// those that lookup servers name; settings as ?name=value&...
    #[arg(
        long,
        value_name = "URL",
        env = "MQ_URL",
        default_value = "mq://127.0.0.1:4150",
        hide_env_values = true
    )]
    url: String,
    #[command(flatten)]
    token: Token,
}

impl Brokers {
    /// A client of them, whose name at the brokers is that of the command.
    pub(crate) fn connect(&self, command: &str) -> Result<Client, String> {
        connect(&self.url, command, &self.token)
    }

    /// Lookup servers that the URL names; none of another URL.
    pub(crate) fn lookup_servers(&self) -> Vec<String> {
        let Some(rest) = self.url.strip_prefix("mq+lookup://") else { return Vec::new() };
        let list = rest.split(['/', '?']).next().unwrap_or_default();
        list.split(',').map(ToOwned::to_owned).collect()
    }
}

/// A client of the brokers at `url`, with the secret in the token's file.
pub(crate) fn connect(url: &str, command: &str, token: &Token) -> Result<Client, String> {
    let secret = token.read()?.map(String::from_utf8).transpose();
    let auth_secret = secret.map_err(|_| "--auth-token-file: the token is not UTF-8".to_owned())?;
    let config = Config { auth_secret, user_agent: user_agent(command), ..Config::default() };
    libmq::connect_with(url, config).map_err(|error| format!("--url: {error}"))
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
        assert!(of("mq://a:1").is_empty());
    }
}

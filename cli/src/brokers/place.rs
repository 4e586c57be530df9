//! Brokers of `mq pub` and `mq tail`: those of a URL, or the one at an address.

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{ArgMatches, Args, Command, FromArgMatches};
use libmq::{Client, Config, ConnectionEvent, Error};
use mq_bench::broker_flags::TcpFlags;
use mq_bench::plain_words::refusal;

use super::{broker_addresses, config, connect_to, connect_url};

/// Flags that name one broker: one of them on the command line is stronger than `MQ_URL`.
const OF_ADDRESS: [&str; 7] =
    ["tcp_address", "tls", "tls_ca", "tls_cert", "tls_key", "tls_server_name", "tls_insecure"];

#[derive(Clone, Args)]
struct Flags {
    /// Brokers, instead of --tcp-address: mq://host:port[,host:port...], mqs:// for TLS,
    /// mq+lookup://host:port, mq+unix:PATH, or a data folder as mq:FOLDER; settings as ?name=value&...
    /// Without it, and without --tcp-address and --tls flags, that of MQ_URL
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    #[command(flatten)]
    tcp: TcpFlags,
}

/// The brokers that flags or variables name.
#[derive(Clone)]
pub(crate) struct BrokerPlace {
    url: Option<String>,
    tcp: TcpFlags,
}

impl Args for BrokerPlace {
    fn augment_args(command: Command) -> Command {
        Flags::augment_args(command)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Flags::augment_args_for_update(command)
    }
}

impl FromArgMatches for BrokerPlace {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let Flags { url, tcp } = Flags::from_arg_matches(matches)?;
        let is_given = |flag: &&&str| matches.value_source(flag) == Some(ValueSource::CommandLine);
        let given = OF_ADDRESS.iter().find(is_given);
        let url = match (url, given) {
            (Some(_), Some(flag)) => {
                let flag = flag.replace('_', "-");
                let error =
                    format!("--url and --{flag} exclude each other: a URL has settings of TLS as ?tls_...");
                return Err(clap::Error::raw(ErrorKind::ArgumentConflict, error));
            }
            (None, None) => std::env::var("MQ_URL").ok().filter(|url| !url.is_empty()),
            (url, _) => url,
        };
        Ok(Self { url, tcp })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl BrokerPlace {
    /// Whether they are those of a URL.
    pub(crate) fn is_url(&self) -> bool {
        self.url.is_some()
    }

    /// Whether there is one, and always the same: also a folder.
    pub(crate) fn is_one(&self) -> bool {
        let Some(url) = &self.url else { return true };
        !url.starts_with("mq+lookup:") && !url.starts_with("mqs+lookup:") && broker_addresses(url).len() <= 1
    }

    /// A client of them, whose name at the brokers is that of the command; `extension` as in [`Config`].
    pub(crate) fn connect(&self, command: &str, extension: bool) -> Result<Client, String> {
        let config = Config { extension, ..config(command, self.tcp.token())? };
        match &self.url {
            Some(url) => connect_url(url, config),
            None => connect_to(&self.tcp, config),
        }
    }

    /// The failure among the first events of a connection to the broker at an address. Nobody waits for one
    /// that is not there; brokers of a URL may come later.
    pub(crate) fn failure(&self, events: Vec<ConnectionEvent>) -> Option<String> {
        let failed = events.into_iter().find_map(|event| match event {
            ConnectionEvent::Failed(failure) => Some(failure.error),
            _ => None,
        })?;
        (!self.is_url()).then(|| self.explain(&failed))
    }

    /// An error for people: what would be right.
    pub(crate) fn explain(&self, error: &Error) -> String {
        if let Error::Refused { why, broker, .. } = error
            && let Some(words) = refusal(why)
        {
            return format!("{broker}: {words}");
        }
        let hint = match error {
            Error::Unreachable { why, .. } | Error::Refused { why, .. } if !self.is_url() => {
                self.tcp.hint(why)
            }
            _ => None,
        };
        hint.map_or_else(|| error.to_string(), |hint| format!("{error}: {hint}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(flags: &[&str]) -> Result<BrokerPlace, clap::Error> {
        let command = BrokerPlace::augment_args(Command::new("mq"));
        BrokerPlace::from_arg_matches(&command.try_get_matches_from([&["mq"], flags].concat())?)
    }

    #[test]
    fn a_url_and_flags_of_an_address_exclude_each_other() {
        for flags in [&["--tcp-address=a:1"][..], &["--tls"], &["--tls-cert=a", "--tls-key=b"]] {
            let error = parse(&[&["--url=mq://a:1"], flags].concat()).err().unwrap().to_string();
            assert!(error.contains("--url and --t"), "{error}");
            assert!(!parse(flags).unwrap().is_url());
        }
        for (url, is_one) in [
            ("mq://a:1", true),
            ("mq:folder", true),
            ("mq+unix:/a", true),
            ("mq://a:1,b:2", false),
            ("mq+unix:/a,/b", false),
            ("mq+lookup://a:1", false),
        ] {
            assert_eq!(parse(&["--url", url]).unwrap().is_one(), is_one, "{url}");
        }
    }
}

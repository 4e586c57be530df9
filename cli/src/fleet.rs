//! Brokers of the commands that look at one broker or at many.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use mq_bench::broker_flags::{HttpAddress, HttpFlags, explain_http, http_address};
use mq_nsq::client::{Admin, AdminError};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::stats::{Info, Stats};

/// Longest wait for one answer: a broker that hangs must not stop the look at the others.
const ANSWER: Duration = Duration::from_secs(5);
/// Brokers that are asked at the same time.
const AT_ONCE: usize = 32;

/// Flags that name many brokers, as those of `mq admin` do.
#[derive(clap::Args)]
pub(crate) struct FleetFlags {
    /// HTTP API of a broker to look at, rather than that of --http-address; several by giving the flag again
    #[arg(long, value_name = "ADDRESS", value_parser = http_address)]
    pub(crate) nsqd_http_address: Vec<HttpAddress>,
    /// HTTP API of a lookup server whose brokers to look at; several by giving the flag again. Brokers that
    /// it names are shown no token
    #[arg(long, value_name = "ADDRESS", value_parser = http_address)]
    pub(crate) lookupd_http_address: Vec<HttpAddress>,
}

impl FleetFlags {
    /// Whether one of the flags is given.
    pub(crate) fn is_given(&self) -> bool {
        !self.nsqd_http_address.is_empty() || !self.lookupd_http_address.is_empty()
    }
}

/// The brokers to look at.
pub(crate) struct Fleet {
    brokers: Vec<Server>,
    lookups: Vec<Server>,
    /// Whether flags name a fleet: its brokers are named in what is shown.
    pub(crate) is_many: bool,
}

/// A broker or a lookup server.
#[derive(Clone)]
struct Server {
    /// `host:port`, or the path of a unix socket.
    name: String,
    admin: Admin,
    /// Whether a lookup server named it: it is shown no token.
    is_learned: bool,
}

/// Answers of one look.
#[derive(Clone, Debug, Default)]
pub(crate) struct Look {
    /// Statistics by the broker's name, sorted.
    pub(crate) brokers: Vec<(String, Stats)>,
    /// Sentences about those that did not answer.
    pub(crate) failures: Vec<String>,
}

/// The brokers that a lookup server knows.
#[derive(Deserialize)]
struct Nodes {
    producers: Option<Vec<Node>>,
}

#[derive(Deserialize)]
struct Node {
    broadcast_address: String,
    http_port: i32,
}

impl Fleet {
    /// The brokers of the flags; that of `http` if they name none.
    pub(crate) fn new(http: &HttpFlags, flags: &FleetFlags) -> Result<Self, String> {
        let server = |name: &str, admin: Admin| Server {
            name: name.to_owned(),
            admin: admin.with_timeout(ANSWER),
            is_learned: false,
        };
        let list = |addresses: &[HttpAddress]| -> Result<Vec<Server>, String> {
            addresses.iter().map(|address| Ok(server(address.as_str(), http.admin_at(address)?))).collect()
        };
        if !flags.is_given() {
            let brokers = vec![server(http.address(), http.admin()?)];
            return Ok(Self { brokers, lookups: Vec::new(), is_many: false });
        }
        let (brokers, lookups) = (list(&flags.nsqd_http_address)?, list(&flags.lookupd_http_address)?);
        Ok(Self { brokers, lookups, is_many: true })
    }

    /// The fleet, for people.
    pub(crate) fn name(&self) -> String {
        let names: Vec<_> = self.brokers.iter().chain(&self.lookups).map(|at| at.name.as_str()).collect();
        names.join(" ")
    }

    /// Asks every broker for its statistics.
    ///
    /// # Errors
    /// If none answers: the reasons.
    pub(crate) async fn look(&self, query: &[(&str, &str)]) -> Result<Look, String> {
        let mut look = Look::default();
        let mut servers = self.brokers.clone();
        servers.extend(self.learned(&mut look.failures).await);
        let pairs = [("format", "json"), ("include_clients", "false"), ("include_mem", "false")];
        let pairs: Vec<_> = pairs.iter().chain(query).map(|(k, v)| (k.to_string(), v.to_string())).collect();
        let pairs: Arc<[(String, String)]> = pairs.into();
        let answers = all(servers, |server| {
            let pairs = Arc::clone(&pairs);
            async move {
                let query: Vec<_> = pairs.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
                let stats: Result<Stats, String> = server.get("/stats", &query).await;
                (server.name, stats)
            }
        });
        for (name, stats) in answers.await {
            match stats {
                Ok(stats) => look.brokers.push((name, stats)),
                Err(error) => look.failures.push(error),
            }
        }
        look.brokers.sort_by(|a, b| a.0.cmp(&b.0));
        match look.brokers.is_empty() && !look.failures.is_empty() {
            true => Err(look.failures.join("; ")),
            false => Ok(look),
        }
    }

    /// The brokers that lookup servers name, but for those that flags name already.
    async fn learned(&self, failures: &mut Vec<String>) -> Vec<Server> {
        let mut names = BTreeSet::new();
        let answers = all(self.lookups.clone(), |server| async move { server.get("/nodes", &[]).await });
        for answer in answers.await {
            match answer {
                Ok(Nodes { producers }) => {
                    let producers = producers.unwrap_or_default();
                    names
                        .extend(producers.iter().map(|node| joined(&node.broadcast_address, node.http_port)));
                }
                Err(error) => failures.push(format!("lookup server {error}")),
            }
        }
        if !names.is_empty() {
            // One that is named by another address here is still the same.
            let infos = all(self.brokers.clone(), |server| async move { server.get("/info", &[]).await });
            for info in infos.await {
                let info: Info = info.unwrap_or_default();
                names.remove(&joined(&info.broadcast_address, info.http_port));
            }
        }
        let is_named = |name: &String| self.brokers.iter().any(|broker| broker.name == *name);
        let learned = |name: String| Server {
            admin: Admin::new(&name, None).with_timeout(ANSWER),
            name,
            is_learned: true,
        };
        names.into_iter().filter(|name| !is_named(name)).map(learned).collect()
    }
}

impl Server {
    async fn get<T: DeserializeOwned>(&self, path: &str, query: &[(&str, &str)]) -> Result<T, String> {
        let json = self.admin.get(path, query).await.map_err(|error| self.explain(&error))?;
        serde_json::from_slice(&json).map_err(|error| format!("{}{path}: {error}", self.name))
    }

    fn explain(&self, error: &AdminError) -> String {
        match error {
            AdminError::Refused { code, .. } if code == "UNAUTHORIZED" && self.is_learned => format!(
                "{}: it wants a token, which goes to no address that a lookup server names: name the broker with \
                 --nsqd-http-address",
                self.name
            ),
            _ => explain_http(&self.name, error),
        }
    }
}

/// `host:port`, with brackets around an IPv6 address.
fn joined(host: &str, port: i32) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// Asks each, a bounded number at a time.
pub(crate) async fn all<T, R, F>(servers: Vec<T>, ask: impl Fn(T) -> F) -> Vec<R>
where
    F: Future<Output = R> + Send + 'static,
    R: Send + 'static,
{
    let turns = Arc::new(Semaphore::new(AT_ONCE));
    let mut asking = JoinSet::new();
    for server in servers {
        let (turns, asked) = (Arc::clone(&turns), ask(server));
        asking.spawn(async move {
            // Never closed.
            let _turn = turns.acquire().await;
            asked.await
        });
    }
    asking.join_all().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_with_colons_has_brackets() {
        assert_eq!((joined("a", 1), joined("::1", 2)), ("a:1".to_owned(), "[::1]:2".to_owned()));
    }
}

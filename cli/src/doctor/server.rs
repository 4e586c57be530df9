//! A broker's HTTP API: its version, clock, memory and, over HTTPS, its certificate.

use std::collections::BTreeMap;
use std::io;

use jiff::Timestamp;
use mq_bench::broker_flags::{HttpAddress, HttpFlags};
use mq_net::transport::Transport;
use mq_net::transport::tls::ClientTls;
use mq_nsq::client::{Admin, AdminError};
use tokio::time::timeout;

use super::finding::{Finding, Grade};
use super::{ANSWER, certificate, checks, clock};
use crate::fleet::{FleetFlags, all};
use crate::stats::{Info, Metrics};

/// A broker that answers over HTTP.
#[derive(Clone)]
pub(super) struct Server {
    name: String,
    pub(super) admin: Admin,
    tls: Option<ClientTls>,
}

impl Server {
    /// The broker of `--http-address`.
    pub(super) fn of(http: &HttpFlags) -> Result<Self, String> {
        let (name, tls) = (http.address().to_owned(), http.tls(http.is_https())?);
        Ok(Self { name, admin: http.admin()?.with_timeout(ANSWER), tls })
    }

    /// A broker that a flag names beside it: with the same token and TLS.
    fn named(http: &HttpFlags, address: &HttpAddress) -> Result<Self, String> {
        let (name, tls) = (address.as_str().to_owned(), http.tls(address.is_https())?);
        Ok(Self { name, admin: http.admin_at(address)?.with_timeout(ANSWER), tls })
    }

    /// A broker that a lookup server names: it is shown no token.
    fn learned(name: String) -> Self {
        Self { admin: Admin::new(&name, None).with_timeout(ANSWER), name, tls: None }
    }

    pub(super) async fn info(&self) -> Result<Info, AdminError> {
        let json = self.admin.get("/info", &[]).await?;
        serde_json::from_slice(&json).map_err(|error| AdminError::NoAnswer(error.to_string()))
    }

    /// All about a broker that gave its `info`.
    pub(super) async fn findings(&self, info: &Info) -> Vec<Finding> {
        let (metrics, connected) = tokio::join!(Metrics::get(&self.admin), timeout(ANSWER, self.connect()));
        let mut findings = checks::version(info, &metrics, env!("CARGO_PKG_VERSION"));
        if let Ok(Ok(connection)) = connected {
            // The end of one that the broker has itself, the page says.
            let own = metrics.number("mq_tls_certificate_expiry_seconds");
            let expires = connection.peer_certificate_expires();
            let shown = expires.and_then(|at| certificate::judge(at, Timestamp::now()));
            let is_said = own.zip(expires).is_some_and(|(own, shown)| own as u64 == shown);
            findings.extend(shown.filter(|finding| finding.grade == Grade::Ok || !is_said));
            findings.extend(clock::check(connection).await);
        }
        findings.extend(checks::draining(&metrics));
        findings.extend(checks::room(&metrics));
        findings
    }

    async fn connect(&self) -> io::Result<Transport> {
        let connection = Transport::connect(&self.name).await?;
        match &self.tls {
            Some(tls) => tls.connect(connection, &self.name).await,
            None => Ok(connection),
        }
    }
}

/// The brokers of a fleet that answered, named by flags or by lookup servers: what is wrong with each, and
/// that the others are well.
pub(super) async fn of_fleet(
    http: &HttpFlags,
    flags: &FleetFlags,
    names: impl Iterator<Item = &String>,
) -> Result<Vec<Finding>, String> {
    let servers = names.map(|name| {
        let named = flags.nsqd_http_address.iter().find(|address| address.as_str() == name);
        named.map_or_else(|| Ok(Server::learned(name.clone())), |address| Server::named(http, address))
    });
    let looks = all(servers.collect::<Result<Vec<_>, _>>()?, async |server| {
        let findings = match server.info().await {
            Ok(info) => server.findings(&info).await,
            // It answered a moment ago: what the page says of it is known.
            Err(_) => Vec::new(),
        };
        (server.name, findings)
    });
    let by_name: BTreeMap<_, _> = looks.await.into_iter().collect();
    Ok(by_name.into_iter().flat_map(|(name, findings)| about(&name, findings)).collect())
}

/// Findings about one broker among others, each with its name; all that is well is one line.
fn about(name: &str, findings: Vec<Finding>) -> Vec<Finding> {
    let mut lines = vec![Finding::ok(format!("broker {name} answers"))];
    for finding in findings.into_iter().filter(|finding| finding.grade > Grade::Ok) {
        let what = format!("broker {name}: {}", finding.what);
        lines.push(Finding { what, node: Some(name.to_owned()), ..finding });
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_one_broker_among_others_what_is_wrong_is_said_with_its_name() {
        let findings = vec![Finding::ok("it is mq 1"), Finding::warn("its clock is off", "mend it")];
        let lines = about("a:1", findings);
        let whats: Vec<_> = lines.iter().map(|line| line.what.as_str()).collect();
        assert_eq!(whats, ["broker a:1 answers", "broker a:1: its clock is off"]);
        assert_eq!((lines[1].node.as_deref(), lines[1].grade), (Some("a:1"), Grade::Warn));
    }
}

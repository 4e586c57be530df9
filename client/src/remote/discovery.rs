//! Brokers that lookup servers name.

use std::sync::Arc;

use mq_nsq::client::{Admin, AdminError, ClientTls};
use serde::Deserialize;

use super::Tuning;
use crate::error::Error;
use crate::subscription::Failure;
use crate::url::HTTPS;

#[derive(Default, Deserialize)]
#[serde(default)]
struct Found {
    producers: Vec<Producer>,
}

#[derive(Deserialize)]
struct Producer {
    broadcast_address: String,
    tcp_port: u16,
}

/// The addresses of brokers, and what went wrong.
pub(super) struct Discovered {
    pub(super) addresses: Vec<String>,
    pub(super) failures: Vec<Failure>,
}

/// Asks every server for the brokers that have `topic`, or for all brokers; over `tls` where its address says
/// so.
pub(super) async fn discover(
    servers: &[String],
    topic: Option<&str>,
    tuning: &Tuning,
    tls: Option<&ClientTls>,
) -> Discovered {
    let token = tuning.lookup_token.as_ref().map(|token| &**token.expose());
    let mut discovered = Discovered { addresses: Vec::new(), failures: Vec::new() };
    for server in servers {
        let admin = match (server.strip_prefix(HTTPS), tls) {
            (Some(address), Some(tls)) => Admin::new(address, token).with_tls(tls.clone()),
            _ => Admin::new(server, token),
        };
        let admin = admin.with_timeout(tuning.lookup_timeout);
        let answer = match topic {
            Some(topic) => admin.get("/lookup", &[("topic", topic)]).await,
            None => admin.get("/nodes", &[]).await,
        };
        match answer.map_err(why).and_then(|answer| addresses(&answer)) {
            Ok(addresses) => discovered.addresses.extend(addresses),
            Err(None) => {}
            Err(Some(why)) => {
                let error = Error::Unreachable { why, broker: server.clone() };
                discovered.failures.push(Failure {
                    broker: Arc::from(server.as_str()),
                    message: None,
                    error,
                });
            }
        }
    }
    discovered.addresses.sort();
    discovered.addresses.dedup();
    discovered
}

/// `None` for a topic that the server does not have yet, which is no failure.
fn why(error: AdminError) -> Option<String> {
    match &error {
        AdminError::Refused { status: 404, code, .. } if code == "TOPIC_NOT_FOUND" => None,
        _ => Some(error.to_string()),
    }
}

fn addresses(answer: &[u8]) -> Result<Vec<String>, Option<String>> {
    let found: Found = serde_json::from_slice(answer)
        .map_err(|error| Some(format!("not a lookup server's answer: {error}")))?;
    let address = |Producer { broadcast_address, tcp_port }| match broadcast_address {
        ip6 if ip6.contains(':') => format!("[{ip6}]:{tcp_port}"),
        host => format!("{host}:{tcp_port}"),
    };
    Ok(found.producers.into_iter().map(address).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_gives_addresses_or_what_is_wrong_with_it() {
        let answer = br#"{"channels":[],"producers":[{"broadcast_address":"a","tcp_port":1,"version":"1"},
            {"broadcast_address":"::1","tcp_port":2}]}"#;
        assert_eq!(addresses(answer).unwrap(), ["a:1", "[::1]:2"]);
        for answer in [
            "",
            "[]x",
            r#"{"producers":[{"tcp_port":1}]}"#,
            r#"{"producers":[{"broadcast_address":"a","tcp_port":70000}]}"#,
        ] {
            assert!(addresses(answer.as_bytes()).is_err(), "{answer}");
        }
    }
}

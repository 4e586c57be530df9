//! The page's findings, for programs that print them.

use mq_net::http::Peer;

use crate::admin::Admin;
use crate::finding::Finding;
use crate::fleet::Key;
use crate::settings::{Credentials, Settings};
use crate::upstream::{Call, Room};

/// The state of brokers and lookup servers at one moment.
#[derive(Clone, Debug, Default)]
pub struct Assessment {
    /// All that is wrong, the most urgent first.
    pub findings: Vec<Finding>,
    /// Brokers that answered.
    pub brokers: Vec<String>,
    /// Lookup servers that answered.
    pub lookups: Vec<String>,
}

/// Looks at the servers of `settings` once. A token of theirs goes to those that they name, and no others.
pub async fn assess(settings: Settings) -> Assessment {
    let token = match &settings.credentials {
        Credentials::Own(token) => token.clone(),
        Credentials::Viewers => None,
    };
    let admin = Admin::new(settings);
    let call = Call {
        peer: Peer::default(),
        token,
        connect_timeout: admin.settings.connect_timeout,
        request_timeout: admin.settings.request_timeout,
        room: Room::default(),
    };
    let snapshot = admin.fleet.snapshot(&call, Key::default()).await;
    let brokers = snapshot.nodes.iter().filter(|node| node.error.is_none());
    let lookups = snapshot.lookups.iter().filter(|lookup| lookup.error.is_none());
    Assessment {
        findings: snapshot.findings.clone(),
        brokers: brokers.map(|node| node.id().to_owned()).collect(),
        lookups: lookups.map(|lookup| lookup.upstream.id.clone()).collect(),
    }
}

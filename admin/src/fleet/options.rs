//! Settings of brokers that ought to be the same on all: read once for each start of a broker, while nobody
//! waits for them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use parking_lot::Mutex;

use super::reading::all;
use crate::snapshot::{Node, Values};
use crate::upstream::{Call, Upstream};

/// Settings that are compared, by their names in a broker's file.
const COMPARED: [&str; 9] = [
    "durability",
    "max_msg_size",
    "max_body_size",
    "msg_timeout",
    "max_msg_timeout",
    "max_req_timeout",
    "max_rdy_count",
    "tls_required",
    "nsqlookupd_tcp_addresses",
];
/// Longest value that is kept.
const VALUE_CHARS_MAX: usize = 100;
/// Brokers that are remembered.
const BROKERS_MAX: usize = 1000;

/// Settings known of all brokers, by id, each with the start of which it is known.
#[derive(Default)]
pub(crate) struct Known(Mutex<HashMap<String, (u64, Values)>>);

impl Known {
    /// The settings of a broker as it runs now.
    pub(super) fn of(&self, node: &Node) -> Option<Values> {
        let known = self.0.lock();
        let (start, values) = known.get(node.id())?;
        (*start == node.info.start_time).then(|| Arc::clone(values))
    }

    /// Reads those of brokers that are not known.
    pub(super) async fn read(&self, nodes: Vec<(Upstream, u64)>, call: &Call) {
        let read = all(nodes, |(upstream, start)| {
            let call = call.clone();
            async move {
                let (mut values, mut link) = (BTreeMap::new(), upstream.link());
                for name in COMPARED {
                    let path = format!("/config/{name}");
                    let Ok(value) = link.ask(&call, &path, &[]).await else { continue };
                    let text = String::from_utf8_lossy(&value);
                    values.insert(
                        name,
                        text.chars().filter(|c| !c.is_control()).take(VALUE_CHARS_MAX).collect(),
                    );
                }
                drop(link);
                (upstream.id, start, Arc::new(values))
            }
        });
        let read = read.await;
        let mut known = self.0.lock();
        if known.len() + read.len() > BROKERS_MAX {
            known.clear();
        }
        known.extend(read.into_iter().map(|(id, start, values)| (id, (start, values))));
    }
}

//! Brokers' own descriptions, which stay until they are started anew.

use std::collections::HashMap;

use parking_lot::Mutex;

use crate::snapshot::Node;
use crate::upstream::answers::Info;

/// Brokers that are remembered.
const BROKERS_MAX: usize = 1000;

/// The descriptions, by the brokers' ids.
#[derive(Default)]
pub(super) struct Known(Mutex<HashMap<String, Info>>);

impl Known {
    /// The description of a broker, unless its statistics say that it was started since.
    pub(super) fn of(&self, node: &Node) -> Option<Info> {
        let known = self.0.lock();
        let is_same = |info: &&Info| {
            info.start_time > 0
                && (info.start_time, &info.version) == (node.info.start_time, &node.info.version)
        };
        known.get(node.id()).filter(is_same).cloned()
    }

    /// Keeps a broker's description.
    pub(super) fn note(&self, node: &Node, info: &Info) {
        let mut known = self.0.lock();
        if known.len() >= BROKERS_MAX && !known.contains_key(node.id()) {
            known.clear();
        }
        known.insert(node.id().to_owned(), info.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::Upstream;

    #[test]
    fn the_info_of_a_broker_counts_until_it_starts_anew() {
        let started = |start_time: u64| {
            let mut node = Node::new(Upstream::configured("a:1", None));
            node.info = Info { version: "1.3.0".to_owned(), start_time, ..Info::default() };
            node
        };
        let known = Known::default();
        assert!(known.of(&started(5)).is_none());
        known.note(&started(5), &Info { hostname: "h".to_owned(), ..started(5).info });
        assert_eq!(known.of(&started(5)).map(|info| info.hostname).as_deref(), Some("h"));
        assert!(known.of(&started(6)).is_none());
        known.note(&started(0), &started(0).info);
        assert!(known.of(&started(0)).is_none(), "a server that does not say when it started");
    }
}

//! The brokers that a subscription is to be connected to: those it was given, and those that lookup servers
//! name.

use std::collections::BTreeSet;
use std::sync::Arc;

/// Chooses among the addresses that lookup servers name.
pub(super) type Filter = Arc<dyn Fn(Vec<String>) -> Vec<String> + Send + Sync>;

/// Addresses of brokers and lookup servers. Bounded by what the program names and lookup servers answer.
#[derive(Default)]
pub(super) struct Roster {
    given: BTreeSet<String>,
    found: BTreeSet<String>,
    lookups: Vec<String>,
    filter: Option<Filter>,
    /// Raised by every change of the lookup servers or the filter.
    version: u64,
}

impl Roster {
    pub(super) fn new(given: &[String], lookups: &[String]) -> Self {
        Self { given: given.iter().cloned().collect(), lookups: lookups.to_vec(), ..Self::default() }
    }

    pub(super) fn addresses(&self) -> impl Iterator<Item = &String> {
        self.given.union(&self.found)
    }

    pub(super) fn contains(&self, address: &str) -> bool {
        self.given.contains(address) || self.found.contains(address)
    }

    /// Adds a broker, which stays when lookup servers name it no more. `false` if it is there.
    pub(super) fn add(&mut self, address: &str) -> bool {
        let is_new = !self.contains(address);
        self.given.insert(address.to_owned());
        is_new
    }

    /// Removes a broker, until a lookup server names it again. `false` if it is not there.
    pub(super) fn remove(&mut self, address: &str) -> bool {
        let was_given = self.given.remove(address);
        self.found.remove(address) || was_given
    }

    /// Replaces what lookup servers named before.
    pub(super) fn find(&mut self, found: Vec<String>) {
        self.found = found.into_iter().collect();
    }

    pub(super) fn lookups(&self) -> &[String] {
        &self.lookups
    }

    /// Adds a lookup server, if it is not there.
    pub(super) fn add_lookup(&mut self, address: &str) {
        if !self.lookups.iter().any(|known| known == address) {
            self.lookups.push(address.to_owned());
            self.version += 1;
        }
    }

    /// Removes a lookup server. `false` if it is not there.
    pub(super) fn remove_lookup(&mut self, address: &str) -> bool {
        let before = self.lookups.len();
        self.lookups.retain(|known| known != address);
        let is_removed = self.lookups.len() < before;
        self.version += u64::from(is_removed);
        is_removed
    }

    pub(super) fn filter(&self) -> Option<Filter> {
        self.filter.clone()
    }

    pub(super) fn set_filter(&mut self, filter: Filter) {
        self.filter = Some(filter);
        self.version += 1;
    }

    pub(super) fn version(&self) -> u64 {
        self.version
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_is_in_while_it_is_given_or_found() {
        let mut roster = Roster::new(&["a:1".to_owned()], &[]);
        assert!(!roster.add("a:1") && roster.add("b:1"));
        roster.find(vec!["b:1".to_owned(), "c:1".to_owned()]);
        assert_eq!(roster.addresses().collect::<Vec<_>>(), ["a:1", "b:1", "c:1"]);
        assert!(roster.remove("b:1") && !roster.contains("b:1") && !roster.remove("b:1"));
        roster.find(Vec::new());
        assert_eq!(roster.addresses().collect::<Vec<_>>(), ["a:1"]);
    }

    #[test]
    fn only_a_change_raises_the_version() {
        let mut roster = Roster::new(&[], &["l:1".to_owned()]);
        roster.add_lookup("l:1");
        assert_eq!(roster.version(), 0);
        assert!(!roster.remove_lookup("l:2") && roster.remove_lookup("l:1"));
        roster.add_lookup("l:2");
        assert_eq!((roster.version(), roster.lookups()), (2, &["l:2".to_owned()][..]));
    }
}

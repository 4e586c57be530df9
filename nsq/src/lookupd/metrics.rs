//! `/metrics`, in Prometheus's text form.

use std::fmt::Write;

use mq_net::directory::Directory;

/// The numbers of a lookup server.
pub(super) fn render(directory: &Directory, lookups: u64) -> String {
    let (producers, keys, registrations) = directory.with(mq_core::discovery::Registry::sizes);
    let mut out = String::new();
    let mut metric = |name: &str, kind: &str, help: &str, value: u64| {
        // A string takes all.
        let _ = write!(out, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n");
    };
    metric("mq_lookup_producers", "gauge", "Brokers that are connected.", count(producers));
    metric("mq_lookup_keys", "gauge", "Topics and channels that are known.", count(keys));
    let help = "Topics and channels of each broker, summed up.";
    metric("mq_lookup_registrations", "gauge", help, count(registrations));
    metric("mq_lookup_lookups_total", "counter", "Answers to /lookup.", lookups);
    out
}

fn count(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}

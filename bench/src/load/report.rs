//! The report: a table for people, JSON for machines.

use hdrhistogram::Histogram;
use mq_server::config::units::show_size;
use serde::Serialize;

use super::process::{Cpu, Memory};
use crate::Front;

/// Everything one call measured.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) workload: &'static str,
    pub(crate) address: String,
    pub(crate) phases: Vec<Phase>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) check: Option<Check>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) latency: Option<Latency>,
    /// The server's memory as a backlog grew and shrank.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) samples: Vec<Sample>,
}

/// A stretch of time in which one thing was done.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Phase {
    pub(crate) name: &'static str,
    pub(crate) seconds: f64,
    /// Messages that were acknowledged.
    pub(crate) published: u64,
    /// Messages that were consumed, counted once a channel.
    pub(crate) delivered: u64,
    /// Operations that the rate and the CPU refer to: messages, topics, connections.
    pub(crate) operations: u64,
    pub(crate) operations_per_second: f64,
    /// Bytes of bodies.
    pub(crate) bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) server: Option<Used>,
    /// CPU of this program.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) load: Option<Cpu>,
    /// CPU seconds of the machine that were neither the server's nor this program's: other programs', and
    /// the system's own, such as writing back the page cache.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) other_cpu_s: Option<f64>,
    /// The server's CPU while it was left alone; 100 is one processor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) server_cpu_percent: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) shares: Option<Shares>,
}

/// CPU and memory of the server in a phase.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Used {
    #[serde(flatten)]
    pub(crate) cpu: Cpu,
    pub(crate) cpu_s: f64,
    pub(crate) cpu_s_per_million: f64,
    /// Resident at the beginning.
    pub(crate) rss_before_bytes: u64,
    /// Resident at the end.
    pub(crate) rss_bytes: u64,
    /// Most since the server began.
    pub(crate) rss_peak_bytes: u64,
    /// Bytes read from files: `rchar` of proc_pid_io(5), which has no bytes received from sockets.
    pub(crate) read_bytes: u64,
}

/// Shares of a channel's consumers in its messages.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Shares {
    pub(crate) consumers: usize,
    pub(crate) smallest: u64,
    pub(crate) largest: u64,
}

/// Check of the messages: lost, duplicate, strange.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Check {
    /// Messages that did not come.
    pub(crate) lost: u64,
    /// Deliveries beyond the first.
    pub(crate) duplicates: u64,
    /// Deliveries that are not from this program, or not from this run where only those count.
    pub(crate) strangers: u64,
}

/// Microseconds from the intended time of sending to arrival.
#[derive(Debug, Serialize)]
pub(crate) struct Latency {
    pub(crate) messages: u64,
    pub(crate) p50_us: f64,
    pub(crate) p90_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) p999_us: f64,
    pub(crate) max_us: f64,
    /// Percentile and microseconds, for a plot.
    pub(crate) curve: Vec<(f64, f64)>,
}

/// The server's memory at a moment.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Sample {
    /// Messages that waited.
    pub(crate) waiting: u64,
    pub(crate) rss_bytes: u64,
}

impl Used {
    pub(crate) fn new(cpu: Cpu, before: Memory, after: Memory, read_bytes: u64, operations: u64) -> Self {
        let cpu_s = cpu.total_s();
        Self {
            cpu,
            cpu_s,
            cpu_s_per_million: cpu_s * 1e6 / operations.max(1) as f64,
            rss_before_bytes: before.now,
            rss_bytes: after.now,
            rss_peak_bytes: after.peak,
            read_bytes,
        }
    }
}

impl Latency {
    pub(crate) fn new(nanos: &Histogram<u64>) -> Self {
        let at = |quantile: f64| nanos.value_at_quantile(quantile) as f64 / 1e3;
        let curve = [0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.995, 0.999, 0.9995, 0.9999, 1.0];
        Self {
            messages: nanos.len(),
            p50_us: at(0.5),
            p90_us: at(0.9),
            p99_us: at(0.99),
            p999_us: at(0.999),
            max_us: at(1.0),
            curve: curve.map(|quantile| (quantile, at(quantile))).to_vec(),
        }
    }
}

impl Report {
    /// A report without check and latency.
    pub(crate) fn new(workload: &'static str, address: String, phases: Vec<Phase>) -> Self {
        Self { workload, address, phases, check: None, latency: None, samples: Vec::new() }
    }

    /// The report for people.
    pub(crate) fn show(&self, front: Front<'_>) -> String {
        let has_server = self.phases.iter().any(|phase| phase.server.is_some());
        let mut head = vec!["PHASE", "COUNT", "SECONDS", "PER SECOND", "MB/S"];
        if has_server {
            head.extend(["CPU USER", "CPU SYS", "CPU S/M", "RSS", "RSS PEAK"]);
        }
        let mut rows = vec![head.into_iter().map(str::to_owned).collect()];
        for phase in &self.phases {
            let mut row = vec![
                phase.name.to_owned(),
                phase.operations.to_string(),
                format!("{:.3}", phase.seconds),
                format!("{:.0}", phase.operations_per_second),
                format!("{:.1}", phase.bytes as f64 / 1e6 / phase.seconds.max(1e-9)),
            ];
            if let Some(used) = &phase.server {
                row.push(format!("{:.2}", used.cpu.user_s));
                row.push(format!("{:.2}", used.cpu.system_s));
                row.push(format!("{:.3}", used.cpu_s_per_million));
                row.push(show_size(used.rss_bytes));
                row.push(show_size(used.rss_peak_bytes));
            }
            rows.push(row);
        }
        let mut out = (front.table)(&rows);
        if let Some(Latency { p50_us, p90_us, p99_us, p999_us, max_us, messages, .. }) = &self.latency {
            out.push_str(&format!(
                "latency of {messages} messages in us: p50 {p50_us:.0}, p90 {p90_us:.0}, p99 {p99_us:.0}, p99.9 {p999_us:.0}, \
                 max {max_us:.0}\n"
            ));
        }
        for percent in self.phases.iter().filter_map(|phase| phase.server_cpu_percent) {
            out.push_str(&format!("CPU while idle: {percent:.2}% of a processor\n"));
        }
        for Shares { consumers, smallest, largest } in self.phases.iter().filter_map(|phase| phase.shares) {
            out.push_str(&format!("shares of {consumers} consumers: {smallest} to {largest} messages\n"));
        }
        if let Some(Check { lost, duplicates, strangers }) = self.check {
            out.push_str(&format!("lost {lost}, duplicates {duplicates}"));
            if strangers > 0 {
                out.push_str(&format!(", not of this run {strangers}"));
            }
            out.push('\n');
        }
        out
    }
}

//! The workloads, and what is asked of them.

use super::server::{Kind, ServerOptions};
use super::trial::Trial;
use super::workloads::{
    backlog, batches, beside_a_stuck_channel, beside_idle_topics, both, burst, consume, deferred, drain,
    go_nsq, idle, latency, latency_in_drain, many_topics, open, publish, retries, ring, sync,
};
use Kind::{Flush, Memory, Nsqd, Null, Sync};

/// A workload.
pub(super) struct Row {
    /// Name of the row for `--only`.
    pub(super) key: &'static str,
    pub(super) title: &'static str,
    pub(super) servers: &'static [Kind],
    pub(super) options: ServerOptions,
    pub(super) run: fn(&mut Trial<'_>) -> Result<(), String>,
    pub(super) bars: &'static [Bar],
    /// The metrics that are shown, the first in plots too.
    pub(super) metrics: &'static [&'static str],
    /// It takes so long that it runs in the first round only.
    pub(super) once: bool,
}

/// Bound of a metric at a level.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bar {
    pub(super) kind: Kind,
    pub(super) metric: &'static str,
    pub(super) limit: Limit,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Limit {
    /// At most so many times what nsqd needs.
    OfNsqd(f64),
    /// At least so many times what nsqd does.
    TimesNsqd(f64),
    /// At most so many times what the null server needs.
    OfNull(f64),
    /// At most so many times what it needs itself for another workload.
    OfRow(&'static str, f64),
    /// At least so many times what it does itself of another workload.
    TimesRow(&'static str, f64),
    /// At most that.
    AtMost(f64),
    /// At least that.
    AtLeast(f64),
}

const fn bar(kind: Kind, metric: &'static str, limit: Limit) -> Bar {
    Bar { kind, metric, limit }
}

/// Options that leave a server's defaults.
const DEFAULTS: ServerOptions =
    ServerOptions { mem_queue_size: None, memory_limit: None, message_bytes: None, tls: false };

/// Keeps nsqd in memory: more than is published.
const fn in_memory(messages: u64) -> ServerOptions {
    ServerOptions { mem_queue_size: Some(messages), memory_limit: Some("4GiB"), ..DEFAULTS }
}

/// The same, of a server that can encrypt.
const fn in_memory_by_tls(messages: u64) -> ServerOptions {
    ServerOptions { tls: true, ..in_memory(messages) }
}

const OURS: &[Kind] = &[Nsqd, Memory, Flush];
const ALL: &[Kind] = &[Nsqd, Null, Memory, Flush];
/// Four times what is stored for each byte of a body: a message of 200 bytes takes 223 in a frame of its own,
/// and 206 in a batch.
const READ_DEFERRED: f64 = 4.0 * 223.0 / 200.0;
const READ_BATCHED: f64 = 4.0 * 206.0 / 200.0;
const LATE: &[&str] = &["late_p50", "late_p99", "late_max", "read", "cpu"];
const CPU: &[&str] = &["cpu", "rate", "cpu_system", "cpu_other"];

/// Every workload, in the order they run in.
pub(super) const ROWS: &[Row] = &[
    Row {
        key: "pub",
        title: "PUB, 1 connection, 100 in flight",
        servers: ALL,
        options: in_memory(1_100_000),
        run: |trial| publish(trial, 1_000_000, ""),
        bars: &[bar(Memory, "cpu", Limit::OfNsqd(0.6 / 4.5)), bar(Flush, "cpu", Limit::OfNsqd(0.75 / 4.5))],
        metrics: CPU,
        once: false,
    },
    Row {
        key: "pub64",
        title: "PUB, 64 connections, 1 in flight each",
        servers: ALL,
        options: in_memory(1_100_000),
        run: |trial| publish(trial, 500_000, "--connections 64 --window 1"),
        bars: &[bar(Memory, "cpu", Limit::OfNull(1.3)), bar(Flush, "cpu", Limit::OfNsqd(1.0))],
        metrics: CPU,
        once: false,
    },
    Row {
        key: "mpub200",
        title: "MPUB of 200, 1 connection, 8 in flight",
        servers: ALL,
        options: in_memory(4_100_000),
        run: |trial| publish(trial, 4_000_000, "--batch 200 --window 8"),
        bars: &[
            bar(Memory, "cpu", Limit::OfNsqd(0.14 / 0.48)),
            bar(Flush, "cpu", Limit::OfNsqd(0.22 / 0.48)),
        ],
        metrics: CPU,
        once: false,
    },
    Row {
        key: "mpub20",
        title: "MPUB of 20, 2 connections, 8 in flight",
        servers: ALL,
        options: in_memory(4_100_000),
        run: |trial| publish(trial, 4_000_000, "--batch 20 --window 8 --connections 2"),
        bars: &[bar(Memory, "cpu", Limit::OfNsqd(0.2 / 0.76)), bar(Flush, "cpu", Limit::OfNsqd(0.3 / 0.76))],
        metrics: CPU,
        once: false,
    },
    Row {
        key: "consume",
        title: "consume from memory, RDY 2500, one FIN each",
        servers: ALL,
        options: in_memory(2_100_000),
        run: |trial| consume(trial, 2_000_000, ""),
        bars: &[
            bar(Memory, "cpu", Limit::OfNsqd(0.33 / 1.67)),
            bar(Flush, "cpu", Limit::OfNsqd(0.33 / 1.67)),
        ],
        metrics: CPU,
        once: false,
    },
    Row {
        key: "rdy1",
        title: "consume, RDY 1, 2 connections",
        servers: ALL,
        options: in_memory(400_000),
        run: |trial| consume(trial, 300_000, "--rdy 1 --consumers 2"),
        bars: &[bar(Memory, "cpu", Limit::OfNull(1.3)), bar(Flush, "cpu", Limit::OfNull(1.3))],
        metrics: CPU,
        once: false,
    },
    Row {
        key: "rdy1x64",
        title: "consume, RDY 1, 64 connections",
        servers: ALL,
        options: in_memory(400_000),
        run: |trial| consume(trial, 300_000, "--rdy 1 --consumers 64"),
        bars: &[bar(Memory, "cpu", Limit::OfNull(1.3)), bar(Flush, "cpu", Limit::OfNull(1.3))],
        metrics: CPU,
        once: false,
    },
    Row {
        key: "both",
        title: "publish (MPUB of 20) and consume at once",
        servers: OURS,
        options: in_memory(4_100_000),
        run: |trial| both(trial, 4_000_000, "--batch 20 --window 8 --connections 2"),
        bars: &[
            bar(Memory, "cpu", Limit::OfNsqd(0.5 / 2.5)),
            bar(Memory, "rate", Limit::TimesNsqd(1.7 / 0.69)),
            bar(Flush, "cpu", Limit::OfNsqd(0.6 / 2.5)),
            bar(Flush, "rate", Limit::TimesNsqd(1.5 / 0.69)),
        ],
        metrics: CPU,
        once: false,
    },
    Row {
        key: "fanout4",
        title: "1 topic, 4 channels, MPUB of 200, per delivery",
        servers: OURS,
        options: in_memory(1_100_000),
        run: |trial| both(trial, 1_000_000, "--batch 200 --window 8 --channels 4"),
        bars: &[bar(Memory, "cpu", Limit::OfNsqd(0.2)), bar(Flush, "cpu", Limit::OfNsqd(0.2))],
        metrics: CPU,
        once: false,
    },
    Row {
        key: "fanout16",
        title: "1 topic, 16 channels, MPUB of 200, per delivery",
        servers: OURS,
        options: in_memory(400_000),
        run: |trial| both(trial, 300_000, "--batch 200 --window 8 --channels 16"),
        bars: &[bar(Memory, "cpu", Limit::OfNsqd(0.2)), bar(Flush, "cpu", Limit::OfNsqd(0.2))],
        metrics: CPU,
        once: false,
    },
    Row {
        key: "backlog",
        title: "backlog far beyond memory: fill, then drain, in all",
        servers: OURS,
        options: ServerOptions { memory_limit: Some("16MiB"), ..DEFAULTS },
        run: |trial| backlog(trial, 8_000_000, "--batch 200 --window 8 --patience 60s"),
        bars: &[bar(Memory, "cpu", Limit::OfNsqd(0.8 / 5.2)), bar(Flush, "cpu", Limit::OfNsqd(0.8 / 5.2))],
        metrics: CPU,
        once: false,
    },
    Row {
        key: "drain",
        title: "drain a 2 GB backlog of 1 KiB messages, page cache warm",
        servers: OURS,
        options: DEFAULTS,
        run: |trial| drain(trial, false),
        bars: &[bar(Memory, "rate", Limit::TimesNsqd(4.0)), bar(Flush, "rate", Limit::TimesNsqd(4.0))],
        metrics: &["rate", "cpu", "cpu_system", "cpu_other"],
        once: false,
    },
    Row {
        key: "drain-cold",
        title: "the same, page cache cold",
        servers: OURS,
        options: DEFAULTS,
        run: |trial| drain(trial, true),
        bars: &[],
        metrics: &["rate", "cpu", "cpu_system", "cpu_other"],
        once: false,
    },
    Row {
        key: "topics1000",
        title: "1,000 topics, published round robin, then consumed",
        servers: OURS,
        options: in_memory(2_000),
        run: many_topics,
        bars: &[bar(Memory, "cpu", Limit::OfNsqd(0.2)), bar(Flush, "cpu", Limit::OfNsqd(0.25))],
        metrics: CPU,
        once: false,
    },
    Row {
        key: "ring",
        title: "memory for 1 M messages in the ring, `--memory-limit` 256 MiB",
        servers: OURS,
        options: ServerOptions { mem_queue_size: Some(1_100_000), memory_limit: Some("256MiB"), ..DEFAULTS },
        run: ring,
        bars: &[bar(Memory, "rss", Limit::AtMost(260.0))],
        metrics: &["rss"],
        once: false,
    },
    Row {
        key: "burst",
        title: "memory 5 s after 1 M messages were published and consumed",
        servers: OURS,
        options: in_memory(1_100_000),
        run: burst,
        bars: &[bar(Memory, "rss", Limit::AtMost(60.0)), bar(Flush, "rss", Limit::AtMost(60.0))],
        metrics: &["rss", "rss_burst"],
        once: false,
    },
    Row {
        key: "mpub200-idle",
        title: "MPUB of 200, 1 connection, 8 in flight, beside 10,000 idle topics",
        servers: &[Memory, Flush],
        options: in_memory(4_100_000),
        run: beside_idle_topics,
        bars: &[
            bar(Memory, "cpu", Limit::OfRow("mpub200", 1.15)),
            bar(Flush, "cpu", Limit::OfRow("mpub200", 1.15)),
        ],
        metrics: CPU,
        once: false,
    },
    Row {
        key: "both-stuck",
        title: "publish (MPUB of 20) and consume at once, beside a channel nobody reads",
        servers: OURS,
        options: in_memory(4_100_000),
        run: beside_a_stuck_channel,
        bars: &[
            bar(Memory, "rate", Limit::TimesRow("both", 0.8)),
            bar(Flush, "rate", Limit::TimesRow("both", 0.8)),
        ],
        metrics: CPU,
        once: false,
    },
    Row {
        key: "topics10000",
        title: "10,000 topics with a channel",
        servers: OURS,
        options: DEFAULTS,
        run: |trial| {
            let count = trial.scaled(10_000);
            idle(trial, &format!("topics --count {count}"))
        },
        bars: &[
            bar(Memory, "rss", Limit::AtMost(40.0)),
            bar(Memory, "seconds", Limit::AtMost(2.0)),
            bar(Memory, "idle", Limit::AtMost(0.2)),
            bar(Flush, "rss", Limit::AtMost(40.0)),
            bar(Flush, "seconds", Limit::AtMost(2.0)),
            bar(Flush, "idle", Limit::AtMost(0.2)),
        ],
        metrics: &["rss", "seconds", "idle"],
        once: true,
    },
    Row {
        key: "connections",
        title: "5,000 idle subscribed connections",
        servers: OURS,
        options: DEFAULTS,
        run: |trial| {
            let count = trial.scaled(5_000);
            idle(trial, &format!("connections --count {count}"))
        },
        bars: &[bar(Memory, "rss", Limit::AtMost(60.0)), bar(Flush, "rss", Limit::AtMost(60.0))],
        metrics: &["rss", "idle"],
        once: false,
    },
    Row {
        key: "open",
        title: "open a 2 GB backlog after kill -9, page cache warm",
        servers: &[Nsqd, Flush],
        options: DEFAULTS,
        run: open,
        bars: &[bar(Flush, "open", Limit::AtMost(100.0))],
        metrics: &["open"],
        once: false,
    },
    Row {
        key: "latency1000",
        title: "latency at 1,000/s, default output buffering",
        servers: OURS,
        options: DEFAULTS,
        run: |trial| latency(trial, "--rate 1000"),
        bars: &[
            bar(Memory, "p50", Limit::AtMost(100.0)),
            bar(Memory, "p99", Limit::AtMost(500.0)),
            bar(Flush, "p50", Limit::AtMost(100.0)),
            bar(Flush, "p99", Limit::AtMost(500.0)),
        ],
        metrics: &["p50", "p99", "p999", "latency_max", "cpu"],
        once: false,
    },
    Row {
        key: "latency10000",
        title: "latency at 10,000/s, output buffering off",
        servers: OURS,
        options: DEFAULTS,
        run: |trial| latency(trial, "--rate 10000 --output-buffer-size -1 --output-buffer-timeout -1"),
        bars: &[
            bar(Memory, "p50", Limit::OfNsqd(1.2)),
            bar(Memory, "p99", Limit::OfNsqd(1.5)),
            bar(Flush, "p50", Limit::OfNsqd(2.0)),
        ],
        metrics: &["p50", "p99", "p999", "latency_max", "cpu"],
        once: false,
    },
    Row {
        key: "gonsq1000",
        title: "go-nsq on both ends at 1,000 messages a second",
        servers: OURS,
        options: in_memory(200_000),
        run: |trial| go_nsq(trial, 1_000),
        bars: &[bar(Memory, "cpu", Limit::OfNsqd(0.5)), bar(Flush, "cpu", Limit::OfNsqd(0.5))],
        metrics: &["cpu", "cpu_system", "cpu_other"],
        once: false,
    },
    Row {
        key: "gonsq10000",
        title: "go-nsq on both ends at 10,000 messages a second",
        servers: OURS,
        options: in_memory(200_000),
        run: |trial| go_nsq(trial, 10_000),
        bars: &[bar(Memory, "cpu", Limit::OfNsqd(0.5)), bar(Flush, "cpu", Limit::OfNsqd(0.5))],
        metrics: &["cpu", "cpu_system", "cpu_other"],
        once: false,
    },
    Row {
        key: "sync",
        title: "`sync`: 64 connections, 1 in flight",
        servers: &[Sync],
        options: DEFAULTS,
        run: sync,
        bars: &[bar(Sync, "of_fdatasync", Limit::AtLeast(5.0))],
        metrics: &["rate", "fdatasync", "of_fdatasync", "cpu"],
        once: false,
    },
    Row {
        key: "size10k",
        title: "10 KiB messages, published and consumed at once",
        servers: OURS,
        options: in_memory(300_000),
        run: |trial| both(trial, 200_000, "--size 10KiB --window 20"),
        bars: &[],
        metrics: CPU,
        once: false,
    },
    Row {
        key: "size1m",
        title: "1 MiB messages, published and consumed at once",
        servers: OURS,
        options: in_memory(3_000),
        run: |trial| both(trial, 2_000, "--size 1MiB --window 4 --rdy 8"),
        bars: &[],
        metrics: CPU,
        once: false,
    },
    Row {
        key: "mpub20-tls",
        title: "MPUB of 20, 2 connections, 8 in flight, over TLS",
        servers: OURS,
        options: in_memory_by_tls(4_100_000),
        run: |trial| publish(trial, 4_000_000, "--batch 20 --window 8 --connections 2 --tls-insecure"),
        bars: &[],
        metrics: &["rate", "cpu", "cpu_system", "cpu_other"],
        once: false,
    },
    Row {
        key: "consume-tls",
        title: "consume from memory, RDY 2500, one FIN each, over TLS",
        servers: OURS,
        options: in_memory_by_tls(2_100_000),
        run: |trial| consume(trial, 2_000_000, "--tls-insecure"),
        bars: &[],
        metrics: &["rate", "cpu", "cpu_system", "cpu_other"],
        once: false,
    },
    Row {
        key: "mpub20-snappy",
        title: "MPUB of 20, 2 connections, 8 in flight, with snappy",
        servers: OURS,
        options: in_memory(4_100_000),
        run: |trial| publish(trial, 4_000_000, "--batch 20 --window 8 --connections 2 --snappy"),
        bars: &[],
        metrics: &["rate", "cpu", "cpu_system", "cpu_other"],
        once: false,
    },
    Row {
        key: "consume-snappy",
        title: "consume from memory, RDY 2500, one FIN each, with snappy",
        servers: OURS,
        options: in_memory(2_100_000),
        run: |trial| consume(trial, 2_000_000, "--snappy"),
        bars: &[],
        metrics: &["rate", "cpu", "cpu_system", "cpu_other"],
        once: false,
    },
    Row {
        key: "http",
        title: "HTTP `/pub`, 1 connection, 1 request at a time each",
        servers: OURS,
        options: in_memory(300_000),
        run: |trial| publish(trial, 200_000, "--connections 1 --http $HTTP"),
        bars: &[],
        metrics: &["rate", "cpu", "cpu_system", "cpu_other"],
        once: false,
    },
    Row {
        key: "http64",
        title: "HTTP `/pub`, 64 connections, 1 request at a time each",
        servers: OURS,
        options: in_memory(300_000),
        run: |trial| publish(trial, 200_000, "--connections 64 --http $HTTP"),
        bars: &[],
        metrics: &["rate", "cpu", "cpu_system", "cpu_other"],
        once: false,
    },
    Row {
        key: "consumers100",
        title: "100 consumers on one channel, RDY 100",
        servers: OURS,
        options: in_memory(1_100_000),
        run: |trial| consume(trial, 1_000_000, "--consumers 100 --rdy 100"),
        bars: &[],
        metrics: &["shares", "cpu", "rate"],
        once: false,
    },
    Row {
        key: "deferred",
        title: "1 M messages with random delays over 60 s, after a kill",
        servers: &[Flush],
        options: DEFAULTS,
        run: deferred,
        bars: &[
            bar(Flush, "late_p99", Limit::AtMost(2_000.0)),
            bar(Flush, "read", Limit::AtMost(READ_DEFERRED)),
        ],
        metrics: LATE,
        once: true,
    },
    Row {
        key: "retries",
        title: "1 M messages after a kill, each requeued once with a random delay over 60 s",
        servers: &[Flush],
        options: DEFAULTS,
        run: retries,
        bars: &[
            bar(Flush, "late_p99", Limit::AtMost(2_000.0)),
            bar(Flush, "read", Limit::AtMost(READ_BATCHED)),
        ],
        metrics: LATE,
        once: true,
    },
    Row {
        key: "latency-drain",
        title: "latency at 1,000/s of one topic while the backlog of another drains",
        servers: OURS,
        options: DEFAULTS,
        run: latency_in_drain,
        bars: &[],
        metrics: &["p999", "p50", "p99", "latency_max"],
        once: false,
    },
    Row {
        key: "batches",
        title: "throughput by batch (the plot)",
        servers: ALL,
        options: in_memory(2_100_000),
        run: batches,
        bars: &[],
        metrics: &[],
        once: true,
    },
];

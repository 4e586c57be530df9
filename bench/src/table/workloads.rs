//! Workloads of the table.

use serde_json::Value;

use super::server::Kind::Null;
use super::trial::{Trial, fdatasync_rate, forget_files};

/// The phase of a report.
fn phase(report: &Value, at: usize) -> &Value {
    &report["phases"][at]
}

pub(super) fn publish(trial: &mut Trial<'_>, messages: u64, args: &str) -> Result<(), String> {
    let messages = trial.scaled(messages);
    let report = trial.bench(&format!("publish -n {messages} {args}"))?;
    trial.note(&report, 0);
    Ok(())
}

/// Publishes to a channel and then consumes with `args`; the figures are those of consuming.
pub(super) fn consume(trial: &mut Trial<'_>, messages: u64, args: &str) -> Result<(), String> {
    let messages = trial.scaled(messages);
    if trial.kind != Null {
        trial.bench(&format!("publish -n {messages} --batch 200 --window 8 --channel bench"))?;
    }
    let report = trial.bench(&format!("consume -n {messages} {args}"))?;
    trial.note(&report, 0);
    if let (Some(largest), Some(smallest)) =
        (phase(&report, 0)["shares"]["largest"].as_f64(), phase(&report, 0)["shares"]["smallest"].as_f64())
    {
        trial.figures.insert("shares", largest / smallest.max(1.0));
    }
    Ok(())
}

pub(super) fn both(trial: &mut Trial<'_>, messages: u64, args: &str) -> Result<(), String> {
    let messages = trial.scaled(messages);
    let report = trial.bench(&format!("both -n {messages} {args}"))?;
    trial.note(&report, 0);
    Ok(())
}

/// Fills and drains; memory by what waits is kept for the plot.
pub(super) fn backlog(trial: &mut Trial<'_>, messages: u64, args: &str) -> Result<(), String> {
    let messages = trial.scaled(messages);
    let report = trial.bench(&format!("backlog -n {messages} {args}"))?;
    trial.note_all(&[phase(&report, 0), phase(&report, 1)], messages as f64);
    let samples = report["samples"].as_array().into_iter().flatten();
    let points = samples
        .filter_map(|sample| Some((sample["waiting"].as_f64()?, sample["rss_bytes"].as_f64()? / 1e6)))
        .collect();
    trial.curves.insert("memory", points);
    Ok(())
}

/// Fills with messages of 1 KiB, then measures only the drain.
pub(super) fn drain(trial: &mut Trial<'_>, cold: bool) -> Result<(), String> {
    let messages = trial.scaled(2_000_000);
    trial.bench(&format!("publish -n {messages} --size 1KiB --batch 200 --window 8 --channel bench"))?;
    if cold && !forget_files() {
        return Err("only an administrator can empty the page cache".to_owned());
    }
    let report = trial.bench(&format!("consume -n {messages} --patience 60s"))?;
    trial.note(&report, 0);
    Ok(())
}

pub(super) fn latency(trial: &mut Trial<'_>, args: &str) -> Result<(), String> {
    let seconds = if trial.quick { 3 } else { 15 };
    let report = trial.bench(&format!("latency --duration {seconds}s -n 100000000 {args}"))?;
    trial.note(&report, 0);
    trial.note_latency(&report);
    Ok(())
}

/// go-nsq on both ends.
pub(super) fn go_nsq(trial: &mut Trial<'_>, rate: u64) -> Result<(), String> {
    let seconds = if trial.quick { 3 } else { 15 };
    let report = trial.go_load(&format!("--rate {rate} --seconds {seconds}"))?;
    trial.note(&report, 0);
    Ok(())
}

/// Messages of another topic while the backlog of one is drained.
pub(super) fn latency_in_drain(trial: &mut Trial<'_>) -> Result<(), String> {
    let messages = trial.scaled(4_000_000);
    trial.bench(&format!("publish -n {messages} --size 1KiB --batch 200 --window 8 --channel bench"))?;
    let drain = trial.start(&format!("consume -n {messages} --patience 60s"))?;
    let report =
        trial.bench("latency --topic other --rate 1000 --warm-up 100ms --duration 2s -n 100000000")?;
    drain.finish()?;
    trial.note_latency(&report);
    Ok(())
}

/// `operations` of a thing that then does nothing.
pub(super) fn idle(trial: &mut Trial<'_>, args: &str) -> Result<(), String> {
    let seconds = if trial.quick { 1 } else { 10 };
    let report = trial.bench(&format!("{args} --idle {seconds}s"))?;
    let mut note = |name, value: &Value, unit: f64| {
        if let Some(value) = value.as_f64() {
            trial.figures.insert(name, value / unit);
        }
    };
    note("seconds", &phase(&report, 0)["seconds"], 1.0);
    note("rss", &phase(&report, 1)["server"]["rss_bytes"], 1e6);
    note("idle", &phase(&report, 1)["server_cpu_percent"], 1.0);
    Ok(())
}

/// A backlog of 2 GB, a kill, and how long until the server listens again.
pub(super) fn open(trial: &mut Trial<'_>) -> Result<(), String> {
    let messages = trial.scaled(2_000_000);
    trial.bench(&format!("publish -n {messages} --size 1KiB --batch 200 --window 8 --channel bench"))?;
    trial.restart()?;
    trial.figures.insert("open", trial.server.opened.as_secs_f64() * 1e3);
    Ok(())
}

/// Messages with random delays over a minute, a kill, and how late they come.
pub(super) fn deferred(trial: &mut Trial<'_>) -> Result<(), String> {
    let messages = trial.scaled(1_000_000);
    let stored = trial.bench(&format!("defer -n {messages}"))?;
    trial.restart()?;
    let report = trial.bench(&format!("due -n {messages}"))?;
    note_due(trial, &report, phase(&stored, 0)["bytes"].as_f64());
    Ok(())
}

/// A backlog, a kill, and each message requeued once with a random delay of up to a minute.
pub(super) fn retries(trial: &mut Trial<'_>) -> Result<(), String> {
    let messages = trial.scaled(1_000_000);
    let stored = trial.bench(&format!("publish -n {messages} --batch 200 --window 8 --channel bench"))?;
    trial.restart()?;
    let report = trial.bench(&format!("due -n {messages} --requeue 60s"))?;
    note_due(trial, &report, phase(&stored, 0)["bytes"].as_f64());
    Ok(())
}

/// Notes how late messages came, and what was read for each byte of the `stored` bodies.
fn note_due(trial: &mut Trial<'_>, report: &Value, stored: Option<f64>) {
    trial.note(report, 0);
    for (name, key) in [("late_p50", "p50_us"), ("late_p99", "p99_us"), ("late_max", "max_us")] {
        if let Some(value) = report["latency"][key].as_f64() {
            trial.figures.insert(name, value / 1e3);
        }
    }
    if let (Some(read), Some(stored)) = (phase(report, 0)["server"]["read_bytes"].as_f64(), stored) {
        trial.figures.insert("read", read / stored.max(1.0));
    }
}

pub(super) fn ring(trial: &mut Trial<'_>) -> Result<(), String> {
    let messages = trial.scaled(1_000_000);
    let report = trial.bench(&format!("publish -n {messages} --batch 200 --window 8"))?;
    if let Some(bytes) = phase(&report, 0)["server"]["rss_bytes"].as_f64() {
        trial.figures.insert("rss", bytes / 1e6);
    }
    Ok(())
}

/// MPUB of 200 beside topics that are not in use.
pub(super) fn beside_idle_topics(trial: &mut Trial<'_>) -> Result<(), String> {
    let count = trial.scaled(10_000);
    trial.bench(&format!("topics --topic idle --count {count} --connections 4 --idle 0s"))?;
    publish(trial, 4_000_000, "--batch 200 --window 8")
}

/// Publishes and consumes beside a channel that nobody reads.
pub(super) fn beside_a_stuck_channel(trial: &mut Trial<'_>) -> Result<(), String> {
    trial.bench("publish -n 1 --channel stuck")?;
    both(trial, 4_000_000, "--batch 20 --window 8 --connections 2")
}

/// Memory once a burst is published, consumed and a few seconds ago.
pub(super) fn burst(trial: &mut Trial<'_>) -> Result<(), String> {
    let messages = trial.scaled(1_000_000);
    let filled = trial.bench(&format!("publish -n {messages} --batch 200 --window 8 --channel bench"))?;
    trial.bench(&format!("consume -n {messages}"))?;
    let after = trial.bench("topics --topic after --count 1 --idle 5s")?;
    for (name, phase) in [("rss_burst", phase(&filled, 0)), ("rss", phase(&after, 1))] {
        if let Some(bytes) = phase["server"]["rss_bytes"].as_f64() {
            trial.figures.insert(name, bytes / 1e6);
        }
    }
    Ok(())
}

pub(super) fn many_topics(trial: &mut Trial<'_>) -> Result<(), String> {
    let messages = trial.scaled(1_000_000);
    let filled = trial.bench(&format!("publish -n {messages} --topics 1000 --channel bench"))?;
    let drained = trial.bench(&format!("consume -n {messages} --topics 1000"))?;
    trial.note_all(&[phase(&filled, 0), phase(&drained, 0)], messages as f64);
    Ok(())
}

/// Level `sync`, against a loop of one write and fdatasync for each record on the same disk.
pub(super) fn sync(trial: &mut Trial<'_>) -> Result<(), String> {
    let messages = trial.scaled(400_000);
    let loop_rate = fdatasync_rate(trial.programs, &trial.folder, trial.scaled(20_000))?;
    let report = trial.bench(&format!("publish -n {messages} --connections 64 --window 1"))?;
    trial.note(&report, 0);
    if let Some(rate) = trial.figures.get("rate").copied() {
        trial.figures.insert("fdatasync", loop_rate);
        trial.figures.insert("of_fdatasync", rate / loop_rate);
    }
    Ok(())
}

/// One batch size after the other, for the plot.
pub(super) fn batches(trial: &mut Trial<'_>) -> Result<(), String> {
    let mut points = Vec::new();
    for batch in [1, 2, 5, 10, 20, 50, 100, 200, 500] {
        let messages = trial.scaled(if batch < 10 { 400_000 } else { 2_000_000 });
        let report =
            trial.bench(&format!("publish -n {messages} --topic batch{batch} --batch {batch} --window 8"))?;
        points.push((f64::from(batch), phase(&report, 0)["operations_per_second"].as_f64().unwrap_or(0.0)));
    }
    trial.curves.insert("batches", points);
    Ok(())
}

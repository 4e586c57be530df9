//! `docs/benchmarks.md`: everything that was measured, as a page.

use std::fmt::Write;

use super::results::{Results, Spread};
use super::rows::{Bar, Limit, Row};
use super::server::Kind;

const COLUMNS: [Kind; 5] = [Kind::Nsqd, Kind::Null, Kind::Memory, Kind::Flush, Kind::Sync];

/// The page. `machine` are lines about where it was measured, `command` what measured it; `quick` where it
/// measured too little to judge.
pub(super) fn write(
    results: &Results,
    rows: &[&Row],
    machine: &[String],
    command: &str,
    quick: bool,
) -> String {
    let mut out = String::from(
        "# Benchmarks\n\nWritten by `cargo xtask bench broker`; nothing here is typed by hand. nsqd and `mq` ran the same table by turns on the\n\
         same machine, under the same load from the same program, which shares the machine with them. *null* is a server\n\
         that parses, acknowledges and keeps nothing, with a thread for each connection: the floor of a workload.\n\
         *memory*, *flush* (the default) and *sync* are levels of durability. Figures are medians of all rounds, and in\n\
         brackets the lowest and the highest. Compare them within a line: absolute figures move from machine to machine.\n\n",
    );
    if quick {
        out.push_str(
            "**A quick run, of a twentieth of the messages, topics and connections: it shows that all of it works. Its figures \
             mean little, and no bar is judged.**\n\n",
        );
    }
    for line in machine {
        let _ = writeln!(out, "- {line}");
    }
    let _ = writeln!(out, "- `{command}`\n");
    bars(&mut out, results, rows, quick);
    out.push_str("## Figures\n\n");
    for row in rows.iter().filter(|row| !row.metrics.is_empty()) {
        table(&mut out, results, row);
    }
    out.push_str(
        "## Plots\n\n![Throughput by batch](benchmarks/batches.svg)\n![Latency](benchmarks/latency.svg)\n\
         ![CPU per message](benchmarks/cpu.svg)\n![Memory by backlog](benchmarks/memory.svg)\n\n",
    );
    failures(&mut out, results);
    commands(&mut out, results, rows);
    out
}

fn bars(out: &mut String, results: &Results, rows: &[&Row], quick: bool) {
    out.push_str("## Bars\n\n| workload | level | what | measured | bar | |\n|---|---|---|---|---|---|\n");
    for row in rows {
        for bar in row.bars {
            let what = format!("{}{}", name(bar.metric), compared(*bar));
            let (measured, limit, word) = match results.verdict(row.key, *bar) {
                Some(verdict) => {
                    let sign = if verdict.at_most { "at most" } else { "at least" };
                    let word = match verdict.is_met {
                        _ if quick => "not judged",
                        true => "met",
                        false => "**missed**",
                    };
                    (number(verdict.measured), format!("{sign} {}", number(verdict.limit)), word)
                }
                None => (String::new(), String::new(), "not measured"),
            };
            let (title, level) = (row.title, bar.kind.name());
            let _ = writeln!(out, "| {title} | {level} | {what} | {measured} | {limit} | {word} |");
        }
    }
    out.push('\n');
}

fn compared(bar: Bar) -> String {
    match bar.limit {
        Limit::OfNsqd(_) | Limit::TimesNsqd(_) => ", to nsqd's".to_owned(),
        Limit::OfNull(_) => ", to null's".to_owned(),
        Limit::OfRow(row, _) | Limit::TimesRow(row, _) => format!(", to its own of `{row}`"),
        Limit::AtMost(_) | Limit::AtLeast(_) => String::new(),
    }
}

fn table(out: &mut String, results: &Results, row: &Row) {
    let kinds: Vec<Kind> = COLUMNS.into_iter().filter(|kind| row.servers.contains(kind)).collect();
    let _ = write!(out, "### {}\n\n| |", row.title);
    for kind in &kinds {
        let _ = write!(out, " {} |", kind.name());
    }
    let _ = writeln!(out, "\n|---|{}", "---|".repeat(kinds.len()));
    for metric in row.metrics {
        let _ = write!(out, "| {} |", name(metric));
        for kind in &kinds {
            let spread = results.spread(row.key, *kind, metric);
            let against = |other| {
                let theirs = results.spread(row.key, other, metric)?.median;
                let ratio = spread?.median / theirs;
                (*kind != Kind::Nsqd && *kind != Kind::Null && ratio.is_finite()).then_some(ratio)
            };
            let mut cell = spread.map_or_else(String::new, show);
            for (other, words) in [(Kind::Nsqd, "of nsqd"), (Kind::Null, "of null")] {
                if let Some(ratio) = against(other) {
                    let _ = write!(cell, "; {} {words}", number(ratio));
                }
            }
            let _ = write!(out, " {cell} |");
        }
        out.push('\n');
    }
    out.push('\n');
}

fn show(spread: Spread) -> String {
    let Spread { median, low, high } = spread;
    if low == high {
        return number(median);
    }
    format!("{} ({}-{})", number(median), number(low), number(high))
}

/// Three digits that matter.
fn number(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        100_000.0.. => format!("{:.0} k", value / 1e3),
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        1.0.. => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

/// A metric, with its unit.
fn name(metric: &str) -> &'static str {
    match metric {
        "cpu" => "server CPU, s per million",
        "cpu_system" => "of it the system's",
        "cpu_other" => "CPU of neither server nor load, s per million",
        "rate" => "a second",
        "rss" => "resident, MB",
        "rss_burst" => "resident in the burst, MB",
        "seconds" => "made in, s",
        "idle" => "CPU while idle, % of a processor",
        "open" => "until it listens, ms",
        "p50" => "p50, us",
        "late_p50" => "later than due, p50, ms",
        "late_p99" => "later than due, p99, ms",
        "late_max" => "later than due, at most, ms",
        "read" => "bytes read for each byte of the bodies",
        "p99" => "p99, us",
        "p999" => "p99.9, us",
        "latency_max" => "longest, us",
        "shares" => "largest share to smallest",
        "fdatasync" => "one write and fdatasync a record, a second",
        "of_fdatasync" => "rate to that of one fdatasync a record",
        _ => "",
    }
}

fn failures(out: &mut String, results: &Results) {
    if results.failures.is_empty() {
        return;
    }
    out.push_str("## What did not run\n\n");
    for (row, kind, error) in &results.failures {
        let _ = writeln!(out, "- {row}, {}: {}", kind.name(), error.lines().next().unwrap_or_default());
    }
    out.push('\n');
}

fn commands(out: &mut String, results: &Results, rows: &[&Row]) {
    out.push_str("## Commands\n\nEach on a fresh server, with `--data-path` an empty folder.\n\n```sh\n");
    for row in rows {
        let Some(commands) = results.commands.get(row.key) else { continue };
        let _ = writeln!(out, "# {}: {}", row.key, row.title);
        for command in commands {
            let _ = writeln!(out, "{command}");
        }
    }
    out.push_str("```\n");
}

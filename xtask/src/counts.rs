//! Instructions of single operations, counted by valgrind's callgrind and held against `xtask/counts.txt`.
//! Unlike times, they do not depend on the machine's other work.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::run::{cargo, program, root, succeeds};
use crate::stage_log;

/// Packages with a benchmark `counts`, which repeats one operation as often as it is asked to.
const PACKAGES: [&str; 2] = ["mq-core", "mq-nsq"];
/// The profile of what is counted: that of packages and of the benchmark table.
const PROFILE: &str = "dist";
/// The bounds, a line each: name, instructions an operation.
const BOUNDS: &str = "xtask/counts.txt";
/// Share by which an operation may exceed its bound: processors differ in how they copy memory, hash maps in
/// their seeds.
const SLACK: f64 = 0.10;

/// A few messages and eight times as many. Operations that are listed as `scaling` may cost ten times as much
/// for these: a little more than in proportion, and far less than by the square.
const FEW: i32 = 10_000;
const MANY: i32 = 8 * FEW;
const GROWTH_MAX: f64 = 10.0;

/// Counts everything; `None` where there is no valgrind.
///
/// # Errors
/// Operations that exceed their bound or have none, or that grow faster than the number of messages.
pub(crate) fn check() -> Result<Option<()>, String> {
    if !succeeds(program("valgrind").arg("--version")) {
        return Ok(None);
    }
    let text = fs::read_to_string(root().join(BOUNDS)).map_err(|error| format!("{BOUNDS}: {error}"))?;
    let bounds: Vec<(&str, f64)> =
        text.lines().filter(|line| !line.starts_with('#')).filter_map(bound).collect();
    let mut failures = Vec::new();
    for counts in build()? {
        for line in names(&counts)? {
            if let Some(name) = line.strip_prefix("scaling ") {
                let growth = instructions(&counts, name, MANY)? / instructions(&counts, name, FEW)?;
                stage_log::note(&format!("{name} {growth:.1} times for 8 times as many"))
                    .map_err(|e| e.to_string())?;
                if growth > GROWTH_MAX {
                    failures.push(format!(
                        "{name} takes {growth:.1} times as many instructions for 8 times as many messages, more \
                         than {GROWTH_MAX}"
                    ));
                }
                continue;
            }
            let name = line;
            let count = per_operation(&counts, &name)?;
            stage_log::note(&format!("{name} {count:.0}")).map_err(|e| e.to_string())?;
            match bounds.iter().find(|(bounded, _)| *bounded == name) {
                None => failures.push(format!("{name} has no bound: {count:.0}")),
                Some((_, bound)) if count > bound * (1.0 + SLACK) => {
                    failures.push(format!("{name} takes {count:.0} instructions, its bound is {bound:.0}"));
                }
                Some((_, bound)) if count < bound * (1.0 - SLACK) => {
                    println!("   {name} {count:.0}: its bound of {bound:.0} can be lowered");
                }
                Some(_) => {}
            }
        }
    }
    if failures.is_empty() { Ok(Some(())) } else { Err(format!("{BOUNDS}: {}", failures.join("; "))) }
}

fn bound(line: &str) -> Option<(&str, f64)> {
    let (name, count) = line.split_once(' ')?;
    Some((name, count.trim().parse().ok()?))
}

/// Builds the benchmarks and returns their paths.
fn build() -> Result<Vec<PathBuf>, String> {
    let mut build = cargo();
    build.args([
        "bench",
        "--profile",
        PROFILE,
        "--locked",
        "--no-run",
        "--bench",
        "counts",
        "--message-format=json",
    ]);
    for package in PACKAGES {
        build.args(["--package", package]);
    }
    let output = build.output().map_err(|error| format!("cargo bench: {error}"))?;
    if !output.status.success() {
        return Err(format!("cargo bench: {}", String::from_utf8_lossy(&output.stderr)));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let built = text.lines().filter_map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        (message["target"]["name"] == "counts").then(|| message["executable"].as_str().map(PathBuf::from))?
    });
    Ok(built.collect())
}

fn names(counts: &Path) -> Result<Vec<String>, String> {
    let output = Command::new(counts).output().map_err(|error| format!("{}: {error}", counts.display()))?;
    Ok(String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect())
}

/// Instructions of one operation: the difference between many and few of them, so that the setup cancels out.
fn per_operation(counts: &Path, name: &str) -> Result<f64, String> {
    let (few, many) = if name == "open" { (1, 3) } else { (2_000, 6_000) };
    let more = instructions(counts, name, many)? - instructions(counts, name, few)?;
    Ok(more / f64::from(many - few))
}

fn instructions(counts: &Path, name: &str, times: i32) -> Result<f64, String> {
    let mut valgrind = program("valgrind");
    valgrind.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]).arg(counts);
    let output =
        valgrind.args([name, &times.to_string()]).output().map_err(|error| format!("valgrind: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    let collected = said.lines().find_map(|line| line.split_once("Collected : "));
    let count = collected.and_then(|(_, count)| count.trim().parse().ok());
    count.filter(|_| output.status.success()).ok_or_else(|| format!("valgrind {name}: {said}"))
}

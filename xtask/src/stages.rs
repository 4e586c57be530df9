//! Running one stage after the other, with a line for each at the end.

use std::borrow::Cow;
use std::fmt::Debug;
use std::time::Instant;

use crate::stage_log::{self, Tally};

/// The end of a stage that did not fail.
pub(crate) enum Done {
    Ran,
    /// Some of it was left out, and why.
    Partly(Cow<'static, str>),
    /// All of it was left out, and why.
    Skipped(Cow<'static, str>),
}

/// Runs every stage, also after one that failed, and reports each at the end. A stage has its variant's name.
pub(crate) fn run_all<S: Copy + Debug>(
    stages: &[S],
    run: impl Fn(S) -> Result<Done, String>,
) -> Result<(), String> {
    let (mut lines, mut failed, began) = (Vec::new(), false, Instant::now());
    for stage in stages {
        let name = format!("{stage:?}").to_lowercase();
        println!("== {name}");
        let started = Instant::now();
        let outcome = stage_log::begin(&name).and_then(|()| run(*stage));
        let tally = stage_log::end(outcome.is_err());
        if tally != Tally::default() {
            println!("{} passed, {} failed", tally.passed, tally.failed);
        }
        failed |= outcome.is_err();
        let (word, more) = match outcome {
            Ok(Done::Ran) => ("ok", String::new()),
            Ok(Done::Partly(why)) => ("ok", format!("  skipped: {why}")),
            Ok(Done::Skipped(why)) => ("skipped", format!("  {why}")),
            Err(error) => ("FAILED", format!("  {error}")),
        };
        let line = format!("{name:<8} {word:<8} {:6.1} s{more}", started.elapsed().as_secs_f64());
        println!("== {line}");
        lines.push(line);
    }
    println!("\n{}\n{:.1} minutes in all", lines.join("\n"), began.elapsed().as_secs_f64() / 60.0);
    if failed { Err("a stage failed".to_owned()) } else { Ok(()) }
}

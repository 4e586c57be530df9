//! Deterministic crash tests: a long random workload on a recording disk is cut at every write, sync, rename
//! and remove, reopened, and held against a naive model.
//!
//! I1, I2, I4, I5, I8, I9 and I10 of the design are attacked here; I3 by the model itself, which knows no
//! channel of another. `cargo xtask crash --seeds N` runs more seeds; `MQ_CRASH_FROM=S MQ_CRASH_SEEDS=1` runs
//! one again, with `MQ_CRASH_TRACE=1` telling each action.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod check;
mod model;
mod workload;

use std::sync::atomic::{AtomicU64, Ordering};

/// Seeds run without a word from the environment.
const SEEDS: u64 = 150;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default)
}

#[test]
fn nothing_acknowledged_is_lost_at_any_cut() {
    let (from, seeds) = (number("MQ_CRASH_FROM", 1), number("MQ_CRASH_SEEDS", SEEDS));
    let (next, cuts) = (AtomicU64::new(from), AtomicU64::new(0));
    let workers = std::thread::available_parallelism().map_or(2, |n| n.get());
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= from + seeds {
                        return;
                    }
                    let run = std::panic::catch_unwind(|| workload::run(seed)).unwrap_or_else(|panic| {
                        eprintln!("seed {seed}");
                        std::panic::resume_unwind(panic)
                    });
                    cuts.fetch_add(check::every_cut(seed, &run), Ordering::Relaxed);
                }
            });
        }
    });
    println!("{seeds} seeds, {} images reopened", cuts.into_inner());
}

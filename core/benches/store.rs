//! Times of the store's operations: `cargo bench -p mq-core --bench store`.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, reason = "a measurement fails by panicking")]

use divan::Bencher;
use divan::counter::ItemsCount;

mod operations;

/// Messages of a measurement: enough that a file's end is seldom in it.
const MESSAGES: u64 = 2_000;

fn main() {
    divan::main();
}

#[divan::bench(args = operations::NAMES, sample_size = 1, sample_count = 50)]
fn operation(bencher: Bencher<'_, '_>, name: &str) {
    let mut operation = operations::operation(name);
    let times = if name == "open" { 1 } else { MESSAGES };
    bencher.counter(ItemsCount::new(times)).bench_local(|| operation(times));
}

//! Times of the protocol's pure parts: `cargo bench -p mq-nsq --bench wire`.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, reason = "a measurement fails by panicking")]

use divan::Bencher;
use divan::counter::ItemsCount;

mod operations;

/// Messages of a measurement.
const MESSAGES: u64 = 2_000;

fn main() {
    divan::main();
}

#[divan::bench(args = operations::NAMES)]
fn operation(bencher: Bencher<'_, '_>, name: &str) {
    let mut operation = operations::operation(name);
    bencher.counter(ItemsCount::new(MESSAGES)).bench_local(|| operation(MESSAGES));
}

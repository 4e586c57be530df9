//! `cargo xtask crash`: more seeds of the deterministic crash test than the tests run.

use clap::Args;

use crate::run::{cargo, run};

#[derive(Args)]
pub(crate) struct Crash {
    /// Number of seeds to run
    #[arg(long, default_value_t = 1000)]
    pub(crate) seeds: u64,
    /// The first seed
    #[arg(long, default_value_t = 1)]
    pub(crate) from: u64,
}

impl Crash {
    pub(crate) fn run(self) -> Result<(), String> {
        let mut test = cargo();
        test.args(["test", "--locked", "--release", "--package", "mq-core", "--test", "crash"])
            .args(["--", "--nocapture"])
            .env("MQ_CRASH_SEEDS", self.seeds.to_string())
            .env("MQ_CRASH_FROM", self.from.to_string());
        run(&mut test)
    }
}

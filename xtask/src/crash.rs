//! `cargo xtask crash`: more seeds of the deterministic crash test than the tests run.

use clap::Args;

use crate::run::{cargo, run};

#[derive(Args)]
pub(crate) struct Crash {
    /// How many seeds to run
    #[arg(long, default_value_t = 1000)]
    seeds: u64,
    /// The first seed
    #[arg(long, default_value_t = 1)]
    from: u64,
}

impl Crash {
    pub(crate) fn run(self) -> Result<(), String> {
        let mut test = cargo();
        test.args([
            "test",
            "--locked",
            "--release",
            "--package",
            "mq-core",
            "--test",
            "crash",
            "--",
            "--nocapture",
        ])
        .env("MQ_CRASH_SEEDS", self.seeds.to_string())
        .env("MQ_CRASH_FROM", self.from.to_string());
        run(&mut test)
    }
}

//! `cargo xtask bench node`: the CPU time that a message costs a program in Node, the package libmq beside
//! nsqjs.

use std::process::Command;

use clap::Args;

use crate::run::{cargo, program, root, run, target};
use crate::tools;

/// Arguments of `cargo xtask bench node`.
#[derive(Args)]
pub(crate) struct Node {
    /// Messages of a load
    #[arg(long, default_value_t = Self::default().messages)]
    messages: u64,
    /// Runs of each load; the best counts
    #[arg(long, default_value_t = Self::default().rounds)]
    rounds: u32,
}

impl Default for Node {
    fn default() -> Self {
        Self { messages: 1_000_000, rounds: 3 }
    }
}

impl Node {
    pub(crate) fn run(self) -> Result<(), String> {
        run(cargo().args(["build", "--profile", "dist", "--locked", "-p", "mq-cli", "--bins"]))?;
        let package = root().join("bindings").join("node");
        run(program("node").args(["scripts/build.mjs", "--profile", "dist"]).current_dir(&package))?;
        let modules = tools::node_modules("bindings/node/test", "bindings")?;
        let mut compare = Command::new("node");
        compare.arg(package.join("bench").join("compare.js"));
        compare.arg("--mq").arg(target().join("dist").join("mq"));
        compare.arg("--nsqjs").arg(modules.join("nsqjs"));
        let (messages, rounds) = (self.messages.to_string(), self.rounds.to_string());
        run(compare.args(["--messages", &messages, "--rounds", &rounds]))
    }
}

//! `cargo xtask bench broker`: builds `bench-table` and what it compares, and runs it.

use std::path::PathBuf;

use clap::Args;

use crate::run::{cargo, program, run, target};
use crate::tools;

/// Arguments of `cargo xtask bench broker`.
#[derive(Args, Default)]
#[command(disable_help_flag = true)]
pub(crate) struct Broker {
    /// Arguments of the table; `--help` lists them
    #[arg(value_name = "ARGUMENT", trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

/// The program, if there is one on this machine.
fn found(name: &str, program: Result<PathBuf, String>) -> Option<PathBuf> {
    program.inspect_err(|error| println!("without {name}: {error}")).ok()
}

impl Broker {
    pub(crate) fn run(self) -> Result<(), String> {
        let mut build = cargo();
        build.args([
            "build",
            "--profile",
            "dist",
            "--locked",
            "--package",
            "mq-cli",
            "--package",
            "mq-bench",
            "--bins",
        ]);
        run(&mut build)?;
        let built = target().join("dist");
        let mut table = program(built.join("bench-table"));
        table.arg("--mq").arg(built.join("mq")).arg("--floor").arg(built.join("floor"));
        table.arg("--data").arg(target().join("bench").join("data"));
        let nsqd = found("nsqd", tools::nsq().map(|folder| folder.join("nsqd")));
        let go_load = found("go-nsq", tools::go_load());
        for (flag, program) in [("--nsqd", nsqd), ("--go-load", go_load)] {
            if let Some(program) = program {
                table.arg(flag).arg(program);
            }
        }
        run(table.args(self.arguments))
    }
}

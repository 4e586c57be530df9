//! Project chores: `cargo xtask test` sets up what the tests need and runs everything; `cargo xtask soak`
//! runs what takes hours; `cargo xtask prose` counts words; `cargo xtask bench` compares `mq` with nsqd;
//! `cargo xtask npm` packs the package for Node; `cargo xtask generate` writes the generated code that is
//! committed.

mod bench;
mod counts;
mod crash;
mod examples;
mod layout;
mod npm;
mod prose;
mod run;
mod soak;
mod source;
mod stage_log;
mod stages;
mod test;
mod tools;
mod unused;

use std::process::ExitCode;

use clap::Parser;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Project chores")]
enum Task {
    /// Sets up what the tests need and runs everything, or the stages named
    Test(test::Test),
    /// Cuts random workloads at every disk event and holds what survives against a model
    Crash(crash::Crash),
    /// Runs what takes long: fuzzing, attacks on memory, many crash seeds, older compilers, mutants
    Soak(soak::Soak),
    /// Counts how comments keep to docs/style.md, by crate
    Prose(prose::Prose),
    /// Measures mq beside nsqd and writes docs/benchmarks.md
    Bench(bench::Bench),
    /// Packs the npm package libmq: its main package, and the one of this platform
    Npm(npm::Npm),
    /// Generates the committed code of the protos: grpc/src/generated, examples/go/mqv1
    Generate(examples::Generate),
}

fn main() -> ExitCode {
    let outcome = match Task::parse() {
        Task::Test(task) => task.run(),
        Task::Crash(task) => task.run(),
        Task::Soak(task) => task.run(),
        Task::Prose(task) => task.run(),
        Task::Bench(task) => task.run(),
        Task::Npm(task) => task.run(),
        Task::Generate(task) => task.run(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("xtask: {message}");
            ExitCode::FAILURE
        }
    }
}

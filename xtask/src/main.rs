//! Project chores: `cargo xtask test` sets up what the tests need and runs everything; `cargo xtask soak`
//! runs what takes hours; `cargo xtask prose` counts words; `cargo xtask bench` compares `mq` and its
//! clients with NSQ's; `cargo xtask npm` and `cargo xtask wheel` pack the packages for Node and Python;
//! `cargo xtask generate` and `cargo xtask header` write the generated code that is committed.

mod bench;
mod c;
mod c_examples;
mod circles;
mod counts;
mod crash;
mod examples;
mod header;
mod install;
mod layout;
mod modules;
mod npm;
mod prose;
mod run;
mod size;
mod soak;
mod source;
mod stage_log;
mod stages;
mod test;
mod tools;
mod unused;
mod wheel;

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
    /// Measures mq and its clients beside NSQ's
    Bench(bench::Bench),
    /// Packs the npm package libmq: its main package, and the one of this platform
    Npm(npm::Npm),
    /// Builds the Python package
    Wheel(wheel::Wheel),
    /// Generates the committed code of the protos: grpc/src/generated, grpc/go/mqv1
    Generate(examples::Generate),
    /// Generates the committed header of C programs: ffi/include/mq.h
    Header(header::Header),
    /// Installs libmq for C and C++ programs, and the program mq
    Install(install::Install),
    /// Measures the stripped library for C, with and without servers, and fails above its bars
    Size(size::Size),
}

fn main() -> ExitCode {
    let outcome = match Task::parse() {
        Task::Test(task) => task.run(),
        Task::Crash(task) => task.run(),
        Task::Soak(task) => task.run(),
        Task::Prose(task) => task.run(),
        Task::Bench(task) => task.run(),
        Task::Npm(task) => task.run(),
        Task::Wheel(args) => wheel::wheel(&args),
        Task::Generate(task) => task.run(),
        Task::Header(task) => task.run(),
        Task::Install(task) => task.run(),
        Task::Size(task) => task.run(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("xtask: {message}");
            ExitCode::FAILURE
        }
    }
}

//! `cargo xtask soak`: the checks that take hours. They run before a release and before an issue is called
//! done.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use clap::{Args, ValueEnum};

use crate::crash::Crash;
use crate::run::{cargo, program, root, run, target};
use crate::stages::{self, Done};
use crate::tools;

/// Pure files, by package: neither sockets nor clocks nor disks, so that unit tests are quick and should
/// notice any change.
const PURE: [(&str, &[&str]); 3] = [
    (
        "mq-core",
        &[
            "core/src/channel/{deferred,delta,gaps,in_flight,lowest,ready,state,subscribers}.rs",
            "core/src/channel/state/delivery.rs",
            "core/src/discovery/**",
            "core/src/store/format/**",
            "core/src/topic/dedup/**",
        ],
    ),
    ("mq-nsq", &["nsq/src/wire/**"]),
    ("mq-net", &["net/src/transport/deflate.rs", "net/src/transport/snappy.rs"]),
];

/// Arguments of `cargo xtask soak`.
#[derive(Args)]
pub(crate) struct Soak {
    /// Stages to run; all if none is named
    #[arg(value_enum)]
    stages: Vec<Stage>,
    /// Seconds for each fuzz target
    #[arg(long, default_value_t = 600)]
    fuzz_seconds: u32,
    /// Seeds of the crash test
    #[arg(long, default_value_t = 1000)]
    seeds: u64,
    /// Files whose mutants are tried, as patterns; by default those of the pure parts
    #[arg(long)]
    mutate: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Stage {
    /// The oldest compiler that Cargo.toml promises
    Msrv,
    /// Random workloads cut at every disk event
    Crash,
    /// All Rust tests, with more rounds of kill -9
    Long,
    /// Every fuzz target, from its seeds and what earlier runs found
    Fuzz,
    /// Threads of the C library, in every order
    Loom,
    /// Changes of the pure parts that no test notices
    Mutants,
}

impl Soak {
    pub(crate) fn run(self) -> Result<(), String> {
        let all = Stage::value_variants();
        let stages = if self.stages.is_empty() { all } else { &self.stages };
        stages::run_all(stages, |stage| match stage {
            Stage::Msrv => msrv(),
            Stage::Crash => Crash { seeds: self.seeds, from: 1 }.run().map(|()| Done::Ran),
            Stage::Long => long(),
            Stage::Fuzz => fuzz(self.fuzz_seconds),
            Stage::Loom => loom(),
            Stage::Mutants => mutants(&self.mutate),
        })
    }
}

/// Checks the workspace with the compiler of `rust-version`, in a target folder of its own.
fn msrv() -> Result<Done, String> {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).map_err(|e| format!("Cargo.toml: {e}"))?;
    let version = manifest.lines().find_map(|line| line.strip_prefix("rust-version = "));
    let version = version.map(|quoted| quoted.trim_matches('"')).ok_or("Cargo.toml has no rust-version")?;
    let Some(toolchain) = toolchain(&[version, &format!("{version}.0")]) else {
        return Ok(Done::Skipped(
            format!("no toolchain {version}: rustup toolchain install {version}").into(),
        ));
    };
    let mut check = with_toolchain(&toolchain);
    check.args(["cargo", "check", "--workspace", "--all-targets", "--locked"]);
    run(check.env("CARGO_TARGET_DIR", target().join("msrv")))?;
    Ok(Done::Ran)
}

/// The first of these toolchains that rustup has installed.
fn toolchain(names: &[&str]) -> Option<String> {
    let output = program("rustup").args(["toolchain", "list"]).output().ok()?;
    let installed = String::from_utf8_lossy(&output.stdout).into_owned();
    let is_installed = |name: &&&str| installed.lines().any(|line| line.starts_with(&format!("{name}-")));
    names.iter().find(is_installed).map(|name| (*name).to_owned())
}

fn with_toolchain(name: &str) -> Command {
    let mut rustup = program("rustup");
    // Cargo sets both for its children, and rustup's proxies follow them.
    rustup.args(["run", name]).env_remove("RUSTUP_TOOLCHAIN").env_remove("CARGO");
    rustup
}

fn long() -> Result<Done, String> {
    let mut tests = cargo();
    tests.args(["test", "--no-fail-fast", "--workspace", "--locked"]);
    run(tests.env("MQ_KILL_ROUNDS", "150"))?;
    Ok(Done::Ran)
}

/// Runs the tests of threads with loom's locks in place of the real ones, in a target folder of its own.
fn loom() -> Result<Done, String> {
    let mut tests = cargo();
    tests.args(["test", "--locked", "-p", "mq-ffi", "--lib", "loom_tests"]);
    run(tests.env("RUSTFLAGS", "--cfg mq_loom").env("CARGO_TARGET_DIR", target().join("loom")))?;
    Ok(Done::Ran)
}

/// Runs each fuzz target. What the fuzzer finds interesting stays in `target/fuzz/corpus` for the next run;
/// what fails lies in `target/fuzz/artifacts`, and belongs to the seeds once it is mended.
fn fuzz(seconds: u32) -> Result<Done, String> {
    let Some(nightly) = toolchain(&["nightly"]) else {
        return Ok(Done::Skipped("no nightly toolchain, which the fuzzer's flags need".into()));
    };
    let tool = tools::installed("cargo-fuzz", tools::FUZZ_VERSION)?;
    for seeds in folders(&root().join("fuzz").join("seeds"))? {
        let name = seeds.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let corpus = target().join("fuzz").join("corpus").join(&name);
        let artifacts = target().join("fuzz").join("artifacts").join(&name);
        for folder in [&corpus, &artifacts] {
            fs::create_dir_all(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
        }
        let mut fuzz = with_toolchain(&nightly);
        fuzz.arg(&tool).args(["run", "--features", "fuzzer", "--target-dir"]).arg(target().join("fuzz"));
        fuzz.arg(&name).arg(&corpus).arg(&seeds).arg("--").arg(format!("-max_total_time={seconds}"));
        run(fuzz.arg(format!("-artifact_prefix={}/", artifacts.display())))?;
    }
    Ok(Done::Ran)
}

fn folders(parent: &std::path::Path) -> Result<Vec<PathBuf>, String> {
    let failed = |e: std::io::Error| format!("{}: {e}", parent.display());
    let mut folders = Vec::new();
    for entry in fs::read_dir(parent).map_err(failed)? {
        folders.push(entry.map_err(failed)?.path());
    }
    folders.sort();
    Ok(folders)
}

/// Tries mutants of the pure parts, or of `files`, against the unit tests of their packages. Survivors are
/// listed, and fail nothing: each needs a look by a person.
fn mutants(files: &[String]) -> Result<Done, String> {
    let tool = tools::installed("cargo-mutants", tools::MUTANTS_VERSION)?;
    for (package, pure) in PURE {
        let output = target().join("mutants").join(package);
        fs::create_dir_all(&output).map_err(|e| format!("{}: {e}", output.display()))?;
        let mut mutants = program(&tool);
        mutants
            .args(["mutants", "--package", package, "--no-shuffle", "--colors=never", "--output"])
            .arg(&output);
        if files.is_empty() {
            mutants.args(pure.iter().flat_map(|pattern| ["--file", pattern]));
        } else {
            mutants.args(files.iter().flat_map(|pattern| ["--file", pattern]));
        }
        // Survivors make it end with 2, mutants that time out with 3.
        let outcome = run(mutants.args(["--", "--lib"]));
        let missed = fs::read_to_string(output.join("mutants.out").join("missed.txt"));
        let missed =
            missed.map_err(|_| outcome.err().unwrap_or_else(|| format!("{package}: no list of mutants")))?;
        println!("{package}: {} survivors\n{missed}", missed.lines().count());
    }
    Ok(Done::Ran)
}

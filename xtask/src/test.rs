//! `cargo xtask test`: the whole of the project's checks, one stage after the other.

use std::borrow::Cow;
use std::net::ToSocketAddrs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};

use crate::examples;
use crate::run::{cargo, program, root, run, succeeds, target};
use crate::{counts, tools};

/// Where cargo-deny fetches the list of known vulnerabilities.
const ADVISORIES_HOST: (&str, u16) = ("github.com", 443);

/// Arguments of `cargo xtask test`.
#[derive(Args)]
pub(crate) struct Test {
    /// Stages to run; all if none is named
    #[arg(value_enum)]
    stages: Vec<Stage>,
}

/// One runner with a closing line of its own. They run in this order: cheap complaints first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Stage {
    /// Formatting
    Fmt,
    /// Lints, warnings are errors
    Clippy,
    /// Licences, sources, advisories of what we depend on
    Deny,
    /// All Rust tests
    Rust,
    /// Instructions that single operations take, held against their bounds
    Counts,
    /// An unmodified pynsq against the real binary
    Python,
    /// An unmodified go-nsq against the real binary
    Go,
    /// An unmodified nsqjs against the real binary
    Node,
    /// An unmodified nsq-j against the real binary
    Java,
    /// The examples over gRPC, of every language that is here
    Examples,
}

/// How a stage that did not fail ended.
enum Done {
    Ran,
    /// Some of it was left out, and why.
    Partly(Cow<'static, str>),
    /// All of it was left out, and why.
    Skipped(&'static str),
}

impl Test {
    /// Runs every stage, also after one that failed, and says at the end how each went.
    pub(crate) fn run(self) -> Result<(), String> {
        let all = Stage::value_variants();
        let stages = if self.stages.is_empty() { all } else { &self.stages };
        let mut lines = Vec::new();
        let mut failed = false;
        for stage in stages {
            println!("== {}", stage.name());
            let started = Instant::now();
            let outcome = stage.run();
            let seconds = started.elapsed().as_secs_f64();
            failed |= outcome.is_err();
            let (word, more) = match outcome {
                Ok(Done::Ran) => ("ok", String::new()),
                Ok(Done::Partly(why)) => ("ok", format!("  skipped: {why}")),
                Ok(Done::Skipped(why)) => ("skipped", format!("  {why}")),
                Err(error) => ("FAILED", format!("  {error}")),
            };
            let line = format!("{:<8} {word:<8} {seconds:6.1} s{more}", stage.name());
            println!("== {line}");
            lines.push(line);
        }
        println!("\n{}", lines.join("\n"));
        if failed { Err("a stage failed".to_owned()) } else { Ok(()) }
    }
}

impl Stage {
    fn name(self) -> String {
        format!("{self:?}").to_lowercase()
    }

    fn run(self) -> Result<Done, String> {
        match self {
            Self::Fmt => run(cargo().args(["fmt", "--all", "--check"]))?,
            Self::Clippy => {
                let mut clippy = cargo();
                clippy.args(["clippy", "--quiet", "--workspace", "--all-targets", "--locked"]);
                run(clippy.args(["--", "-D", "warnings"]))?;
            }
            Self::Deny => return deny(),
            Self::Rust => {
                let peers = tools::nsq();
                let mut tests = cargo();
                tests
                    .args(["test", "--quiet", "--no-fail-fast", "--workspace", "--locked"])
                    .env("MQ_BIN", mq()?);
                if let Ok(peers) = &peers {
                    tests.env("MQ_PEERS", peers);
                }
                run(&mut tests)?;
                if let Err(error) = peers {
                    println!("without NSQ's programs: {error}");
                    return Ok(Done::Partly("NSQ's own programs, which cannot be had here".into()));
                }
            }
            Self::Counts => {
                if counts::check()?.is_none() {
                    return Ok(Done::Skipped("no valgrind on the path"));
                }
            }
            Self::Python => {
                let Some(python) = tools::python("tests", &["tests/python/requirements.txt"], &[])? else {
                    return Ok(Done::Skipped("no python3 that can make a virtual environment"));
                };
                let mut pytest = program(python);
                pytest.args(["-m", "pytest", "tests/python"]);
                run(pytest.env("PYTHONDONTWRITEBYTECODE", "1").env("MQ_BIN", mq()?))?;
            }
            Self::Go => {
                if !succeeds(program("go").arg("version")) {
                    return Ok(Done::Skipped("no go on the path"));
                }
                let mut tests = Command::new("go");
                // -count=1: a cached answer says nothing about a new binary.
                tests.args(["test", "-count=1", "./..."]).current_dir(root().join("tests").join("go"));
                let peers = tools::nsq();
                if let Ok(peers) = &peers {
                    tests.env("MQ_PEERS", peers);
                }
                run(tests.env("MQ_BIN", mq()?))?;
                if let Err(error) = peers {
                    println!("without NSQ's programs: {error}");
                    return Ok(Done::Partly("NSQ's own programs, which cannot be had here".into()));
                }
            }
            Self::Node => {
                if !succeeds(program("npm").arg("--version")) {
                    return Ok(Done::Skipped("no node with npm on the path"));
                }
                let mut tests = program("node");
                tests
                    .args(["--test", "tests/node/nsqjs.test.js"])
                    .env("NODE_PATH", tools::node_modules("tests/node", "tests")?);
                run(tests.env("MQ_BIN", mq()?))?;
            }
            Self::Java => {
                if !succeeds(program("mvn").arg("--version")) {
                    return Ok(Done::Skipped("no mvn on the path"));
                }
                let mut tests = program("mvn");
                tests.args(["--batch-mode", "--quiet", "--file", "tests/java/pom.xml", "test"]);
                tests.arg(format!("-DoutputFolder={}", target().join("java").display()));
                run(tests.env("MQ_BIN", mq()?))?;
            }
            Self::Examples => {
                let missing = examples::test(&mq()?)?;
                if !missing.is_empty() {
                    return Ok(Done::Partly(format!("no {}", missing.join(", no ")).into()));
                }
            }
        }
        Ok(Done::Ran)
    }
}

fn deny() -> Result<Done, String> {
    let mut deny = tools::cargo_deny()?;
    deny.args(["--all-features", "--locked", "check", "bans", "licenses", "sources"]);
    if !is_reachable(ADVISORIES_HOST) {
        run(&mut deny)?;
        return Ok(Done::Partly("advisories, whose database cannot be reached from here".into()));
    }
    run(deny.arg("advisories"))?;
    Ok(Done::Ran)
}

fn is_reachable(host: (&str, u16)) -> bool {
    const PATIENCE: Duration = Duration::from_secs(3);
    let addresses = host.to_socket_addrs().map(Vec::from_iter).unwrap_or_default();
    addresses.iter().any(|address| std::net::TcpStream::connect_timeout(address, PATIENCE).is_ok())
}

/// The binary under test, freshly built. In the tests' profile and with the whole workspace's features, so that no
/// dependency is built twice.
fn mq() -> Result<PathBuf, String> {
    run(cargo().args(["build", "--quiet", "--locked", "--workspace", "--bins"]))?;
    Ok(target().join("debug").join("mq"))
}

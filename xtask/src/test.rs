//! `cargo xtask test`: the whole of the project's checks, one stage after the other.

use std::env;
use std::net::ToSocketAddrs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::run::{cargo, program, root, run, succeeds, target};
use crate::stages::{self, Done};
use crate::{c, counts, examples, layout, npm, prose, tools, unused, wheel};

/// Host and port from which cargo-deny fetches the list of known vulnerabilities.
const ADVISORIES_HOST: (&str, u16) = ("github.com", 443);

/// Chromium, where Debian's package has it.
const CHROMIUM: &str = "/usr/bin/chromium";

/// A small test target of the workspace, built along with the binaries.
const FEATURES_OF: &str = "replay";

/// Arguments of `cargo xtask test`.
#[derive(Args)]
pub(crate) struct Test {
    /// Stages to run; all if none is named
    #[arg(value_enum)]
    stages: Vec<Stage>,
}

/// One kind of check. They run in this order: cheap complaints first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Stage {
    /// Formatting
    Fmt,
    /// The rules of docs/style.md that a program can count
    Prose,
    /// Sizes of files and functions; the map of ARCHITECTURE.md
    Layout,
    /// Dependencies that no code names
    Unused,
    /// Lints, warnings are errors
    Clippy,
    /// Documentation builds, warnings are errors
    Doc,
    /// Licences, sources, advisories of what we depend on
    Deny,
    /// All Rust tests, examples in documentation too
    Rust,
    /// Instructions that single operations take, held against their bounds
    Counts,
    /// libmq for C and C++: header, symbols, programs under valgrind and AddressSanitizer, installation
    C,
    /// An unmodified pynsq against the real binary
    Python,
    /// The Python package, installed in an environment of its own
    Wheel,
    /// Go's module of the gRPC API, and an unmodified go-nsq, against the real binary
    Go,
    /// An unmodified nsqjs against the real binary
    Node,
    /// The Java artifact of the gRPC API, and an unmodified nsq-j, against the real binary
    Java,
    /// The npm package, packed and installed in a project of its own
    Npm,
    /// The admin page, in a browser
    Page,
    /// The examples over gRPC, of every language that is here
    Examples,
}

impl Test {
    /// Runs every stage, also after one that failed, and reports each at the end.
    pub(crate) fn run(self) -> Result<(), String> {
        let all = Stage::value_variants();
        let stages = if self.stages.is_empty() { all } else { &self.stages };
        stages::run_all(stages, Stage::run)
    }
}

impl Stage {
    fn run(self) -> Result<Done, String> {
        match self {
            Self::Fmt => run(cargo().args(["fmt", "--all", "--check"]))?,
            Self::Prose => prose::check()?,
            Self::Layout => layout::check()?,
            Self::Unused => unused::check()?,
            Self::Clippy => {
                let mut clippy = cargo();
                clippy.args(["clippy", "--workspace", "--all-targets", "--locked"]);
                run(clippy.args(["--", "-D", "warnings"]))?;
                // A program that needs no broker inside leaves it out.
                let mut client = cargo();
                client.args(["clippy", "--package", "libmq", "--no-default-features", "--locked"]);
                run(client.args(["--", "-D", "warnings"]))?;
            }
            Self::Doc => {
                let mut doc = cargo();
                // With the examples, the dependencies have the features that clippy has checked them with.
                doc.args(["doc", "--workspace", "--no-deps", "--locked", "--lib", "--bins", "--examples"]);
                run(doc.env("RUSTDOCFLAGS", "-D warnings"))?;
            }
            Self::Deny => return deny(),
            Self::Rust => return rust(),
            Self::Counts => {
                if counts::check()?.is_none() {
                    return Ok(Done::Skipped("no valgrind on the path".into()));
                }
            }
            Self::C => return c_and_cpp(),
            Self::Python => return python(),
            Self::Wheel => return wheel::test(),
            Self::Go => return go(),
            Self::Node => return node(),
            Self::Java => return java(),
            Self::Npm => return npm(),
            Self::Page => return page(),
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

fn rust() -> Result<Done, String> {
    let binary = mq()?;
    let mut tests = cargo();
    tests.args(["test", "--no-fail-fast", "--workspace", "--locked"]).env("MQ_BIN", binary);
    with_peers(&mut tests)
}

/// Runs tests with NSQ's own programs, where they can be had.
fn with_peers(tests: &mut Command) -> Result<Done, String> {
    let peers = tools::nsq();
    if let Ok(peers) = &peers {
        tests.env("MQ_PEERS", peers);
    }
    run(tests)?;
    match peers {
        Ok(_) => Ok(Done::Ran),
        Err(error) => {
            println!("without NSQ's programs: {error}");
            Ok(Done::Partly("NSQ's own programs, which cannot be had here".into()))
        }
    }
}

fn c_and_cpp() -> Result<Done, String> {
    let built = target().join("debug");
    build(&["--lib"])?;
    let missing = c::test(&built)?;
    Ok(if missing.is_empty() {
        Done::Ran
    } else {
        Done::Partly(format!("no {}", missing.join(", no ")).into())
    })
}

fn python() -> Result<Done, String> {
    let Some(python) = tools::python("tests", &["tests/python/requirements.txt"], &[])? else {
        return Ok(Done::Skipped("no python3 that can make a virtual environment".into()));
    };
    let mut pytest = program(python);
    pytest.args(["-m", "pytest", "tests/python"]);
    run(pytest.env("PYTHONDONTWRITEBYTECODE", "1").env("MQ_BIN", mq()?))?;
    Ok(Done::Ran)
}

fn go() -> Result<Done, String> {
    if !succeeds(program("go").arg("version")) {
        return Ok(Done::Skipped("no go on the path".into()));
    }
    let binary = mq()?;
    let go = |arguments: &[&str], folder: &str| {
        let mut go = program("go");
        go.args(arguments).current_dir(root().join(folder));
        go
    };
    run(&mut go(&["vet", "./..."], "grpc/go"))?;
    run(&mut go(&["vet", "./..."], "examples/go"))?;
    // It needs a C compiler, and not every platform has it.
    let has_race = succeeds(&mut go(&["test", "-race", "-run=^$", "."], "grpc/go"));
    // -count=1: a cached answer says nothing about a new binary. -v: each test is counted.
    let mut module = go(&["test", "-count=1", "-v", "./..."], "grpc/go");
    if has_race {
        module.arg("-race");
    }
    run(module.env("MQ_BIN", &binary))?;
    with_peers(go(&["test", "-count=1", "-v", "./..."], "tests/go").env("MQ_BIN", binary))
}

fn node() -> Result<Done, String> {
    if !succeeds(program("npm").arg("--version")) {
        return Ok(Done::Skipped("no node with npm on the path".into()));
    }
    let mut tests = program("node");
    tests.args(["--test", "tests/node/nsqjs.test.js"]);
    run(tests.env("NODE_PATH", tools::node_modules("tests/node", "tests")?).env("MQ_BIN", mq()?))?;
    Ok(Done::Ran)
}

fn npm() -> Result<Done, String> {
    if !npm::is_there() {
        return Ok(Done::Skipped("no node with npm on the path".into()));
    }
    build(&["--lib"])?;
    npm::test(&target().join("debug").join("mq"))
}

/// Runs the tests of the page in Chromium, with and without a broker behind it.
fn page() -> Result<Done, String> {
    if !npm::is_there() {
        return Ok(Done::Skipped("no node with npm on the path".into()));
    }
    let browser = env::var_os("MQ_CHROMIUM").map_or_else(|| PathBuf::from(CHROMIUM), PathBuf::from);
    if !browser.exists() {
        return Ok(Done::Skipped(
            format!("no browser at {}: MQ_CHROMIUM names another", browser.display()).into(),
        ));
    }
    let mut tests = program("node");
    tests
        .args(["--test", "tests/page/page.test.js", "tests/page/broker.test.js"])
        .env("MQ_CHROMIUM", browser);
    run(tests.env("NODE_PATH", tools::node_modules("tests/page", "page")?).env("MQ_BIN", mq()?))?;
    Ok(Done::Ran)
}

fn java() -> Result<Done, String> {
    if !succeeds(program("mvn").arg("--version")) {
        return Ok(Done::Skipped("no mvn on the path".into()));
    }
    let binary = mq()?;
    let target = target().join("java");
    let folders =
        [("grpc/java", "-Dlibmq.output=", target.join("grpc")), ("tests/java", "-DoutputFolder=", target)];
    for (project, output, folder) in folders {
        let mut tests = program("mvn");
        tests.args([
            "--batch-mode",
            "--no-transfer-progress",
            "--file",
            &format!("{project}/pom.xml"),
            "test",
        ]);
        tests.arg(format!("{output}{}", folder.display()));
        run(tests.env("MQ_BIN", &binary))?;
    }
    Ok(Done::Ran)
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

/// The binary under test, freshly built in the tests' profile.
///
/// A test target is named so that cargo resolves the features that it resolves for all tests: without one,
/// tokio and all that stands on it would be built a second time.
fn mq() -> Result<PathBuf, String> {
    build(&[])?;
    Ok(target().join("debug").join("mq"))
}

/// Builds all binaries, and `more`.
fn build(more: &[&str]) -> Result<(), String> {
    run(cargo().args(["build", "--locked", "--workspace", "--bins", "--test", FEATURES_OF]).args(more))
}

//! `cargo xtask bench-clients`: the CPU time that a message costs a client, the crate libmq beside go-nsq,
//! each load on a broker of its own; and of the Python package beside pynsq.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use clap::Args;

use crate::run::{cargo, program, run, target};
use crate::{tools, wheel};

/// Messages published before what consumes them is measured: in batches, by the crate.
const FILL: &str = "send-batches";

/// Arguments of `cargo xtask bench-clients`.
#[derive(Args)]
pub(crate) struct BenchClients {
    /// Messages of a load
    #[arg(long, default_value_t = 500_000)]
    messages: u64,
    /// Runs of each load; the best counts
    #[arg(long, default_value_t = 3)]
    rounds: u32,
}

/// A load, by the name that both programs have for it, and what of go-nsq's it is held against.
const LOADS: [(&str, &str, &str); 4] = [
    ("send", "send", "publishes, one after the other"),
    ("send-batches", "send-batches", "publishes in batches of 100"),
    ("finish", "finish", "consumes, a finish each"),
    ("finish-batches", "finish", "consumes in batches of 100"),
];

/// The programs.
struct Programs {
    mq: PathBuf,
    rust: PathBuf,
    /// `None` without Go on this machine.
    go: Option<PathBuf>,
}

impl BenchClients {
    pub(crate) fn run(self) -> Result<(), String> {
        let mut build = cargo();
        build.args(["build", "--profile", "dist", "--locked", "-p", "mq-cli", "-p", "mq-bench", "--bins"]);
        run(&mut build)?;
        let built = target().join("dist");
        let go = tools::go_program("clientload");
        let go = go.inspect_err(|error| println!("without go-nsq: {error}")).ok();
        let programs = Programs { mq: built.join("mq"), rust: built.join("client-load"), go };
        println!(
            "microseconds of CPU time a message costs the client, {} of 100 bytes, best of {}",
            self.messages, self.rounds
        );
        println!("{:<34}{:>9}{:>14}{:>9}{:>9}", "", "libmq", "as to nsqd", "go-nsq", "ratio");
        for (name, peer, words) in LOADS {
            let extended =
                self.best(&programs, |url| (programs.rust.clone(), vec![name.into(), url.into()]), name)?;
            let plain = self.best(
                &programs,
                |url| (programs.rust.clone(), vec![name.into(), format!("{url}?extension=false")]),
                name,
            )?;
            let Some(go) = &programs.go else {
                println!("{words:<34}{extended:>9.3}{plain:>14.3}");
                continue;
            };
            let address = |url: &str| url.trim_start_matches("mq://").to_owned();
            let go = self.best(&programs, |url| (go.clone(), vec![peer.into(), address(url)]), name)?;
            println!(
                "{words:<34}{extended:>9.3}{plain:>14.3}{go:>9.3}{:>9}",
                format!("1/{:.1}", go / extended)
            );
        }
        wheel::bench(self.messages, self.rounds)
    }

    /// The best of some runs, each on a broker of its own, which has the messages where they are consumed.
    fn best(
        &self,
        programs: &Programs,
        load: impl Fn(&str) -> (PathBuf, Vec<String>),
        name: &str,
    ) -> Result<f64, String> {
        let mut best = f64::INFINITY;
        for _ in 0..self.rounds {
            let broker = Broker::start(&programs.mq)?;
            if name.starts_with("finish") {
                measure(&programs.rust, &[FILL.to_owned(), broker.url.clone()], self.messages)?;
            }
            let (program, arguments) = load(&broker.url);
            best = best.min(measure(&program, &arguments, self.messages)?);
        }
        Ok(best)
    }
}

/// What a program prints.
fn measure(path: &Path, arguments: &[String], messages: u64) -> Result<f64, String> {
    let shown = path.display();
    let mut load = program(path);
    let out = load.args(arguments).arg(messages.to_string()).output().map_err(|e| format!("{shown}: {e}"))?;
    let words = String::from_utf8_lossy(&out.stdout);
    words.trim().parse().map_err(|_| format!("{shown}: {}", String::from_utf8_lossy(&out.stderr)))
}

/// A broker on an empty folder, killed when it is dropped.
struct Broker {
    process: Child,
    url: String,
    folder: PathBuf,
}

impl Broker {
    fn start(mq: &Path) -> Result<Self, String> {
        let folder = target().join("bench").join("clients");
        let _ = std::fs::remove_dir_all(&folder);
        let mut serve = program(mq);
        serve.args([
            "serve",
            "--tcp-address=127.0.0.1:0",
            "--http-address=",
            "--grpc-address=",
            "--log-level=error",
        ]);
        serve.arg("--data-path").arg(&folder).stdout(Stdio::piped());
        let mut process = serve.spawn().map_err(|e| format!("{}: {e}", mq.display()))?;
        let mut line = String::new();
        if let Some(out) = process.stdout.take() {
            // The first line is `tcp ADDRESS`.
            BufReader::new(out).read_line(&mut line).map_err(|e| e.to_string())?;
        }
        let url = line.split_whitespace().nth(1).map(|address| format!("mq://{address}"));
        let broker = Self { process, url: url.unwrap_or_default(), folder };
        if broker.url.is_empty() { Err("the broker did not start".to_owned()) } else { Ok(broker) }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

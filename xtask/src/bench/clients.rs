//! `cargo xtask bench clients`: the CPU time that a message costs a client, the crate libmq and its library
//! for C beside go-nsq, each load on a broker of its own; a broker in the process; and the Python package
//! beside pynsq.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use clap::Args;

use crate::run::{cargo, program, run, target};
use crate::{tools, wheel};

/// Messages published before what consumes them is measured: in batches, by the crate.
const FILL: &str = "send-batches";

/// Arguments of `cargo xtask bench clients`.
#[derive(Args)]
pub(crate) struct Clients {
    /// Messages of a load
    #[arg(long, default_value_t = Self::default().messages)]
    messages: u64,
    /// Runs of each load; the best counts
    #[arg(long, default_value_t = Self::default().rounds)]
    rounds: u32,
}

impl Default for Clients {
    fn default() -> Self {
        Self { messages: 500_000, rounds: 3 }
    }
}

/// A load.
struct Load {
    /// Names it to the crate's program and to C's.
    name: &'static str,
    /// Names what of go-nsq's it is held against.
    peer: &'static str,
    words: &'static str,
    /// The bar: go-nsq's cost is at least so many times that of libmq.
    bar: u32,
}

const LOADS: [Load; 4] = [
    Load { name: "send", peer: "send", words: "publishes, one after the other", bar: 10 },
    Load { name: "send-batches", peer: "send-batches", words: "publishes in batches of 100", bar: 3 },
    Load { name: "finish", peer: "finish", words: "consumes, a finish each", bar: 10 },
    Load { name: "finish-batches", peer: "finish", words: "consumes in batches of 100", bar: 3 },
];

/// The programs.
struct Programs {
    mq: PathBuf,
    rust: PathBuf,
    /// `None` without a C compiler on this machine.
    c: Option<PathBuf>,
    /// `None` without Go on this machine.
    go: Option<PathBuf>,
}

impl Clients {
    pub(crate) fn run(self) -> Result<(), String> {
        let mut build = cargo();
        build.args(["build", "--profile", "dist", "--locked", "-p", "mq-cli", "-p", "mq-bench", "--bins"]);
        run(&mut build)?;
        let built = target().join("dist");
        let c = c_load(&built).inspect_err(|error| println!("without C: {error}")).ok();
        let go = tools::go_program("clientload");
        let go = go.inspect_err(|error| println!("without go-nsq: {error}")).ok();
        let programs = Programs { mq: built.join("mq"), rust: built.join("client-load"), c, go };
        println!(
            "microseconds of CPU time a message costs the client, {} of 100 bytes, best of {}",
            self.messages, self.rounds
        );
        println!(
            "{:<34}{:>9}{:>14}{:>9}{:>9}{:>9}{:>9}{:>7}",
            "", "libmq", "as to nsqd", "C", "go-nsq", "libmq", "C", "bar"
        );
        for load in LOADS {
            println!("{}", self.line(&programs, &load)?);
        }
        self.embedded(&programs)?;
        wheel::bench(self.messages, self.rounds)
    }

    /// A load's figures: the cost to each client, and libmq's and C's as parts of go-nsq's.
    fn line(&self, programs: &Programs, load: &Load) -> Result<String, String> {
        let Load { name, peer, words, bar } = *load;
        let of = |program: &Path, options: &str| {
            let arguments = |url: &str| (program.to_owned(), vec![name.into(), url.to_owned() + options]);
            self.best(programs, arguments, name)
        };
        let extended = of(&programs.rust, "")?;
        let plain = of(&programs.rust, "?extension=false")?;
        let c = programs.c.as_ref().map(|c| of(c, "")).transpose()?;
        let go = programs.go.as_ref().map(|go| {
            let address = |url: &str| url.trim_start_matches("mq://").to_owned();
            self.best(programs, |url| (go.clone(), vec![peer.into(), address(url)]), name)
        });
        let go = go.transpose()?;
        let part = |cost: Option<f64>| match (cost, go) {
            (Some(cost), Some(go)) => format!("1/{:.1}", go / cost),
            _ => String::new(),
        };
        let [own, own_c] = [part(Some(extended)), part(c)];
        let [c, go] = [c, go].map(|cost| cost.map(|cost| format!("{cost:.3}")).unwrap_or_default());
        let bar = format!("1/{bar}");
        Ok(format!("{words:<34}{extended:>9.3}{plain:>14.3}{c:>9}{go:>9}{own:>9}{own_c:>9}{bar:>7}"))
    }

    /// Publishing and consuming on a broker in the process, a thread each, in Rust and in C.
    fn embedded(&self, programs: &Programs) -> Result<(), String> {
        println!(
            "microseconds a message, published on one thread and consumed on another, in batches of 100"
        );
        println!("{:<34}{:>9}{:>14}", "", "libmq", "C");
        let folder = target().join("bench").join("embedded");
        let flush = format!("{}?durability=flush", folder.display());
        let best = |program: &Path, load: &str, url: &str| {
            let mut best = f64::INFINITY;
            for _ in 0..self.rounds {
                let _ = std::fs::remove_dir_all(&folder);
                best = best.min(measure(program, &[load.into(), url.into()], self.messages)?);
            }
            Ok::<f64, String>(best)
        };
        for (words, url) in [("at memory", "mq:memory"), ("at flush", &flush)] {
            let rust = best(&programs.rust, "embedded", url)?;
            let c = programs.c.as_ref().map(|c| best(c, "embedded", url)).transpose()?;
            println!("{words:<34}{rust:>9.3}{:>14}", c.map(|c| format!("{c:.3}")).unwrap_or_default());
        }
        println!(
            "{:<34}{:>9.3}",
            "one publish, at memory",
            best(&programs.rust, "publish-one", "mq:memory")?
        );
        if let Some(c) = &programs.c {
            println!("{:<34}{:>9}{:>14.4}", "a poll that finds nothing", "", best(c, "poll", "mq:memory")?);
        }
        let _ = std::fs::remove_dir_all(&folder);
        Ok(())
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
            let broker = Server::start(&programs.mq)?;
            if name.starts_with("finish") {
                measure(&programs.rust, &[FILL.to_owned(), broker.url.clone()], self.messages)?;
            }
            let (program, arguments) = load(&broker.url);
            best = best.min(measure(&program, &arguments, self.messages)?);
        }
        Ok(best)
    }
}

/// The C program of the loads, over the library of the same profile.
fn c_load(built: &Path) -> Result<PathBuf, String> {
    run(cargo().args(["build", "--profile", "dist", "--locked", "-p", "mq-ffi", "--lib"]))?;
    let (library, program_) = (built.join("libmq.so"), built.join("client-load-c"));
    // By the name that programs look for.
    let linked = built.join("libmq.so.0");
    let _ = std::fs::remove_file(&linked);
    std::os::unix::fs::symlink(&library, &linked).map_err(|e| format!("{}: {e}", linked.display()))?;
    let mut compile = program("cc");
    compile.args(["-O2", "-std=c11", "-Iffi/include", "bench/c/client_load.c", "-pthread", "-o"]);
    compile.arg(&program_).arg(&library).arg(format!("-Wl,-rpath,{}", built.display()));
    run(&mut compile)?;
    Ok(program_)
}

/// The figure that a program prints.
fn measure(path: &Path, arguments: &[String], messages: u64) -> Result<f64, String> {
    let shown = path.display();
    let mut load = program(path);
    let out = load.args(arguments).arg(messages.to_string()).output().map_err(|e| format!("{shown}: {e}"))?;
    let words = String::from_utf8_lossy(&out.stdout);
    words.trim().parse().map_err(|_| format!("{shown}: {}", String::from_utf8_lossy(&out.stderr)))
}

/// A broker on an empty folder, killed when it is dropped.
struct Server {
    process: Child,
    url: String,
    folder: PathBuf,
}

impl Server {
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

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

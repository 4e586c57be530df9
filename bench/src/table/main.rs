//! `bench-table`, which `cargo xtask bench broker` builds and runs: `mq` at each level, a server that keeps
//! nothing, and nsqd where there is one, under the same loads by turns; writes `docs/benchmarks.md`.
//!
//! - [`rows`]: the workloads, carried out by [`workloads`]; [`trial`]: one on one [`server`]; [`results`] of
//!   all
//! - [`page`], [`plot`]: what is written

mod page;
mod plot;
mod results;
mod rows;
mod server;
mod trial;
mod workloads;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use clap::Parser;

use self::plot::{Axis, Line};
use self::results::Results;
use self::rows::{ROWS, Row};
use self::server::{Kind, Programs, Server, empty};
use self::trial::{Figures, Trial};

/// The programs and folders that `cargo xtask bench broker` gives, and the arguments that it passes on.
#[derive(Parser)]
#[command(name = "cargo xtask bench broker", about = "Measures mq beside nsqd and writes docs/benchmarks.md")]
struct Table {
    #[arg(long, hide = true)]
    mq: PathBuf,
    #[arg(long, hide = true)]
    floor: PathBuf,
    #[arg(long, hide = true)]
    nsqd: Option<PathBuf>,
    #[arg(long, hide = true)]
    go_load: Option<PathBuf>,
    /// Folder of the servers' data; emptied
    #[arg(long, hide = true)]
    data: PathBuf,
    /// Number of times that everything is measured
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// A twentieth of the messages: to see that it works, not how fast
    #[arg(long)]
    quick: bool,
    /// Only this workload; can be given more than once
    #[arg(long, value_name = "WORKLOAD", value_parser = key)]
    only: Vec<&'static str>,
    /// Folder of the page and its plots
    #[arg(long, value_name = "FOLDER", default_value = "docs")]
    out: PathBuf,
}

fn key(text: &str) -> Result<&'static str, String> {
    let keys = || ROWS.iter().map(|row| row.key);
    keys()
        .find(|key| *key == text)
        .ok_or_else(|| format!("it must be one of {}", keys().collect::<Vec<_>>().join(", ")))
}

fn main() -> ExitCode {
    match Table::parse().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("bench-table: {message}");
            ExitCode::FAILURE
        }
    }
}

impl Table {
    fn run(self) -> Result<(), String> {
        let Self { mq, floor, nsqd, go_load, .. } = &self;
        let (mq, floor) = (mq.clone(), floor.clone());
        let programs = Programs { mq, floor, nsqd: nsqd.clone(), go_load: go_load.clone() };
        let rows: Vec<&Row> =
            ROWS.iter().filter(|row| self.only.is_empty() || self.only.contains(&row.key)).collect();
        let mut results = Results::default();
        for round in 0..self.rounds {
            for row in rows.iter().filter(|row| round == 0 || !row.once) {
                // By turns from either end, so that none is always first.
                let mut servers = row.servers.to_vec();
                if round % 2 == 1 {
                    servers.reverse();
                }
                for kind in servers {
                    println!("== round {} of {}: {} on {}", round + 1, self.rounds, row.key, kind.name());
                    if let Err(error) = self.measure(&programs, row, kind, &mut results) {
                        println!("{error}");
                        results.failures.push((row.key, kind, error));
                    }
                }
            }
            // After each, so that a run that is cut short is not for nothing.
            self.write(&results, &rows, &programs, round + 1)?;
        }
        Ok(())
    }

    fn measure(
        &self,
        programs: &Programs,
        row: &Row,
        kind: Kind,
        results: &mut Results,
    ) -> Result<(), String> {
        let folder = self.data.clone();
        empty(&folder)?;
        let Some(server) = Server::start(programs, kind, row.options, &folder)? else { return Ok(()) };
        let mut trial = Trial {
            programs,
            kind,
            options: row.options,
            folder: folder.clone(),
            quick: self.quick,
            commands: vec![server.command.clone()],
            server,
            figures: Figures::new(),
            curves: BTreeMap::new(),
        };
        let outcome = (row.run)(&mut trial);
        let Trial { figures, curves, commands, server, .. } = trial;
        drop(server);
        empty(&folder)?;
        let known = results.commands.entry(row.key).or_default();
        for command in commands {
            if !known.contains(&command) {
                known.push(command);
            }
        }
        outcome?;
        let shown = figures.iter().map(|(metric, value)| format!("{metric} {value:.3}"));
        println!("{}", shown.collect::<Vec<_>>().join(", "));
        results.note(row.key, kind, figures);
        for (_, curve) in curves {
            results.curves.insert((row.key, kind), curve);
        }
        Ok(())
    }

    fn write(
        &self,
        results: &Results,
        rows: &[&Row],
        programs: &Programs,
        rounds: usize,
    ) -> Result<(), String> {
        let plots = self.out.join("benchmarks");
        fs::create_dir_all(&plots).map_err(|error| format!("{}: {error}", plots.display()))?;
        let put = |path: PathBuf, text: String| {
            fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))
        };
        for (name, svg) in plots_of(results) {
            put(plots.join(name), svg)?;
        }
        let mut command = format!("cargo xtask bench broker --rounds {rounds}");
        if self.quick {
            command.push_str(" --quick");
        }
        for only in &self.only {
            command.push_str(&format!(" --only {only}"));
        }
        let page = self.out.join("benchmarks.md");
        put(page.clone(), page::write(results, rows, &machine(programs), &command, self.quick))?;
        println!("wrote {}", page.display());
        Ok(())
    }
}

/// The plots, by file name.
fn plots_of(results: &Results) -> Vec<(&'static str, String)> {
    let of = |row: &str| -> Vec<Line> {
        let curves = results.curves.iter().filter(|((key, _), _)| *key == row);
        curves.map(|((_, kind), points)| Line { name: kind.name(), points: points.clone() }).collect()
    };
    let axis = |words| Axis { words, logarithmic: false };
    let logarithmic = |words| Axis { words, logarithmic: true };
    // Percentiles by how many are slower, so that the tail has room.
    let slower = |quantile: f64| 1.0 / (1.0 - quantile).max(1e-4);
    let mut latency = of("latency10000");
    for line in &mut latency {
        for point in &mut line.points {
            point.0 = slower(point.0);
        }
    }
    let percentiles = [0.0, 0.5, 0.9, 0.99, 0.999, 0.9999].map(|q| (slower(q), format!("{}%", q * 100.0)));
    let mut backlog = of("backlog");
    for line in &mut backlog {
        line.points.sort_by(|one, other| one.0.total_cmp(&other.0));
    }
    let kinds = [Kind::Nsqd, Kind::Null, Kind::Memory, Kind::Flush];
    let groups: Vec<(&str, Vec<Option<f64>>)> = ROWS
        .iter()
        .filter(|row| row.metrics.first() == Some(&"cpu"))
        .map(|row| {
            let cpu = |kind| results.spread(row.key, kind, "cpu").map(|spread| spread.median);
            (row.key, kinds.map(cpu).to_vec())
        })
        .filter(|(_, cpu)| cpu.iter().any(Option::is_some))
        .collect();
    vec![
        (
            "batches.svg",
            plot::lines(
                "Throughput by batch, 200-byte messages, 8 commands in flight",
                logarithmic("messages of a command"),
                axis("messages a second"),
                &[],
                &of("batches"),
            ),
        ),
        (
            "latency.svg",
            plot::lines(
                "Latency at 10,000 messages a second",
                logarithmic("percentile"),
                logarithmic("microseconds"),
                &percentiles,
                &latency,
            ),
        ),
        (
            "cpu.svg",
            plot::bars(
                "Server CPU for a million messages",
                logarithmic("seconds"),
                &kinds.map(Kind::name),
                &groups,
            ),
        ),
        (
            "memory.svg",
            plot::lines(
                "Memory by backlog, 200-byte messages",
                axis("messages waiting"),
                axis("MB resident"),
                &[],
                &backlog,
            ),
        ),
    ]
}

/// Lines about the machine, the programs and the day.
fn machine(programs: &Programs) -> Vec<String> {
    let said = |program: &Path, args: &[&str]| {
        let output = Command::new(program).args(args).output().ok()?;
        Some(String::from_utf8_lossy(&output.stdout).lines().next()?.trim().to_owned())
    };
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let cpu = field(&read("/proc/cpuinfo"), "model name").unwrap_or_else(|| "unknown".to_owned());
    let kernel = said(Path::new("uname"), &["-sr"]).unwrap_or_default();
    let kilobytes = field(&read("/proc/meminfo"), "MemTotal").unwrap_or_default();
    let kilobytes: f64 = kilobytes.trim_end_matches(" kB").parse().unwrap_or(0.0);
    let mut lines = vec![
        said(Path::new("date"), &["-u", "+%Y-%m-%d"]).unwrap_or_default(),
        format!("{cpu}, {cores} processors, {:.1} GB of memory, {kernel}", kilobytes * 1024.0 / 1e9),
    ];
    lines.extend(said(&programs.mq, &["--version"]));
    lines.extend(programs.nsqd.as_deref().and_then(|nsqd| said(nsqd, &["-version"])));
    lines.retain(|line| !line.is_empty());
    lines
}

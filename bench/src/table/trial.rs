//! One workload on one server: `mq bench` runs, and what they measured.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use super::server::{Kind, Programs, Server, ServerOptions};

/// Figures by the name of their metric.
pub(super) type Figures = BTreeMap<&'static str, f64>;

/// A server under load.
pub(super) struct Trial<'a> {
    pub(super) programs: &'a Programs,
    pub(super) kind: Kind,
    pub(super) options: ServerOptions,
    pub(super) folder: PathBuf,
    pub(super) server: Server,
    /// A twentieth of everything, to see that it works.
    pub(super) quick: bool,
    pub(super) figures: Figures,
    /// Curves of the plots.
    pub(super) curves: BTreeMap<&'static str, Vec<(f64, f64)>>,
    /// Commands that were run, for anybody to repeat.
    pub(super) commands: Vec<String>,
}

/// A load under way.
pub(super) struct Load {
    process: Child,
    shown: String,
}

impl Trial<'_> {
    /// `count`, or less when it is only to be seen that it works.
    pub(super) fn scaled(&self, count: u64) -> u64 {
        if self.quick { (count / 20).max(1) } else { count }
    }

    /// Starts `mq bench` with these arguments; `$HTTP` in them is where the server has it.
    pub(super) fn start(&mut self, args: &str) -> Result<Load, String> {
        let shown = format!("mq bench {args} --tcp-address $ADDRESS --pid $PID --json");
        let mut command = Command::new(&self.programs.mq);
        let args = args.replace("$HTTP", &self.server.http);
        command.arg("bench").args(args.split_whitespace());
        if !args.contains("--tcp-address") {
            command.args(["--tcp-address", &self.server.address]);
        }
        command.args(["--pid", &self.server.pid().to_string(), "--json"]);
        self.spawn(&mut command, shown)
    }

    fn spawn(&mut self, command: &mut Command, shown: String) -> Result<Load, String> {
        if !self.commands.contains(&shown) {
            self.commands.push(shown.clone());
        }
        let process = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("{shown}: {error}"))?;
        Ok(Load { process, shown })
    }

    /// Runs the load by go-nsq with these arguments to the end: its results, in the form of `mq bench`.
    pub(super) fn go_load(&mut self, args: &str) -> Result<Value, String> {
        let program = self.programs.go_load.as_ref().ok_or("go-nsq cannot be had here")?;
        let mut command = Command::new(program);
        command.args(args.split_whitespace()).args(["--address", &self.server.address]);
        command.args(["--pid", &self.server.pid().to_string()]);
        let shown = format!("(cd tests/go && go run ./load {args} --address $ADDRESS --pid $PID)");
        self.spawn(&mut command, shown)?.finish()
    }

    /// Runs it to the end: its results.
    pub(super) fn bench(&mut self, args: &str) -> Result<Value, String> {
        self.start(args)?.finish()
    }

    /// Notes CPU and rate of a phase under `cpu` and `rate`.
    pub(super) fn note(&mut self, report: &Value, phase: usize) {
        let phase = &report["phases"][phase];
        let mut note = |name, value: &Value| {
            if let Some(value) = value.as_f64() {
                self.figures.insert(name, value);
            }
        };
        note("rate", &phase["operations_per_second"]);
        note("cpu", &phase["server"]["cpu_s_per_million"]);
        let operations = phase["operations"].as_f64().unwrap_or(1.0).max(1.0);
        if let Some(system_s) = phase["server"]["system_s"].as_f64() {
            self.figures.insert("cpu_system", system_s * 1e6 / operations);
        }
        if let Some(other_s) = phase["other_cpu_s"].as_f64() {
            self.figures.insert("cpu_other", other_s * 1e6 / operations);
        }
    }

    /// Notes CPU a message over several phases, of which `messages` is the number of messages.
    pub(super) fn note_all(&mut self, phases: &[&Value], messages: f64) {
        let sum = |path: &[&str]| -> f64 {
            let of = |phase: &&Value| path.iter().fold(*phase, |value, key| &value[*key]).as_f64();
            phases.iter().filter_map(of).sum()
        };
        self.figures.insert("cpu", sum(&["server", "cpu_s"]) * 1e6 / messages);
        self.figures.insert("cpu_system", sum(&["server", "system_s"]) * 1e6 / messages);
        self.figures.insert("cpu_other", sum(&["other_cpu_s"]) * 1e6 / messages);
        self.figures.insert("rate", messages / sum(&["seconds"]));
    }

    /// Notes the percentiles of a latency run.
    pub(super) fn note_latency(&mut self, report: &Value) {
        for (name, key) in
            [("p50", "p50_us"), ("p99", "p99_us"), ("p999", "p999_us"), ("latency_max", "max_us")]
        {
            if let Some(value) = report["latency"][key].as_f64() {
                self.figures.insert(name, value);
            }
        }
        let curve = report["latency"]["curve"].as_array().into_iter().flatten();
        let points = curve.filter_map(|point| Some((point[0].as_f64()?, point[1].as_f64()?))).collect();
        self.curves.insert("latency", points);
    }

    /// Kills the server and starts it again on its folder.
    pub(super) fn restart(&mut self) -> Result<(), String> {
        self.server.kill();
        let server = Server::start(self.programs, self.kind, self.options, &self.folder)?;
        self.server = server.ok_or("the program is gone")?;
        Ok(())
    }
}

impl Load {
    /// Waits for it: its results.
    pub(super) fn finish(self) -> Result<Value, String> {
        let output = self.process.wait_with_output().map_err(|error| format!("{}: {error}", self.shown))?;
        if !output.status.success() {
            let complaint = String::from_utf8_lossy(&output.stderr);
            return Err(format!("{}: {}: {}", self.shown, output.status, complaint.trim()));
        }
        serde_json::from_slice(&output.stdout).map_err(|error| format!("{}: {error}", self.shown))
    }
}

/// Takes the files of `folder` out of the page cache; false where only an administrator may.
pub(super) fn forget_files() -> bool {
    let synced = Command::new("sync").status().is_ok_and(|status| status.success());
    synced && std::fs::write("/proc/sys/vm/drop_caches", "1").is_ok()
}

/// One write and fdatasync for each record in `folder`: how many a second.
pub(super) fn fdatasync_rate(programs: &Programs, folder: &Path, records: u64) -> Result<f64, String> {
    let mut command = Command::new(&programs.floor);
    command.arg("fdatasync").arg(folder.join("records")).args(["--records", &records.to_string()]);
    let output = command.output().map_err(|error| format!("floor: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    text.trim().parse().map_err(|_| format!("floor: {}", String::from_utf8_lossy(&output.stderr)))
}

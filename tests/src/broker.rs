//! A broker as a process, on a folder that outlives it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::Receiver;

use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};
use tempfile::TempDir;

use crate::output::{Collected, lines};
use crate::{PATIENCE, binary, signal, until};

/// A running `mq serve` on a folder of its own. Killed when dropped; after a panic its stderr is shown.
pub struct Broker {
    folder: TempDir,
    /// The program it runs under, with its arguments; nothing = none.
    under: Vec<String>,
    /// Flags besides address and folder.
    flags: Vec<String>,
    process: Child,
    address: String,
    http: String,
    grpc: String,
    stdout: Receiver<String>,
    stderr: Collected,
}

impl Broker {
    /// Starts a broker on a free port and waits until it is ready.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// The same with more flags.
    pub fn start_with(flags: &[&str]) -> Self {
        Self::start_under(&[], flags)
    }

    /// The same at these addresses, of TCP, HTTP and gRPC.
    pub fn start_at(addresses: [&str; 3], flags: &[&str]) -> Self {
        Self::start_all(addresses, &[], flags)
    }

    /// The same, HTTPS served at `https`.
    pub fn start_with_https(https: &str, flags: &[&str]) -> Self {
        let https = format!("--https-address={https}");
        let any = "127.0.0.1:0";
        Self::start_all([any; 3], &[], &[flags, &[https.as_str()]].concat())
    }

    /// The same under a program that runs the command it is given in its own process, as `strace -D` does.
    pub fn start_under(under: &[&str], flags: &[&str]) -> Self {
        Self::start_all(["127.0.0.1:0"; 3], under, flags)
    }

    fn start_all(addresses: [&str; 3], under: &[&str], flags: &[&str]) -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<String>>();
        let (under, flags) = (owned(under), owned(flags));
        let Started { process, stderr, stdout, address, http, grpc } =
            spawn(addresses, &folder.path().join("data"), &under, &flags);
        Self { folder, under, flags, process, address, http, grpc, stdout, stderr }
    }

    /// Address of NSQ's TCP protocol.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Address of HTTP.
    pub fn http_address(&self) -> &str {
        &self.http
    }

    /// Address of gRPC.
    pub fn grpc_address(&self) -> &str {
        &self.grpc
    }

    /// Its data folder.
    pub fn data_path(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// The next line of its stdout, after those with its addresses.
    pub fn stdout_line(&self) -> String {
        self.stdout.recv_timeout(PATIENCE).expect("a line")
    }

    /// Its stderr since it was started last.
    pub fn stderr(&self) -> String {
        self.stderr.so_far()
    }

    /// `kill -9`, and waits until it is gone.
    pub fn kill(&mut self) {
        self.process.kill().expect("a running process");
        self.process.wait().expect("its status");
    }

    /// Starts it again on the same folder and ports. It must not run.
    pub fn restart(&mut self) {
        let addresses = [&self.address, &self.http, &self.grpc].map(String::as_str);
        let Started { process, stderr, stdout, address, http, grpc } =
            spawn(addresses, &self.data_path(), &self.under, &self.flags);
        assert_eq!([&address, &http, &grpc], [&self.address, &self.http, &self.grpc]);
        (self.process, self.stderr, self.stdout) = (process, stderr, stdout);
    }

    /// Sends the signal of that number and goes on, whether or not the process is there still.
    pub fn signal(&self, number: i32) {
        signal(self.process.id(), number);
    }

    /// Sets the limit on the size of files that it may write, in bytes.
    pub fn limit_file_size(&self, bytes: Option<u64>) {
        let limit = Rlimit { current: bytes, maximum: None };
        prlimit(Some(Pid::from_child(&self.process)), Resource::Fsize, limit).expect("a running process");
    }

    /// Sends SIGTERM and goes on.
    pub fn terminate(&self) {
        kill_process(Pid::from_child(&self.process), Signal::TERM).expect("a running process");
    }

    /// Sends SIGINT and goes on.
    pub fn interrupt(&self) {
        kill_process(Pid::from_child(&self.process), Signal::INT).expect("a running process");
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Its resident memory in bytes, as the system says it.
    pub fn resident(&self) -> u64 {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).expect("its status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its memory");
        let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
        kilobytes * 1024
    }

    /// Sends SIGHUP and goes on.
    pub fn hang_up(&self) {
        kill_process(Pid::from_child(&self.process), Signal::HUP).expect("a running process");
    }

    /// Whether its process has ended, or executes nothing any more but its exit. Its sockets are closed a
    /// moment before its status is there.
    pub fn has_ended(&mut self) -> bool {
        /// One of the process's flags: it is exiting (`PF_EXITING`, see proc_pid_stat(5) and the kernel's
        /// sched.h).
        const EXITING: u64 = 4;
        if self.process.try_wait().expect("a status").is_some() {
            return true;
        }
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.process.id())).expect("its state");
        // The name before the last parenthesis may have spaces; six fields follow it before the flags.
        let flags = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(6));
        flags.and_then(|flags| flags.parse::<u64>().ok()).expect("its flags") & EXITING != 0
    }

    /// Waits until it has ended.
    pub fn wait(&mut self) -> ExitStatus {
        until("the broker to end", || self.process.try_wait().expect("a status"))
    }

    /// SIGTERM, and asserts a clean end.
    pub fn stop(&mut self) {
        self.terminate();
        let status = self.wait();
        assert!(status.success(), "{status}: {}", self.stderr());
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
        if std::thread::panicking() {
            eprintln!("--- stderr of the broker at {}\n{}---", self.address, self.stderr());
        }
    }
}

/// A process that is ready.
struct Started {
    process: Child,
    stderr: Collected,
    stdout: Receiver<String>,
    address: String,
    http: String,
    grpc: String,
}

/// `addresses`: of TCP, HTTP and gRPC.
fn spawn(addresses: [&str; 3], data_path: &Path, under: &[String], flags: &[String]) -> Started {
    let mut command = match under.split_first() {
        Some((program, arguments)) => {
            let mut command = Command::new(program);
            command.args(arguments).arg(binary());
            command
        }
        None => Command::new(binary()),
    };
    let mut process = command
        .args(["serve", "--tcp-address", addresses[0], "--http-address", addresses[1], "--https-address="])
        .args(["--grpc-address", addresses[2], "--data-path"])
        .arg(data_path)
        .args(flags)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("mq starts");
    let stderr = Collected::of(process.stderr.take().expect("a pipe"));
    let stdout = lines(process.stdout.take().expect("a pipe"));
    let mut address = |name: &str| {
        let Ok(line) = stdout.recv_timeout(PATIENCE) else {
            let _ = process.kill();
            let _ = process.wait();
            panic!("mq serve is not ready: {}", stderr.so_far());
        };
        line.strip_prefix(name).expect("the addresses first").to_owned()
    };
    let (tcp, http) = (address("tcp "), address("http "));
    if flags.iter().any(|flag| flag.starts_with("--https-address=")) {
        address("https ");
    }
    let (address, grpc) = (tcp, address("grpc "));
    Started { process, stderr, stdout, address, http, grpc }
}

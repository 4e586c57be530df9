//! `mq pub`, `mq tail` and failing starts: commands that end.

use std::io::Write;
use std::process::{Child, Command, ExitStatus, Stdio};

use crate::output::Collected;
use crate::{binary, until};

/// A command that ended.
pub struct Finished {
    /// The exit status.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// Its standard error.
    pub stderr: String,
}

impl Finished {
    /// Asserts success and gives what was printed.
    #[track_caller]
    pub fn ok(self) -> Vec<u8> {
        assert!(self.status.success(), "{}: {}", self.status, self.stderr);
        self.stdout
    }

    /// Asserts exit code 1 and gives the complaint.
    #[track_caller]
    pub fn failed(self) -> String {
        assert_eq!(self.status.code(), Some(1), "{}", self.stderr);
        self.stderr
    }
}

/// Starts `mq` with all its pipes ours.
pub fn start(args: &[&str]) -> Child {
    start_with_url(args, None)
}

/// The same with `MQ_URL`.
fn start_with_url(args: &[&str], url: Option<&str>) -> Child {
    Command::new(binary())
        .args(args)
        .env_remove("MQ_TCP_ADDRESS")
        .env_remove("MQ_URL")
        .envs(url.map(|url| ("MQ_URL", url)))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("mq starts")
}

/// Sends the signal of that number to a process, which may have ended.
pub fn signal(pid: u32, number: i32) {
    let sent =
        Command::new("sh").args(["-c", &format!("kill -{number} {pid}")]).stderr(Stdio::null()).status();
    sent.expect("sh runs");
}

/// Runs `mq` with nothing to read.
pub fn mq(args: &[&str]) -> Finished {
    mq_with_input(args, &[])
}

/// Runs `mq` with `input` as its stdin.
pub fn mq_with_input(args: &[&str], input: &[u8]) -> Finished {
    finish(args, start(args), input)
}

/// Runs `mq` with `MQ_URL`.
pub fn mq_with_url(args: &[&str], url: &str) -> Finished {
    finish(args, start_with_url(args, Some(url)), &[])
}

fn finish(args: &[&str], mut child: Child, input: &[u8]) -> Finished {
    let stdout = Collected::of(child.stdout.take().expect("a pipe"));
    let stderr = Collected::of(child.stderr.take().expect("a pipe"));
    let mut stdin = child.stdin.take().expect("a pipe");
    let input = input.to_vec();
    // A command that fails early closes its stdin: what it did not read is its own affair.
    let feeder = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let status = until(&format!("`mq {}` to end", args.join(" ")), || child.try_wait().expect("a status"));
    feeder.join().expect("the feeder");
    let stderr = String::from_utf8_lossy(&stderr.all()).into_owned();
    Finished { status, stdout: stdout.all(), stderr }
}

//! The output of a stage: written to a file, watched for the counts of test runners, and shown only if the
//! stage fails.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::run::target;

/// Longest silence: CI takes a longer one for a hang.
const SILENCE_MAX: Duration = Duration::from_secs(20);
/// Longest wait for output after a program has ended: a process that it left behind can hold its pipes open.
const LEFTOVER_WAIT: Duration = Duration::from_secs(2);
/// Time between two looks at whether a program has ended.
const TICK: Duration = Duration::from_millis(250);
/// Lines shown of a stage that failed; the file has all.
const SHOWN_MAX: usize = 400;

/// Tests that the runners of a stage reported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) ignored: u64,
}

/// The log of the stage that runs now.
static CURRENT: Mutex<Option<StageLog>> = Mutex::new(None);

/// Begins the log of a stage: what `run` runs from now on is written there.
pub(crate) fn begin(name: &str) -> Result<(), String> {
    let log = StageLog::begin(name)?;
    *CURRENT.lock().unwrap_or_else(PoisonError::into_inner) = Some(log);
    Ok(())
}

/// Ends the log of the stage; see [`StageLog::end`].
pub(crate) fn end(failed: bool) -> Tally {
    let log = CURRENT.lock().unwrap_or_else(PoisonError::into_inner).take();
    log.map(|log| log.end(failed)).unwrap_or_default()
}

/// Runs a program to its end, with its output in the log of the stage, or passed through where no stage runs.
pub(crate) fn run(command: &mut Command) -> std::io::Result<ExitStatus> {
    match &mut *CURRENT.lock().unwrap_or_else(PoisonError::into_inner) {
        Some(log) => log.run(command),
        None => command.status(),
    }
}

/// Writes text of our own to the log of the stage, or to standard output where no stage runs.
pub(crate) fn note(text: &str) -> std::io::Result<()> {
    match &mut *CURRENT.lock().unwrap_or_else(PoisonError::into_inner) {
        Some(log) => writeln!(log.file, "{}", text.trim_end()),
        None => writeln!(std::io::stdout(), "{}", text.trim_end()),
    }
}

/// The log of one stage.
struct StageLog {
    name: String,
    path: PathBuf,
    file: File,
    tally: Tally,
    /// The part of the tally that comes from cargo, which reports each of many programs.
    cargo: Tally,
    started: Instant,
    shown: Instant,
    /// The test program or step that runs now.
    current: String,
}

impl StageLog {
    /// Begins the log `target/stages/NAME.log`.
    fn begin(name: &str) -> Result<Self, String> {
        let folder = target().join("stages");
        let path = folder.join(format!("{name}.log"));
        let file = fs::create_dir_all(&folder).and_then(|()| File::create(&path));
        let file = file.map_err(|e| format!("{}: {e}", path.display()))?;
        let now = Instant::now();
        Ok(Self {
            name: name.to_owned(),
            path,
            file,
            tally: Tally::default(),
            cargo: Tally::default(),
            started: now,
            shown: now,
            current: String::new(),
        })
    }

    /// Runs a program to its end, with its output in the log.
    fn run(&mut self, command: &mut Command) -> std::io::Result<ExitStatus> {
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        let shown = words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ");
        writeln!(self.file, "$ {shown}")?;
        self.current = shown.chars().take(60).collect();
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let (lines, received) = channel();
        if let Some(pipe) = child.stdout.take() {
            read_lines(pipe, lines.clone());
        }
        if let Some(pipe) = child.stderr.take() {
            read_lines(pipe, lines.clone());
        }
        // The threads have the only senders left: the channel ends with the pipes.
        drop(lines);
        let (mut ended, mut looked) = (None, Instant::now());
        loop {
            let silent = match received.recv_timeout(TICK) {
                Ok(line) => {
                    self.take(&line)?;
                    false
                }
                Err(RecvTimeoutError::Timeout) => true,
                Err(RecvTimeoutError::Disconnected) => break,
            };
            if self.shown.elapsed() > SILENCE_MAX {
                self.show_progress();
            }
            if ended.is_none() && looked.elapsed() > TICK {
                ended = child.try_wait()?.map(|_| Instant::now());
                looked = Instant::now();
            }
            let left_for = ended.map_or(Duration::ZERO, |at| at.elapsed());
            if silent && left_for > LEFTOVER_WAIT || left_for > LEFTOVER_WAIT * 5 {
                break;
            }
        }
        child.wait()
    }

    /// Adds a line of output.
    fn take(&mut self, line: &str) -> std::io::Result<()> {
        writeln!(self.file, "{line}")?;
        if let Some(running) = running(line) {
            self.current = running.to_owned();
        }
        if let Some(found) = cargo_result(line) {
            self.cargo.add(found);
            self.tally.add(found);
        } else if let Some(found) = runner_result(line) {
            self.tally.add(found);
            self.print(line.trim());
        }
        Ok(())
    }

    fn show_progress(&mut self) {
        let Tally { passed, failed, .. } = self.tally;
        let seconds = self.started.elapsed().as_secs();
        let line =
            format!("   {} {seconds} s: {passed} passed, {failed} failed; now {}", self.name, self.current);
        self.print(&line);
    }

    fn print(&mut self, line: &str) {
        println!("{line}");
        self.shown = Instant::now();
    }

    /// Ends the log: prints cargo's sum in cargo's own form, and all of what matters if the stage failed.
    fn end(self, failed: bool) -> Tally {
        if self.cargo != Tally::default() {
            let Tally { passed, failed, ignored } = self.cargo;
            let word = if failed == 0 { "ok" } else { "FAILED" };
            let seconds = self.started.elapsed().as_secs_f64();
            println!(
                "test result: {word}. {passed} passed; {failed} failed; {ignored} ignored; 0 measured; 0 filtered out; \
                 finished in {seconds:.2}s"
            );
        }
        if failed {
            let bytes = fs::read(&self.path).unwrap_or_default();
            let text = String::from_utf8_lossy(&bytes);
            let lines: Vec<&str> = text.lines().filter(|line| !is_noise(line)).collect();
            let left_out = lines.len().saturating_sub(SHOWN_MAX);
            println!("-- {} (without {left_out} lines before)", self.path.display());
            lines.iter().skip(left_out).for_each(|line| println!("{line}"));
            println!("-- end of {}", self.path.display());
        }
        self.tally
    }
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.ignored += other.ignored;
    }
}

/// Sends each line of `pipe`, in a thread of its own, until the pipe or the receiver is closed.
fn read_lines(pipe: impl Read + Send + 'static, lines: Sender<String>) {
    std::thread::spawn(move || {
        let mut pipe = BufReader::new(pipe);
        let mut line = Vec::new();
        while pipe.read_until(b'\n', &mut line).is_ok_and(|bytes| bytes > 0) {
            let text = String::from_utf8_lossy(&line).trim_end_matches(['\n', '\r']).to_owned();
            if lines.send(text).is_err() {
                return;
            }
            line.clear();
        }
    });
}

/// The test program that cargo starts, from its line.
fn running(line: &str) -> Option<&str> {
    let line = line.trim_start();
    if let Some(documented) = line.strip_prefix("Doc-tests ") {
        return Some(documented);
    }
    line.strip_prefix("Running ").map(|program| program.split(" (").next().unwrap_or(program))
}

/// The counts of cargo's line for one program.
fn cargo_result(line: &str) -> Option<Tally> {
    let counts = line.trim_start().strip_prefix("test result: ")?;
    let count = |word| number_before(counts, word).unwrap_or_default();
    Some(Tally { passed: count("passed"), failed: count("failed"), ignored: count("ignored") })
}

/// The counts of the closing line of pytest, `go test -v`, `node --test` or Maven.
fn runner_result(line: &str) -> Option<Tally> {
    let trimmed = line.trim();
    let one = |passed, failed, ignored| Some(Tally { passed, failed, ignored });
    // go reports each test; those within another are indented.
    match line {
        _ if line.starts_with("--- PASS: ") => return one(1, 0, 0),
        _ if line.starts_with("--- FAIL: ") => return one(0, 1, 0),
        _ if line.starts_with("--- SKIP: ") => return one(0, 0, 1),
        _ => {}
    }
    let node = trimmed.trim_start_matches(['#', 'ℹ', ' ']);
    if node.len() < trimmed.len() {
        let count = |word: &str| node.strip_prefix(word).and_then(|count| count.trim().parse().ok());
        match (count("pass "), count("fail "), count("skipped ")) {
            (Some(passed), ..) => return one(passed, 0, 0),
            (_, Some(failed), _) => return one(0, failed, 0),
            (.., Some(skipped)) => return one(0, 0, skipped),
            _ => {}
        }
    }
    let maven =
        trimmed.trim_start_matches("[INFO] ").trim_start_matches("[ERROR] ").trim_start_matches("[WARNING] ");
    if maven.starts_with("Tests run: ") && !maven.contains("Time elapsed") {
        let count = |word: &str| {
            let rest = maven.split_once(word)?.1;
            rest.split(|c: char| !c.is_ascii_digit()).next()?.parse::<u64>().ok()
        };
        let (run, skipped) = (count("Tests run: ")?, count("Skipped: ")?);
        let failed = count("Failures: ")? + count("Errors: ")?;
        return one(run.saturating_sub(failed + skipped), failed, skipped);
    }
    let pytest = trimmed.trim_matches(['=', ' ']);
    let is_last = pytest.contains(" in ") && pytest.ends_with(['s', ')']);
    let counts = [" passed", " failed", " error"].iter().any(|word| pytest.contains(word));
    if is_last && counts && pytest.starts_with(|c: char| c.is_ascii_digit()) {
        let count = |word| number_before(pytest, word).unwrap_or_default();
        let failed = count("failed") + count("error") + count("errors");
        return one(count("passed"), failed, count("skipped"));
    }
    None
}

/// The number that stands before `word`: 12 in "12 passed, 1 failed".
fn number_before(text: &str, word: &str) -> Option<u64> {
    let words: Vec<&str> =
        text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).collect();
    let at = words.iter().position(|found| *found == word)?;
    words.get(at.checked_sub(1)?)?.parse().ok()
}

/// Lines that say of one more thing that it is well.
fn is_noise(line: &str) -> bool {
    let line = line.trim();
    line.is_empty()
        || line.ends_with(" ... ok")
        || line.starts_with("running ")
        || line.starts_with("test result: ok")
        || ["Compiling ", "Running ", "Checking ", "Documenting ", "=== RUN", "--- PASS", "Doc-tests "]
            .iter()
            .any(|begin| line.starts_with(begin))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(passed: u64, failed: u64, ignored: u64) -> Option<Tally> {
        Some(Tally { passed, failed, ignored })
    }

    #[test]
    fn the_closing_lines_of_all_runners_are_counted() {
        for (line, counted) in [
            ("===== 12 passed, 1 skipped in 3.20s =====", tally(12, 0, 1)),
            ("==== 2 failed, 10 passed, 1 error in 63.20s (0:01:03) ====", tally(10, 3, 0)),
            ("--- PASS: TestFleet (0.30s)", tally(1, 0, 0)),
            ("    --- PASS: TestFleet/one (0.30s)", None),
            ("--- FAIL: TestFleet (0.30s)", tally(0, 1, 0)),
            ("ℹ pass 9", tally(9, 0, 0)),
            ("# fail 2", tally(0, 2, 0)),
            ("# pass by", None),
            (
                "[INFO] Tests run: 4, Failures: 0, Errors: 0, Skipped: 0, Time elapsed: 1.2 s -- in libmq.NsqJTest",
                None,
            ),
            ("[ERROR] Tests run: 9, Failures: 1, Errors: 1, Skipped: 2", tally(5, 2, 2)),
            ("a line that has passed in silence", None),
        ] {
            assert_eq!(runner_result(line), counted, "{line}");
            assert_eq!(cargo_result(line), None, "{line}");
        }
    }

    #[test]
    fn cargos_lines_are_summed() {
        let line = "test result: FAILED. 12 passed; 1 failed; 2 ignored; 0 measured; 0 filtered out; finished in 0.10s";
        assert_eq!(cargo_result(line), tally(12, 1, 2));
        let mut log = StageLog::begin("sum-test").unwrap();
        log.take(line).unwrap();
        log.take("     Running tests/broker.rs (target/debug/deps/broker-1234)").unwrap();
        log.take(line).unwrap();
        assert_eq!(log.current, "tests/broker.rs");
        assert_eq!(Some(log.end(false)), tally(24, 2, 4));
    }

    #[test]
    fn a_program_left_behind_does_not_hold_the_stage() {
        let mut log = StageLog::begin("leftover-test").unwrap();
        let status = log.run(Command::new("sh").args(["-c", "sleep 30 & echo $!; exit 3"])).unwrap();
        assert_eq!(status.code(), Some(3));
        let text = fs::read_to_string(&log.path).unwrap();
        let sleeper = text.lines().last().unwrap();
        assert!(sleeper.parse::<u32>().is_ok(), "{text}");
        assert!(
            Command::new("kill").arg(sleeper).status().unwrap().success(),
            "it is gone: the log waited for it"
        );
    }

    #[test]
    fn only_lines_of_success_are_noise() {
        for line in ["test a ... ok", "   Compiling mq v0.1", "", "test result: ok. 1 passed; 0 failed"] {
            assert!(is_noise(line), "{line}");
        }
        for line in ["test a ... FAILED", "thread 'a' panicked at b.rs:1:1:", "test result: FAILED. 0 passed"]
        {
            assert!(!is_noise(line), "{line}");
        }
    }
}

//! System calls before `OK` is sent, as strace sees them: at `flush` the write, at `sync` the fsync.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};

use mq_tests::{Broker, until};

use crate::clients::{connect, topic};

/// `OK` on NSQ's wire as strace prints it.
const OK: &str = r#""\0\0\0\6\0\0\0\0OK""#;

/// Whether strace is there and may trace.
fn can_trace() -> bool {
    let tried =
        Command::new("strace").args(["-D", "-f", "-o", "/dev/null", "true"]).stderr(Stdio::null()).status();
    tried.is_ok_and(|status| status.success())
}

/// Sends one request over HTTP and asserts that it is done.
fn ask(broker: &Broker, request: &str, body: &str) {
    let mut socket = TcpStream::connect(broker.http_address()).unwrap();
    let length = body.len();
    let head = format!(
        "{request} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n"
    );
    socket.write_all(format!("{head}{body}").as_bytes()).unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{request}: {answer}");
}

/// A trace with one line for each call, or two where another thread's came between its start and its end.
struct Trace(Vec<String>);

impl Trace {
    /// The lines on which `call` starts, with `part` among its arguments.
    fn starts(&self, call: &str, part: &str) -> impl DoubleEndedIterator<Item = usize> {
        let lines = self.0.iter().enumerate();
        lines
            .filter(move |(_, line)| line.contains(&format!(" {call}(")) && line.contains(part))
            .map(|(at, _)| at)
    }

    /// The line on which the call that starts at `at` has ended, and what it returned.
    fn end(&self, at: usize) -> (usize, &str) {
        let line = &self.0[at];
        let thread = line.split(' ').next().unwrap();
        let at = if line.ends_with("<unfinished ...>") {
            let is_end =
                |line: &String| line.starts_with(&format!("{thread} ")) && line.contains(" resumed>");
            at + 1 + self.0[at + 1..].iter().position(is_end).expect("an end of the call")
        } else {
            at
        };
        (at, self.0[at].rsplit_once(" = ").expect("a result").1)
    }

    /// The write of `body` to a log file: that file as the trace names it, and the line on which it was
    /// written.
    fn written(&self, body: &str) -> (&str, usize) {
        let writes: Vec<usize> = self.starts("pwritev", body).collect();
        assert_eq!(writes.len(), 1, "writes of {body:?}");
        let line = &self.0[writes[0]];
        let file = &line[line.find('<').unwrap()..=line.find('>').unwrap()];
        assert!(file.ends_with(".log>"), "{line}");
        let (end, result) = self.end(writes[0]);
        assert!(result.parse::<usize>().is_ok_and(|bytes| bytes > body.len()), "{line}: {result}");
        (file, end)
    }
}

#[tokio::test]
async fn ok_follows_the_write_at_flush_and_the_fsync_at_sync() {
    if !can_trace() {
        println!("skipped: strace is not installed, or may not trace");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("trace");
    let calls = "trace=pwritev,pwrite64,writev,write,fdatasync,fsync,sendto,sendmsg";
    // -D: the broker is our child, strace is not. -y: files by name.
    let strace = ["strace", "-D", "-f", "-y", "-s", "256", "-e", calls, "-o", file.to_str().unwrap()];
    let mut broker = Broker::start_under(&strace, &["--durability", "flush"]);
    ask(&broker, "POST /topic/create?topic=synced", "");
    ask(&broker, "PUT /topic/config?topic=synced", "{\"durability\":\"sync\"}");
    let mut publisher = connect(&broker).await;
    for (name, body) in [("written", "is written"), ("synced", "is synced")] {
        publisher.publish(&topic(name), body.as_bytes()).await.unwrap();
        publisher.flush().await.unwrap();
    }
    drop(publisher);
    broker.stop();
    let is_whole =
        |trace: &String| trace.lines().last().is_some_and(|line| line.ends_with("+++ exited with 0 +++"));
    let trace = until("the trace to end", || std::fs::read_to_string(&file).ok().filter(is_whole));
    let trace = Trace(trace.lines().map(str::to_owned).collect());
    let mut answers: Vec<usize> =
        ["sendto", "sendmsg", "write", "writev"].iter().flat_map(|call| trace.starts(call, OK)).collect();
    answers.sort_unstable();
    // The last two are for the two publishes, each of which was answered before the next was sent.
    let [.., ok_at_flush, ok_at_sync] = answers[..] else { panic!("{answers:?}: too few answers") };

    let (_, written) = trace.written("is written");
    assert!(written < ok_at_flush, "at flush, OK on line {ok_at_flush}, the write on line {written}");

    let (log, written) = trace.written("is synced");
    assert!(ok_at_flush < written && written < ok_at_sync, "{ok_at_flush}, {written}, {ok_at_sync}");
    let syncs: Vec<_> = trace.starts("fdatasync", log).filter(|start| *start > written).collect();
    let synced = syncs.iter().map(|start| trace.end(*start)).find(|(_, result)| *result == "0");
    let (synced, _) = synced.expect("an fsync of the log after the write");
    assert!(synced < ok_at_sync, "at sync, OK on line {ok_at_sync}, the fsync on line {synced}");
}

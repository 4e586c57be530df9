//! Start, stop, and start again.

use std::io::{BufRead, Write};
use std::net::TcpStream;
use std::time::Instant;

use mq_nsq::client::{Connection, Identify};
use mq_tests::{Broker, binary, mq, mq_with_input, signal, until};

use crate::clients::{connect, create_channel, next, subscribe, topic};

#[test]
fn a_ready_broker_prints_its_address_and_two_lines_that_work() {
    let broker = Broker::start();
    assert!(broker.stdout_line().starts_with("data /"));
    assert!(broker.stdout_line().starts_with("ready mq 0."));
    let (publish, consume) = (broker.stdout_line(), broker.stdout_line());
    let sh = |line: &str| std::process::Command::new("sh").args(["-c", line]).output().unwrap();
    let published = sh(&publish);
    assert!(published.status.success(), "{publish}: {published:?}");
    assert_eq!(sh(&format!("{consume} -n 1")).stdout, b"hello\n", "{consume}");
}

#[test]
fn a_folder_open_elsewhere_is_refused() {
    let broker = Broker::start();
    let folder = broker.data_path();
    let second =
        mq(&["serve", "--tcp-address", "127.0.0.1:0", "--data-path", folder.to_str().unwrap()]).failed();
    assert!(second.contains("--data-path") && second.contains(folder.to_str().unwrap()), "{second}");
}

#[test]
fn a_port_in_use_is_refused_by_name() {
    let broker = Broker::start();
    let folder = tempfile::tempdir().unwrap();
    let second =
        mq(&["serve", "-tcp-address", broker.address(), "-data-path", folder.path().to_str().unwrap()])
            .failed();
    assert!(second.contains("--tcp-address") && second.contains("port"), "{second}");
}

#[test]
fn a_failed_start_leaves_no_data_folder() {
    let broker = Broker::start();
    let folder = tempfile::tempdir().unwrap();
    let taken = broker.address();
    for (n, flags) in [
        vec!["--tcp-address", taken],
        vec!["--tcp-address=127.0.0.1:0", "--http-address", taken],
        vec!["--tcp-address=127.0.0.1:0", "--http-address=", "--grpc-address", taken],
        vec![
            "--tcp-address=127.0.0.1:0",
            "--http-address=",
            "--grpc-address=",
            "--lookup",
            "--lookup-tcp-address",
            taken,
        ],
    ]
    .into_iter()
    .enumerate()
    {
        let path = folder.path().join(format!("{n}/data"));
        mq(&[&["serve", "--https-address=", "--data-path", path.to_str().unwrap()], &flags[..]].concat())
            .failed();
        assert!(!path.exists() && !path.parent().unwrap().exists(), "{flags:?}");
    }
}

#[test]
fn a_start_says_its_version_what_it_found_and_when_it_is_ready() {
    let mut broker = Broker::start();
    until("the log's last line", || broker.stderr().contains(" ready ").then_some(()));
    let log = broker.stderr();
    assert!(log.contains("opening the data folder version=\"0."), "{log}");
    assert!(log.contains("the data folder is open topics=0 messages=0"), "{log}");
    let publish = ["pub", "--topic", "t", "--tcp-address", broker.address()];
    mq_with_input(&publish, b"1\n2\n").ok();
    broker.kill();
    broker.restart();
    until("the log's last line", || broker.stderr().contains(" ready ").then_some(()));
    let log = broker.stderr();
    assert!(log.contains("recovered after a stop that was not clean topics=1 messages=2"), "{log}");
}

#[tokio::test]
async fn a_log_and_a_banner_that_nobody_reads_stop_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    // A full pipe: not even the first line of the banner fits.
    let (_unread, banner) = std::io::pipe().unwrap();
    fill(&banner);
    let (mut log, stderr) = std::io::pipe().unwrap();
    let mut serve = std::process::Command::new(binary())
        .args(["serve", "--log-level=debug", "--https-address=", "--grpc-address=", "--http-address="])
        .args(["--tcp-address", &path("tcp.sock"), "--data-path", &path("data")])
        .stdin(std::process::Stdio::null())
        .stdout(banner)
        .stderr(stderr)
        .spawn()
        .unwrap();
    until("the socket", || folder.path().join("tcp.sock").exists().then_some(()));
    // Each has several lines at debug, one with its id: more than the pipe and the queue before it take.
    for _ in 0..2_000 {
        let identify = Identify { client_id: "x".repeat(1_000), ..Identify::default() };
        let mut client = Connection::connect(&path("tcp.sock"), identify).await.unwrap();
        client.publish(&topic("t"), b"x").await.unwrap();
        client.flush().await.unwrap();
    }
    // Now somebody reads.
    let (sender, lost) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let lines = std::io::BufReader::new(&mut log).lines();
        let lost: Vec<String> =
            lines.map_while(Result::ok).filter(|line| line.contains("log lines lost")).collect();
        sender.send(lost).unwrap();
    });
    signal(serve.id(), 15);
    let status = until("the broker to end", || serve.try_wait().unwrap());
    assert!(status.success(), "{status}");
    let lost = lost.recv().unwrap();
    assert!(lost.iter().any(|line| line.contains("lines=")), "{lost:?}");
}

#[test]
fn sigterm_works_though_nobody_reads_the_log() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let [(_unread, banner), (_unread2, log)] = [std::io::pipe().unwrap(), std::io::pipe().unwrap()];
    fill(&banner);
    fill(&log);
    for command in ["serve", "lookup"] {
        let mut flags = vec![command.to_owned(), "--grpc-address=".to_owned()];
        flags.push(format!("--tcp-address={}", path(&format!("{command}.sock"))));
        flags.push(format!("--http-address={}", path(&format!("{command}-http.sock"))));
        if command == "serve" {
            flags.push(format!("--data-path={}", path("data")));
        }
        let mut process = std::process::Command::new(binary())
            .args(flags)
            .stdin(std::process::Stdio::null())
            .stdout(banner.try_clone().unwrap())
            .stderr(log.try_clone().unwrap())
            .spawn()
            .unwrap();
        let socket = folder.path().join(format!("{command}-http.sock"));
        let ping = until("an answer", || {
            let mut socket = std::os::unix::net::UnixStream::connect(&socket).ok()?;
            socket.write_all(b"GET /ping HTTP/1.0\r\n\r\n").ok()?;
            std::io::read_to_string(socket).ok()
        });
        assert!(ping.ends_with("OK"), "{ping}");
        signal(process.id(), 15);
        let status = until("the process to end", || process.try_wait().unwrap());
        assert!(status.success(), "{command}: {status}");
    }
}

/// Writes to a pipe until no byte more fits.
fn fill(pipe: &std::io::PipeWriter) {
    use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
    let flags = fcntl_getfl(pipe).unwrap();
    fcntl_setfl(pipe, flags | OFlags::NONBLOCK).unwrap();
    for piece in [&[b'\n'; 4096][..], b"\n"] {
        while (&mut &*pipe).write(piece).is_ok() {}
    }
    fcntl_setfl(pipe, flags).unwrap();
}

#[test]
fn a_wrong_flag_ends_the_start_with_the_right_form() {
    let error = mq(&["serve", "--memory-limit", "lots"]).failed();
    assert!(error.contains("--memory-limit lots") && error.contains("MiB"), "{error}");
    assert!(mq(&["serve", "-no-such-flag"]).failed().contains("--no-such-flag"));
}

#[tokio::test]
async fn after_a_kill_the_same_port_and_folder_serve_at_once() {
    let mut broker = Broker::start();
    create_channel(&broker, "t", "c").await;
    let mut publisher = connect(&broker).await;
    publisher.publish(&topic("t"), b"kept").await.unwrap();
    publisher.flush().await.unwrap();
    // With connections open, whose sockets would hold the port.
    let _held = TcpStream::connect(broker.address()).unwrap();
    broker.kill();
    broker.restart();
    let mut consumer = subscribe(&broker, "t", "c", 1).await;
    assert_eq!(next(&mut consumer).await.body, "kept");
}

#[tokio::test]
async fn a_clean_stop_keeps_what_is_only_in_memory() {
    let mut broker = Broker::start_with(&["--durability", "memory"]);
    create_channel(&broker, "t", "c").await;
    let mut publisher = connect(&broker).await;
    for n in 0..1_000_u32 {
        publisher.publish(&topic("t"), n.to_string().as_bytes()).await.unwrap();
    }
    publisher.flush().await.unwrap();
    let mut consumer = subscribe(&broker, "t", "c", 1).await;
    for n in 0..500_u32 {
        let message = next(&mut consumer).await;
        assert_eq!(message.body, n.to_string());
        consumer.finish(message.id);
    }
    consumer.close().await.unwrap();
    broker.stop();
    broker.restart();
    let mut consumer = subscribe(&broker, "t", "c", 1).await;
    for n in 500..1_000_u32 {
        let message = next(&mut consumer).await;
        assert_eq!(message.body, n.to_string());
        consumer.finish(message.id);
    }
    assert!(crate::clients::is_quiet(&mut consumer).await);
}

#[test]
fn under_nsqds_name_it_takes_nsqds_flags() {
    let folder = tempfile::tempdir().unwrap();
    let link = folder.path().join("nsqd");
    std::os::unix::fs::symlink(binary(), &link).unwrap();
    let version = std::process::Command::new(&link).arg("-version").output().unwrap();
    let shown = String::from_utf8(version.stdout).unwrap();
    assert!(version.status.success(), "{shown}");
    assert!(shown.starts_with("nsqd v1.3.0 (built w/libmq ") && shown.ends_with(")\n"), "{shown}");
    let wrong = std::process::Command::new(&link).arg("-sync-every=often").output().unwrap();
    let complaint = String::from_utf8(wrong.stderr).unwrap();
    assert!(complaint.starts_with("nsqd: --sync-every often"), "{complaint}");
}

#[test]
fn under_nsqs_names_it_says_where_it_listens_as_they_do() {
    let folder = tempfile::tempdir().unwrap();
    for (name, flags, waited) in [
        (
            "nsqd",
            vec!["-https-address="],
            vec!["[nsqd] ", "INFO: TCP: listening on 127.0.0.1:", "INFO: HTTP: listening on 127.0.0.1:"],
        ),
        (
            "nsqlookupd",
            vec![],
            vec![
                "[nsqlookupd] ",
                "INFO: TCP: listening on 127.0.0.1:",
                "INFO: HTTP: listening on 127.0.0.1:",
            ],
        ),
    ] {
        let link = folder.path().join(name);
        std::os::unix::fs::symlink(binary(), &link).unwrap();
        let mut process = std::process::Command::new(&link)
            .args(["-tcp-address=127.0.0.1:0", "-http-address=127.0.0.1:0"])
            .args(flags)
            .current_dir(folder.path())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = std::io::BufReader::new(process.stderr.take().unwrap()).lines();
        let mut text = String::new();
        while !waited.iter().all(|part| text.contains(part)) {
            text += &lines.next().unwrap_or_else(|| panic!("{name} never said it: {text}")).unwrap();
            text.push('\n');
        }
        // Date and time as nsqd has them: the harness of a client takes what comes after.
        let line = text.lines().find(|line| line.contains("TCP: ")).unwrap();
        let (head, _) = line.split_once(" INFO: ").unwrap();
        let shape: String = head.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
        assert_eq!(shape, format!("[{name}] 0000/00/00 00:00:00.000000"));
        signal(process.id(), 15);
        assert!(process.wait().unwrap().success());
    }
}

#[test]
fn an_error_that_ends_a_start_has_the_form_of_the_log() {
    let broker = Broker::start();
    let path = broker.data_path();
    let folder = tempfile::tempdir().unwrap();
    let link = folder.path().join("nsqd");
    std::os::unix::fs::symlink(binary(), &link).unwrap();
    let ended = |program: &std::path::Path, flags: &[&str]| {
        let mut command = std::process::Command::new(program);
        command.args(flags).args(["--tcp-address=127.0.0.1:0", "--data-path"]).arg(&path);
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stderr).unwrap().lines().last().unwrap().to_owned()
    };
    let json = ended(binary(), &["serve", "--log-format=json"]);
    let line: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(line["level"], "ERROR", "{json}");
    assert!(line["message"].as_str().unwrap().starts_with("--data-path "), "{json}");
    let nsqd = ended(&link, &[]);
    assert!(nsqd.starts_with("[nsqd] 20") && nsqd.contains(" FATAL: --data-path "), "{nsqd}");
    let plain = ended(binary(), &["serve"]);
    assert!(plain.starts_with("mq serve: --data-path "), "{plain}");
}

#[test]
fn a_start_on_a_folder_without_a_file_of_it_says_what_to_do() {
    let mut broker = Broker::start();
    broker.stop();
    let path = broker.data_path();
    for entry in std::fs::read_dir(&path).unwrap() {
        let file = entry.unwrap().path();
        if file.extension().is_some_and(|kind| kind == "checkpoint") {
            std::fs::remove_file(file).unwrap();
        }
    }
    let complaint =
        mq(&["serve", "--tcp-address=127.0.0.1:0", "--data-path", path.to_str().unwrap()]).failed();
    assert!(complaint.contains("`mq inspect`") && complaint.contains("`mq repair`"), "{complaint}");
}

#[test]
fn under_nsqds_name_a_start_warns_of_no_flag_that_was_not_set() {
    let folder = tempfile::tempdir().unwrap();
    let link = folder.path().join("nsqd");
    std::os::unix::fs::symlink(binary(), &link).unwrap();
    let certificate = crate::signals::write_certificate(folder.path());
    let log = |more: &[&str]| {
        let auth =
            ["-auth-http-address=127.0.0.1:1", "-tcp-address=127.0.0.1:0", "-http-address=127.0.0.1:0"];
        let mut process = std::process::Command::new(&link)
            .args(&certificate)
            .args(auth)
            .args(more)
            .args(["-https-address=127.0.0.1:0", "-data-path"])
            .arg(folder.path())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = std::io::BufReader::new(process.stderr.take().unwrap()).lines();
        let mut text = String::new();
        while !text.contains("TCP: listening") {
            text += &lines.next().unwrap().unwrap();
        }
        signal(process.id(), 15);
        assert!(process.wait().unwrap().success());
        text
    };
    let text = log(&[]);
    assert!(!text.contains("TLS 1.0"), "{text}");
    // What differs from nsqd and nobody set.
    assert!(text.contains("--auth-http-address: requests over HTTP"), "{text}");
    let text = log(&["-tls-min-version=tls1.0"]);
    assert!(text.contains("--tls-min-version tls1.0: TLS 1.0 and 1.1 are not served"), "{text}");
}

#[test]
fn how_long_a_start_takes() {
    let asked = Instant::now();
    let _broker = Broker::start();
    // Printed, not asserted: a time on a loaded machine proves nothing.
    println!("ready after {:?}", asked.elapsed());
}

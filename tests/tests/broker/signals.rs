//! Signals: which stop a broker and how, which make it read again, and that no other one ends it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use mq_nsq::client::{ClientTls, ClientTlsOptions, Connection, Error, Identify};
use mq_tests::{Broker, binary, mq, signal, start, until};
use tempfile::TempDir;

use crate::clients::{connect, create_channel, next, subscribe, topic};

/// The longest a stop may take.
const STOP: Duration = Duration::from_secs(10);

/// A channel with more than its sockets take, and a client that never reads what it asked for.
async fn deaf(broker: &Broker) -> TcpStream {
    create_channel(broker, "t", "c").await;
    let mut publisher = connect(broker).await;
    let body = vec![b'x'; 500_000];
    for _ in 0..40 {
        publisher.publish(&topic("t"), &body).await.unwrap();
    }
    publisher.flush().await.unwrap();
    let mut deaf = TcpStream::connect(broker.address()).unwrap();
    deaf.write_all(b"  V2SUB t c\nRDY 2500\n").unwrap();
    assert_eq!(deaf.peek(&mut [0; 1]).unwrap(), 1);
    deaf
}

#[tokio::test]
async fn a_signal_stops_in_time_whatever_clients_do() {
    for signal in [Broker::terminate, Broker::interrupt] {
        let mut broker = Broker::start();
        let _deaf = deaf(&broker).await;
        // One that stops within a command, one that says nothing.
        let mut half = TcpStream::connect(broker.address()).unwrap();
        half.write_all(b"  V2PUB t\n\x00\x00\x10\x00half").unwrap();
        let _silent = TcpStream::connect(broker.address()).unwrap();
        let asked = Instant::now();
        signal(&broker);
        assert!(broker.wait().success(), "{}", broker.stderr());
        assert!(asked.elapsed() < STOP, "{:?}", asked.elapsed());
        assert!(broker.stderr().contains("stopped"), "{}", broker.stderr());
    }
}

#[test]
fn a_stop_waits_neither_for_a_handshake_nor_for_an_auth_server() {
    let folder = TempDir::new().unwrap();
    let flags = write_certificate(folder.path());
    // Takes connections, and never answers.
    let auth = TcpListener::bind("127.0.0.1:0").unwrap();
    let auth_address = auth.local_addr().unwrap().to_string();
    let flags =
        [&flags[0], &flags[1], "--auth-http-address", &auth_address, "--http-client-request-timeout=1h"];
    let mut broker = Broker::start_with(&flags);
    let mut handshake = TcpStream::connect(broker.address()).unwrap();
    let ask = br#"{"feature_negotiation":true,"tls_v1":true}"#;
    handshake.write_all(&[b"  V2IDENTIFY\n\0\0\0\x2a", &ask[..]].concat()).unwrap();
    handshake.read_exact(&mut [0; 8]).unwrap();
    let mut asking = TcpStream::connect(broker.address()).unwrap();
    asking.write_all(b"  V2AUTH\n\0\0\0\x04hush").unwrap();
    drop(auth.accept().unwrap());
    let asked = Instant::now();
    broker.stop();
    assert!(asked.elapsed() < STOP, "{:?}", asked.elapsed());
    assert!(!broker.stderr().contains("hush"), "{}", broker.stderr());
}

/// Time between two signals of a pair that are one: what a wrapper takes to send the second.
const AT_ONCE: Duration = Duration::from_millis(5);
/// Time between two signals of a pair that are two.
const LATER: Duration = Duration::from_secs(2);
/// Signals that stop a broker: HUP apart, all that a user, a supervisor or the system asks with.
const STOPPING: [i32; 5] = [2, 3, 15, 24, 30];
/// Every other signal that can be caught and is no fault of the process's own: HUP, USR1, USR2, PIPE, ALRM,
/// STKFLT, CHLD, CONT, URG, XFSZ, VTALRM, PROF, WINCH, IO, and some of the real-time signals.
const HARMLESS: [i32; 18] = [1, 10, 12, 13, 14, 16, 17, 18, 23, 25, 26, 27, 28, 29, 34, 40, 50, 64];
/// Messages that must outlive the signals.
const MESSAGES: u32 = 1_000;

async fn publish(broker: &Broker) {
    let mut publisher = connect(broker).await;
    for n in 0..MESSAGES {
        publisher.publish(&topic("kept"), n.to_string().as_bytes()).await.unwrap();
    }
    publisher.flush().await.unwrap();
}

/// Consumes all that was published, in order, and finishes nothing of it.
async fn all_is_there(broker: &Broker) {
    let mut consumer = subscribe(broker, "kept", "c", MESSAGES).await;
    for n in 0..MESSAGES {
        assert_eq!(next(&mut consumer).await.body, n.to_string());
    }
}

#[tokio::test]
async fn two_signals_in_a_row_are_one_and_nothing_in_memory_is_lost() {
    for first in STOPPING {
        for second in [first, 15] {
            let mut broker = Broker::start_with(&["--durability", "memory"]);
            publish(&broker).await;
            // It may take its time to read, some seconds: so the second signal finds the broker stopping.
            let _deaf = deaf(&broker).await;
            broker.signal(first);
            sleep(AT_ONCE);
            broker.signal(second);
            assert!(broker.wait().success(), "{first}, {second}: {}", broker.stderr());
            broker.restart();
            all_is_there(&broker).await;
        }
    }
}

#[tokio::test]
async fn a_later_signal_drops_clients_at_once_and_stores_what_is_in_memory() {
    for (first, second) in [(15, 2), (2, 15), (15, 3)] {
        let mut broker = Broker::start_with(&["--durability", "memory"]);
        publish(&broker).await;
        let _deaf = deaf(&broker).await;
        broker.signal(first);
        until("the first to be heard", || broker.stderr().contains("another signal").then_some(()));
        sleep(LATER);
        broker.signal(second);
        assert_eq!(broker.wait().code(), Some(128 + second), "{}", broker.stderr());
        assert!(broker.stderr().contains("everything is stored"), "{}", broker.stderr());
        broker.restart();
        all_is_there(&broker).await;
    }
}

#[tokio::test]
async fn a_signal_without_a_meaning_ends_nothing() {
    let mut broker = Broker::start();
    publish(&broker).await;
    let mut lookup =
        start(&["lookup", "--tcp-address=127.0.0.1:0", "--http-address=127.0.0.1:0", "--grpc-address="]);
    let mut line = String::new();
    BufReader::new(lookup.stdout.take().unwrap()).read_line(&mut line).unwrap();
    for pause in [AT_ONCE, LATER] {
        for number in HARMLESS {
            broker.signal(number);
            signal(lookup.id(), number);
        }
        sleep(pause);
        for number in HARMLESS {
            broker.signal(number);
            signal(lookup.id(), number);
        }
    }
    all_is_there(&broker).await;
    assert_eq!(lookup.try_wait().unwrap(), None);
    broker.stop();
    broker.restart();
    all_is_there(&broker).await;
    signal(lookup.id(), 15);
    assert!(lookup.wait().unwrap().success());
}

/// `mq serve` on the broker's folder and ports, once it has begun to open the folder.
fn opening(broker: &Broker, under: &[&str]) -> (Child, thread::JoinHandle<String>) {
    let data = broker.data_path();
    let mut command = match under.split_first() {
        Some((program, arguments)) => {
            let mut command = Command::new(program);
            command.args(arguments).arg(binary());
            command
        }
        None => Command::new(binary()),
    };
    command.args([
        "serve",
        "--tcp-address=127.0.0.1:0",
        "--http-address=",
        "--https-address=",
        "--grpc-address=",
    ]);
    let mut child = command
        .args(["--data-path", data.to_str().unwrap()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut text = String::new();
    while !text.contains("opening the data folder") {
        text += &lines.next().expect("a line about the folder").unwrap();
        text.push('\n');
    }
    let rest = thread::spawn(move || {
        lines.for_each(|line| text += &format!("{}\n", line.unwrap()));
        text
    });
    (child, rest)
}

#[tokio::test]
async fn signals_during_recovery_lose_nothing() {
    let mut broker = Broker::start();
    publish(&broker).await;
    broker.kill();
    for number in STOPPING {
        let (mut child, log) = opening(&broker, &[]);
        signal(child.id(), number);
        sleep(AT_ONCE);
        signal(child.id(), number);
        let status = child.wait().unwrap();
        assert!(status.success(), "{number}: {status}: {}", log.join().unwrap());
    }
    let (mut child, log) = opening(&broker, &[]);
    for number in HARMLESS.iter().chain(&HARMLESS) {
        signal(child.id(), *number);
    }
    assert_eq!(child.try_wait().unwrap(), None);
    signal(child.id(), 15);
    let status = child.wait().unwrap();
    assert!(status.success(), "{status}: {}", log.join().unwrap());
    broker.restart();
    all_is_there(&broker).await;
}

#[tokio::test]
async fn a_later_signal_during_recovery_ends_it_and_the_next_start_recovers() {
    let mut broker = Broker::start();
    publish(&broker).await;
    broker.kill();
    // The first read of each thread takes ten seconds.
    let inject = "inject=pread64,preadv:delay_enter=10s:when=1";
    let strace = ["strace", "-D", "-f", "-o", "/dev/null", "-e", inject];
    let tried = Command::new(strace[0]).args(&strace[1..]).arg("true").stderr(Stdio::null()).status();
    if !tried.is_ok_and(|status| status.success()) {
        println!("skipped: strace is not installed, or may not trace");
        return;
    }
    let (mut child, log) = opening(&broker, &strace);
    signal(child.id(), 15);
    sleep(LATER);
    signal(child.id(), 15);
    let status = child.wait().unwrap();
    let log = log.join().unwrap();
    assert_eq!(status.code(), Some(143), "{status}: {log}");
    assert!(log.contains("nothing is lost"), "{log}");
    broker.restart();
    all_is_there(&broker).await;
}

#[tokio::test]
async fn a_limit_on_the_size_of_files_is_a_full_disk() {
    let broker = Broker::start();
    create_channel(&broker, "kept", "c").await;
    publish(&broker).await;
    broker.limit_file_size(Some(1));
    let mut publisher = connect(&broker).await;
    publisher.publish(&topic("kept"), b"refused").await.unwrap();
    let refused = publisher.flush().await.unwrap_err().to_string();
    assert!(refused.contains("E_PUB_FAILED"), "{refused}");
    let health = || {
        let mut socket = TcpStream::connect(broker.http_address()).unwrap();
        socket.write_all(b"GET /ping HTTP/1.0\r\n\r\n").unwrap();
        std::io::read_to_string(socket).unwrap()
    };
    assert!(health().contains("the disk is full"), "{}", health());
    all_is_there(&broker).await;
    broker.limit_file_size(None);
    until("the broker to take messages again", || health().ends_with("OK").then_some(()));
    let mut publisher = connect(&broker).await;
    publisher.publish(&topic("kept"), b"taken").await.unwrap();
    publisher.flush().await.unwrap();
}

#[test]
fn mq_pub_says_how_many_messages_were_acknowledged_before_a_signal() {
    for (number, name) in [(2, "SIGINT"), (15, "SIGTERM"), (1, "SIGHUP")] {
        let broker = Broker::start();
        let mut publisher = start(&["pub", "--topic", "t", "--tcp-address", broker.address()]);
        let mut stdin = publisher.stdin.take().unwrap();
        stdin.write_all(b"1\n2\n3\nunfinished").unwrap();
        let list = ["topics", "--http-address", broker.http_address()];
        until("the lines to arrive", || mq(&list).ok().starts_with(b"t  depth 3").then_some(()));
        signal(publisher.id(), number);
        let output = publisher.wait_with_output().unwrap();
        let complaint = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{complaint}");
        assert!(complaint.contains(&format!("interrupted by {name}: 3 of 3 messages")), "{complaint}");
    }
}

#[tokio::test]
async fn sighup_reads_the_log_level_again_and_kills_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("mq.toml");
    std::fs::write(&file, "log_level = \"info\"\n").unwrap();
    let mut broker = Broker::start_with(&["--config", file.to_str().unwrap()]);
    drop(connect(&broker).await);
    std::fs::write(&file, "log_level = \"debug\"\nsnappy = false\n").unwrap();
    broker.hang_up();
    until("the settings to be read", || broker.stderr().contains("wait for a restart").then_some(()));
    assert!(broker.stderr().contains("snappy") && !broker.stderr().contains("DEBUG"), "{}", broker.stderr());
    drop(connect(&broker).await);
    until("a line about a connection", || broker.stderr().contains("DEBUG").then_some(()));
    std::fs::write(&file, "nonsense = 1\n").unwrap();
    broker.hang_up();
    until("the complaint", || broker.stderr().contains("nonsense").then_some(()));
    broker.stop();
}

/// Writes a certificate of the name "localhost" and its key, new each time, and gives the flags that name
/// them.
pub(crate) fn write_certificate(folder: &Path) -> [String; 2] {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (cert, key) = (folder.join("cert.pem"), folder.join("key.pem"));
    std::fs::write(&cert, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    [format!("--tls-cert={}", cert.display()), format!("--tls-key={}", key.display())]
}

#[tokio::test]
async fn sighup_reads_the_certificate_again_for_new_connections() {
    let folder = TempDir::new().unwrap();
    let cert = folder.path().join("cert.pem");
    let flags = write_certificate(folder.path());
    // A client that trusts what the file has now.
    let trusting = || {
        let options = ClientTlsOptions {
            root_ca_file: Some(cert.clone()),
            server_name: Some("localhost".to_owned()),
            ..ClientTlsOptions::default()
        };
        Identify { tls: Some(ClientTls::load(&options).unwrap()), ..Identify::default() }
    };
    let mut broker = Broker::start_with(&[&flags[0], &flags[1]]);
    let connect = |identify: &Identify| Connection::connect(broker.address(), identify.clone());
    let first = trusting();
    let mut old = connect(&first).await.unwrap();
    write_certificate(folder.path());
    let second = trusting();
    connect(&first).await.unwrap();
    broker.hang_up();
    until("the files to be read", || broker.stderr().contains("TLS files read again").then_some(()));
    connect(&second).await.unwrap();
    let refused = connect(&first).await;
    assert!(matches!(refused, Err(Error::Io(_))), "{refused:?}");

    std::fs::write(&cert, "garbage").unwrap();
    broker.hang_up();
    until("the complaint", || broker.stderr().contains("the old certificate stays in use").then_some(()));
    connect(&second).await.unwrap();
    old.publish(&topic("t"), b"x").await.unwrap();
    old.flush().await.unwrap();
    broker.stop();
}

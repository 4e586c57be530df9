//! The protocol V1.

use std::time::Duration;

use mq_nsq::lookupd::LookupConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::peers::Peer;
use crate::server::{Broker, IDENTIFY, PATIENCE, Server, get, identify, transcript};

/// Placeholder for IDENTIFY's answer: each server has a name of its own.
const IDENTITY: &str = "{identity}";

/// Input after the magic, and the answers, as a real nsqlookupd 1.3.0 gave them.
fn transcripts() -> Vec<(Vec<u8>, Vec<&'static str>)> {
    let ident = || identify(IDENTIFY);
    let after = |rest: &[u8]| [identify(IDENTIFY), rest.to_vec()].concat();
    let with = |from: &str, to: &str| identify(&IDENTIFY.replace(from, to));
    let bad_json = "E_BAD_BODY IDENTIFY failed to decode JSON body";
    let missing = "E_BAD_BODY IDENTIFY missing fields";
    vec![
        (b"PING\n".to_vec(), vec!["OK"]),
        (b"PING x\n".to_vec(), vec!["OK"]),
        (b"  PING  \nPING\r\n".to_vec(), vec!["OK", "OK"]),
        (b"PING".to_vec(), vec![]),
        (b"\n".to_vec(), vec!["E_INVALID invalid command "]),
        (b"ping\n".to_vec(), vec!["E_INVALID invalid command ping"]),
        (b"FOO bar baz\n".to_vec(), vec!["E_INVALID invalid command FOO"]),
        ("\u{e4}\n".into(), vec!["E_INVALID invalid command \u{e4}"]),
        (b"REGISTER t\n".to_vec(), vec!["E_INVALID client must IDENTIFY"]),
        (b"UNREGISTER\n".to_vec(), vec!["E_INVALID client must IDENTIFY"]),
        (b"IDENTIFY\n".to_vec(), vec!["E_BAD_BODY IDENTIFY failed to read body size"]),
        (b"IDENTIFY\n\0\0\0\x02{".to_vec(), vec!["E_BAD_BODY IDENTIFY failed to read body"]),
        (identify("{}"), vec![missing]),
        (identify("null"), vec![missing]),
        (identify(""), vec![bad_json]),
        (identify("x"), vec![bad_json]),
        (identify("[]"), vec![bad_json]),
        (ident(), vec![IDENTITY]),
        ([&b"IDENTIFY x\n"[..], &ident()[9..]].concat(), vec![IDENTITY]),
        (after(&ident()), vec![IDENTITY, "E_INVALID cannot IDENTIFY again"]),
        (with("version", "VERSION"), vec![IDENTITY]),
        (with("}", r#","tcp_port":null}"#), vec![IDENTITY]),
        (with("4150", "0"), vec![missing]),
        (with("4150", "\"4150\""), vec![bad_json]),
        (with("4150", "4150.0"), vec![bad_json]),
        (with("4150", "99999999999999999999"), vec![bad_json]),
        (with("\"h\"", "5"), vec![bad_json]),
        (with("}", "} x"), vec![bad_json]),
        (after(b"REGISTER\n"), vec![IDENTITY, "E_INVALID REGISTER insufficient number of params"]),
        (after(b"UNREGISTER \n"), vec![IDENTITY, "E_INVALID UNREGISTER insufficient number of params"]),
        (
            after(b"REGISTER t\nREGISTER t c\nUNREGISTER t c\nUNREGISTER t c d\nUNREGISTER u\nPING\n"),
            vec![IDENTITY, "OK", "OK", "OK", "OK", "OK", "OK"],
        ),
        (after(b"REGISTER t!x\n"), vec![IDENTITY, "E_BAD_TOPIC REGISTER topic name 't!x' is not valid"]),
        (after(b"REGISTER t c!\n"), vec![IDENTITY, "E_BAD_CHANNEL REGISTER channel name 'c!' is not valid"]),
        (
            after(b"UNREGISTER t c!\nPING\n"),
            vec![IDENTITY, "E_BAD_CHANNEL UNREGISTER channel name 'c!' is not valid"],
        ),
        (
            after(b"REGISTER t  \nREGISTER  t\n"),
            vec![IDENTITY, "OK", "E_BAD_TOPIC REGISTER topic name '' is not valid"],
        ),
        (after(b"REGISTER t c\r\nREGISTER t  c\n"), vec![IDENTITY, "OK", "OK"]),
        (after(b"REGISTER\tt\n"), vec![IDENTITY, "E_INVALID invalid command REGISTER\tt"]),
        (
            after(b"REGISTER e#ephemeral c#ephemeral\nUNREGISTER e#ephemeral c#ephemeral\nPING\n"),
            vec![IDENTITY, "OK", "OK", "OK"],
        ),
    ]
}

async fn check(address: &str) {
    for (sent, expected) in transcripts() {
        let mut answers = transcript(address, &[b"  V1", &sent[..]].concat()).await;
        for answer in answers.iter_mut().filter(|answer| answer.starts_with('{')) {
            assert!(answer.contains(r#""broadcast_address":"127.0.0.1","hostname":""#), "{answer}");
            *answer = IDENTITY.into();
        }
        assert_eq!(answers, expected, "{}", sent.escape_ascii());
    }
    assert_eq!(transcript(address, b"  V2").await, ["E_BAD_PROTOCOL"]);
    assert!(transcript(address, b"  V").await.is_empty());
}

#[tokio::test]
async fn every_command_and_error_is_nsqlookupds() {
    check(&Server::start().await.tcp).await;
}

#[tokio::test]
async fn a_real_nsqlookupd_says_the_same() {
    let Some(peer) = Peer::nsqlookupd() else { return };
    check(&peer.tcp).await;
}

#[tokio::test]
async fn lengths_and_lines_have_bounds() {
    let server = Server::start().await;
    for (sent, expected) in [
        (&b"IDENTIFY\n\xff\xff\xff\xff"[..], "E_BAD_BODY IDENTIFY invalid body size -1"),
        (b"IDENTIFY\n\x7f\xff\xff\xff", "E_BAD_BODY IDENTIFY body too big 2147483647 > 8192"),
        (&[b'x'; 4096], "E_INVALID line longer than 1024 bytes"),
    ] {
        assert_eq!(transcript(&server.tcp, &[b"  V1", sent].concat()).await, [expected]);
    }
    let large = IDENTIFY.replace("\"h\"", &format!("\"{}\"", "h".repeat(8000)));
    assert_eq!(transcript(&server.tcp, &[&b"  V1"[..], &identify(&large)].concat()).await.len(), 1);
    let port = IDENTIFY.replace("4151", "70000");
    let answers = transcript(&server.tcp, &[&b"  V1"[..], &identify(&port)].concat()).await;
    assert_eq!(answers, ["E_BAD_BODY IDENTIFY port 70000 is not 1 to 65535"]);
    assert_eq!(get(&server.http, "/nodes").await, r#"{"producers":[]}"#, "nothing of these stayed");
}

#[tokio::test]
async fn answers_come_command_by_command_in_any_pieces() {
    let server = Server::start().await;
    let mut broker = Broker::connect(&server.tcp, IDENTIFY).await;
    for byte in b"REGISTER t" {
        broker.0.write_all(&[*byte]).await.unwrap();
    }
    broker.ok(" c").await;
    assert_eq!(get(&server.http, "/channels?topic=t").await, r#"{"channels":["c"]}"#);
    // Thousands of commands at once are answered one by one.
    let (mut reader, mut writer) = broker.0.split();
    let (pings, count) = ("PING\n".repeat(10_000), 10_000 * 6);
    let write = async { writer.write_all(pings.as_bytes()).await.unwrap() };
    let mut answers = vec![0; count];
    let read = timeout(PATIENCE, reader.read_exact(&mut answers));
    let ((), read) = tokio::join!(write, read);
    assert_eq!(read.expect("answers").unwrap(), count);
    assert!(answers.chunks(6).all(|answer| answer == b"\0\0\0\x02OK"));
}

/// Whether the server closes it. Time is paused in these tests: the wait costs none.
async fn closes(stream: &mut TcpStream) -> bool {
    let read = timeout(Duration::from_secs(3_600), stream.read(&mut [0; 64])).await;
    matches!(read, Ok(Ok(0)))
}

#[tokio::test]
async fn silent_connections_end() {
    let config =
        LookupConfig { inactive_producer_timeout: Duration::from_secs(300), ..LookupConfig::default() };
    let server = Server::start_with(config).await;
    let start = tokio::time::Instant::now();
    let mut silent = TcpStream::connect(&server.tcp).await.unwrap();
    let mut cut = TcpStream::connect(&server.tcp).await.unwrap();
    cut.write_all(b"  V1IDENTIFY\n\0\0\0\x02").await.unwrap();
    let mut broker = Broker::connect(&server.tcp, IDENTIFY).await;
    broker.ok("REGISTER t").await;
    tokio::time::pause();
    assert!(closes(&mut silent).await && closes(&mut cut).await);
    let after = start.elapsed();
    assert!(after >= Duration::from_secs(60) && after < Duration::from_secs(70), "{after:?}");
    assert!(closes(&mut broker.0).await);
    let after = start.elapsed();
    assert!(after >= Duration::from_secs(300) && after < Duration::from_secs(310), "{after:?}");
    tokio::time::resume();
    assert_eq!(get(&server.http, "/nodes").await, r#"{"producers":[]}"#);
}

#[tokio::test]
async fn one_connection_too_many_is_told_so() {
    let server = Server::start_with(LookupConfig { max_connections: 2, ..LookupConfig::default() }).await;
    let mut first = Broker::connect(&server.tcp, IDENTIFY).await;
    let _second = Broker::connect(&server.tcp, IDENTIFY).await;
    assert_eq!(transcript(&server.tcp, b"").await, ["E_INVALID connections exceed limit of 2"]);
    first.ok("PING").await;
}

#[tokio::test]
async fn a_stop_closes_what_is_open() {
    let server = Server::start().await;
    let mut broker = Broker::connect(&server.tcp, IDENTIFY).await;
    server.stop().await;
    let read = timeout(PATIENCE, broker.0.read(&mut [0; 1])).await.expect("it closes");
    assert!(matches!(read, Ok(0) | Err(_)));
}

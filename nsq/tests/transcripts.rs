//! Conversations with a server over real sockets, as a table: each is held over TCP, over TCP with every byte
//! sent by itself, over a unix socket, and inside TLS, snappy and deflate.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // Helpers of tests are tests too.

mod common;

use std::time::Duration;

use common::stack::{Certificates, STACKS, Stack};
use common::{Peer, Running, start_with, with_body};
use mq_nsq::server::Config;

/// A step of a conversation. In what is sent, `$t` is a topic of the conversation's own, and `$1` the id of
/// the first message that came, `$2` of the second.
enum Step {
    Send(&'static [u8]),
    /// Sends IDENTIFY with this JSON.
    Identify(&'static str),
    /// A response, an error with its word before, or a message: attempts and body.
    Get(&'static str),
    /// The server closes.
    End,
    /// The client closes its side.
    Close,
}
use Step::{Close, End, Get, Identify, Send};

const JSON: &str = r#"{\"max_rdy_count\":2500,\"version\":\"1.3.0\",\"max_msg_timeout\":900000,\"msg_timeout\":60000,\"tls_v1\":false,\"deflate\":false,\"deflate_level\":6,\"max_deflate_level\":6,\"snappy\":false,\"sample_rate\":0,\"auth_required\":false,\"output_buffer_size\":16384,\"output_buffer_timeout\":250,\"topology_region\":\"\",\"topology_zone\":\"\"}"#;

const CASES: &[(&str, &[Step])] = &[
    ("magic", &[Send(b" V2 "), Get("error E_BAD_PROTOCOL"), End]),
    ("two newlines", &[Send(b"\n\n\n\n"), Get("error E_BAD_PROTOCOL"), End]),
    ("silence", &[Close, End]),
    ("half a magic", &[Send(b"  V"), Close, End]),
    ("nothing after the magic", &[Send(b"  V2"), Close, End]),
    ("unknown", &[Send(b"  V2what now\nNOP\n"), Get("error E_INVALID invalid command what"), End]),
    ("empty line", &[Send(b"  V2\n"), Get("error E_INVALID invalid command "), End]),
    ("identify", &[Send(b"  V2IDENTIFY\n\0\0\0\x02{}"), Get("OK"), Send(b"NOP\n"), Close, End]),
    (
        "identify with negotiation, again and again",
        &[
            Send(b"  V2"),
            Identify(r#"{"feature_negotiation" : true}"#),
            Get(JSON),
            Identify(r#"{"feature_negotiation":true,"sample_rate":42,"msg_timeout":1000}"#),
            Identify(r#"{"feature_negotiation":true,"output_buffer_size":-1}"#),
            Get(r#"{\"max_rdy_count\":2500,\"version\":\"1.3.0\",\"max_msg_timeout\":900000,\"msg_timeout\":1000,\"tls_v1\":false,\"deflate\":false,\"deflate_level\":6,\"max_deflate_level\":6,\"snappy\":false,\"sample_rate\":42,\"auth_required\":false,\"output_buffer_size\":16384,\"output_buffer_timeout\":250,\"topology_region\":\"\",\"topology_zone\":\"\"}"#),
            Get(r#"{\"max_rdy_count\":2500,\"version\":\"1.3.0\",\"max_msg_timeout\":900000,\"msg_timeout\":1000,\"tls_v1\":false,\"deflate\":false,\"deflate_level\":6,\"max_deflate_level\":6,\"snappy\":false,\"sample_rate\":0,\"auth_required\":false,\"output_buffer_size\":1,\"output_buffer_timeout\":0,\"topology_region\":\"\",\"topology_zone\":\"\"}"#),
        ],
    ),
    (
        "identify, bad json",
        &[
            Send(b"  V2IDENTIFY\n\0\0\0\x01{"),
            Get("error E_BAD_BODY IDENTIFY failed to decode JSON body"),
            End,
        ],
    ),
    (
        "identify, out of bounds",
        &[
            Send(b"  V2"), Identify(r#"{"heartbeat_interval":60001}"#),
            Get("error E_BAD_BODY IDENTIFY heartbeat interval (60001) is invalid"),
            End,
        ],
    ),
    (
        "identify, a size beyond all bounds",
        &[
            Send(b"  V2IDENTIFY\n\x7f\xff\xff\xff"),
            Get("error E_BAD_BODY IDENTIFY body too big 2147483647 > 5242880"),
            End,
        ],
    ),
    ("auth", &[Send(b"  V2AUTH\n\0\0\0\x01s"), Get("error E_AUTH_DISABLED AUTH disabled"), End]),
    ("pub", &[Send(b"  V2PUB $t\n\0\0\0\x02hi"), Get("OK"), Close, End]),
    (
        "publishes are answered in order, and the error after them",
        &[
            Send(b"  V2PUB $t\n\0\0\0\x02hiPUB $t\n\0\0\0\x02hoMPUB $t\n\0\0\0\x0f\0\0\0\x02\0\0\0\x01a\0\0\0\x02bc"),
            Send(b"DPUB $t 100\n\0\0\0\x01xPUB $t.other\n\0\0\0\x02hiFIN\n"),
            Get("OK"),
            Get("OK"),
            Get("OK"),
            Get("OK"),
            Get("OK"),
            Get("error E_INVALID cannot FIN in current state"),
            End,
        ],
    ),
    (
        "pub, half a body",
        &[
            Send(b"  V2PUB $t\n\0\0\0\x02hiPUB $t\n\0\0\0\x02h"),
            Close,
            Get("OK"),
            Get("error E_BAD_MESSAGE PUB failed to read message body"),
            End,
        ],
    ),
    (
        "pub, too big",
        &[
            Send(b"  V2PUB $t\n\0\x10\0\x01"),
            Get("error E_BAD_MESSAGE PUB message too big 1048577 > 1048576"),
            End,
        ],
    ),
    (
        "mpub, bad name",
        &[
            Send(b"  V2MPUB a:b\n"),
            Get("error E_BAD_TOPIC E_BAD_TOPIC MPUB topic name \\\"a:b\\\" is not valid"),
            End,
        ],
    ),
    (
        "consume",
        &[
            Send(b"  V2MPUB $t\n\0\0\0\x0f\0\0\0\x02\0\0\0\x01a\0\0\0\x02bcSUB $t c\nRDY 1\n"),
            Get("OK"),
            Get("OK"),
            Get("message 1 a"),
            Send(b"NOP\nTOUCH $1\nFIN $1\n"),
            Get("message 1 bc"),
            // What is finished is not in flight any more, and the connection survives saying so.
            Send(b"FIN $1\nREQ $1 5\nTOUCH $1\nFIN 0123456789abcdeF\n"),
            Get("error E_FIN_FAILED FIN $1 failed ID not in flight"),
            Get("error E_REQ_FAILED REQ $1 failed ID not in flight"),
            Get("error E_TOUCH_FAILED TOUCH $1 failed ID not in flight"),
            Get("error E_FIN_FAILED FIN 0123456789abcdeF failed ID not in flight"),
            Send(b"REQ $2 0\n"),
            Get("message 2 bc"),
            Send(b"FIN $2\nCLS\nRDY what\nNOP\n"),
            Get("CLOSE_WAIT"),
            Close,
            End,
        ],
    ),
    (
        "names with dots, and ephemeral ones",
        &[
            Send(b"  V2SUB $t.x_y-z#ephemeral c.1#ephemeral\nRDY 1\n"),
            Get("OK"),
            Send(b"PUB $t.x_y-z#ephemeral\n\0\0\0\x01a"),
            Get("OK"),
            Get("message 1 a"),
            Send(b"FIN $1\n"),
            Close,
            End,
        ],
    ),
    (
        "no credit stops delivery at once",
        &[
            Send(b"  V2PUB $t\n\0\0\0\x01aSUB $t c\nRDY 1\n"),
            Get("OK"),
            Get("OK"),
            Get("message 1 a"),
            Send(b"RDY 0\nREQ $1 0\nPUB $t.other\n\0\0\0\x01b"),
            Get("OK"),
            Send(b"PUB $t.other\n\0\0\0\x01b"),
            Get("OK"),
            Send(b"RDY 1\n"),
            Get("message 2 a"),
            Send(b"FIN $1\nCLS\n"),
            Get("CLOSE_WAIT"),
            Close,
            End,
        ],
    ),
    (
        "a requeued message comes after all that waited",
        &[
            Send(b"  V2MPUB $t\n\0\0\0\x1b\0\0\0\x03\0\0\0\x03one\0\0\0\x03two\0\0\0\x05threeSUB $t c\nRDY 1\n"),
            Get("OK"),
            Get("OK"),
            Get("message 1 one"),
            Send(b"REQ $1 0\n"),
            Get("message 1 two"),
            Send(b"FIN $2\n"),
            Get("message 1 three"),
            Send(b"FIN $3\n"),
            Get("message 2 one"),
            Send(b"FIN $1\nCLS\n"),
            Get("CLOSE_WAIT"),
            Close,
            End,
        ],
    ),
    (
        "after CLS acknowledgements go on, and nothing is delivered",
        &[
            Send(b"  V2MPUB $t\n\0\0\0\x0f\0\0\0\x02\0\0\0\x01a\0\0\0\x02bcSUB $t c\nRDY 1\n"),
            Get("OK"),
            Get("OK"),
            Get("message 1 a"),
            Send(b"CLS\nFIN $1\nFIN $1\nCLS\n"),
            Get("CLOSE_WAIT"),
            Get("error E_FIN_FAILED FIN $1 failed ID not in flight"),
            Get("error E_INVALID cannot CLS in current state"),
            End,
        ],
    ),
    (
        "sub twice",
        &[
            Send(b"  V2SUB $t c\nSUB $t c\n"),
            Get("OK"),
            Get("error E_INVALID cannot SUB in current state"),
            End,
        ],
    ),
    (
        "identify after sub",
        &[
            Send(b"  V2SUB $t c\nIDENTIFY\n\0\0\0\x02{}"),
            Get("OK"),
            Get("error E_INVALID cannot IDENTIFY in current state"),
            End,
        ],
    ),
    (
        "sub without heartbeats",
        &[
            Send(b"  V2"), Identify(r#"{"heartbeat_interval":-1}"#), Send(b"SUB $t c\n"),
            Get("OK"),
            Get("error E_INVALID cannot SUB with heartbeats disabled"),
            End,
        ],
    ),
    (
        "a bad id",
        &[Send(b"  V2SUB $t c\nRDY 1\nFIN \n"), Get("OK"), Get("error E_INVALID invalid message ID"), End],
    ),
    (
        "peek moves nothing",
        &[
            Send(b"  V2PEEK $t 0 10\nPUB $t\n\0\0\0\x01aPEEK $t#ephemeral 0000000000000000 10\nNOP\n"),
            Get(r#"{\"channels\":0,\"next\":\"0000000000000000\",\"count\":0}\n"#),
            Get("OK"),
            Get(r#"{\"channels\":0,\"next\":\"0000000000000000\",\"count\":0}\n"#),
            Send(b"SUB $t c\nRDY 1\n"),
            Get("OK"),
            Get("message 1 a"),
        ],
    ),
];

#[tokio::test]
async fn tcp() {
    run_all(false, false, None).await;
}

#[tokio::test]
async fn tcp_byte_by_byte() {
    run_all(false, true, None).await;
}

#[tokio::test]
async fn unix() {
    run_all(true, false, None).await;
}

#[tokio::test]
async fn stacked() {
    for stack in STACKS {
        run_all(false, false, Some(stack)).await;
    }
}

#[tokio::test]
async fn stacked_byte_by_byte() {
    for stack in STACKS {
        run_all(false, true, Some(stack)).await;
    }
}

#[tokio::test]
async fn stacked_on_a_unix_socket() {
    run_all(true, false, Some(STACKS[3])).await;
}

async fn run_all(unix: bool, bytewise: bool, stack: Option<Stack>) {
    let certificates = Certificates::new();
    let tls = Some(certificates.options());
    let config = Config { tls, ..Config::default() };
    let server = start_with(config, |_| {}, unix).await;
    for (number, (name, steps)) in CASES.iter().enumerate() {
        // Nothing can be stacked before the magic.
        if stack.is_some() && !matches!(steps[0], Send(bytes) if bytes.starts_with(b"  V2")) {
            continue;
        }
        eprintln!("{name} {stack:?}");
        let mut peer = server.raw().await;
        if let Some(stack) = stack {
            peer.send(b"  V2").await;
            peer.stack(stack, &certificates).await;
        }
        peer.bytewise = bytewise;
        peer.skip = if stack.is_some() { b"  V2" } else { b"" };
        run(&mut peer, &format!("topic.{number}"), steps).await;
    }
    all_gone(&server).await;
    server.stop().await;
}

async fn run(peer: &mut Peer, topic: &str, steps: &[Step]) {
    let mut ids: Vec<String> = Vec::new();
    for step in steps {
        match step {
            Send(bytes) => {
                let bytes = bytes.strip_prefix(std::mem::take(&mut peer.skip)).unwrap();
                let bytes = replace(bytes, "$t", topic);
                let bytes =
                    ids.iter().zip(["$1", "$2", "$3"]).fold(bytes, |bytes, (id, n)| replace(&bytes, n, id));
                // The server may have closed in the middle of it.
                let _ = peer.try_send(&bytes).await;
            }
            Identify(json) => peer.send(&with_body("IDENTIFY", json.as_bytes())).await,
            Get(want) => {
                let want = ids
                    .iter()
                    .zip(["$1", "$2", "$3"])
                    .fold((*want).to_owned(), |want, (id, n): (&String, _)| want.replace(n, id));
                let frame = peer.expect(&want).await;
                if frame.kind == 2 && !ids.contains(&frame.id()) {
                    ids.push(frame.id());
                }
            }
            End => peer.expect_end().await,
            Close => peer.end().await,
        }
    }
}

fn replace(bytes: &[u8], from: &str, to: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = bytes;
    while let Some(at) = rest.windows(from.len()).position(|window| window == from.as_bytes()) {
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(to.as_bytes());
        rest = &rest[at + from.len()..];
    }
    out.extend_from_slice(rest);
    out
}

/// Every session notices that its peer is gone.
async fn all_gone(server: &Running) {
    let gone = async {
        while !server.clients.list().is_empty() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(common::PATIENCE, gone).await.expect("sessions of closed connections remain");
}

//! Conversations around AUTH, as a table.

use crate::auth_server::AuthServer;
use crate::{SUCCESS, config, start};

/// Bytes to send, and the frames that answer them; the last is an error after which the server closes.
type Case = (&'static str, &'static [&'static [u8]], &'static [&'static str]);

/// The auth server permits to publish to topics with an "a", and to subscribe to their channels with a "c".
const CASES: &[Case] = &[
    ("a parameter", &[b"AUTH now\n"], &["error E_INVALID AUTH invalid number of parameters"]),
    ("a space", &[b"AUTH \n"], &["error E_INVALID AUTH invalid number of parameters"]),
    ("too big", &[b"AUTH\n\x7f\xff\xff\xff"], &["error E_BAD_BODY AUTH body too big 2147483647 > 5242880"]),
    ("no secret", &[b"AUTH\n\0\0\0\0"], &["error E_BAD_BODY AUTH invalid body size 0"]),
    ("a negative size", &[b"AUTH\n\xff\xff\xff\xff"], &["error E_BAD_BODY AUTH invalid body size -1"]),
    ("twice", &[b"AUTH\n\0\0\0\x01sAUTH\n\0\0\0\x01s"], &[SUCCESS, "error E_INVALID AUTH already set"]),
    (
        "after SUB",
        &[b"AUTH\n\0\0\0\x01sSUB a c\nAUTH\n\0\0\0\x01s"],
        &[SUCCESS, "OK", "error E_INVALID cannot AUTH in current state"],
    ),
    ("sub first", &[b"SUB a c\n"], &["error E_AUTH_FIRST AUTH required before SUB"]),
    ("pub first", &[b"PUB a\n\0\0\0\x01x"], &["error E_AUTH_FIRST AUTH required before PUB"]),
    ("dpub first", &[b"DPUB a 5\n\0\0\0\x01x"], &["error E_AUTH_FIRST AUTH required before DPUB"]),
    ("mpub first, no body", &[b"MPUB a\n"], &["error E_AUTH_FIRST AUTH required before MPUB"]),
    ("peek first", &[b"PEEK a 0 1\n"], &["error E_AUTH_FIRST AUTH required before PEEK"]),
    ("names first", &[b"PUB a:b\n"], &["error E_BAD_TOPIC PUB topic name \\\"a:b\\\" is not valid"]),
    (
        "sizes of a pub first",
        &[b"PUB a\n\xff\xff\xff\xff"],
        &["error E_BAD_MESSAGE PUB invalid message body size -1"],
    ),
    (
        "sub elsewhere",
        &[b"AUTH\n\0\0\0\x01sSUB b c\n"],
        &[SUCCESS, "error E_UNAUTHORIZED AUTH failed for SUB on \\\"b\\\" \\\"c\\\""],
    ),
    (
        "another channel",
        &[b"AUTH\n\0\0\0\x01sSUB a x#ephemeral\n"],
        &[SUCCESS, "error E_UNAUTHORIZED AUTH failed for SUB on \\\"a\\\" \\\"x#ephemeral\\\""],
    ),
    (
        "pub here, then elsewhere, in one burst",
        &[b"AUTH\n\0\0\0\x01sPUB a\n\0\0\0\x01xPUB a\n\0\0\0\x01xPUB b\n\0\0\0\x01xPUB a\n\0\0\0\x01x"],
        &[SUCCESS, "OK", "OK", "error E_UNAUTHORIZED AUTH failed for PUB on \\\"b\\\" \\\"\\\""],
    ),
    (
        "dpub elsewhere",
        &[b"AUTH\n\0\0\0\x01sDPUB xax 0\n\0\0\0\x01xDPUB b 5\n\0\0\0\x01x"],
        &[SUCCESS, "OK", "error E_UNAUTHORIZED AUTH failed for DPUB on \\\"b\\\" \\\"\\\""],
    ),
    (
        "mpub elsewhere, no body",
        &[b"AUTH\n\0\0\0\x01sMPUB a\n\0\0\0\x09\0\0\0\x01\0\0\0\x01aMPUB b\n"],
        &[SUCCESS, "OK", "error E_UNAUTHORIZED AUTH failed for MPUB on \\\"b\\\" \\\"\\\""],
    ),
    (
        "mpub elsewhere after an mpub, a bad body",
        &[b"AUTH\n\0\0\0\x01sMPUB a\n\0\0\0\x09\0\0", b"\0\x01\0\0\0\x01aMPUB b\n\xff\xff\xff\xff"],
        &[SUCCESS, "OK", "error E_UNAUTHORIZED AUTH failed for MPUB on \\\"b\\\" \\\"\\\""],
    ),
    (
        "peek needs a channel that may be empty",
        &[b"AUTH\n\0\0\0\x01sPEEK a 0 1\n"],
        &[SUCCESS, "error E_UNAUTHORIZED AUTH failed for PEEK on \\\"a\\\" \\\"\\\""],
    ),
    (
        "what is not checked",
        &[b"AUTH\n\0\0\0\x01sNOP\nSUB a c\nRDY 0\nCLS\nFIN\n"],
        &[SUCCESS, "OK", "CLOSE_WAIT", "error E_INVALID FIN insufficient number of params"],
    ),
];

#[tokio::test]
async fn errors_are_nsqds_to_the_byte() {
    let json = r#"{"ttl":60,"identity":"","identity_url":"","authorizations":[
        {"topic":"a","channels":["c"],"permissions":["subscribe"]},{"topic":"a","channels":[""],"permissions":["publish"]}]}"#;
    let auth = AuthServer::start(json).await;
    for bytewise in [false, true] {
        let server = start(config(&[&auth])).await;
        for (name, sends, wants) in CASES {
            eprintln!("{name}");
            let mut peer = server.peer().await;
            peer.bytewise = bytewise;
            for bytes in *sends {
                // The server may have closed in the middle of it.
                let _ = peer.try_send(bytes).await;
            }
            for want in *wants {
                peer.expect(&want.replace("count\\\":1", "count\\\":2")).await;
            }
            peer.expect_end().await;
        }
        server.stop().await;
    }
}

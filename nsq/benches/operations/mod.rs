//! Operations that are measured: the pure parts of the protocol.

use std::hint::black_box;

use mq_core::MessageId;
use mq_nsq::wire::{Context, Limits, Parse, Parser, State, frame};

/// Bytes of a message.
const BODY: [u8; 200] = [b'x'; 200];
/// Messages of an MPUB.
const BATCH: u32 = 200;

/// Their names. What is counted is one message.
pub(crate) const NAMES: [&str; 4] = ["parse_pub", "parse_mpub", "parse_fin", "put_message"];

/// Parses all of `buf`, `messages` of them, until there were `count`.
fn parse(buf: &[u8], messages: u64, state: State, count: u64) {
    let limits = Limits::default();
    let context = Context {
        limits: &limits,
        state,
        heartbeats: true,
        tls_required: false,
        check_batches: false,
        extended: false,
    };
    for _ in 0..count.div_ceil(messages) {
        let (mut parser, mut rest) = (Parser::new(), black_box(buf));
        while !rest.is_empty() {
            let Parse::Command(command, bytes) = parser.parse(rest, &context) else { panic!("no command") };
            black_box(command);
            rest = &rest[bytes..];
        }
    }
}

fn put_body(out: &mut Vec<u8>, body: &[u8]) {
    out.extend_from_slice(&(body.len() as u32).to_be_bytes());
    out.extend_from_slice(body);
}

/// The operation of that name, ready to be done any number of times.
pub(crate) fn operation(name: &str) -> Box<dyn FnMut(u64)> {
    let mut buf = Vec::new();
    match name {
        "parse_pub" => {
            for _ in 0..BATCH {
                buf.extend_from_slice(b"PUB topic\n");
                put_body(&mut buf, &BODY);
            }
            Box::new(move |count| parse(&buf, BATCH.into(), State::Init, count))
        }
        "parse_mpub" => {
            let mut bodies = BATCH.to_be_bytes().to_vec();
            (0..BATCH).for_each(|_| put_body(&mut bodies, &BODY));
            buf.extend_from_slice(b"MPUB topic\n");
            put_body(&mut buf, &bodies);
            Box::new(move |count| parse(&buf, BATCH.into(), State::Init, count))
        }
        "parse_fin" => {
            buf = b"FIN 0123456789abcdef\n".repeat(BATCH as usize);
            Box::new(move |count| parse(&buf, BATCH.into(), State::Subscribed, count))
        }
        "put_message" => Box::new(move |count| {
            for id in 0..count {
                buf.clear();
                frame::put_message(&mut buf, MessageId(id), id, 1, black_box(&BODY));
            }
        }),
        _ => panic!("no operation {name}: there are {NAMES:?}"),
    }
}

//! Commands as bytes and what the parser makes of them: nsqd's texts and the order of its checks, to the
//! byte.

use std::time::Duration;

use mq_nsq::wire::{Command, Context, Limits, Parse, Parser, State};
use proptest::prelude::*;

const ID: &str = "0123456789abcdef";

fn context(limits: &Limits, state: State) -> Context<'_> {
    Context { limits, state, heartbeats: true, tls_required: false, check_batches: false, extended: false }
}

/// The parser's result for `bytes`, in one line.
fn outcome(bytes: &[u8], context: &Context<'_>) -> String {
    show(&Parser::new().parse(bytes, context))
}

fn show(parse: &Parse<'_>) -> String {
    match parse {
        Parse::Incomplete { need, .. } => format!("need {need}"),
        Parse::Batch(topic) => format!("batch to {}", topic.as_str()),
        Parse::LineTooLong => "line too long".to_owned(),
        Parse::Error(error) => error.to_string(),
        Parse::Command(command, consumed) => match command {
            Command::Publish(topic, body) => format!("{consumed} pub {} {}", topic.as_str(), text(body)),
            Command::PublishMany(topic, bodies) => {
                let bodies: Vec<_> = bodies.map(text).collect();
                format!("{consumed} mpub {} {}", topic.as_str(), bodies.join(","))
            }
            Command::PublishDeferred(topic, delay, body) => {
                format!("{consumed} dpub {} {delay:?} {}", topic.as_str(), text(body))
            }
            Command::Subscribe(topic, channel) => {
                format!("{consumed} sub {} {}", topic.as_str(), channel.as_str())
            }
            Command::Identify(body) => format!("{consumed} identify {}", text(body)),
            Command::Auth(secret) => format!("{consumed} auth {}", text(secret.expose())),
            Command::Finish(id) => format!("{consumed} fin {}", text(*id)),
            Command::Requeue(id, delay) => format!("{consumed} req {} {delay:?}", text(*id)),
            Command::Touch(id) => format!("{consumed} touch {}", text(*id)),
            Command::Peek(topic, from, max) => format!("{consumed} peek {} {from:?} {max}", topic.as_str()),
            other => format!("{consumed} {other:?}").to_lowercase(),
        },
    }
}

fn text(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

fn check(state: State, cases: &[(&[u8], &str)]) {
    let limits = Limits { max_msg_size: 100, max_body_size: 200, ..Limits::default() };
    for (bytes, want) in cases {
        assert_eq!(&outcome(bytes, &context(&limits, state)), want, "{}", text(bytes));
    }
}

#[test]
fn in_any_state() {
    let cases: &[(&[u8], &str)] = &[
        (b"", "need 1"),
        (b"NO", "need 3"),
        (b"NOP\n", "4 nop"),
        (b"NOP\r\n", "5 nop"),
        (b"NOP what ever\n", "14 nop"),
        (b"\n", "E_INVALID invalid command "),
        (b"\r\n", "E_INVALID invalid command "),
        (b"\r\r\n", "E_INVALID invalid command \\r"),
        (b" NOP\n", "E_INVALID invalid command "),
        (b"nop\n", "E_INVALID invalid command nop"),
        (b"\xff\x00 x\n", "E_INVALID invalid command \\xff\\x00"),
        // PUB
        (b"PUB\n", "E_INVALID PUB insufficient number of parameters"),
        (b"PUB \n", "E_BAD_TOPIC PUB topic name \\\"\\\" is not valid"),
        (b"PUB  t\n", "E_BAD_TOPIC PUB topic name \\\"\\\" is not valid"),
        (b"PUB a:b\n", "E_BAD_TOPIC PUB topic name \\\"a:b\\\" is not valid"),
        (b"PUB \xff\t\n", "E_BAD_TOPIC PUB topic name \\\"\\\\xff\\\\t\\\" is not valid"),
        (b"PUB t\n", "need 10"),
        (b"PUB t\n\0\0\0", "need 10"),
        (b"PUB t\n\0\0\0\x03ab", "need 13"),
        (b"PUB t\n\0\0\0\x02hiNOP\n", "12 pub t hi"),
        (b"PUB t.#ephemeral surplus\r\n\0\0\0\x01\n", "31 pub t.#ephemeral \\n"),
        (b"PUB t\n\0\0\0\0", "E_BAD_MESSAGE PUB invalid message body size 0"),
        (b"PUB t\n\xff\xff\xff\xff", "E_BAD_MESSAGE PUB invalid message body size -1"),
        (b"PUB t\n\x80\0\0\0", "E_BAD_MESSAGE PUB invalid message body size -2147483648"),
        (b"PUB t\n\0\0\0\x65", "E_BAD_MESSAGE PUB message too big 101 > 100"),
        (b"PUB t\n\0\0\0\x64", "need 110"),
        // MPUB
        (b"MPUB\n", "E_INVALID MPUB insufficient number of parameters"),
        (b"MPUB a:b\n", "E_BAD_TOPIC E_BAD_TOPIC MPUB topic name \\\"a:b\\\" is not valid"),
        (b"MPUB t\n", "need 11"),
        (b"MPUB t\n\0\0\0\0", "E_BAD_BODY MPUB invalid body size 0"),
        (b"MPUB t\n\xff\xff\xff\xfe", "E_BAD_BODY MPUB invalid body size -2"),
        (b"MPUB t\n\0\0\0\xc9", "E_BAD_BODY MPUB body too big 201 > 200"),
        (b"MPUB t\n\0\0\0\xc8", "need 15"),
        (b"MPUB t\n\0\0\0\xc8\0\0\0\0", "E_BAD_BODY MPUB invalid message count 0"),
        (b"MPUB t\n\0\0\0\xc8\xff\xff\xff\xff", "E_BAD_BODY MPUB invalid message count -1"),
        (b"MPUB t\n\0\0\0\xc8\0\0\0\x28", "E_BAD_BODY MPUB invalid message count 40"),
        (b"MPUB t\n\0\0\0\xc8\0\0\0\x27", "need 210"),
        (b"MPUB t\n\0\0\0\x0f\0\0\0\x02\0\0\0\x01a\0\0\0\x02bcNOP\n", "26 mpub t a,bc"),
        // The body's length is held against its limit and then forgotten.
        (b"MPUB t\n\0\0\0\x01\0\0\0\x02\0\0\0\x01a\0\0\0\x02bc", "26 mpub t a,bc"),
        (b"MPUB t\n\0\0\0\xc0\0\0\0\x02\0\0\0\x01a\0\0\0\x02bc", "26 mpub t a,bc"),
        (b"MPUB t\n\0\0\0\x0f\0\0\0\x02\0\0\0\x01a\0\0\0\x02b", "need 26"),
        (b"MPUB t\n\0\0\0\x0f\0\0\0\x02\0\0\0\x04a", "need 28"),
        (
            b"MPUB t\n\0\0\0\x0f\0\0\0\x02\0\0\0\x01a\0\0\0\0",
            "E_BAD_MESSAGE MPUB invalid message(1) body size 0",
        ),
        (
            b"MPUB t\n\0\0\0\x0f\0\0\0\x02\xff\xff\xff\xff",
            "E_BAD_MESSAGE MPUB invalid message(0) body size -1",
        ),
        (b"MPUB t\n\0\0\0\x0f\0\0\0\x02\0\0\0\x65", "E_BAD_MESSAGE MPUB message too big 101 > 100"),
        // DPUB
        (b"DPUB\n", "E_INVALID DPUB insufficient number of parameters"),
        (b"DPUB a:b\n", "E_INVALID DPUB insufficient number of parameters"),
        (b"DPUB a:b x\n", "E_BAD_TOPIC DPUB topic name \\\"a:b\\\" is not valid"),
        (b"DPUB t -1\n", "E_INVALID DPUB could not parse timeout -1"),
        (b"DPUB t 3600100\n", "E_INVALID DPUB timeout 3600100 out of range 0-3600000"),
        (
            b"DPUB t 18446744073709551615\n",
            "E_INVALID DPUB timeout 18446744073709551615 out of range 0-3600000",
        ),
        (b"DPUB t 18446744073709551617\n\0\0\0\x01x", "33 dpub t 1ms x"),
        (b"DPUB t 3600000\n\0\0\0\x02hi", "21 dpub t 3600s hi"),
        (b"DPUB t \n\0\0\0\x02hi", "14 dpub t 0ns hi"),
        (b"DPUB t 0\n\0\0\0\0", "E_BAD_MESSAGE DPUB invalid message body size 0"),
        (b"DPUB t 0\n\0\0\0\x65", "E_BAD_MESSAGE DPUB message too big 101 > 100"),
        // PEEK
        (b"PEEK t 0\n", "E_INVALID PEEK insufficient number of parameters"),
        (b"PEEK a:b 0 1\n", "E_BAD_TOPIC PEEK topic name \\\"a:b\\\" is not valid"),
        (b"PEEK t 1 1\n", "E_INVALID invalid message ID"),
        (b"PEEK t 0 0\n", "E_INVALID PEEK count 0 out of range 1-1000"),
        (b"PEEK t 0 1001\n", "E_INVALID PEEK count 1001 out of range 1-1000"),
        (b"PEEK t 0 x\n", "E_INVALID PEEK could not parse count x"),
        (b"PEEK t 0 1000\n", "14 peek t None 1000"),
        (b"PEEK t 00000000000000ff 1\n", "26 peek t Some(255) 1"),
    ];
    for state in [State::Init, State::Subscribed, State::Closing] {
        check(state, cases);
    }
}

#[test]
fn before_a_subscription() {
    check(
        State::Init,
        &[
            (b"IDENTIFY\n", "need 13"),
            (b"IDENTIFY ignored\n\0\0\0\x02{}", "23 identify {}"),
            (b"IDENTIFY\n\0\0\0\x02{", "need 15"),
            (b"IDENTIFY\n\0\0\0\0", "E_BAD_BODY IDENTIFY invalid body size 0"),
            (b"IDENTIFY\n\xff\xff\xff\xff", "E_BAD_BODY IDENTIFY invalid body size -1"),
            (b"IDENTIFY\n\0\0\0\xc9", "E_BAD_BODY IDENTIFY body too big 201 > 200"),
            (b"AUTH\n\0\0\0\x01s", "10 auth s"),
            (b"AUTH s\n", "E_INVALID AUTH invalid number of parameters"),
            (b"AUTH \n", "E_INVALID AUTH invalid number of parameters"),
            (b"AUTH\n\0\0\0\0", "E_BAD_BODY AUTH invalid body size 0"),
            (b"AUTH\n\0\0\0\xc9", "E_BAD_BODY AUTH body too big 201 > 200"),
            (b"SUB\n", "E_INVALID SUB insufficient number of parameters"),
            (b"SUB t\n", "E_INVALID SUB insufficient number of parameters"),
            (b"SUB a:b :\n", "E_BAD_TOPIC SUB topic name \\\"a:b\\\" is not valid"),
            (b"SUB t :\n", "E_BAD_CHANNEL SUB channel name \\\":\\\" is not valid"),
            (b"SUB t c\n", "8 sub t c"),
            (b"SUB t#ephemeral c#ephemeral surplus\n", "36 sub t#ephemeral c#ephemeral"),
            (b"RDY 1\n", "E_INVALID cannot RDY in current state"),
            (b"RDY x\n", "E_INVALID cannot RDY in current state"),
            (b"FIN\n", "E_INVALID cannot FIN in current state"),
            (b"REQ\n", "E_INVALID cannot REQ in current state"),
            (b"TOUCH\n", "E_INVALID cannot TOUCH in current state"),
            (b"CLS\n", "E_INVALID cannot CLS in current state"),
        ],
    );
}

#[test]
fn after_a_subscription() {
    check(
        State::Subscribed,
        &[
            (b"IDENTIFY\n", "E_INVALID cannot IDENTIFY in current state"),
            (b"AUTH x\n", "E_INVALID cannot AUTH in current state"),
            (b"SUB\n", "E_INVALID cannot SUB in current state"),
            (b"RDY\n", "4 ready(1)"),
            (b"RDY \n", "5 ready(0)"),
            (b"RDY 2500\n", "9 ready(2500)"),
            (b"RDY 2501\n", "E_INVALID RDY count 2501 out of range 0-2500"),
            (b"RDY 18446744073709551615\n", "E_INVALID RDY count -1 out of range 0-2500"),
            (b"RDY 18446744073709551618\n", "25 ready(2)"),
            (b"RDY -1\n", "E_INVALID RDY could not parse count -1"),
            (b"RDY a\xffb\n", "E_INVALID RDY could not parse count a\\xffb"),
            (b"CLS\n", "4 close"),
        ],
    );
    check(State::Closing, &[(b"CLS\n", "E_INVALID cannot CLS in current state"), (b"RDY x\n", "6 nop")]);
    for state in [State::Subscribed, State::Closing] {
        check(
            state,
            &[
                (b"FIN\n", "E_INVALID FIN insufficient number of params"),
                (b"FIN \n", "E_INVALID invalid message ID"),
                (b"FIN 0123456789abcde\n", "E_INVALID invalid message ID"),
                (format!("FIN {ID}\n").as_bytes(), &format!("21 fin {ID}")),
                (b"FIN ++++++++++++++++\n", "21 fin ++++++++++++++++"),
                (b"TOUCH\n", "E_INVALID TOUCH insufficient number of params"),
                (b"TOUCH x\n", "E_INVALID invalid message ID"),
                (format!("TOUCH {ID}\n").as_bytes(), &format!("23 touch {ID}")),
                (b"REQ\n", "E_INVALID REQ insufficient number of params"),
                (format!("REQ {ID}\n").as_bytes(), "E_INVALID REQ insufficient number of params"),
                (b"REQ x y\n", "E_INVALID invalid message ID"),
                (format!("REQ {ID} -1\n").as_bytes(), "E_INVALID REQ could not parse timeout -1"),
                (format!("REQ {ID} 10\n").as_bytes(), &format!("24 req {ID} 10ms")),
                (format!("REQ {ID} \n").as_bytes(), &format!("22 req {ID} 0ns")),
                (format!("REQ {ID} 3600100\n").as_bytes(), &format!("29 req {ID} 3600.1s")),
            ],
        );
    }
}

#[test]
fn without_heartbeats_and_before_tls() {
    let limits = Limits::default();
    let silent = Context { heartbeats: false, ..context(&limits, State::Init) };
    assert_eq!(outcome(b"SUB\n", &silent), "E_INVALID cannot SUB with heartbeats disabled");
    let plain = Context { tls_required: true, ..context(&limits, State::Init) };
    assert_eq!(outcome(b"NOP\n", &plain), "E_INVALID cannot NOP in current state (TLS required)");
    assert_eq!(outcome(b"x y\n", &plain), "E_INVALID cannot x in current state (TLS required)");
    assert_eq!(outcome(b"IDENTIFY\n\0\0\0\x02{}", &plain), "15 identify {}");
}

#[test]
fn a_batch_is_checked_after_its_name_and_before_its_body() {
    let limits = Limits::default();
    let unchecked = Context { check_batches: true, ..context(&limits, State::Init) };
    assert_eq!(outcome(b"MPUB t", &unchecked), "need 7");
    assert_eq!(outcome(b"MPUB t\n", &unchecked), "batch to t");
    assert_eq!(outcome(b"MPUB t x\n\xff\xff\xff\xff", &unchecked), "batch to t");
    assert_eq!(outcome(b"MPUB\n", &unchecked), "E_INVALID MPUB insufficient number of parameters");
    let bad = "E_BAD_TOPIC E_BAD_TOPIC MPUB topic name \\\"a:b\\\" is not valid";
    assert_eq!(outcome(b"MPUB a:b\n", &unchecked), bad);
    assert_eq!(outcome(b"PUB t\n\0\0\0\x01a", &unchecked), "11 pub t a");
    let checked = context(&limits, State::Init);
    assert_eq!(outcome(b"MPUB t\n\xff\xff\xff\xff", &checked), "E_BAD_BODY MPUB invalid body size -1");
}

#[test]
fn a_line_has_16384_bytes_with_its_end() {
    let limits = Limits::default();
    let context = context(&limits, State::Init);
    let line = |len: usize| [b"NOP ".as_slice(), &vec![b'x'; len - 5], b"\n"].concat();
    assert_eq!(outcome(&line(16384), &context), "16384 nop");
    assert_eq!(outcome(&line(16385), &context), "line too long");
    assert_eq!(outcome(&line(16385)[..16383], &context), "need 16384");
    assert_eq!(outcome(&vec![b' '; 1 << 20], &context), "line too long");
}

#[test]
fn bodies_of_an_mpub_together_keep_the_bodys_limit() {
    let limits = Limits { max_msg_size: 100, max_body_size: 200, ..Limits::default() };
    let message = [b"\0\0\0\x60".as_slice(), &[b'x'; 0x60]].concat();
    let mpub = [b"MPUB t\n\0\0\0\x01\0\0\0\x03".as_slice(), &message, &message, &message].concat();
    let want = "E_BAD_BODY MPUB body too big 204 > 200";
    assert_eq!(outcome(&mpub[..15 + message.len()], &context(&limits, State::Init)), "need 125");
    assert_eq!(outcome(&mpub[..15 + message.len() + 4], &context(&limits, State::Init)), want);
}

#[test]
fn what_a_client_that_stops_in_a_command_is_told() {
    let limits = Limits::default();
    let cases: &[(&[u8], Option<&str>)] = &[
        (b"", None),
        (b"NOP", None),
        (b"PUB t\n\0", Some("E_BAD_MESSAGE PUB failed to read message body size")),
        (b"PUB t\n\0\0\0\x02a", Some("E_BAD_MESSAGE PUB failed to read message body")),
        (b"DPUB t 0\n\0", Some("E_BAD_MESSAGE DPUB failed to read message body size")),
        (b"DPUB t 0\n\0\0\0\x02a", Some("E_BAD_MESSAGE DPUB failed to read message body")),
        (b"IDENTIFY\n\0", Some("E_BAD_BODY IDENTIFY failed to read body size")),
        (b"IDENTIFY\n\0\0\0\x02{", Some("E_BAD_BODY IDENTIFY failed to read body")),
        (b"AUTH\n\0", Some("E_BAD_BODY AUTH failed to read body size")),
        (b"AUTH\n\0\0\0\x02{", Some("E_BAD_BODY AUTH failed to read body")),
        (b"MPUB t\n\0", Some("E_BAD_BODY MPUB failed to read body size")),
        (b"MPUB t\n\0\0\0\x0f\0", Some("E_BAD_BODY MPUB failed to read message count")),
        (
            b"MPUB t\n\0\0\0\x0f\0\0\0\x02\0\0\0\x01a\0",
            Some("E_BAD_MESSAGE MPUB failed to read message(1) body size"),
        ),
        (b"MPUB t\n\0\0\0\x0f\0\0\0\x02\0\0\0\x01", Some("E_BAD_MESSAGE MPUB failed to read message body")),
    ];
    for (bytes, want) in cases {
        let Parse::Incomplete { stage, .. } = Parser::new().parse(bytes, &context(&limits, State::Init))
        else {
            panic!("{} is complete", text(bytes));
        };
        assert_eq!(stage.at_end().map(|e| e.to_string()).as_deref(), *want, "{}", text(bytes));
    }
}

/// Everything the parser makes of a stream that arrives in pieces that end at `cuts`.
fn outcomes(stream: &[u8], cuts: &[usize], state: State) -> Vec<String> {
    let limits = Limits {
        max_msg_size: 40,
        max_body_size: 120,
        max_req_timeout: Duration::from_secs(1),
        max_rdy_count: 5,
    };
    let mut context = Context { check_batches: true, ..context(&limits, state) };
    let mut parser = Parser::new();
    let (mut out, mut at) = (Vec::new(), 0);
    for &cut in cuts.iter().chain([&stream.len()]) {
        loop {
            // A prefix of a longer piece may have been consumed already.
            let buf = &stream[at..cut.max(at)];
            let parse = parser.parse(buf, &context);
            match &parse {
                Parse::Incomplete { need, .. } => {
                    assert!(*need > buf.len());
                    break;
                }
                Parse::Command(_, consumed) => {
                    assert!(*consumed <= buf.len());
                    at += consumed;
                    context.check_batches = true;
                    out.push(show(&parse));
                }
                Parse::Batch(_) => {
                    assert!(context.check_batches);
                    context.check_batches = false;
                }
                Parse::Error(_) | Parse::LineTooLong => {
                    out.push(show(&parse));
                    return out;
                }
            }
        }
    }
    out
}

fn state() -> impl Strategy<Value = State> {
    prop_oneof![Just(State::Init), Just(State::Subscribed), Just(State::Closing)]
}

fn sized() -> impl Strategy<Value = Vec<u8>> {
    (prop::collection::vec(any::<u8>(), 0..44), prop_oneof![9 => Just(0i32), 1 => -2..3i32]).prop_map(
        |(body, off)| {
            let length = (body.len() as i32 + off) as u32;
            [&length.to_be_bytes()[..], &body].concat()
        },
    )
}

/// A command, most often a good one.
fn command() -> impl Strategy<Value = Vec<u8>> {
    let name = "[a-z]{1,3}|[a-z:]{0,3}";
    let text = |s: String| s.into_bytes();
    prop_oneof![
        prop_oneof![Just("NOP\n"), Just("NOP\r\n"), Just("CLS\n"), Just("RDY\n")]
            .prop_map(|s| s.as_bytes().to_vec()),
        "RDY [0-7]\n|FIN [0-9a-f]{16}\n|TOUCH [0-9a-f]{16}\n|REQ [0-9a-f]{16} [0-9]{0,5}\n".prop_map(text),
        "SUB [a-z]{1,3} [a-z]{1,3}\n|PEEK [a-z] 0 [0-9]{1,3}\n".prop_map(text),
        (name, sized()).prop_map(|(t, body)| [format!("PUB {t}\n").as_bytes(), &body].concat()),
        (name, 0..1100u32, sized())
            .prop_map(|(t, ms, body)| [format!("DPUB {t} {ms}\n").as_bytes(), &body].concat()),
        (name, 1..130u32, prop::collection::vec(sized(), 1..5), 0..9u32).prop_map(
            |(t, size, bodies, off)| {
                let n = bodies.len() as u32 + off / 8;
                let line = format!("MPUB {t}\n");
                [line.as_bytes(), &size.to_be_bytes(), &n.to_be_bytes(), &bodies.concat()].concat()
            }
        ),
        sized().prop_map(|body| [b"IDENTIFY\n", &body[..]].concat()),
        prop::collection::vec(any::<u8>(), 0..20),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn the_split_of_a_stream_changes_nothing(
        commands in prop::collection::vec(command(), 1..6),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
        state in state(),
    ) {
        let stream = commands.concat();
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
        cuts.sort_unstable();
        let each: Vec<_> = (0..stream.len()).collect();
        let whole = outcomes(&stream, &[], state);
        prop_assert_eq!(&outcomes(&stream, &cuts, state), &whole);
        prop_assert_eq!(&outcomes(&stream, &each, state), &whole);
    }

    #[test]
    fn any_bytes_are_commands_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200), state in state()) {
        outcomes(&bytes, &[], state);
    }
}

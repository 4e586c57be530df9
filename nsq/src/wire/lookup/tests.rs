use proptest::prelude::*;

use super::*;

fn error(buf: &[u8], identified: bool) -> String {
    match parse(buf, identified) {
        Parse::Error(error) => error.to_string(),
        other => panic!("{other:?}"),
    }
}

fn name(text: &str) -> Name<'_> {
    Name::parse(text.as_bytes()).unwrap()
}

#[test]
fn commands_are_read_as_nsqlookupd_reads_them() {
    for (line, command) in [
        ("PING\n", Command::Ping),
        ("  PING x \n", Command::Ping),
        ("REGISTER t\n", Command::Register(name("t"), None)),
        ("REGISTER t c\r\n", Command::Register(name("t"), Some(name("c")))),
        ("REGISTER t  c\n", Command::Register(name("t"), None)),
        ("REGISTER t\u{a0}\n", Command::Register(name("t"), None)),
        ("UNREGISTER t c d\n", Command::Unregister(name("t"), Some(name("c")))),
        ("IDENTIFY x\n\0\0\0\x02{}", Command::Identify(b"{}")),
    ] {
        let identified = !line.starts_with("IDENTIFY");
        assert_eq!(parse(line.as_bytes(), identified), Parse::Command(command, line.len()), "{line:?}");
    }
}

#[test]
fn errors_are_nsqlookupds() {
    let long = [b'x'; LINE_BYTES_MAX];
    for (line, identified, expected) in [
        (&b"\n"[..], false, "E_INVALID invalid command "),
        (b"ping\n", false, "E_INVALID invalid command ping"),
        (b"REGISTER\tt\n", true, "E_INVALID invalid command REGISTER\\tt"),
        (b"UNREGISTER\n", false, "E_INVALID client must IDENTIFY"),
        (b"REGISTER \n", true, "E_INVALID REGISTER insufficient number of params"),
        (b"REGISTER  t\n", true, "E_BAD_TOPIC REGISTER topic name \\'\\' is not valid"),
        (b"REGISTER \xff\n", true, "E_BAD_TOPIC REGISTER topic name \\'\\xff\\' is not valid"),
        (b"UNREGISTER t c!\n", true, "E_BAD_CHANNEL UNREGISTER channel name \\'c!\\' is not valid"),
        (b"IDENTIFY\n", true, "E_INVALID cannot IDENTIFY again"),
        (b"IDENTIFY\n\xff\xff\xff\xff", false, "E_BAD_BODY IDENTIFY invalid body size -1"),
        (b"IDENTIFY\n\x7f\xff\xff\xff", false, "E_BAD_BODY IDENTIFY body too big 2147483647 > 8192"),
        (&long, true, "E_INVALID line longer than 1024 bytes"),
    ] {
        assert_eq!(error(line, identified), expected);
    }
}

#[test]
fn a_cut_command_says_where() {
    for (buf, expected) in [
        (&b"PING"[..], None),
        (b"IDENTIFY\n\0\0", Some("E_BAD_BODY IDENTIFY failed to read body size")),
        (b"IDENTIFY\n\0\0\0\x02{", Some("E_BAD_BODY IDENTIFY failed to read body")),
    ] {
        let Parse::Incomplete(stage) = parse(buf, false) else { panic!("{buf:?}") };
        assert_eq!(stage.at_end().map(|e| e.to_string()).as_deref(), expected);
    }
}

#[test]
fn a_peer_has_an_address_ports_and_a_version() {
    let json =
        r#"{"VERSION":"1","tcp_port":4150,"http_port":4151,"hostname":null,"broadcast_address":"b","x":[1]}"#;
    let peer = BrokerIdentity::parse(json.as_bytes()).unwrap();
    assert_eq!((peer.tcp_port, peer.http_port, &*peer.broadcast_address), (4150, 4151, "b"));
    assert_eq!(BrokerIdentity::parse(peer.to_json().as_bytes()).unwrap(), peer);
    for (from, to, why) in [
        ("4150", "0", "missing fields"),
        ("\"b\"", "\"\"", "missing fields"),
        ("\"1\"", "null", "missing fields"),
        ("4150", "\"4150\"", "failed to decode JSON body"),
        ("4150", "4150.0", "failed to decode JSON body"),
        ("4150", "-5", "port -5 is not 1 to 65535"),
        ("4151", "65536", "port 65536 is not 1 to 65535"),
        ("{", "[", "failed to decode JSON body"),
        (json, "null", "missing fields"),
        (json, "", "failed to decode JSON body"),
    ] {
        let error = BrokerIdentity::parse(json.replacen(from, to, 1).as_bytes()).unwrap_err();
        assert_eq!(error.to_string(), format!("E_BAD_BODY IDENTIFY {why}"));
    }
}

#[test]
fn a_server_identifies_itself_in_nsqlookupds_order() {
    let identity = Identity {
        broadcast_address: "127.0.0.1".into(),
        hostname: "vm".into(),
        http_port: 4161,
        tcp_port: 4160,
        version: "1.3.0".into(),
    };
    let json = r#"{"broadcast_address":"127.0.0.1","hostname":"vm","http_port":4161,"tcp_port":4160,"version":"1.3.0"}"#;
    assert_eq!(identity.to_json(), json);
    assert_eq!(Identity::parse(json.as_bytes()), Some(identity));
    assert_eq!(Identity::parse(b"E_INVALID"), None);
}

#[test]
fn answers_are_whole_or_not_yet() {
    let mut out = Vec::new();
    put_answer(&mut out, OK);
    put_error(&mut out, &WireError::new(Code::Invalid, "x"));
    assert_eq!(answer(&out), Ok(Some((OK, 6))));
    assert_eq!(answer(&out[6..]), Ok(Some((&b"E_INVALID x"[..], 15))));
    assert_eq!(answer(&out[6..20]), Ok(None));
    assert_eq!(answer(b"E_IN"), Err(0x455f_494e));
}

/// Bytes that look like commands often enough.
fn stream() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        Just(b"PING\n".to_vec()),
        Just(b"IDENTIFY\n\0\0\0\x02{}".to_vec()),
        "(UN)?REGISTER [a-z!#]{0,3}( [a-z]{0,2})?\n".prop_map(String::into_bytes),
        prop::collection::vec(any::<u8>(), 0..12),
        (any::<i32>(), ".{0,9}")
            .prop_map(|(n, s)| [b"IDENTIFY\n", &n.to_be_bytes()[..], s.as_bytes()].concat()),
    ];
    prop::collection::vec(piece, 0..6).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn a_command_is_the_same_in_pieces(bytes in stream(), identified: bool) {
        let whole = parse(&bytes, identified);
        for cut in 0..bytes.len() {
            match parse(&bytes[..cut], identified) {
                Parse::Incomplete(_) => {}
                part => prop_assert_eq!(&part, &whole),
            }
        }
        if let Parse::Command(_, consumed) = whole {
            prop_assert!(consumed > 0 && consumed <= bytes.len());
        }
    }

    #[test]
    fn what_is_put_is_what_is_parsed(
        topic in "[a-z.]{1,64}", channel in prop::option::of("[A-Z_]{1,54}(#ephemeral)?"), register: bool,
    ) {
        let names = (TopicName::parse(&topic).unwrap(), channel.as_deref().map(|c| ChannelName::parse(c).unwrap()));
        let mut out = Vec::new();
        let channel = channel.as_deref().map(name);
        let command = if register {
            put_register(&mut out, &names.0, names.1.as_ref());
            Command::Register(name(&topic), channel)
        } else {
            put_unregister(&mut out, &names.0, names.1.as_ref());
            Command::Unregister(name(&topic), channel)
        };
        prop_assert_eq!(parse(&out, true), Parse::Command(command, out.len()));
    }

    #[test]
    fn any_answer_is_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
        if let Ok(Some((data, consumed))) = answer(&bytes) {
            prop_assert_eq!(data.len() + 4, consumed);
        }
        let _ = BrokerIdentity::parse(&bytes);
        let _ = Identity::parse(&bytes);
    }
}

//! Every endpoint.

use std::time::Duration;

use mq_nsq::server::{Config, OptionError, OptionSource, OptionValue, Options};

use crate::common::{start_with, with_body};
use crate::{ask, ask_with, send, start, until};

const JSON: &str = "application/json; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";

/// One option that can change, and one that can't.
struct TwoOptions;

impl OptionSource for TwoOptions {
    fn get(&self, name: &str) -> Option<OptionValue> {
        match name {
            "log_level" => Some(OptionValue::Json("2".to_owned())),
            "tcp_address" => Some(OptionValue::Text("127.0.0.1:4150".to_owned())),
            "log_prefix" => Some(OptionValue::Text(String::new())),
            _ => None,
        }
    }

    fn put(&self, name: &str, value: &[u8]) -> Result<OptionValue, OptionError> {
        match (name, value) {
            ("log_level", b"debug") => Ok(OptionValue::Json("1".to_owned())),
            ("log_level", _) => Err(OptionError::Value),
            _ => Err(OptionError::Option),
        }
    }
}

/// Answers of nsqd 1.3.0, in order: some need the effect of those before. An error is its code, 200 may have
/// a text.
#[tokio::test]
async fn answers_are_nsqds() {
    let config = Config { options: Options::new(std::sync::Arc::new(TwoOptions)), ..Config::default() };
    let server = start(Config { max_msg_size: 10, max_body_size: 100, ..config }).await;
    let two = b"\0\0\0\x02\0\0\0\x01a\0\0\0\x02bc";
    let cut = &two[..two.len() - 1];
    let large: &[u8] = &[b'x'; 11];
    let huge: &[u8] = &[b'\n'; 101];
    let cases: &[(&str, &[u8], u16, &str)] = &[
        ("GET /ping", b"", 200, "OK"),
        ("POST /pub?topic=t", b"hello", 200, "OK"),
        ("POST /pub?topic=t", b"", 400, "MSG_EMPTY"),
        ("POST /pub", b"a", 400, "MISSING_ARG_TOPIC"),
        ("POST /pub?topic=", b"a", 400, "INVALID_TOPIC"),
        ("POST /pub?topic=a%20b", b"a", 400, "INVALID_TOPIC"),
        ("POST /pub?topic=%zz", b"a", 400, "INVALID_REQUEST"),
        ("POST /pub?topic=t&defer=x", b"a", 400, "INVALID_DEFER"),
        ("POST /pub?topic=t&defer=", b"a", 400, "INVALID_DEFER"),
        ("POST /pub?topic=t&defer=-1", b"a", 400, "INVALID_DEFER"),
        ("POST /pub?topic=t&defer=3600001", b"a", 400, "INVALID_DEFER"),
        ("POST /pub?topic=t&defer=3600000", b"a", 200, "OK"),
        ("POST /pub?topic=t&defer=0", b"a", 200, "OK"),
        ("POST /pub?topic=t", large, 413, "MSG_TOO_BIG"),
        ("POST /mpub?topic=m", b"a\nb\n\nc\r\nd", 200, "OK"),
        ("POST /mpub?topic=m", b"", 200, "OK"),
        ("POST /mpub?topic=m", b"\n\n", 200, "OK"),
        ("POST /mpub", b"a", 400, "MISSING_ARG_TOPIC"),
        ("POST /mpub?topic=a%20b", b"a", 400, "INVALID_TOPIC"),
        ("POST /mpub", huge, 413, "BODY_TOO_BIG"),
        ("POST /mpub?topic=m", large, 413, "MSG_TOO_BIG"),
        ("POST /mpub?topic=m&binary=true", two, 200, "OK"),
        ("POST /mpub?topic=m&binary=true", cut, 413, "BAD_MESSAGE"),
        ("POST /mpub?topic=m&binary=true", b"\0\0\0\0", 413, "BAD_BODY"),
        ("POST /mpub?topic=m&binary=true", b"\0\0", 413, "BAD_BODY"),
        ("POST /mpub?topic=m&binary=true", b"\xff\xff\xff\xff", 413, "BAD_BODY"),
        ("POST /mpub?topic=m&binary=true", b"\0\0\0\x01\0\0\0\0", 413, "BAD_MESSAGE"),
        ("POST /mpub?topic=m&binary=true", b"\0\0\0\x01\0\0\0\x0bxxxxxxxxxxx", 413, "BAD_MESSAGE"),
        ("POST /mpub?topic=m&binary=x", b"\0\0\0\x01\0\0\0\x01a", 200, "OK"),
        ("POST /mpub?topic=m&binary", b"a", 413, "BAD_BODY"),
        ("POST /mpub?topic=m&binary=0", b"a", 200, "OK"),
        ("POST /topic/create", b"", 400, "MISSING_ARG_TOPIC"),
        ("POST /topic/create?topic=a%20b", b"", 400, "INVALID_TOPIC"),
        ("POST /topic/create?topic=%zz", b"", 400, "INVALID_REQUEST"),
        ("POST /topic/create?topic=u", b"", 200, ""),
        ("POST /topic/create?topic=u", b"", 200, ""),
        ("POST /topic/create?topic=v%23ephemeral", b"", 200, ""),
        ("POST /topic/empty", b"", 400, "MISSING_ARG_TOPIC"),
        ("POST /topic/empty?topic=a%20b", b"", 400, "INVALID_TOPIC"),
        ("POST /topic/empty?topic=none", b"", 404, "TOPIC_NOT_FOUND"),
        ("POST /topic/empty?topic=m", b"", 200, ""),
        ("POST /topic/pause", b"", 400, "MISSING_ARG_TOPIC"),
        ("POST /topic/pause?topic=a%20b", b"", 404, "TOPIC_NOT_FOUND"),
        ("POST /topic/pause?topic=none", b"", 404, "TOPIC_NOT_FOUND"),
        ("POST /topic/pause?topic=u", b"", 200, ""),
        ("POST /topic/unpause?topic=none", b"", 404, "TOPIC_NOT_FOUND"),
        ("POST /topic/unpause?topic=u", b"", 200, ""),
        ("POST /channel/create", b"", 400, "MISSING_ARG_TOPIC"),
        ("POST /channel/create?topic=u", b"", 400, "MISSING_ARG_CHANNEL"),
        ("POST /channel/create?topic=u&channel=", b"", 400, "INVALID_ARG_CHANNEL"),
        ("POST /channel/create?topic=a%20b&channel=c", b"", 400, "INVALID_ARG_TOPIC"),
        ("POST /channel/create?topic=none&channel=c", b"", 404, "TOPIC_NOT_FOUND"),
        ("POST /channel/create?topic=u&channel=c", b"", 200, ""),
        ("POST /channel/pause?topic=u&channel=none", b"", 404, "CHANNEL_NOT_FOUND"),
        ("POST /channel/pause?topic=u&channel=c", b"", 200, ""),
        ("POST /channel/unpause?topic=u&channel=c", b"", 200, ""),
        ("POST /channel/empty?topic=none&channel=c", b"", 404, "TOPIC_NOT_FOUND"),
        ("POST /channel/empty?topic=u&channel=none", b"", 404, "CHANNEL_NOT_FOUND"),
        ("POST /channel/empty?topic=u&channel=c", b"", 200, ""),
        ("POST /channel/delete?topic=u&channel=none", b"", 404, "CHANNEL_NOT_FOUND"),
        ("POST /channel/delete?topic=u&channel=c", b"", 200, ""),
        ("POST /channel/delete?topic=u&channel=c", b"", 404, "CHANNEL_NOT_FOUND"),
        ("POST /topic/delete", b"", 400, "MISSING_ARG_TOPIC"),
        ("POST /topic/delete?topic=a%20b", b"", 404, "TOPIC_NOT_FOUND"),
        ("POST /topic/delete?topic=u", b"", 200, ""),
        ("POST /topic/delete?topic=u", b"", 404, "TOPIC_NOT_FOUND"),
        ("GET /stats?format=%zz", b"", 400, "INVALID_REQUEST"),
        ("POST /stats", b"", 405, "METHOD_NOT_ALLOWED"),
        ("GET /pub", b"", 405, "METHOD_NOT_ALLOWED"),
        ("GET /put", b"", 404, "NOT_FOUND"),
        ("GET /config/tcp_address", b"", 200, "127.0.0.1:4150"),
        ("GET /config/log_prefix", b"", 200, ""),
        ("GET /config/none", b"", 400, "INVALID_OPTION"),
        ("PUT /config/log_level", b"", 413, "INVALID_VALUE"),
        ("PUT /config/log_level", large, 413, "INVALID_VALUE"),
        ("PUT /config/log_level", b"loud", 400, "INVALID_VALUE"),
        ("PUT /config/tcp_address", b"a:1", 400, "INVALID_OPTION"),
    ];
    for (line, body, status, want) in cases {
        let reply = send(&server, line, body).await;
        assert_eq!(reply.status, *status, "{line}: {reply:?}");
        if *status == 200 {
            assert_eq!(
                (reply.text(), reply.content_type()),
                (*want, if want.is_empty() { "" } else { TEXT }),
                "{line}"
            );
        } else {
            let want = format!("{{\"message\":\"{want}\"}}");
            assert_eq!((reply.text(), reply.content_type()), (want.as_str(), JSON), "{line}");
        }
        assert_eq!(reply.is_nsqs(), *line != "GET /ping", "{line}");
    }
    for (line, body, want) in [("GET /config/log_level", "", "2"), ("PUT /config/log_level", "debug", "1")] {
        let reply = send(&server, line, body.as_bytes()).await;
        assert_eq!((reply.status, reply.text(), reply.content_type()), (200, want, JSON));
    }
    // What belongs to the Go runtime.
    for line in [
        "GET /debug/pprof/",
        "GET /debug/pprof/heap",
        "POST /debug/pprof/symbol",
        "PUT /debug/setblockrate?rate=1",
        "POST /debug/freememory",
    ] {
        let reply = ask(&server, line).await;
        assert_eq!((reply.status, &reply.json()["message"]), (501, &"NOT_IMPLEMENTED".into()), "{line}");
        assert!(reply.json()["detail"].is_string(), "{line}");
    }
}

#[tokio::test]
async fn what_was_published_is_delivered() {
    let server = start(Config::default()).await;
    ask(&server, "POST /topic/create?topic=t").await;
    ask(&server, "POST /channel/create?topic=t&channel=c").await;
    send(&server, "POST /pub?topic=t", b"one").await;
    send(&server, "POST /mpub?topic=t", b"two\n\nthree\r\n").await;
    send(&server, "POST /mpub?topic=t&binary=1", b"\0\0\0\x02\0\0\0\x04four\0\0\0\x05fi\nve").await;
    send(&server, "POST /pub?topic=t&defer=3600000", b"later").await;
    let mut peer = server.peer().await;
    peer.send(b"SUB t c\nRDY 10\n").await;
    peer.expect("OK").await;
    for body in ["one", "two", "three\\r", "four", "fi\\nve"] {
        peer.expect(&format!("message 1 {body}")).await;
    }
    let stats = ask(&server, "GET /stats?format=json").await.json();
    let channel = &stats["topics"][0]["channels"][0];
    assert_eq!((&channel["deferred_count"], &channel["in_flight_count"]), (&1.into(), &5.into()));
}

/// A `#` that is not escaped is part of the name, as for nsqd.
#[tokio::test]
async fn an_ephemeral_topic_is_meant_with_a_raw_hash_too() {
    let server = start(Config::default()).await;
    let names = async || {
        let stats = ask(&server, "GET /stats?format=json").await.json();
        let name = |topic: &serde_json::Value| topic["topic_name"].as_str().unwrap().to_owned();
        stats["topics"].as_array().unwrap().iter().map(name).collect::<Vec<_>>()
    };
    assert_eq!(ask(&server, "POST /topic/create?topic=a#ephemeral").await.status, 200);
    assert_eq!(names().await, ["a#ephemeral"]);
    let line = "POST /channel/create?topic=a#ephemeral&channel=c#ephemeral";
    assert_eq!(ask(&server, line).await.status, 200);
    assert_eq!(send(&server, "POST /pub?topic=a#ephemeral", b"x").await.status, 200);
    assert_eq!(send(&server, "POST /mpub?topic=a#ephemeral&binary=0", b"x\ny").await.status, 200);
    assert_eq!(names().await, ["a#ephemeral"]);
    let stats = ask(&server, "GET /stats?format=json&topic=a#ephemeral&channel=c#ephemeral").await.json();
    assert_eq!(stats["topics"][0]["channels"][0]["depth"], 3, "{stats}");
    assert_eq!(ask(&server, "POST /topic/delete?topic=a#other").await.status, 404);
    assert_eq!(ask(&server, "POST /topic/delete?topic=a#ephemeral").await.status, 200);
    assert!(names().await.is_empty());
}

#[tokio::test]
async fn what_keeps_a_message_from_being_stored_is_said() {
    let server = start(Config::default()).await;
    ask(&server, "POST /topic/create?topic=t").await;
    send(&server, "PUT /topic/config?topic=t", b"{\"max_messages\":1}").await;
    assert_eq!(send(&server, "POST /pub?topic=t", b"1").await.status, 200);
    let reply = send(&server, "POST /pub?topic=t", b"2").await;
    assert_eq!((reply.status, &reply.json()["message"]), (503, &"FULL".into()), "{reply:?}");
    assert!(reply.json()["detail"].as_str().unwrap().contains("topic t is full"), "{reply:?}");
    assert!(reply.headers.iter().any(|line| line == "retry-after: 5"), "{reply:?}");
    server.broker.close().unwrap();
    let reply = send(&server, "POST /pub?topic=t", b"3").await;
    assert_eq!((reply.status, &reply.json()["message"]), (503, &"EXITING".into()), "nsqd's word");
}

#[tokio::test]
async fn pause_and_empty_act_on_what_is_delivered() {
    let server = start(Config::default()).await;
    let mut peer = server.peer().await;
    peer.send(b"SUB t c\nRDY 10\n").await;
    peer.expect("OK").await;
    ask(&server, "POST /channel/pause?topic=t&channel=c").await;
    send(&server, "POST /pub?topic=t", b"held").await;
    let channel =
        async || ask(&server, "GET /stats?format=json").await.json()["topics"][0]["channels"][0].clone();
    assert_eq!((&channel().await["depth"], &channel().await["paused"]), (&1.into(), &true.into()));
    ask(&server, "POST /channel/empty?topic=t&channel=c").await;
    assert_eq!(channel().await["depth"], 0);
    send(&server, "POST /pub?topic=t", b"next").await;
    ask(&server, "POST /channel/unpause?topic=t&channel=c").await;
    peer.expect("message 1 next").await;
    ask(&server, "POST /topic/pause?topic=t").await;
    send(&server, "POST /pub?topic=t", b"in the topic").await;
    let topic = async || ask(&server, "GET /stats?format=json").await.json()["topics"][0].clone();
    assert_eq!((&topic().await["depth"], &topic().await["paused"]), (&1.into(), &true.into()));
    ask(&server, "POST /topic/unpause?topic=t").await;
    peer.expect("message 1 in the topic").await;
    ask(&server, "POST /channel/delete?topic=t&channel=c").await;
    peer.expect_end().await;
}

#[tokio::test]
async fn stats_are_nsqds_field_for_field() {
    let config =
        Config { version: "1.3.0".to_owned(), latency_percentiles: vec![0.95, 1.0], ..Config::default() };
    let server = start(config).await;
    let mut producer = server.peer().await;
    let identify = br#"{"client_id":"p","hostname":"ph","user_agent":"ua/1"}"#;
    producer.send(&with_body("IDENTIFY", identify)).await;
    producer.expect("OK").await;
    for topic in ["a", "a", "b"] {
        producer.send(&with_body(&format!("PUB {topic}"), b"hi")).await;
        producer.expect("OK").await;
    }
    let mut consumer = server.peer().await;
    consumer.send(b"SUB a c\nRDY 1\n").await;
    consumer.expect("OK").await;
    let id = consumer.expect("message 1 hi").await.id();
    consumer.send(format!("FIN {id}\n").as_bytes()).await;
    let id = consumer.expect("message 1 hi").await.id();
    consumer.send(format!("REQ {id} 60000\n").as_bytes()).await;
    until("the REQ", async || {
        ask(&server, "GET /stats?format=json").await.json()["topics"][0]["channels"][0]["requeue_count"] == 1
    })
    .await;
    let (mut text, mut want) = {
        let reply = ask(&server, "GET /stats?format=json&include_mem=0").await;
        assert_eq!(reply.content_type(), JSON);
        (reply.text().to_owned(), include_str!("stats.json").trim().to_owned())
    };
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    let (client, latency) = (&json["topics"][0]["channels"][0]["clients"][0], |at: &serde_json::Value| {
        at["e2e_processing_latency"]["percentiles"][0]["value"].to_string()
    });
    assert!(latency(&json["topics"][0]).parse::<u64>().unwrap() > 0);
    let producer = &json["producers"][0];
    // What differs from run to run.
    for (name, value) in [
        ("START", json["start_time"].to_string()),
        ("LATENCY", latency(&json["topics"][0])),
        ("CONSUMER", client["remote_address"].to_string()),
        ("CONSUMED_AT", client["connect_ts"].to_string()),
        ("PRODUCER", producer["remote_address"].to_string()),
        ("PRODUCED_AT", producer["connect_ts"].to_string()),
    ] {
        want = want.replace(&format!("\"{name}\""), &value);
    }
    text.push('\n');
    want.push('\n');
    assert_eq!(text, want);
    // Selections.
    let get = async |query: &str| ask(&server, &format!("GET /stats?format=json&{query}")).await.json();
    let all = get("").await;
    assert_eq!(all["memory"].as_object().unwrap().len(), 9);
    assert!(all["memory"]["heap_in_use_bytes"].as_u64().unwrap() > 0);
    assert!(get("topic=none").await["topics"].is_null());
    assert_eq!(get("topic=a&channel=none").await["topics"], serde_json::json!([]));
    assert_eq!(get("channel=c").await["topics"].as_array().unwrap().len(), 1);
    let one = get("topic=b&include_mem=no").await;
    assert_eq!(one["producers"][0]["pub_counts"], serde_json::json!([{"topic": "b", "count": 1}]));
    let few = get("include_clients=false").await;
    assert!(few["producers"].is_null() && few["topics"][0]["channels"][0]["clients"].is_null());
    assert_eq!(few["topics"][0]["channels"][0]["client_count"], 1);
    let page = ask(&server, "GET /stats?include_mem=false").await;
    assert_eq!(page.content_type(), TEXT);
    let lines: Vec<_> = page.text().lines().collect();
    assert_eq!(lines[0], "nsqd v1.3.0 (built w/libmq)");
    assert!(lines[1].starts_with("start_time 2") && lines[2].starts_with("uptime "), "{lines:?}");
    assert_eq!(lines[3..7], ["", "Health: OK", "", "Topics:"]);
    assert!(
        lines[7].starts_with("   [a              ] depth: 0     be-depth: 0     msgs: 2        e2e%: "),
        "{}",
        lines[7]
    );
    assert!(
        lines[8].starts_with(
            "      [c                        ] depth: 0     be-depth: 0     inflt: 0    def: 1    re-q: 1     \
             timeout: 0     msgs: 2        e2e%: "
        ),
        "{}",
        lines[8]
    );
    assert!(lines[9].starts_with("        [V2 127.0.0.1:"), "{}", lines[9]);
    assert!(
        lines[9].contains(
            "] state: 3 inflt: 0    rdy: 1    fin: 1        re-q: 1        msgs: 2        connected: "
        ),
        "{}",
        lines[9]
    );
    assert_eq!(
        lines[10..12],
        ["", "   [b              ] depth: 1     be-depth: 0     msgs: 1        e2e%: 0.0ns, 0.0ns"]
    );
    assert_eq!(lines[12..14], ["", "Producers:"]);
    assert!(lines[14].contains("msgs: 3        topics: a=2,b=1 connected: "), "{}", lines[14]);
}

#[tokio::test]
async fn info_tells_where_and_since_when() {
    let config = Config {
        version: "1.3.0".to_owned(),
        hostname: "host".to_owned(),
        broadcast_address: "outside".to_owned(),
        topology_zone: "z".to_owned(),
        ..Config::default()
    };
    let server = start(config.clone()).await;
    let info = ask(&server, "GET /info").await;
    let port = |address: &str| address.rsplit_once(':').unwrap().1.to_owned();
    let want = format!(
        "{{\"version\":\"1.3.0\",\"broadcast_address\":\"outside\",\"hostname\":\"host\",\"http_port\":{},\"tcp_port\":{},\
         \"start_time\":{},\"max_heartbeat_interval\":60000000000,\"max_output_buffer_size\":65536,\
         \"max_output_buffer_timeout\":30000000000,\"max_deflate_level\":6,\"topology_zone\":\"z\",\"topology_region\":\"\"}}",
        port(server.http.as_ref().unwrap()),
        port(&server.address),
        info.json()["start_time"],
    );
    assert_eq!((info.text(), info.content_type()), (want.as_str(), JSON));
    let unix = Config { http_address: Some("127.0.0.1:0".to_owned()), ..config };
    let server = start_with(unix, |_| {}, true).await;
    assert_eq!(ask(&server, "GET /info").await.json()["tcp_port"], -1);
}

#[tokio::test]
async fn a_topics_settings_are_kept() {
    let server = start(Config::default()).await;
    let path = "/topic/config?topic=t";
    assert_eq!(ask(&server, &format!("GET {path}")).await.text(), r#"{"message":"TOPIC_NOT_FOUND"}"#);
    ask(&server, "POST /topic/create?topic=t").await;
    assert_eq!(ask(&server, &format!("GET {path}")).await.json()["durability"], "flush");
    for level in ["memory", "sync", "flush", "memory"] {
        let body = format!("{{\"durability\":\"{level}\"}}");
        let reply = send(&server, &format!("PUT {path}"), body.as_bytes()).await;
        assert_eq!((reply.status, &reply.json()["durability"]), (200, &level.into()));
    }
    assert_eq!(send(&server, &format!("PUT {path}"), b"{}").await.json()["durability"], "memory");
    let limits = b"{\"max_messages\":2,\"max_age\":60000}";
    let reply = send(&server, &format!("PUT {path}"), limits).await;
    let want = concat!(
        r#"{"durability":"memory","max_messages":2,"max_bytes":0,"max_age":60000,"overflow":"refuse","#,
        r#""dedup_window":120000,"dedup_max_ids":100000}"#
    );
    assert_eq!(reply.text(), want);
    for (message, status) in [("1", 200), ("2", 200), ("3", 503)] {
        assert_eq!(send(&server, "POST /pub?topic=t", message.as_bytes()).await.status, status);
    }
    let reply = send(&server, &format!("PUT {path}"), b"{\"overflow\":\"drop-oldest\"}").await;
    assert_eq!(reply.json()["overflow"], "drop-oldest");
    assert_eq!(send(&server, "POST /pub?topic=t", b"4").await.status, 200);
    assert_eq!(ask(&server, "GET /stats?format=json").await.json()["topics"][0]["depth"], 2);
    assert!(
        ask(&server, "GET /metrics")
            .await
            .text()
            .contains("mq_topic_skipped_messages_total{topic=\"t\"} 1\n")
    );
    for bad in ["{\"overflow\":\"x\"}", "{\"max_messages\":-1}"] {
        assert_eq!(send(&server, &format!("PUT {path}"), bad.as_bytes()).await.status, 400, "{bad}");
    }
    for bad in ["", "[]", "{\"durability\":\"x\"}", "{\"durability\":1}", "{\"color\":1}"] {
        let reply = send(&server, &format!("PUT {path}"), bad.as_bytes()).await;
        assert_eq!((reply.status, &reply.json()["message"]), (400, &"INVALID_CONFIG".into()), "{bad}");
        assert!(reply.json()["detail"].as_str().unwrap().contains("durability"), "{reply:?}");
    }
    ask(&server, "POST /topic/create?topic=e%23ephemeral").await;
    let reply = send(&server, "PUT /topic/config?topic=e%23ephemeral", b"{\"durability\":\"flush\"}").await;
    assert_eq!(reply.status, 400, "{reply:?}");
}

#[tokio::test]
async fn a_channels_settings_are_kept_and_shown_with_its_dead_letters() {
    let server = start(Config::default()).await;
    let path = "/channel/config?topic=t&channel=c";
    assert_eq!(ask(&server, &format!("GET {path}")).await.text(), r#"{"message":"TOPIC_NOT_FOUND"}"#);
    ask(&server, "POST /topic/create?topic=t").await;
    assert_eq!(ask(&server, &format!("GET {path}")).await.text(), r#"{"message":"CHANNEL_NOT_FOUND"}"#);
    ask(&server, "POST /channel/create?topic=t&channel=c").await;
    let unlimited = r#"{"max_attempts":0,"dead_letter_topic":null,"redelivery_delay":1000}"#;
    assert_eq!(ask(&server, &format!("GET {path}")).await.text(), unlimited);
    let put = async |body: &str| send(&server, &format!("PUT {path}"), body.as_bytes()).await;
    for bad in [
        "",
        "[]",
        r#"{"max_attempts":1}"#,
        r#"{"dead_letter_topic":"dead"}"#,
        r#"{"max_attempts":1,"dead_letter_topic":"t"}"#,
        r#"{"max_attempts":1,"dead_letter_topic":"not a name"}"#,
        r#"{"max_attempts":65536,"dead_letter_topic":"dead"}"#,
        r#"{"color":1}"#,
    ] {
        let reply = put(bad).await;
        assert_eq!((reply.status, &reply.json()["message"]), (400, &"INVALID_CONFIG".into()), "{bad}");
        assert!(reply.json()["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{reply:?}");
    }
    assert_eq!(ask(&server, &format!("GET {path}")).await.text(), unlimited, "nothing is changed");
    let limited = r#"{"max_attempts":1,"dead_letter_topic":"dead","redelivery_delay":0}"#;
    assert_eq!(put(limited).await.text(), limited);
    assert_eq!(put(r#"{"redelivery_delay":7}"#).await.json()["max_attempts"], 1);

    send(&server, "POST /pub?topic=t", b"bad").await;
    let mut consumer = server.peer().await;
    consumer.send(b"SUB t c\nRDY 1\n").await;
    consumer.expect("OK").await;
    let id = consumer.frame().await.unwrap().id();
    consumer.send(format!("REQ {id} 0\n").as_bytes()).await;
    let stats = async || ask(&server, "GET /stats?format=json").await.json();
    until("the dead letter", async || stats().await["topics"][1]["channels"][0]["dead_letter_count"] == 1)
        .await;
    assert_eq!(stats().await["topics"][0]["topic_name"], "dead");
    assert_eq!(stats().await["topics"][0]["depth"], 1);
    let text = ask(&server, "GET /stats").await;
    assert!(text.text().contains("dead letters: 1"), "{text:?}");
    let metrics = ask(&server, "GET /metrics").await;
    assert!(
        metrics.text().contains("mq_channel_dead_letters_total{topic=\"t\",channel=\"c\"} 1\n"),
        "{metrics:?}"
    );
    let none = r#"{"max_attempts":0,"dead_letter_topic":null}"#;
    assert_eq!(put(none).await.json()["dead_letter_topic"], serde_json::Value::Null);
}

#[tokio::test]
async fn requests_follow_each_other_on_a_connection() {
    let server = start(Config::default()).await;
    let mut socket = tokio::net::TcpStream::connect(server.http.as_ref().unwrap()).await.unwrap();
    use tokio::io::AsyncWriteExt;
    let pipelined = "POST /pub?topic=t HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\na".repeat(100);
    let last = "GET /stats?format=json HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    socket.write_all(format!("{pipelined}{last}").as_bytes()).await.unwrap();
    let mut all = String::new();
    use tokio::io::AsyncReadExt;
    tokio::time::timeout(Duration::from_secs(10), socket.read_to_string(&mut all)).await.unwrap().unwrap();
    assert_eq!(all.matches("HTTP/1.1 200 OK").count(), 101);
    assert!(all.contains("\"message_count\":100"), "{all}");
    assert_eq!(ask_with(&server, "GET /ping", "X-Any: 1\r\n", b"").await.status, 200);
}

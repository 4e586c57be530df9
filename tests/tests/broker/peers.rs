//! NSQ's own nsqadmin and nsq_stat on a live broker. They are in the folder that MQ_PEERS names (`cargo xtask
//! test` puts them there); without it these tests say so and pass.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;

use mq_nsq::client::Admin;
use mq_tests::{Broker, PATIENCE, until};
use serde_json::{Value, json};

use crate::clients::{connect, next, subscribe, topic};

/// The program, if it is there.
pub(crate) fn peer(name: &str) -> Option<PathBuf> {
    let found =
        std::env::var_os("MQ_PEERS").map(|folder| PathBuf::from(folder).join(name)).filter(|p| p.is_file());
    if found.is_none() {
        println!("skipped: no {name}; `cargo xtask test rust` installs it where Go is present");
    }
    found
}

struct Nsqadmin {
    process: Child,
    address: String,
}

impl Nsqadmin {
    fn start(program: &PathBuf, broker: &Broker) -> Self {
        let mut process = Command::new(program)
            .args(["-http-address", "127.0.0.1:0", "-nsqd-http-address", broker.http_address()])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, receiver) = mpsc::channel();
        let lines = BufReader::new(process.stderr.take().unwrap()).lines();
        // Reads to the end, or the process would stop at a full pipe.
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if let Some((_, address)) = line.split_once("HTTP: listening on ") {
                    let _ = sender.send(address.to_owned());
                }
            }
        });
        let address = receiver.recv_timeout(PATIENCE).expect("nsqadmin listens");
        Self { process, address }
    }

    /// Its answer's status and JSON.
    fn ask(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let mut socket = TcpStream::connect(&self.address).unwrap();
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let length = body.len();
        let head = format!("{method} {path} HTTP/1.0\r\nHost: h\r\nContent-Length: {length}\r\n\r\n{body}");
        socket.write_all(head.as_bytes()).unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, serde_json::from_str(body).unwrap_or_default())
    }

    fn get(&self, path: &str) -> Value {
        let (status, answer) = self.ask("GET", path, &Value::Null);
        assert_eq!(status, 200, "{path}: {answer}");
        answer
    }

    fn act(&self, path: &str, action: &str) {
        let (status, answer) = self.ask("POST", path, &json!({ "action": action }));
        assert_eq!(status, 200, "{action} {path}: {answer}");
    }
}

impl Drop for Nsqadmin {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[tokio::test]
async fn nsqadmin_shows_and_manages_a_broker() {
    let Some(program) = peer("nsqadmin") else { return };
    let broker = Broker::start();
    let admin = Nsqadmin::start(&program, &broker);
    let mut publisher = connect(&broker).await;
    let mut consumer = subscribe(&broker, "orders", "work", 1).await;
    for body in ["one", "two", "three"] {
        publisher.publish(&topic("orders"), body.as_bytes()).await.unwrap();
    }
    publisher.flush().await.unwrap();
    next(&mut consumer).await;
    assert_eq!(admin.get("/api/topics")["topics"], json!(["orders"]));
    let shown = admin.get("/api/topics/orders");
    assert_eq!((&shown["message_count"], &shown["channels"][0]["channel_name"]), (&json!(3), &json!("work")));
    let channel = admin.get("/api/topics/orders/work");
    for (field, want) in [("depth", 2), ("in_flight_count", 1), ("client_count", 1), ("message_count", 3)] {
        assert_eq!(channel[field], want, "{field}: {channel}");
    }
    let client = &channel["clients"][0];
    assert_eq!((&client["ready_count"], &client["in_flight_count"]), (&json!(1), &json!(1)), "{channel}");
    let nodes = admin.get("/api/nodes");
    assert_eq!(nodes["nodes"][0]["topics"][0]["topic"], "orders", "{nodes}");
    assert!(admin.get("/api/counter")["stats"].as_object().is_some_and(|stats| stats.len() == 1));
    for (action, paused) in [("pause", true), ("unpause", false)] {
        admin.act("/api/topics/orders", action);
        assert_eq!(admin.get("/api/topics/orders")["paused"], paused);
        admin.act("/api/topics/orders/work", action);
        assert_eq!(admin.get("/api/topics/orders/work")["paused"], paused);
    }
    admin.act("/api/topics/orders/work", "empty");
    assert_eq!(admin.get("/api/topics/orders/work")["depth"], 0);
    admin.act("/api/topics/orders", "empty");
    assert_eq!(admin.ask("DELETE", "/api/topics/orders/work", &Value::Null).0, 200);
    // Go's list of nothing.
    assert_eq!(admin.get("/api/topics/orders")["channels"], Value::Null);
    assert_eq!(admin.ask("DELETE", "/api/topics/orders", &Value::Null).0, 200);
    assert_eq!(admin.get("/api/topics")["topics"], Value::Null);
}

#[tokio::test]
async fn nsq_stat_reads_a_broker() {
    let Some(program) = peer("nsq_stat") else { return };
    let broker = Broker::start();
    let mut consumer = subscribe(&broker, "t", "c", 1).await;
    let http = Admin::new(broker.http_address(), None);
    http.post("/channel/create", &[("topic", "t"), ("channel", "idle")]).await.unwrap();
    let mut publisher = connect(&broker).await;
    for _ in 0..5 {
        publisher.publish(&topic("t"), b"x").await.unwrap();
    }
    publisher.flush().await.unwrap();
    next(&mut consumer).await;
    until("nsq_stat's numbers", || {
        let out = Command::new(&program)
            .args(["-nsqd-http-address", broker.http_address(), "-topic", "t", "-channel", "c"])
            .args(["-interval", "10ms", "-count", "1"])
            .output()
            .unwrap();
        let text = String::from_utf8(out.stdout).unwrap();
        let fields: Vec<_> = text.lines().nth(2)?.split_whitespace().collect();
        // total, memory, disk, in flight, deferred; requeued, timed out, messages, clients.
        let numbers = [&fields[3..8], &fields[9..]].concat();
        (numbers == ["4", "4", "0", "1", "0", "0", "0", "5", "1"]).then_some(())
    });
}

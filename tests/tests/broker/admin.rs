//! The admin page of the real program: beside a broker, as `mq admin`, and under NSQ's names.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::symlink;
use std::process::{Child, Command, Stdio};

use mq_tests::{Broker, binary, mq, start};
use tempfile::TempDir;

/// A server as a process, killed when it is dropped.
struct Running {
    process: Child,
    http: String,
}

impl Running {
    /// Waits until it says where HTTP is.
    fn of(mut process: Child) -> Self {
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let http = lines.find_map(|line| Some(line.unwrap().strip_prefix("http ")?.to_owned()));
        Self { process, http: http.expect("its address") }
    }

    /// Starts the program under another name.
    fn named(folder: &TempDir, name: &str, flags: &[&str]) -> Self {
        let link = folder.path().join(name);
        if !link.exists() {
            symlink(binary(), &link).unwrap();
        }
        let started = Command::new(link).args(flags).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        Self::of(started.unwrap())
    }

    /// Ends it, and gives its log.
    fn log(mut self) -> String {
        self.process.kill().unwrap();
        let mut log = String::new();
        self.process.stderr.take().unwrap().read_to_string(&mut log).unwrap();
        log
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Status and body of an answer.
fn ask(address: &str, method: &str, path: &str, body: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

#[test]
fn mq_admin_shows_a_broker_the_token_of_its_file_and_nobody_else() {
    let folder = TempDir::new().unwrap();
    let tokens = folder.path().join("tokens");
    std::fs::write(&tokens, "hush-hush\n").unwrap();
    let tokens = tokens.to_str().unwrap();
    let broker = Broker::start_with(&["--http-auth-token-file", tokens]);
    let named = ["--http-address", "127.0.0.1:0", "--nsqd-http-address", broker.http_address()];
    let page = Running::of(start(&[&["admin", "--auth-token-file", tokens], &named[..]].concat()));
    assert_eq!(ask(&page.http, "GET", "/", "").0, 200);
    let create = r#"{"action":"create_topic","topic":"orders"}"#;
    let created = ask(&page.http, "POST", "/data/action", create);
    assert_eq!(created.0, 200, "{}", created.1);
    let (status, topics) = ask(&page.http, "GET", "/data/topics", "");
    assert!(status == 200 && topics.contains("\"topic\":\"orders\""), "{topics}");
    assert!(!topics.contains("hush-hush"), "{topics}");
    let log = page.log();
    assert!(log.contains("admin: change") && log.contains("create_topic"), "{log}");
    assert!(!log.contains("hush-hush") && !broker.stderr().contains("hush-hush"), "{log}");
    let stranger = Running::of(start(&[&["admin"], &named[..]].concat()));
    let (_, nodes) = ask(&stranger.http, "GET", "/data/nodes", "");
    assert!(nodes.contains("it wants a token that it knows") || nodes.contains("UPSTREAM_ERROR"), "{nodes}");
}

#[test]
fn under_nsqds_name_the_page_is_off_unless_it_is_asked_for() {
    let folder = TempDir::new().unwrap();
    let data = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let any = "127.0.0.1:0";
    for (more, name, status) in [(None, "a", 404), (Some("-admin=true"), "b", 200)] {
        let path = data(name);
        std::fs::create_dir(&path).unwrap();
        let mut flags =
            vec!["-tcp-address", any, "-http-address", any, "-https-address=", "-data-path", &path];
        flags.extend(more);
        let nsqd = Running::named(&folder, "nsqd", &flags);
        assert_eq!(ask(&nsqd.http, "GET", "/admin/", "").0, status, "{more:?}");
    }
    let broker = Broker::start();
    assert_eq!(ask(broker.http_address(), "GET", "/admin/", "").0, 200);
    let without = Broker::start_with(&["--admin=false"]);
    assert_eq!(ask(without.http_address(), "GET", "/admin/", "").0, 404);
}

#[test]
fn started_as_nsqadmin_it_takes_nsqadmins_flags() {
    let folder = TempDir::new().unwrap();
    let broker = Broker::start_with(&[
        "--lookup",
        "--lookup-tcp-address=127.0.0.1:0",
        "--lookup-http-address=127.0.0.1:0",
    ]);
    let at = format!("-nsqd-http-address={}", broker.http_address());
    let nsqadmin =
        Running::named(&folder, "nsqadmin", &["-http-address=127.0.0.1:0", &at, "-base-path=/nsq"]);
    assert_eq!(ask(&nsqadmin.http, "GET", "/nsq/ping", ""), (200, "OK".to_owned()));
    assert_eq!(ask(&nsqadmin.http, "POST", "/nsq/api/topics", r#"{"topic":"t"}"#).0, 200);
    let (_, topics) = ask(&nsqadmin.http, "GET", "/nsq/api/topics", "");
    assert_eq!(topics, r#"{"message":"","topics":["t"]}"#);
    assert_eq!(ask(&nsqadmin.http, "GET", "/nsq/topics/t", "").0, 302);
    let complaint = mq(&["admin"]).failed();
    assert!(complaint.contains("--nsqd-http-address or --lookupd-http-address required"), "{complaint}");
}

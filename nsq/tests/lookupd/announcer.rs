//! A broker that announces itself.

use std::sync::Arc;
use std::time::Duration;

use mq_core::testkit::nobody;
use mq_core::{Attributes, Broker, ChannelName, Options, Topic, TopicName};
use mq_nsq::announcer::{Announcer, AnnouncerConfig};
use mq_nsq::lookupd::LookupConfig;
use mq_nsq::wire::lookup::{BrokerIdentity, Identity, put_answer};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::peers::Peer;
use crate::server::{PATIENCE, Server, get, request, until};

/// A broker with an announcer; both stop when it is dropped.
struct Announced {
    broker: Broker,
    announcer: Announcer,
    _stop: oneshot::Sender<()>,
    _task: JoinHandle<()>,
    _folder: TempDir,
}

fn config(name: &str, peers: &[&str]) -> AnnouncerConfig {
    AnnouncerConfig {
        peers: peers.iter().map(|peer| peer.parse().unwrap()).collect(),
        identity: BrokerIdentity {
            version: "1".into(),
            tcp_port: 4150,
            http_port: 4151,
            hostname: name.into(),
            broadcast_address: name.into(),
            ..BrokerIdentity::default()
        },
        ..AnnouncerConfig::default()
    }
}

impl Announced {
    fn start(config: AnnouncerConfig) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let options = Options { data_path: folder.path().into(), ..Options::default() };
        let broker = Broker::open(options).unwrap();
        Self::of(broker, folder, config)
    }

    fn of(broker: Broker, folder: TempDir, config: AnnouncerConfig) -> Self {
        let announcer = Announcer::new(broker.clone(), config);
        let (stop, stopped) = oneshot::channel::<()>();
        let running = announcer.clone();
        let task = tokio::spawn(async move { running.run(async move { _ = stopped.await }).await });
        Self { broker, announcer, _stop: stop, _task: task, _folder: folder }
    }

    async fn registered(&self) {
        let is = || self.announcer.status().iter().all(|status| status.is_registered);
        eventually("registered", || is() && !self.announcer.status().is_empty()).await;
    }

    fn topic(&self, name: &str) -> Arc<Topic> {
        self.broker.topic(&TopicName::parse(name).unwrap()).unwrap()
    }

    fn channel(&self, topic: &str, name: &str) {
        let _ = self.topic(topic).channel(&ChannelName::parse(name).unwrap(), &nobody()).unwrap();
    }

    fn publish(&self, topic: &str) {
        let topic = self.topic(topic);
        let mut batch = topic.batch();
        batch.push(&Attributes::NONE, b"x").unwrap();
        let _ = topic.publish(batch, &nobody()).unwrap();
        self.broker.commit();
    }

    /// Channels of a topic with what waits in each.
    fn depths(&self, topic: &str) -> Vec<(String, u64)> {
        let channels = self.topic(topic).channels();
        channels.iter().map(|channel| (channel.name().to_string(), channel.stats().depth)).collect()
    }
}

async fn eventually(what: &str, mut is: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is() {
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} for {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Hosts that have `topic` at the server, `-` if there are none.
async fn hosts(http: &str, topic: &str) -> String {
    let response = request(http, "GET", &format!("/lookup?topic={topic}")).await;
    if response.status == 404 {
        return "-".into();
    }
    let json: serde_json::Value = serde_json::from_str(&response.body).unwrap();
    let hosts = json["producers"].as_array().unwrap().iter();
    let mut hosts: Vec<_> = hosts.map(|p| p["broadcast_address"].as_str().unwrap().to_owned()).collect();
    hosts.sort();
    hosts.join(",")
}

async fn has_hosts(http: &str, topic: &str, expected: &str) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let now = hosts(http, topic).await;
        if now == expected {
            return;
        }
        assert!(Instant::now() < deadline, "{topic} is at {now:?}, not at {expected:?}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Checks that hold for any lookup server.
async fn check(tcp: &str, http: &str) {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::open(Options { data_path: folder.path().into(), ..Options::default() }).unwrap();
    broker.topic(&TopicName::parse("before").unwrap()).unwrap();
    let a = Announced::of(broker, folder, config("a", &[tcp]));
    has_hosts(http, "before", "a").await;
    a.channel("t", "c");
    a.channel("t", "e#ephemeral");
    until(http, "/channels?topic=t", |body| body.contains(r#""c""#) && body.contains("e#ephemeral")).await;
    has_hosts(http, "t", "a").await;
    let b = Announced::start(config("b", &[tcp]));
    b.registered().await;
    b.publish("t");
    has_hosts(http, "t", "a,b").await;
    eventually("the channel that a has", || b.depths("t") == [("c".to_owned(), 1)]).await;
    let _ = a.broker.delete_topic(&TopicName::parse("t").unwrap()).unwrap();
    has_hosts(http, "t", "b").await;
    b.announcer.leave();
    has_hosts(http, "t", "").await;
    drop(a);
    has_hosts(http, "before", "").await;
}

#[tokio::test]
async fn a_broker_is_found_with_what_it_has() {
    let server = Server::start().await;
    check(&server.tcp, &server.http).await;
}

#[tokio::test]
async fn a_real_nsqlookupd_finds_it_too() {
    let Some(peer) = Peer::nsqlookupd() else { return };
    check(&peer.tcp, &peer.http).await;
}

#[tokio::test]
async fn lookup_servers_come_and_go_while_it_runs() {
    let (first, second) = (Server::start().await, Server::start().await);
    let a = Announced::start(config("a", &[&first.tcp]));
    a.topic("t");
    has_hosts(&first.http, "t", "a").await;
    a.announcer.set_peers(vec![format!("dns:{}", second.tcp).parse().unwrap()]);
    has_hosts(&second.http, "t", "a").await;
    has_hosts(&first.http, "t", "").await;
    assert_eq!(a.announcer.peers()[0].to_string(), format!("dns:{}", second.tcp));
    assert_eq!(a.announcer.status()[0].address, second.tcp);
    a.announcer.set_peers(Vec::new());
    has_hosts(&second.http, "t", "").await;
    assert!(a.announcer.status().is_empty());
    a.publish("new");
    a.channel("new", "c");
    eventually("nothing to wait for", || a.depths("new") == [("c".to_owned(), 1)]).await;
}

#[tokio::test]
async fn a_restarted_server_is_told_again() {
    let server = Server::start().await;
    let (tcp, http) = (server.tcp.clone(), server.http.clone());
    let a = Announced::start(config("a", &[&tcp]));
    a.channel("t", "c");
    has_hosts(&http, "t", "a").await;
    server.stop().await;
    eventually("the loss", || !a.announcer.status()[0].is_registered).await;
    assert!(a.announcer.status()[0].error.is_some());
    let _ = a.broker.delete_topic(&TopicName::parse("t").unwrap()).unwrap();
    a.channel("u", "d");
    let server = Server::start_at(&tcp, &http, LookupConfig::default()).await;
    has_hosts(&server.http, "u", "a").await;
    assert_eq!(hosts(&server.http, "t").await, "-");
}

/// A lookup server that says who it is and then nothing more; its HTTP port takes requests and does not
/// answer.
struct Stuck {
    tcp: String,
    _task: JoinHandle<()>,
}

impl Stuck {
    /// `answers`: whether it says even who it is.
    async fn start(answers: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let tcp = listener.local_addr().unwrap();
        let identity = Identity {
            broadcast_address: "127.0.0.1".into(),
            http_port: tcp.port(),
            tcp_port: tcp.port(),
            ..Identity::default()
        };
        let task = tokio::spawn(async move {
            let mut open = Vec::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut magic = [0; 4];
                let is_v1 = stream.read_exact(&mut magic).await.is_ok() && magic == *b"  V1";
                if answers && is_v1 {
                    let mut answer = Vec::new();
                    put_answer(&mut answer, identity.to_json().as_bytes());
                    stream.write_all(&answer).await.unwrap();
                }
                open.push(stream);
            }
        });
        Self { tcp: tcp.to_string(), _task: task }
    }
}

#[tokio::test]
async fn a_stuck_server_delays_no_other_and_no_message_for_ever() {
    let (silent, stuck, server) =
        (Stuck::start(false).await, Stuck::start(true).await, Server::start().await);
    let peers = [silent.tcp.as_str(), &stuck.tcp, &server.tcp];
    let hour = Duration::from_secs(3600);
    let patient = AnnouncerConfig { hold: hour, request_timeout: hour, ..config("a", &peers) };
    let a = Announced::start(patient);
    let count = || a.announcer.status().iter().filter(|status| status.is_registered).count();
    eventually("two of three", || count() == 2).await;
    assert_eq!(request(&server.http, "POST", "/channel/create?topic=t&channel=c").await.status, 200);
    a.publish("t");
    a.channel("t", "own");
    has_hosts(&server.http, "t", "a").await;
    assert_eq!(a.topic("t").depth(), 1, "it waits for its channels");
    assert!(is_held(&a));

    let b = Announced::start(config("b", &peers));
    let count = || b.announcer.status().iter().filter(|status| status.is_registered).count();
    eventually("two of three", || count() == 2).await;
    b.publish("t");
    eventually("the channel", || b.depths("t").contains(&("c".to_owned(), 1))).await;
}

#[tokio::test]
async fn what_was_deleted_is_not_made_again_because_others_know_it() {
    let server = Server::start().await;
    let lifetime = Duration::from_millis(1_500);
    let a = Announced::start(AnnouncerConfig { deleted_lifetime: lifetime, ..config("a", &[&server.tcp]) });
    let b = Announced::start(config("b", &[&server.tcp]));
    a.registered().await;
    b.registered().await;
    b.channel("t", "gone");
    b.channel("t", "kept");
    until(&server.http, "/channels?topic=t", |body| body.contains("gone") && body.contains("kept")).await;
    a.publish("t");
    eventually("both channels", || a.depths("t").len() == 2).await;
    let name = TopicName::parse("t").unwrap();
    // b has it still: its deletion there has yet to come.
    let _ = a.broker.delete_topic(&name).unwrap();
    has_hosts(&server.http, "t", "b").await;
    a.publish("t");
    has_hosts(&server.http, "t", "a,b").await;
    eventually("it passes", || a.topic("t").depth() == 1 && !is_held(&a)).await;
    assert!(a.depths("t").is_empty(), "{:?}", a.depths("t"));
    let _ = a.broker.delete_topic(&name).unwrap();
    has_hosts(&server.http, "t", "b").await;
    tokio::time::sleep(lifetime).await;
    a.publish("t");
    eventually("what b has had all the time", || {
        a.depths("t") == [("gone".to_owned(), 1), ("kept".to_owned(), 1)]
    })
    .await;
    assert_eq!(get(&server.http, "/channels?topic=t").await, r#"{"channels":["gone","kept"]}"#);
}

#[tokio::test]
async fn a_channel_that_its_last_broker_deleted_is_not_made_elsewhere() {
    let server = Server::start().await;
    let a = Announced::start(config("a", &[&server.tcp]));
    let b = Announced::start(config("b", &[&server.tcp]));
    a.registered().await;
    b.registered().await;
    a.channel("t", "gone");
    a.channel("t", "kept");
    until(&server.http, "/channels?topic=t", |body| body.contains("gone") && body.contains("kept")).await;
    let _ = a.topic("t").delete_channel(&ChannelName::parse("gone").unwrap()).unwrap();
    until(&server.http, "/channels?topic=t&existing=true", |body| !body.contains("gone")).await;
    assert!(get(&server.http, "/channels?topic=t").await.contains("gone"), "as at nsqlookupd");
    b.publish("t");
    eventually("the channel that exists", || b.depths("t") == [("kept".to_owned(), 1)]).await;
    assert!(!is_held(&b));
}

fn is_held(a: &Announced) -> bool {
    a.broker.names().iter().any(|names| names.is_held)
}

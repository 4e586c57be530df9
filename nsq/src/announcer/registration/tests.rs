use mq_core::TopicNo;

use super::*;
use crate::announcer::names::tests::names;

const IDENTITY: &[u8] =
    br#"{"broadcast_address":"l","hostname":"h","http_port":4161,"tcp_port":4160,"version":"1"}"#;

/// A registration at a time, and what it was last sent.
struct World {
    registration: Registration,
    now: Instant,
    names: Arc<Names>,
    out: Vec<u8>,
}

impl World {
    fn new(text: &str) -> Self {
        let now = Instant::now();
        let identity = lookup::BrokerIdentity { version: "1".into(), ..lookup::BrokerIdentity::default() };
        let registration = Registration::new(Arc::new(identity), now);
        Self { registration, now, names: Arc::new(names(text)), out: Vec::new() }
    }

    /// Connected and known.
    fn up(text: &str) -> Self {
        let mut world = Self::new(text);
        world.connect();
        world.answer(IDENTITY);
        world
    }

    fn connect(&mut self) {
        assert_eq!(self.step(), Ok(Next::Connect));
        self.registration.connected(self.now, &mut self.out);
        assert!(self.sent().starts_with("  V1IDENTIFY\n\0\0\0"));
    }

    fn step(&mut self) -> Result<Next, String> {
        self.registration.step(self.now, &self.names, &mut self.out)
    }

    /// Waits as long as it says, and gives how long that was.
    fn wait(&mut self) -> Duration {
        let Ok(Next::Wait(until)) = self.step() else { panic!("it does not wait") };
        let waited = until - self.now;
        self.now = until;
        waited
    }

    fn sent(&mut self) -> String {
        String::from_utf8(std::mem::take(&mut self.out)).unwrap()
    }

    fn next_sent(&mut self) -> String {
        self.step().unwrap();
        self.sent()
    }

    fn answer(&mut self, data: &[u8]) -> Option<String> {
        let mut bytes = Vec::new();
        lookup::put_answer(&mut bytes, data);
        self.registration.receive(&bytes, &self.names).unwrap()
    }
}

#[test]
fn all_is_told_then_what_changes_in_order() {
    let mut world = World::up("t1:a,b u2:");
    assert_eq!(world.next_sent(), "REGISTER t a\nREGISTER t b\nREGISTER u\n");
    world.names = Arc::new(names("t1:b u2:c"));
    assert_eq!(world.next_sent(), "UNREGISTER t a\nREGISTER u c\n");
    for _ in 0..5 {
        assert_eq!(world.answer(b"OK"), None);
    }
    assert_eq!(world.next_sent(), "");
    assert_eq!(world.registration.server().unwrap().http_port, 4161);
}

#[test]
fn names_are_confirmed_once_all_their_changes_are_answered() {
    let mut world = World::up("t1:a,b");
    let first = world.names.clone();
    world.next_sent();
    world.answer(b"OK");
    assert!(!world.registration.confirmed().has(&first.0[0].name, TopicNo(1)));
    // A refusal is an answer too: nothing more will come.
    world.answer(b"E_INVALID x");
    assert!(Arc::ptr_eq(world.registration.confirmed(), &first));
    world.names = Arc::new(names("t1:a,b u2:"));
    world.next_sent();
    assert!(Arc::ptr_eq(world.registration.confirmed(), &first));
    let second = world.names.clone();
    world.names = Arc::new(names("t1:b u2:"));
    world.next_sent();
    world.answer(b"OK");
    assert!(Arc::ptr_eq(world.registration.confirmed(), &second));
    world.answer(b"OK");
    assert!(Arc::ptr_eq(world.registration.confirmed(), &world.names));
    world.names = Arc::new(names("t1:b u2:"));
    world.step().unwrap();
    assert!(Arc::ptr_eq(world.registration.confirmed(), &world.names), "there is nothing to announce");
    world.registration.lost(world.now, 0.0);
    world.wait();
    world.connect();
    assert!(
        !world.registration.confirmed().has(&second.0[1].name, TopicNo(2)),
        "it may have forgotten everything"
    );
}

#[test]
fn it_pings_when_there_is_nothing_else_to_tell() {
    let mut world = World::up("t1:");
    world.next_sent();
    world.answer(b"OK");
    for _ in 0..3 {
        assert_eq!(world.wait(), PING_INTERVAL);
        assert_eq!(world.next_sent(), "PING\n");
        world.answer(b"OK");
    }
}

#[test]
fn a_server_that_says_nothing_is_given_up() {
    let mut world = World::new("");
    world.connect();
    assert_eq!(world.wait(), ANSWER_TIMEOUT);
    assert_eq!(world.step(), Err("no answer to IDENTIFY within 5s".into()));
    let mut world = World::up("t1:");
    world.next_sent();
    world.wait();
    assert_eq!(world.step(), Err("no answer to REGISTER t within 5s".into()));
}

#[test]
fn the_pause_doubles_until_the_server_knows_everything() {
    let mut world = World::new("t1:");
    let mut pauses = Vec::new();
    for _ in 0..8 {
        let pause = world.registration.lost(world.now, 1.0);
        assert_eq!(world.wait(), pause);
        pauses.push(pause.as_millis());
    }
    assert_eq!(pauses, [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
    assert_eq!(world.registration.lost(world.now, 0.0), BACKOFF_MAX / 2, "half of it is chance");
    world.wait();
    world.connect();
    world.answer(IDENTITY);
    assert_eq!(world.next_sent(), "REGISTER t\n");
    assert_eq!(world.registration.lost(world.now, 1.0), BACKOFF_MAX, "not all was announced");
    world.wait();
    world.connect();
    world.answer(IDENTITY);
    world.next_sent();
    world.answer(b"OK");
    assert_eq!(world.registration.lost(world.now, 1.0), BACKOFF_MIN);
}

#[test]
fn after_a_loss_all_is_told_again_and_what_went_meanwhile() {
    let mut world = World::up("t1:a u2:");
    assert_eq!(world.next_sent(), "REGISTER t a\nREGISTER u\n");
    world.registration.lost(world.now, 0.0);
    world.names = Arc::new(names("t3:b"));
    world.wait();
    world.connect();
    world.answer(IDENTITY);
    assert_eq!(world.next_sent(), "UNREGISTER t\nUNREGISTER u\nREGISTER t b\n");
}

#[test]
fn a_deletion_that_was_not_confirmed_is_told_again() {
    let mut world = World::up("t1:a u2:");
    world.next_sent();
    world.answer(b"OK");
    world.answer(b"OK");
    world.names = Arc::new(names("u2:"));
    assert_eq!(world.next_sent(), "UNREGISTER t\n");
    for _ in 0..2 {
        world.registration.lost(world.now, 0.0);
        world.wait();
        world.connect();
    }
    world.answer(IDENTITY);
    assert_eq!(world.next_sent(), "UNREGISTER t\nREGISTER u\n");
}

#[test]
fn only_a_window_waits_for_answers() {
    let many: String = (0..300).map(|n| format!("c{n:03},")).collect();
    let mut world = World::up(&format!("t1:{many}"));
    assert_eq!(world.next_sent().lines().count(), WINDOW);
    assert_eq!(world.next_sent(), "");
    world.answer(b"OK");
    assert_eq!(world.next_sent(), "REGISTER t c256\n");
}

#[test]
fn complaints_are_told_and_nonsense_ends_it() {
    let mut world = World::up("t1:");
    world.next_sent();
    assert_eq!(world.answer(b"E_INVALID x"), Some("REGISTER t: E_INVALID x".into()));
    let names = world.names.clone();
    assert_eq!(world.registration.receive(b"\0\0\0\x02OK", &names), Err("an answer to nothing".into()));
    let mut world = World::new("");
    world.connect();
    let html = world.registration.receive(b"HTTP/1.1 400 Bad Request\r\n", &names).unwrap_err();
    assert!(html.contains("no lookup server"), "{html}");
    let mut world = World::new("");
    world.connect();
    let refused = world.registration.receive(b"\0\0\0\x0bE_INVALID x", &names).unwrap_err();
    assert_eq!(refused, "IDENTIFY: E_INVALID x");
}

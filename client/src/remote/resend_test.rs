//! Messages with ids whose answer was lost, by a clock that the test moves.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::{Remote, Tuning};
use crate::config::Config;
use crate::error::Error;
use crate::message::NewMessage;
use crate::outgoing::Outgoing;
use crate::publish::{Buffer, Publication};
use crate::url::Place;

/// The time for which the broker says that it remembers ids.
const WINDOW_MS: u64 = 120_000;

/// Line by which the test ends the broker.
const END: &str = "end";

/// Milliseconds that the test has moved the clock on.
static MOVED: AtomicU64 = AtomicU64::new(0);

fn now() -> Instant {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    *START + Duration::from_millis(MOVED.load(Ordering::SeqCst))
}

fn pass(ms: u64) {
    MOVED.fetch_add(ms, Ordering::SeqCst);
}

/// A broker's end of a connection that has the extension.
struct Peer(BufReader<TcpStream>);

impl Peer {
    fn accept(listener: &TcpListener) -> Self {
        let mut peer = Self(BufReader::new(listener.accept().unwrap().0));
        assert_eq!(peer.line(), "  V2IDENTIFY");
        peer.agree().unwrap();
        peer
    }

    /// Answers IDENTIFY, whose body comes next, and the upgrade.
    fn agree(&mut self) -> io::Result<()> {
        self.body()?;
        let offer = format!(r#"{{"features":["messages"],"nonce":"n","dedup_window":{WINDOW_MS}}}"#);
        self.respond(format!(r#"{{"version":"1","libmq":{offer}}}"#).as_bytes())?;
        self.line();
        self.respond(b"OK")
    }

    /// The next line without its end; empty at the end of the connection.
    fn line(&mut self) -> String {
        let mut line = String::new();
        let _ = self.0.read_line(&mut line);
        line.trim_end().to_owned()
    }

    fn body(&mut self) -> io::Result<()> {
        let mut length = [0; 4];
        self.0.read_exact(&mut length)?;
        let mut body = vec![0; u32::from_be_bytes(length) as usize];
        self.0.read_exact(&mut body)
    }

    fn respond(&mut self, data: &[u8]) -> io::Result<()> {
        let size = u32::try_from(data.len() + 4).unwrap().to_be_bytes();
        self.0.get_mut().write_all(&[&size[..], &[0; 4], data].concat())
    }

    /// Takes a publish, and says nothing.
    fn publish(&mut self) {
        assert_eq!(self.line(), "PUBLISH t all");
        self.body().unwrap();
    }
}

#[test]
fn what_was_not_answered_is_sent_again_until_its_broker_may_have_forgotten_its_id() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let broker = std::thread::spawn(move || {
        let mut first = Peer::accept(&listener);
        first.publish();
        // It may have stored it, and remembers the id from then on.
        pass(WINDOW_MS - 1);
        drop(first);
        let mut second = Peer::accept(&listener);
        second.publish();
        pass(1);
        drop(second);
        // The client may connect again, but has nothing left to send.
        loop {
            let mut peer = Peer(BufReader::new(listener.accept().unwrap().0));
            if peer.line() == END {
                return;
            }
            if peer.agree().is_ok() {
                assert_eq!(peer.line(), "");
            }
        }
    });
    let place = Place::Brokers { addresses: vec![address.clone()], tls: false };
    let config = Config { max_reconnect_delay: Duration::from_millis(1), ..Config::default() };
    let (buffer, tuning) = (Buffer::new(1 << 20), Tuning { now, ..Tuning::default() });
    let remote = Remote::start(place, &config, tuning, &buffer).unwrap();
    let messages = Outgoing::encode([NewMessage::new("x").id("1")]).unwrap();
    let publication = Publication::try_new("t".parse().unwrap(), messages, &buffer).unwrap();
    let slot = publication.slot.clone();
    remote.push(publication);
    let deadline = Some(Instant::now() + Duration::from_secs(30));
    let outcome = slot.finish_by(&buffer, deadline, &mut || false, String::new);
    assert!(
        matches!(&outcome, Err(Error::Unknown { why, broker }) if why.contains("remembers") && *broker == address),
        "{outcome:?}"
    );
    drop(remote);
    TcpStream::connect(&address).unwrap().write_all(END.as_bytes()).unwrap();
    broker.join().unwrap();
}

//! A proxy in front of a broker that does something to what passes.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Behaviour of the proxy when a client sends the word that it looks for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Answers as one that knows only NSQ's commands, and closes.
    Refuses,
    /// The same from the second time on.
    RefusesLater,
    /// Passes it on, and closes before the answer comes through; the first time only.
    LosesTheAnswer,
    /// Keeps it to itself, and stays connected; the first time only.
    Swallows,
    /// Reads nothing any more and says nothing, and stays connected; the first time only.
    Stops,
}

/// A proxy on a port of its own, for as long as the test runs.
pub(crate) struct Proxy {
    pub(crate) address: String,
    /// Times that the word came.
    pub(crate) seen: Arc<AtomicUsize>,
}

impl Proxy {
    /// Looks for `word` in what clients send to `broker`: each of their writes is read by itself.
    pub(crate) fn start(broker: &str, word: &'static [u8], fault: Fault) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (seen, broker) = (Arc::new(AtomicUsize::new(0)), broker.to_owned());
        let proxy = Self { address, seen: Arc::clone(&seen) };
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (client, seen) = (client.unwrap(), Arc::clone(&seen));
                let Ok(server) = TcpStream::connect(&broker) else { continue };
                std::thread::spawn(move || pass(client, server, word, fault, &seen));
            }
        });
        proxy
    }
}

/// Keeps the thread and its connections for as long as the test runs.
fn park() -> ! {
    loop {
        std::thread::park();
    }
}

fn pass(client: TcpStream, server: TcpStream, word: &[u8], fault: Fault, seen: &AtomicUsize) {
    let (mut from_server, mut to_client) = (server.try_clone().unwrap(), client.try_clone().unwrap());
    let (mut from_client, mut to_server) = (client, server);
    let is_stopped = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&is_stopped);
    std::thread::spawn(move || {
        let mut buf = vec![0; 64 << 10];
        while let Ok(count @ 1..) = from_server.read(&mut buf) {
            if stopped.load(Ordering::Acquire) {
                park();
            }
            if to_client.write_all(&buf[..count]).is_err() {
                break;
            }
        }
        let _ = to_client.shutdown(Shutdown::Both);
    });
    let mut buf = vec![0; 1 << 20];
    while let Ok(count @ 1..) = from_client.read(&mut buf) {
        let sent = &buf[..count];
        let has_word = sent.windows(word.len()).any(|some| some == word);
        let is_first = has_word && seen.fetch_add(1, Ordering::AcqRel) == 0;
        match fault {
            Fault::Stops if is_first => {
                is_stopped.store(true, Ordering::Release);
                park();
            }
            Fault::Refuses | Fault::RefusesLater
                if has_word && !(is_first && fault == Fault::RefusesLater) =>
            {
                let text = b"E_INVALID invalid command";
                let size = u32::try_from(text.len() + 4).unwrap().to_be_bytes();
                let frame = [&size[..], &[0, 0, 0, 1], text].concat();
                let _ = from_client.write_all(&frame);
                break;
            }
            Fault::LosesTheAnswer if is_first => {
                // Nothing of the answer comes through; the broker has it all.
                let _ = from_client.shutdown(Shutdown::Both);
                let _ = to_server.write_all(sent);
                break;
            }
            Fault::Swallows if is_first => {}
            _ if to_server.write_all(sent).is_err() => break,
            _ => {}
        }
    }
    let _ = to_server.shutdown(Shutdown::Write);
}

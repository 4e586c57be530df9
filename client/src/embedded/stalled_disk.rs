//! Calls on an event loop while the disk answers nothing.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::task::{Context, Poll, Waker};

use mq_core::testkit::CrashDisk;
use mq_core::{StoreSizes, sync::RwLock};

use super::*;
use crate::client::{Backend, Client};
use crate::message::NewMessage;

/// Longest wait for what has to come.
const PATIENCE: Duration = Duration::from_secs(60);

/// A client over a disk that can be stopped.
struct World {
    client: Client,
    disk: CrashDisk,
    /// Whoever calls the disk waits for it.
    gate: Arc<RwLock<()>>,
}

impl World {
    fn new(durability: Durability) -> Self {
        let disk = CrashDisk::new();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let options = Options { durability, ..Options::default() };
        let on = Arc::new(disk.clone());
        let broker = Broker::open_on(on, Arc::clone(&clock), StoreSizes::default(), options).unwrap();
        broker.start().unwrap();
        let config = Config::default();
        let buffer = Buffer::new(config.max_buffered_bytes);
        let embedded = Embedded::over(broker, "a disk".into(), clock, None, &buffer).unwrap();
        let client = Client::over(Backend::Embedded(embedded), buffer, &config);
        Self { client, disk, gate: Arc::default() }
    }

    /// Stops the disk while `call` runs twice: before anybody waits for the disk, and while somebody does.
    fn stalled(&self, mut call: impl FnMut(usize)) {
        let (arrived, arrives): (Sender<()>, Receiver<()>) = channel();
        let gate = Arc::clone(&self.gate);
        let closed = self.gate.write();
        self.disk.set_faults(Box::new(move |asked| {
            if asked.op.changes() {
                let _ = arrived.send(());
                drop(gate.read());
            }
            None
        }));
        call(0);
        arrives.recv_timeout(PATIENCE).unwrap();
        call(1);
        drop(closed);
        assert_eq!(self.client.flush(PATIENCE), Ok(0));
        self.disk.clear_faults();
    }
}

fn poll_once<T>(future: Pin<&mut impl Future<Output = T>>) -> Poll<T> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

#[test]
fn no_call_of_async_code_waits_for_a_disk_that_stalls() {
    let (ended, end) = channel();
    let calls = std::thread::spawn(move || {
        calls_on_a_stalled_disk();
        ended.send(()).unwrap();
    });
    // One that waits for the disk never returns.
    if let Err(RecvTimeoutError::Timeout) = end.recv_timeout(2 * PATIENCE) {
        panic!("a call waits for the disk");
    }
    calls.join().unwrap();
}

fn calls_on_a_stalled_disk() {
    for durability in Durability::ALL {
        let world = World::new(durability);
        let client = &world.client;
        let options = SubscribeOptions { max_in_flight: 1000, ..SubscribeOptions::default() };
        let subscription = client.subscribe("t", "c", options).unwrap();
        client.publish_many("t", (0..600).map(|n| n.to_string())).unwrap();
        let taken: Vec<_> = (0..600).map(|_| subscription.next(PATIENCE).unwrap().unwrap()).collect();
        let mut publish = pin!(client.publish_async("t", NewMessage::new("x").header("a", "b")));
        let mut publish_many = pin!(client.publish_many_async("t", ["y"; 100]));
        let mut flush = pin!(client.flush_async());
        world.stalled(|run| {
            let taken = &taken[run * 300..][..300];
            taken[..100].iter().for_each(|message| message.touch());
            taken[..200].iter().for_each(|message| message.finish());
            taken[200..].iter().for_each(|message| message.requeue(Duration::from_secs(3600)));
            for _ in 0..100 {
                client.send("t", "z").unwrap();
            }
            // At `memory` they may be stored by now.
            let _ = poll_once(publish.as_mut());
            let _ = poll_once(publish_many.as_mut());
            let _ = poll_once(flush.as_mut());
            let mut next = pin!(subscription.next_batch_async(10));
            let _ = poll_once(next.as_mut());
            assert!(subscription.failures().is_empty());
        });
        assert!(subscription.flush(PATIENCE).unwrap());
    }
}

//! Allocations of the client for each message, in steady state: its own threads and the caller's, in this
//! process and over the network.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // Helpers of tests are tests too.
#![allow(unsafe_code, reason = "an allocator has no other interface")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use libmq::sync::Mutex;
use libmq::{Client, SubscribeOptions, Subscription};
use mq_core::{Broker, Options};
use mq_nsq::server::{Config, Server};
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

/// No step of a test takes longer, unless something is wrong.
const PATIENCE: Duration = Duration::from_secs(30);
/// Messages before allocations are counted: buffers have grown then.
const WARM: usize = 20_000;
/// Messages for which they are.
const COUNTED: usize = 50_000;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

thread_local! {
    /// Whether this thread is of a broker that clients reach over the network.
    static IS_BROKERS: Cell<bool> = const { Cell::new(false) };
}

/// The system's allocator, which counts.
struct Counting;

fn count() {
    // A thread that ends allocates for its end.
    if !IS_BROKERS.try_with(Cell::get).unwrap_or(true) {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
    }
}

// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promises are those of the system's allocator.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// One test at a time: all of the process counts.
static ALONE: Mutex<()> = Mutex::new(());

/// Allocations for each of [`COUNTED`] messages that `step` does in calls of so many each, after [`WARM`].
fn allocations(each: usize, mut step: impl FnMut(usize)) -> f64 {
    let mut run = |messages: usize| (0..messages / each).for_each(|_| step(each));
    run(WARM);
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    run(COUNTED);
    (ALLOCATIONS.load(Ordering::Relaxed) - before) as f64 / COUNTED as f64
}

/// A broker on threads whose allocations do not count.
struct Remote {
    url: String,
    _runtime: Runtime,
    _folder: TempDir,
}

impl Remote {
    fn start() -> Self {
        let folder = TempDir::new().unwrap();
        let mut builder = Builder::new_multi_thread();
        let runtime = builder.enable_all().on_thread_start(|| IS_BROKERS.set(true)).build().unwrap();
        let options = Options { data_path: folder.path().join("data"), ..Options::default() };
        let broker = Broker::open(options).unwrap();
        let config = Config { tcp_address: "127.0.0.1:0".into(), ..Config::default() };
        let server = runtime.block_on(Server::bind(config, broker)).unwrap();
        let url = format!("mq://{}", server.local_addr());
        runtime.spawn(server.run(std::future::pending()));
        Self { url, _runtime: runtime, _folder: folder }
    }
}

fn subscribe(client: &Client) -> Subscription {
    client.subscribe("t", "c", SubscribeOptions { max_in_flight: 1000, ..Default::default() }).unwrap()
}

/// Publishes what is consumed later, in batches.
fn fill(client: &Client) {
    for _ in 0..(WARM + COUNTED) / 1000 {
        client.publish_many("t", (0..1000).map(|_| &[b'x'; 100][..])).unwrap();
    }
}

fn sending(client: &Client) -> f64 {
    allocations(500, |count| {
        (0..count).for_each(|_| drop(client.send("t", &[b'x'; 100][..]).unwrap()));
        assert_eq!(client.flush(PATIENCE), Ok(0));
    })
}

fn one_by_one(client: &Client) -> f64 {
    fill(client);
    let subscription = subscribe(client);
    allocations(1, |_| subscription.next(PATIENCE).unwrap().expect("a message comes").finish())
}

fn in_batches(client: &Client) -> f64 {
    fill(client);
    let subscription = subscribe(client);
    allocations(10_000, |count| {
        let mut left = count;
        while left > 0 {
            let batch = subscription.next_batch(left.min(200), PATIENCE).unwrap();
            left -= batch.len();
            batch.finish(..);
        }
    })
}

/// Does some work, and returns how many allocations a message of it took.
type Work = fn(&Client) -> f64;

/// Checks the figures of each kind of work at a broker: no more than so many allocations a message.
fn check(url: &str, bounds: [f64; 3]) {
    let works: [(&str, Work); 3] =
        [("sending", sending), ("taking one by one", one_by_one), ("taking in batches", in_batches)];
    let mut above = Vec::new();
    for ((name, work), bound) in works.into_iter().zip(bounds) {
        let client = libmq::connect(url).unwrap();
        let figure = work(&client);
        println!("{url} {name}: {figure:.4} allocations a message");
        client.close(PATIENCE).unwrap();
        if figure > bound {
            above.push(format!("{name} takes {figure} allocations a message, at most {bound}"));
        }
    }
    assert!(above.is_empty(), "{url}: {above:?}");
}

#[test]
fn a_message_in_this_process_takes_no_allocation_of_its_own() {
    let _alone = ALONE.lock();
    check("mq:memory", [0.1; 3]);
}

#[test]
fn a_message_over_the_network_takes_no_allocation_of_its_own_in_the_client() {
    let _alone = ALONE.lock();
    let remote = Remote::start();
    // What comes in one read has its memory together: how much that is, is the system's to say.
    check(&remote.url, [0.1, 0.7, 0.7]);
}

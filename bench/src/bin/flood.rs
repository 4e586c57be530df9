//! Time that others wait for a broker while it is flooded: connections that send commands without answers as
//! fast as it reads them, plain or deflated.
//!
//! The probe connects, publishes once and then publishes a few times more, first on the quiet broker, then
//! under the flood, by turns. The flood shares the machine with the broker, and so does whatever else runs
//! there: from each time the probe subtracts the time for which a thread of the broker or the probe itself
//! was ready and had no processor, and prints both figures. Waits of two threads at once are subtracted
//! twice, so the second is a lower bound. Run it with `nice`: a flood from outside does not take the
//! broker's processors.

use std::fs;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};
use hdrhistogram::Histogram;

/// Publishes of each of the probe's connections, and the pause between two.
const PUBLISHES: usize = 5;
const PAUSE: Duration = Duration::from_millis(2);
/// A publish of ten bytes.
const PUBLISH: &[u8] = b"PUB flood\n\0\0\0\x0a0123456789";
/// Bytes of the answer OK as a frame.
const OK_BYTES: usize = 10;
const IDENTIFY: &[u8] = br#"{"feature_negotiation":true,"deflate":true,"heartbeat_interval":-1}"#;
/// Bytes of commands that are sent at once, and in a bomb.
const FLOOD_BYTES: usize = 1 << 20;
const BOMB_BYTES: usize = 64 << 20;
/// Measurements of each kind.
const TIMES: usize = 3;

#[derive(Parser)]
#[command(name = "flood", about = "Measures how long others wait for a broker that is flooded")]
struct Flood {
    /// Broker: host:port
    #[arg(long, default_value = "127.0.0.1:4150")]
    tcp_address: String,
    /// Its process
    #[arg(long)]
    pid: u32,
    /// The attack
    #[arg(long, value_enum, default_value = "nops")]
    kind: Kind,
    /// Connections that flood
    #[arg(long, default_value_t = 2)]
    connections: usize,
    /// Seconds of each measurement
    #[arg(long, default_value_t = 5)]
    seconds: u64,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Kind {
    /// NOP without end
    Nops,
    /// The same, deflated to a thousandth
    Bombs,
}

fn main() -> io::Result<()> {
    let flood = Flood::parse();
    let bytes: Arc<[u8]> = flood.bytes()?.into();
    for _ in 0..TIMES {
        flood.measure("quiet")?;
        let stop = Arc::new(AtomicBool::new(false));
        let mut sockets = Vec::new();
        let mut floods = Vec::new();
        for _ in 0..flood.connections {
            let (mut socket, bytes) = (flood.attack()?, Arc::clone(&bytes));
            sockets.push(socket.try_clone()?);
            let stop = Arc::clone(&stop);
            floods.push(thread::spawn(move || {
                // It ends when the socket is closed under it.
                while !stop.load(Ordering::Relaxed) && socket.write_all(&bytes).is_ok() {}
            }));
        }
        flood.measure(&format!("{} x {:?}", flood.connections, flood.kind))?;
        stop.store(true, Ordering::Relaxed);
        for socket in sockets {
            // The broker may have been first.
            let _ = socket.shutdown(std::net::Shutdown::Both);
        }
        floods.into_iter().for_each(|flood| drop(flood.join()));
    }
    Ok(())
}

impl Flood {
    /// The bytes to send again and again.
    fn bytes(&self) -> io::Result<Vec<u8>> {
        if let Kind::Nops = self.kind {
            return Ok(b"NOP\n".repeat(FLOOD_BYTES / 4));
        }
        let mut encoder = mq_net::transport::deflate::Encoder::new(9);
        let mut bomb = Vec::new();
        let no_memory = |_| io::Error::from(io::ErrorKind::OutOfMemory);
        encoder.encode(&b"NOP\n".repeat(BOMB_BYTES / 4), &mut bomb).map_err(no_memory)?;
        encoder.flush(&mut bomb).map_err(no_memory)?;
        Ok(bomb)
    }

    /// A connection that is ready to flood.
    fn attack(&self) -> io::Result<TcpStream> {
        let mut socket = TcpStream::connect(&self.tcp_address)?;
        socket.write_all(b"  V2")?;
        if let Kind::Bombs = self.kind {
            let length = (IDENTIFY.len() as u32).to_be_bytes();
            socket.write_all(&[b"IDENTIFY\n", &length[..], IDENTIFY].concat())?;
            read_frame(&mut socket)?;
        }
        Ok(socket)
    }

    fn measure(&self, name: &str) -> io::Result<()> {
        let mut kinds = [("connect", Waits::new()), ("PUB", Waits::new())];
        let end = Instant::now() + Duration::from_secs(self.seconds);
        while Instant::now() < end {
            let mut socket = None;
            let connects = &mut kinds[0].1;
            connects.take(self.pid, || {
                let made = socket.insert(TcpStream::connect(&self.tcp_address)?);
                made.set_nodelay(true)?;
                made.write_all(&[b"  V2", PUBLISH].concat())?;
                made.read_exact(&mut [0; OK_BYTES])
            })?;
            let Some(mut socket) = socket else { continue };
            for _ in 0..PUBLISHES {
                kinds[1].1.take(self.pid, || {
                    socket.write_all(PUBLISH)?;
                    socket.read_exact(&mut [0; OK_BYTES])
                })?;
                thread::sleep(PAUSE);
            }
        }
        for (kind, waits) in &kinds {
            println!("{name:>12} {kind:>8}: {waits}");
        }
        Ok(())
    }
}

fn read_frame(socket: &mut TcpStream) -> io::Result<()> {
    let mut length = [0; 4];
    socket.read_exact(&mut length)?;
    let length = u64::from(u32::from_be_bytes(length));
    io::copy(&mut socket.take(length), &mut io::sink())?;
    Ok(())
}

/// Times in microseconds: as they were, and without the waits for a processor.
struct Waits {
    all: Histogram<u64>,
    served: Histogram<u64>,
}

impl Waits {
    fn new() -> Self {
        let empty = Histogram::new_with_bounds(1, 60_000_000, 3);
        #[expect(clippy::unwrap_used, reason = "the bounds are constants")]
        let empty = empty.unwrap();
        Self { all: empty.clone(), served: empty }
    }

    fn take(&mut self, process: u32, act: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let (ready, began) = (ready_ns(process), Instant::now());
        act()?;
        let took = began.elapsed();
        let waited = Duration::from_nanos(ready_ns(process).saturating_sub(ready));
        let us = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX).max(1);
        self.all.saturating_record(us(took));
        self.served.saturating_record(us(took.saturating_sub(waited)));
        Ok(())
    }
}

impl std::fmt::Display for Waits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:>6}", self.all.len())?;
        for (name, times) in [("", &self.all), (", without waits for a processor", &self.served)] {
            write!(f, "{name}")?;
            for (name, quantile) in [("p50", 0.5), ("p99", 0.99), ("max", 1.0)] {
                write!(f, " {name} {:.2} ms", times.value_at_quantile(quantile) as f64 / 1e3)?;
            }
        }
        Ok(())
    }
}

/// Nanoseconds for which threads of a process, and this one, were ready and had no processor.
fn ready_ns(process: u32) -> u64 {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    let files = tasks.map(|task| task.path().join("schedstat"));
    let all = files.chain(["/proc/thread-self/schedstat".into()]).filter_map(|file| {
        let text = fs::read_to_string(file).ok()?;
        text.split(' ').nth(1)?.parse::<u64>().ok()
    });
    all.sum()
}

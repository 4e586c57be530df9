//! Runs threads side by side and measures what they and the server used.

use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{Builder, Scope, scope};
use std::time::Duration;

use parking_lot::RwLock;

use super::consumer::{Consumed, Consumer};
use super::process::{Cpu, Memory, Process, machine_busy_s};
use super::publisher::{Published, Publisher};
use super::report::{Phase, Sample, Shares, Used};
use super::run::Run;
use crate::{Front, Unit};

/// Interval at which progress is shown and memory looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Enough for what a thread of the load does.
const STACK_BYTES: usize = 256 << 10;

/// Counts what is used from now on.
pub(crate) struct Meter {
    /// The server, and what it had used when the phase began: CPU, memory, bytes read from files.
    server: Option<(Process, Cpu, Memory, u64)>,
    own: Option<Cpu>,
    busy_s: Option<f64>,
}

/// Results of the threads of a phase.
pub(crate) struct Work {
    pub(crate) phase: Phase,
    pub(crate) consumed: Vec<Consumed>,
    pub(crate) samples: Vec<Sample>,
}

impl Meter {
    pub(crate) fn start(server: Option<Process>) -> Result<Self, String> {
        let server = server
            .map(|process| {
                Ok::<_, String>((process, process.cpu()?, process.memory()?, process.read_bytes()))
            })
            .transpose()?;
        Ok(Self { server, own: Process::own().cpu().ok(), busy_s: machine_busy_s() })
    }

    /// Writes what was used since into the phase, whose operations are known.
    pub(crate) fn stop(&self, phase: &mut Phase) -> Result<(), String> {
        let mut known_s = 0.0;
        if let Some((process, before, memory, read)) = &self.server {
            let cpu = process.cpu()? - *before;
            known_s += cpu.total_s();
            let read = process.read_bytes().saturating_sub(*read);
            phase.server = Some(Used::new(cpu, *memory, process.memory()?, read, phase.operations));
        }
        if let Some(before) = self.own
            && let Ok(now) = Process::own().cpu()
        {
            known_s += (now - before).total_s();
            phase.load = Some(now - before);
        }
        if let (Some(before), Some(now)) = (self.busy_s, machine_busy_s()) {
            phase.other_cpu_s = Some((now - before - known_s).max(0.0));
        }
        Ok(())
    }
}

enum Done {
    Published(Published),
    Consumed(Consumed),
}

type Sent = Sender<Result<Done, String>>;

/// Starts a thread that does its work once the gate is open.
fn start<'scope>(
    scope: &'scope Scope<'scope, '_>,
    gate: &'scope RwLock<()>,
    run: &'scope Run,
    sender: &Sent,
    work: impl FnOnce(&Run) -> Result<Done, String> + Send + 'scope,
) -> Result<(), String> {
    let sender = sender.clone();
    let work = move || {
        drop(gate.read());
        let done = if run.has_failed() { Err("another thread failed".to_owned()) } else { work(run) };
        run.failed.fetch_or(done.is_err(), Ordering::Relaxed);
        // The receiver outlives the threads, unless they could not all be started.
        let _ = sender.send(done);
    };
    let thread = Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, work);
    thread.map(drop).map_err(|error| {
        run.failed.store(true, Ordering::Relaxed);
        format!("cannot start a thread: {error}")
    })
}

/// Publishes and consumes with a thread each, to the end. `expected` is about how many messages that is, for
/// the bar.
pub(crate) fn work(
    front: Front<'_>,
    name: &'static str,
    run: &Run,
    server: Option<Process>,
    expected: u64,
    publishers: Vec<Publisher>,
    consumers: Vec<Consumer>,
) -> Result<Work, String> {
    run.publishers.store(publishers.len(), Ordering::Release);
    let consumes = !consumers.is_empty();
    let before = (run.published.load(Ordering::Relaxed), run.delivered.load(Ordering::Relaxed));
    let gate = RwLock::new(());
    let (sender, receiver) = mpsc::channel();
    let (mut consumed, mut samples, mut errors) = (Vec::new(), Vec::new(), Vec::new());
    let mut bytes = 0;
    let mut bar = (front.bar)(Unit::Messages);
    let (began, meter, last) = scope(|scope| {
        let closed = gate.write();
        for publisher in publishers {
            start(scope, &gate, run, &sender, |run| publisher.run(run).map(Done::Published))?;
        }
        for consumer in consumers {
            start(scope, &gate, run, &sender, |run| consumer.run(run).map(Done::Consumed))?;
        }
        drop(sender);
        let meter = Meter::start(server)?;
        let began = run.start();
        drop(closed);
        let mut last = began;
        loop {
            match receiver.recv_timeout(LOOK_EVERY) {
                Ok(Ok(Done::Published(done))) => {
                    last = last.max(done.last);
                    bytes += done.bytes;
                }
                Ok(Ok(Done::Consumed(done))) => {
                    last = done.last.map_or(last, |at| last.max(at));
                    consumed.push(done);
                }
                Ok(Err(error)) => errors.push(error),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    if front.stopped.load(Ordering::Relaxed) {
                        run.stop();
                    }
                    let published = run.published.load(Ordering::Relaxed);
                    let delivered = run.delivered.load(Ordering::Relaxed);
                    bar(if consumes { delivered - before.1 } else { published - before.0 }, expected);
                    if let Some(memory) = server.and_then(|process| process.memory().ok()) {
                        samples.push(Sample {
                            waiting: published.saturating_sub(delivered),
                            rss_bytes: memory.now,
                        });
                    }
                }
            }
        }
        Ok::<_, String>((began, meter, last))
    })?;
    if let Some(error) = errors.into_iter().next() {
        return Err(error);
    }
    let published = run.published.load(Ordering::Relaxed) - before.0;
    let delivered: u64 = consumed.iter().map(|done| done.messages).sum();
    let seconds = (last - began).as_secs_f64();
    let mut phase = Phase {
        name,
        seconds,
        published,
        delivered,
        operations: if consumes { delivered } else { published },
        bytes: if consumes { consumed.iter().map(|done| done.bytes).sum() } else { bytes },
        shares: shares(&consumed),
        ..Phase::default()
    };
    phase.operations_per_second = phase.operations as f64 / seconds.max(1e-9);
    meter.stop(&mut phase)?;
    Ok(Work { phase, consumed, samples })
}

/// Over all channels, where they have more than one consumer.
fn shares(consumed: &[Consumed]) -> Option<Shares> {
    let messages = || consumed.iter().map(|done| done.messages);
    if consumed.len() < 2 {
        return None;
    }
    Some(Shares { consumers: consumed.len(), smallest: messages().min()?, largest: messages().max()? })
}

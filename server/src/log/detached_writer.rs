//! Lines written by a thread of their own: a reader that pauses or has gone stops nobody but that thread.

use std::collections::VecDeque;
use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

/// Most bytes that wait to be written: far more than a burst of lines has, and nothing beside a broker's
/// memory.
const QUEUE_BYTES_MAX: usize = 1 << 20;

/// A queue of lines and the thread that writes them. Clones share both; the thread ends when the last one is
/// dropped and all is written.
#[derive(Clone)]
pub(crate) struct DetachedWriter(Arc<Handle>);

/// The writer's end of the queue.
struct Handle(Arc<Queue>);

#[derive(Default)]
struct Queue {
    state: Mutex<State>,
    /// Notified when a line is queued, when all lines are written, and when the writer is dropped.
    changed: Condvar,
}

#[derive(Default)]
struct State {
    lines: VecDeque<Box<[u8]>>,
    /// Bytes of `lines`, and of those that are being written.
    bytes: usize,
    /// Lines dropped since the last report because there was no room for them.
    lost: u64,
    /// Whether the thread is in a write.
    is_writing: bool,
    is_closed: bool,
}

impl DetachedWriter {
    /// Starts the thread that writes to `out`. It calls `report` with the number of lines that were dropped,
    /// once `out` takes lines again. Where the system has no thread left, every line is dropped.
    pub(crate) fn start(out: impl Write + Send + 'static, report: fn(lost: u64)) -> Self {
        let queue = Arc::new(Queue::default());
        let shared = Arc::clone(&queue);
        let thread = std::thread::Builder::new().name("mq-lines".to_owned());
        if thread.spawn(move || shared.write_to(out, report)).is_err() {
            queue.state.lock().bytes = QUEUE_BYTES_MAX;
        }
        Self(Arc::new(Handle(queue)))
    }

    /// Queues `line`, or drops and counts it where there is no room. Never waits for the reader.
    pub(crate) fn write(&self, line: &[u8]) {
        let queue = &self.0.0;
        let mut state = queue.state.lock();
        if state.bytes + line.len() > QUEUE_BYTES_MAX {
            state.lost += 1;
            return;
        }
        state.bytes += line.len();
        state.lines.push_back(line.into());
        queue.changed.notify_all();
    }

    /// Waits until all lines are written, for `patience` at most.
    pub(crate) fn flush(&self, patience: Duration) {
        let queue = &self.0.0;
        let deadline = Instant::now() + patience;
        let mut state = queue.state.lock();
        while (!state.lines.is_empty() || state.is_writing)
            && !queue.changed.wait_until(&mut state, deadline).timed_out()
        {}
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.state.lock().is_closed = true;
        self.0.changed.notify_all();
    }
}

impl Queue {
    /// Writes lines until the writer is dropped. A reader that has gone takes none, which is no reason to
    /// stop.
    fn write_to(&self, mut out: impl Write, report: fn(u64)) {
        let mut written = 0;
        loop {
            let (lines, lost) = {
                let mut state = self.state.lock();
                state.is_writing = false;
                state.bytes -= written;
                while state.lines.is_empty() && state.lost == 0 {
                    self.changed.notify_all();
                    if state.is_closed {
                        return;
                    }
                    self.changed.wait(&mut state);
                }
                state.is_writing = true;
                written = state.bytes;
                (std::mem::take(&mut state.lines), std::mem::take(&mut state.lost))
            };
            for line in &lines {
                let _ = out.write_all(line);
            }
            let _ = out.flush();
            if lost > 0 {
                report(lost);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::sync::mpsc;

    use super::*;

    /// Takes one write each time the gate is opened.
    struct Gated {
        gate: mpsc::Receiver<()>,
        written: mpsc::Sender<Vec<u8>>,
    }

    impl Write for Gated {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.gate.recv();
            let _ = self.written.send(bytes.to_vec());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn with_a_reader_that_reads_nothing_lines_are_dropped_counted_and_reported_later() {
        static LOST: AtomicU64 = AtomicU64::new(0);
        let ((open, gate), (written, lines)) = (mpsc::channel(), mpsc::channel());
        let report = |lost| {
            LOST.fetch_add(lost, Ordering::SeqCst);
        };
        let writer = DetachedWriter::start(Gated { gate, written }, report);
        let line = [b'x'; 1 << 10];
        let queued = 2 * (QUEUE_BYTES_MAX / line.len());
        for _ in 0..queued {
            writer.write(&line);
        }
        assert_eq!(LOST.load(Ordering::SeqCst), 0, "nothing was read, so nothing can be reported");
        drop(open);
        writer.flush(Duration::from_secs(30));
        drop(writer);
        let kept = lines.iter().count();
        assert!(kept >= QUEUE_BYTES_MAX / line.len() && kept < queued, "{kept}");
        assert_eq!(LOST.load(Ordering::SeqCst), (queued - kept) as u64);
    }

    #[test]
    fn lines_are_written_in_order_and_all_before_the_flush_returns() {
        let ((open, gate), (written, lines)) = (mpsc::channel(), mpsc::channel());
        drop(open);
        let writer = DetachedWriter::start(Gated { gate, written }, |_| {});
        for n in 0..100_u8 {
            writer.write(&[n]);
        }
        writer.flush(Duration::from_secs(30));
        let written: Vec<_> = lines.try_iter().flatten().collect();
        assert_eq!(written, (0..100).collect::<Vec<u8>>());
    }
}

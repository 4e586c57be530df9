//! Messages to stdout from a thread of its own: a reader that pauses must not keep heartbeats unanswered.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, fstat};
use rustix::io::ioctl_fionread;
use tokio::sync::mpsc;

/// Messages on their way to stdout.
pub(crate) const QUEUE_MAX: usize = 512;
/// Output is written in pieces of this size while more is there to print.
const OUT_BYTES: usize = 64 << 10;
/// Interval between two looks at a pipe whose reader has not taken everything: short at first, for a quick
/// reader, then longer, for one that pauses.
const LOOK_MIN: Duration = Duration::from_millis(1);
const LOOK_MAX: Duration = Duration::from_millis(50);

/// A message to print.
pub(crate) trait Print: Send + 'static {
    /// Writes it as a line.
    fn print(&self, out: &mut impl Write) -> io::Result<()>;
}

/// Writes messages to stdout, a line each, and reports which have left the process for good: were written and
/// flushed, and, where stdout is a pipe, read from it. What a reader leaves in a pipe was seen by nobody.
pub(crate) struct Printer<M> {
    queue: mpsc::Sender<M>,
    // Unbounded in form only: it never holds more than the queue has held and the brokers' credit allows.
    printed: mpsc::UnboundedReceiver<io::Result<Vec<M>>>,
    /// Queued and not reported as printed.
    waiting: usize,
    /// Messages still to take; `None` = without end.
    left: Option<u64>,
}

impl<M: Print> Printer<M> {
    /// A printer of `max` messages at most.
    pub(crate) fn start(max: Option<u64>) -> Self {
        let (queue, messages) = mpsc::channel(QUEUE_MAX);
        let (report, printed) = mpsc::unbounded_channel();
        std::thread::spawn(move || {
            let failed = match Stdout::open() {
                Ok(out) => out.print(messages, &report),
                Err(error) => Err(error),
            };
            if let Err(error) = failed {
                // Without a receiver there is nobody left to mind.
                let _ = report.send(Err(error));
            }
        });
        Self { queue, printed, waiting: 0, left: max }
    }

    /// Queues a message, or drops it when as many as were asked for are queued. Waits if the queue is full.
    pub(crate) async fn put(&mut self, message: M) {
        if self.left == Some(0) {
            return;
        }
        self.left = self.left.map(|left| left - 1);
        self.waiting += 1;
        // A printer that has failed says so in `printed`.
        let _ = self.queue.send(message).await;
    }

    /// Whether `put` would not wait.
    pub(crate) fn has_room(&self) -> bool {
        self.queue.capacity() > 0
    }

    /// Waits for what was printed since the last call. Cancel safe. Pends while nothing is on its way.
    pub(crate) async fn printed(&mut self) -> io::Result<Vec<M>> {
        match self.printed.recv().await {
            Some(printed) => {
                self.waiting -= printed.as_ref().map_or(0, Vec::len);
                printed
            }
            None => std::future::pending().await,
        }
    }

    /// Waits until all that was queued is printed. Cancel safe.
    pub(crate) async fn drain(&mut self) -> io::Result<()> {
        while self.waiting > 0 {
            self.printed().await?;
        }
        Ok(())
    }

    /// Whether as many as were asked for are printed.
    pub(crate) fn is_done(&self) -> bool {
        self.left == Some(0) && self.waiting == 0
    }

    /// Credit to ask for: messages that may be in flight, those that wait to be printed included; at most
    /// `limit`.
    pub(crate) fn credit(&self, limit: u32) -> u32 {
        let Some(left) = self.left else { return limit };
        u32::try_from(left.saturating_add(self.waiting as u64)).map_or(limit, |credit| credit.min(limit))
    }
}

/// The printing thread's end.
struct Stdout<M> {
    out: BufWriter<Counted>,
    is_pipe: bool,
    /// Messages written and not reported, each with the number of bytes written up to its end.
    unread: VecDeque<(u64, M)>,
}

/// Stdout without the standard library's buffer, and the bytes it took.
struct Counted {
    file: File,
    bytes: u64,
}

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

type Report<M> = mpsc::UnboundedSender<io::Result<Vec<M>>>;

impl<M: Print> Stdout<M> {
    fn open() -> io::Result<Self> {
        let file = File::from(io::stdout().as_fd().try_clone_to_owned()?);
        let is_pipe = FileType::from_raw_mode(fstat(&file)?.st_mode) == FileType::Fifo;
        let out = BufWriter::with_capacity(OUT_BYTES, Counted { file, bytes: 0 });
        Ok(Self { out, is_pipe, unread: VecDeque::new() })
    }

    /// Prints until no more messages can come, or nobody reads the reports.
    fn print(mut self, mut messages: mpsc::Receiver<M>, report: &Report<M>) -> io::Result<()> {
        let mut pause = LOOK_MIN;
        loop {
            let message = if self.unread.is_empty() {
                messages.blocking_recv()
            } else {
                match messages.try_recv() {
                    Err(mpsc::error::TryRecvError::Empty) => {
                        let waited = self.wait_for_reader(pause);
                        pause = if self.report(report) { LOOK_MIN } else { (2 * pause).min(LOOK_MAX) };
                        waited?;
                        continue;
                    }
                    message => message.ok(),
                }
            };
            let Some(message) = message else { return Ok(()) };
            let written = self.write(message, &mut messages);
            // Also after a failure: what was read before it was printed.
            self.report(report);
            written?;
        }
    }

    /// Writes `message` and those that wait behind it.
    fn write(&mut self, message: M, messages: &mut mpsc::Receiver<M>) -> io::Result<()> {
        let mut next = Some(message);
        let mut count = 0;
        while let Some(message) = next {
            message.print(&mut self.out)?;
            let end = self.out.get_ref().bytes + self.out.buffer().len() as u64;
            self.unread.push_back((end, message));
            count += 1;
            // As many as a queue holds, then they are reported: a fast broker must not put that off for ever.
            next = if count < QUEUE_MAX { messages.try_recv().ok() } else { None };
        }
        self.out.flush()
    }

    /// Reports what was read since the last report. Returns whether there was anything.
    fn report(&mut self, report: &Report<M>) -> bool {
        let mut taken = self.out.get_ref().bytes;
        if self.is_pipe {
            taken -= ioctl_fionread(&self.out.get_ref().file).unwrap_or(0).min(taken);
        }
        let count = self.unread.partition_point(|(end, _)| *end <= taken);
        let printed: Vec<_> = self.unread.drain(..count).map(|(_, message)| message).collect();
        let any = !printed.is_empty();
        if any {
            let _ = report.send(Ok(printed));
        }
        any
    }

    /// Waits for `pause`, or until the reader has gone.
    fn wait_for_reader(&self, pause: Duration) -> io::Result<()> {
        let file = &self.out.get_ref().file;
        let mut fds = [PollFd::new(file, PollFlags::empty())];
        let pause = Timespec { tv_sec: 0, tv_nsec: pause.subsec_nanos().into() };
        match poll(&mut fds, Some(&pause)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => Ok(()),
            Ok(_) => Err(io::ErrorKind::BrokenPipe.into()),
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::fd::OwnedFd;

    use super::*;

    /// A number, printed nine times.
    struct Number(u8);

    impl Print for Number {
        fn print(&self, out: &mut impl Write) -> io::Result<()> {
            out.write_all(&[self.0; 9])?;
            out.write_all(b"\n")
        }
    }

    fn reported(reports: &mut mpsc::UnboundedReceiver<io::Result<Vec<Number>>>) -> Vec<u8> {
        std::iter::from_fn(|| reports.try_recv().ok()).flat_map(Result::unwrap).map(|one| one.0).collect()
    }

    #[test]
    fn what_is_in_a_pipe_unread_is_not_reported() {
        let (reader, writer) = io::pipe().unwrap();
        let file = File::from(OwnedFd::from(writer));
        let out = BufWriter::with_capacity(OUT_BYTES, Counted { file, bytes: 0 });
        let mut stdout = Stdout { out, is_pipe: true, unread: VecDeque::new() };
        let (queue, mut messages) = mpsc::channel(QUEUE_MAX);
        let (report, mut reports) = mpsc::unbounded_channel();
        queue.try_send(Number(2)).unwrap();
        queue.try_send(Number(3)).unwrap();
        stdout.write(Number(1), &mut messages).unwrap();
        assert!(!stdout.report(&report));
        let mut reader = reader;
        // All of the first, and all but a byte of the second.
        reader.read_exact(&mut [0; 19]).unwrap();
        assert!(stdout.report(&report));
        assert_eq!(reported(&mut reports), [1]);
        reader.read_exact(&mut [0; 1]).unwrap();
        stdout.report(&report);
        assert_eq!(reported(&mut reports), [2]);
        stdout.wait_for_reader(LOOK_MIN).unwrap();
        drop(reader);
        assert_eq!(stdout.wait_for_reader(LOOK_MIN).unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        assert!(!stdout.report(&report), "the reader left it");
    }
}

//! Standard output: where it is not there, and what could not be printed.

use std::io::{self, ErrorKind, StdoutLock, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use mq_core::sync::Mutex;

static WAS_CLOSED: AtomicBool = AtomicBool::new(false);

/// Whether this command printed by [`stdout`]. Servers do not: a thread of theirs may hold the lock for good,
/// with a pipe that nobody reads.
static IS_USED: AtomicBool = AtomicBool::new(false);

/// The last reason why something could not be printed, until [`check_stdout`]: a process may run several
/// commands.
static LOST: Mutex<Option<String>> = Mutex::new(None);

/// Notes that standard output was closed when the process started, as by `>&-`. Commands that print messages
/// refuse to run then. May be called before `main`.
pub fn note_closed_stdout() {
    WAS_CLOSED.store(true, Ordering::Relaxed);
}

/// Refuses to print messages where nobody could see them.
///
/// # Errors
/// Standard output was closed when the process started.
pub(crate) fn refuse_closed_stdout() -> Result<(), String> {
    match WAS_CLOSED.load(Ordering::Relaxed) {
        true => Err(
            "standard output is closed (>&-), where messages are printed: leave it open, or send it to a \
                     file"
                .to_owned(),
        ),
        false => Ok(()),
    }
}

/// Standard output that remembers what could not be printed, so that a command may ignore its errors: its end
/// asks [`check_stdout`].
pub(crate) struct Stdout(StdoutLock<'static>);

/// Locks standard output.
pub(crate) fn stdout() -> Stdout {
    IS_USED.store(true, Ordering::Relaxed);
    Stdout(io::stdout().lock())
}

impl Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes).inspect_err(note_loss)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush().inspect_err(note_loss)
    }
}

/// Notes an error of standard output. A reader that has enough is none.
pub(crate) fn note_loss(error: &io::Error) {
    if !matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::Interrupted) {
        *LOST.lock() = Some(error.to_string());
    }
}

/// Prints what is left in the buffer.
///
/// # Errors
/// Something could not be printed, now or before.
pub(crate) fn check_stdout() -> Result<(), String> {
    if IS_USED.load(Ordering::Relaxed) {
        let _ = stdout().flush();
    }
    match LOST.lock().take() {
        Some(why) => Err(format!("could not print to standard output: {why}")),
        None => Ok(()),
    }
}

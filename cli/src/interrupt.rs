//! Signals that end a command early: it says how far it came.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals that a terminal, a shell or a supervisor ends a command with.
pub(crate) struct Interrupt([(Signal, &'static str, u8); 3]);

impl Interrupt {
    /// Catches them from now on.
    pub(crate) fn catch() -> Result<Self, String> {
        let catch = |kind: SignalKind, name| -> io::Result<_> {
            Ok((signal(kind)?, name, u8::try_from(kind.as_raw_value()).unwrap_or_default()))
        };
        let caught = || -> io::Result<_> {
            Ok([
                catch(SignalKind::interrupt(), "SIGINT")?,
                catch(SignalKind::terminate(), "SIGTERM")?,
                catch(SignalKind::hangup(), "SIGHUP")?,
            ])
        };
        caught().map(Self).map_err(|error| format!("cannot watch for signals: {error}"))
    }

    /// Waits for one of them, and gives its name and the exit status of a command that it ends. Cancel safe.
    pub(crate) async fn next(&mut self) -> (&'static str, u8) {
        let [int, term, hup] = &mut self.0;
        let (name, number) = tokio::select! {
            _ = int.0.recv() => (int.1, int.2),
            _ = term.0.recv() => (term.1, term.2),
            _ = hup.0.recv() => (hup.1, hup.2),
        };
        (name, 128 + number)
    }
}

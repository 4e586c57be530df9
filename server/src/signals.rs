//! Signals: those that stop the process, the one that has it read its settings again, and those that must not
//! end it.

use std::io;
use std::time::Duration;

use rustix::process::Signal as Number;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

/// Signals within this time of the first are one: wrappers (`timeout`, a shell's process group) send it
/// twice.
const ONE_SIGNAL: Duration = Duration::from_secs(1);
/// Longest time to write what is in memory after a later signal.
pub(crate) const LAST_WRITE: Duration = Duration::from_secs(10);

/// Signals that stop the process. XCPU comes before the limit on processor time is enforced, PWR before the
/// power goes.
const STOPPING: &[(&str, Number)] = &[
    ("SIGTERM", Number::TERM),
    ("SIGINT", Number::INT),
    ("SIGQUIT", Number::QUIT),
    ("SIGXCPU", Number::XCPU),
    #[cfg(target_os = "linux")]
    ("SIGPWR", Number::POWER),
];

/// Signals that mean nothing here and would end the process. With XFSZ caught, a write beyond the limit on
/// file sizes is an error, which counts as a full disk.
const IGNORED: &[Number] = &[
    Number::USR1,
    Number::USR2,
    Number::ALARM,
    Number::VTALARM,
    Number::PROF,
    Number::XFSZ,
    Number::IO,
    Number::PIPE,
    #[cfg(target_os = "linux")]
    Number::STKFLT,
];

/// The real-time signals. The C library keeps some of the first for itself and refuses those.
#[cfg(target_os = "linux")]
const REAL_TIME: std::ops::RangeInclusive<i32> = 34..=64;

/// State of a stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// Nobody has asked for a stop.
    No,
    /// Clients may end what they have begun, and everything is stored.
    Clean,
    /// Clients are dropped, what is in memory is stored until `deadline`; then the process ends as the signal
    /// would have it.
    AtOnce {
        /// The signal's number.
        signal: u8,
        /// [`LAST_WRITE`] after the signal.
        deadline: Instant,
    },
}

/// The signals of a serving process. Clones share them.
#[derive(Clone)]
pub(crate) struct Signals(watch::Receiver<Stop>);

impl Signals {
    /// Catches signals from now on. Gives what SIGHUP wakes too.
    pub(crate) fn catch() -> io::Result<(Self, Signal)> {
        let hangup = signal(SignalKind::hangup())?;
        for number in IGNORED {
            // A handler stays for good, heard or not.
            drop(signal(SignalKind::from_raw(number.as_raw()))?);
        }
        #[cfg(target_os = "linux")]
        for number in REAL_TIME {
            let _ = signal(SignalKind::from_raw(number));
        }
        let (heard, stops) = mpsc::unbounded_channel();
        for &(name, number) in STOPPING {
            let mut stop = signal(SignalKind::from_raw(number.as_raw()))?;
            let heard = heard.clone();
            tokio::spawn(async move {
                while stop.recv().await.is_some() {
                    let number = u8::try_from(number.as_raw()).unwrap_or_default();
                    if heard.send((name, number)).is_err() {
                        return;
                    }
                }
            });
        }
        let (state, stop) = watch::channel(Stop::No);
        tokio::spawn(follow(stops, state));
        Ok((Self(stop), hangup))
    }

    /// The state of the stop.
    pub(crate) fn stop(&self) -> Stop {
        *self.0.borrow()
    }

    /// Resolves once the process is asked to stop.
    pub(crate) async fn stopping(&self) {
        self.wait(|stop| *stop != Stop::No).await;
    }

    /// Resolves once the process is asked to stop at once, with the signal's number and the time there is.
    pub(crate) async fn at_once(&self) -> (u8, Instant) {
        loop {
            if let Stop::AtOnce { signal, deadline } =
                self.wait(|stop| matches!(stop, Stop::AtOnce { .. })).await
            {
                return (signal, deadline);
            }
        }
    }

    async fn wait(&self, is_it: impl FnMut(&Stop) -> bool) -> Stop {
        let mut stop = self.0.clone();
        let found = stop.wait_for(is_it).await.map(|stop| *stop);
        match found {
            Ok(stop) => stop,
            // The runtime is ending, and this with it.
            Err(_) => std::future::pending().await,
        }
    }
}

/// Takes stopping signals as they come, by name and number. Never ends while signals can come.
async fn follow(mut stops: mpsc::UnboundedReceiver<(&'static str, u8)>, state: watch::Sender<Stop>) {
    let Some((name, _)) = stops.recv().await else { return };
    tracing::info!(signal = name, "stopping; another signal after {ONE_SIGNAL:?} drops all clients at once");
    state.send_replace(Stop::Clean);
    let one = Instant::now() + ONE_SIGNAL;
    while let Some((name, signal)) = stops.recv().await {
        if Instant::now() < one || matches!(*state.borrow(), Stop::AtOnce { .. }) {
            tracing::debug!(signal = name, "the process is stopping already");
            continue;
        }
        let deadline = Instant::now() + LAST_WRITE;
        tracing::warn!(signal = name, "stopping at once: clients are dropped");
        state.send_replace(Stop::AtOnce { signal, deadline });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn signals_within_a_second_are_one_and_a_later_one_stops_at_once() {
        let (heard, stops) = mpsc::unbounded_channel();
        let (state, stop) = watch::channel(Stop::No);
        let signals = Signals(stop);
        tokio::spawn(follow(stops, state));
        heard.send(("SIGTERM", 15)).unwrap();
        signals.stopping().await;
        for pause in [5, 990] {
            tokio::time::sleep(Duration::from_millis(pause)).await;
            heard.send(("SIGINT", 2)).unwrap();
            tokio::task::yield_now().await;
            assert_eq!(signals.stop(), Stop::Clean, "after {pause} ms");
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
        heard.send(("SIGINT", 2)).unwrap();
        let (signal, deadline) = signals.at_once().await;
        assert_eq!((signal, deadline), (2, Instant::now() + LAST_WRITE));
        // The first of the later ones says how it ends.
        heard.send(("SIGTERM", 15)).unwrap();
        tokio::task::yield_now().await;
        assert_eq!(signals.stop(), Stop::AtOnce { signal: 2, deadline });
    }
}

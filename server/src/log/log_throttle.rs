//! Holds back warnings and errors that one place in the program writes again and again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tracing::callsite::Identifier;
use tracing::{Event, Level, Metadata};
use tracing_subscriber::layer::{Context, Filter};

/// Lines of one place that are written within [`WINDOW`].
const LINES_MAX: u32 = 10;
const WINDOW: Duration = Duration::from_secs(1);
/// Target of the log's own lines, which are never suppressed.
pub(super) const REPORT: &str = "mq_server::log";

/// A filter of log lines that suppresses those that [`Repeats`] counts as repeated.
pub(crate) struct RepeatLimit(pub(crate) Arc<Repeats>);

impl<S> Filter<S> for RepeatLimit {
    fn enabled(&self, _: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        true
    }

    fn event_enabled(&self, event: &Event<'_>, _: &Context<'_, S>) -> bool {
        let place = event.metadata();
        // What anybody can make us write is a warning or an error; debug lines are asked for.
        *place.level() > Level::WARN || place.target() == REPORT || self.0.may_write(place, Instant::now())
    }
}

/// Lines written and suppressed at each place in the program.
#[derive(Default)]
pub(crate) struct Repeats {
    places: Mutex<HashMap<Identifier, Place>>,
    /// Notified when the first line of a window is held back.
    held_back: Notify,
}

struct Place {
    metadata: &'static Metadata<'static>,
    window: Instant,
    written: u32,
    held_back: u64,
}

impl Repeats {
    fn may_write(&self, metadata: &'static Metadata<'static>, now: Instant) -> bool {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        let place = places.entry(metadata.callsite()).or_insert(Place {
            metadata,
            window: now,
            written: 0,
            held_back: 0,
        });
        if now.duration_since(place.window) >= WINDOW {
            (place.window, place.written) = (now, 0);
        }
        if place.written < LINES_MAX {
            place.written += 1;
            return true;
        }
        place.held_back += 1;
        if place.held_back == 1 {
            self.held_back.notify_one();
        }
        false
    }

    /// Lines suppressed since the last call, by place.
    fn take(&self) -> Vec<(&'static Metadata<'static>, u64)> {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        let held_back = places.values_mut().filter(|place| place.held_back > 0);
        held_back.map(|place| (place.metadata, std::mem::take(&mut place.held_back))).collect()
    }

    /// Says a while after lines were held back how many. Never ends.
    pub(crate) async fn report(self: Arc<Self>) {
        loop {
            self.held_back.notified().await;
            tokio::time::sleep(WINDOW).await;
            for (place, lines) in self.take() {
                let at = format!("{}:{}", place.target(), place.line().unwrap_or_default());
                tracing::warn!(target: REPORT, at, lines, "repeated log lines suppressed");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};

    use tracing_subscriber::layer::SubscriberExt;
    use tracing_subscriber::{Layer, fmt};

    use super::*;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn the_eleventh_line_of_one_place_is_held_back_and_counted() {
        let (sink, repeats) = (Sink::default(), Arc::new(Repeats::default()));
        let out = sink.clone();
        let lines =
            fmt::layer().with_writer(move || out.clone()).with_filter(RepeatLimit(Arc::clone(&repeats)));
        let log = tracing_subscriber::registry().with(lines);
        tracing::subscriber::with_default(log, || {
            for n in 0..15 {
                tracing::warn!(n, "flood");
                tracing::info!(n, "chatter");
            }
            tracing::warn!("another place");
        });
        let text = String::from_utf8(sink.0.lock().unwrap().clone()).unwrap();
        let count = |word: &str| text.lines().filter(|line| line.contains(word)).count();
        // A slow machine may begin a second window.
        assert!((10..15).contains(&count("flood")), "{text}");
        assert_eq!((count("chatter"), count("another place")), (15, 1), "{text}");
        let held_back = repeats.take();
        assert_eq!(held_back.len(), 1);
        assert_eq!(held_back[0].1, 15 - count("flood") as u64);
        assert!(repeats.take().is_empty(), "reported once");
    }

    #[test]
    fn a_new_window_lets_lines_pass_again() {
        let repeats = Repeats::default();
        let metadata = tracing::callsite! { name: "test", kind: tracing::metadata::Kind::EVENT, fields: };
        let metadata = tracing::callsite::Callsite::metadata(metadata);
        let now = Instant::now();
        for _ in 0..LINES_MAX {
            assert!(repeats.may_write(metadata, now));
        }
        assert!(!repeats.may_write(metadata, now));
        assert!(repeats.may_write(metadata, now + WINDOW));
    }
}

//! Charts of all topics of a fleet, kept for as long as brokers record one step.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::Value;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use super::{KNOWN, Key, Last, PATIENCE};

/// Charts that are kept, of all viewers.
const CHARTS_MAX: usize = 64;

/// A chart of all topics.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Wanted {
    pub(crate) viewer: Key,
    pub(crate) span: &'static str,
    /// The one node that it is of.
    pub(crate) node: Option<String>,
}

#[derive(Default)]
struct Chart {
    last: Last<Arc<Value>>,
    /// Held by who reads the next.
    reading: tokio::sync::Mutex<()>,
}

impl Chart {
    fn younger_than(&self, age: Duration) -> Option<Arc<Value>> {
        let last = self.last.lock();
        last.as_ref().filter(|(at, _)| at.elapsed() < age).map(|(_, chart)| Arc::clone(chart))
    }
}

/// The last charts of all viewers. Each is as good as new while no broker has recorded another step.
#[derive(Default)]
pub(crate) struct Charts(Mutex<HashMap<Wanted, Arc<Chart>>>);

impl Charts {
    /// The chart, by `read` where none younger than a `step` is known. With `is_hasty` it is `None` if no
    /// chart is known and none is read in [`PATIENCE`]: the reading goes on, and the next who asks gets
    /// it.
    pub(crate) async fn get<F>(
        &self,
        wanted: Wanted,
        step: Duration,
        is_hasty: bool,
        read: impl FnOnce() -> F,
    ) -> Option<Arc<Value>>
    where
        F: Future<Output = Value> + Send + 'static,
    {
        let chart = self.chart(wanted);
        if let Some(fresh) = chart.younger_than(step) {
            return Some(fresh);
        }
        let known = chart.younger_than(KNOWN);
        if known.is_some() && chart.reading.try_lock().is_err() {
            return known;
        }
        let reading = begin(Arc::clone(&chart), step, read());
        // One more step: while somebody looks, nobody waits for a large fleet.
        if let Some(shown) = chart.younger_than(2 * step) {
            return Some(shown);
        }
        match is_hasty || known.is_some() {
            true => timeout(PATIENCE, reading).await.ok().and_then(Result::ok).or(known),
            false => reading.await.ok(),
        }
    }

    fn chart(&self, wanted: Wanted) -> Arc<Chart> {
        let mut charts = self.0.lock();
        if charts.len() >= CHARTS_MAX && !charts.contains_key(&wanted) {
            charts.clear();
        }
        Arc::clone(charts.entry(wanted).or_default())
    }
}

/// Reads whether or not somebody still waits for it.
fn begin<F>(chart: Arc<Chart>, step: Duration, read: F) -> JoinHandle<Arc<Value>>
where
    F: Future<Output = Value> + Send + 'static,
{
    tokio::spawn(async move {
        let _reading = chart.reading.lock().await;
        if let Some(fresh) = chart.younger_than(step) {
            return fresh;
        }
        let began = Instant::now();
        let new = Arc::new(read.await);
        *chart.last.lock() = Some((began, Arc::clone(&new)));
        new
    })
}

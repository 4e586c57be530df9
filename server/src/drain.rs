//! Draining: a broker leaves discovery, takes no more messages, and stops once it is empty.

use std::time::Duration;

use mq_core::Broker;
use mq_nsq::server;
use tokio::time::{Instant, sleep};

use crate::discovery::Lookups;

/// Interval between two looks at the number of messages left.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Waits until a drain is asked for; then has the broker leave discovery and take no more messages, and
/// returns when it is empty or its time is over.
pub(crate) async fn until_empty(drain: &server::Drain, broker: &Broker, lookups: &Lookups) {
    let timeout = drain.asked().await;
    tracing::info!(?timeout, "draining: no more messages are taken");
    lookups.leave();
    broker.drain();
    let deadline = Instant::now() + timeout;
    loop {
        let pending = broker.pending();
        if pending == 0 {
            tracing::info!("drained: nothing is left");
            return drain.end(0);
        }
        if Instant::now() >= deadline {
            tracing::warn!(pending, "the time for draining is over: what is left stays in the data folder");
            return drain.end(pending);
        }
        sleep(LOOK_EVERY).await;
    }
}

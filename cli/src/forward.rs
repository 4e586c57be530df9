//! `mq forward`, `nsq_to_http` and `nsq_to_nsq`: topics to web servers and to other brokers. A message is
//! finished once its destination has taken it.
//!
//! - [`run`], [`run_http`], [`run_nsq`]: the commands; `options`: their flags
//! - `pool`: choice among destinations; `filter`: of JSON messages; `backoff`: pauses after failures. Pure
//! - `destination`, `http`: delivery; `topic`: from a subscription to destinations; `timing`: status lines

mod backoff;
mod destination;
mod filter;
mod http;
mod options;
mod pool;
mod timing;
mod topic;

use std::sync::Arc;
use std::time::{Duration, Instant};

use libmq::{Client, SubscribeOptions};
use mq_core::sync::Mutex;
use tokio::sync::watch;
use tokio::task::JoinSet;

pub(crate) use options::{Forward, NsqToHttp, NsqToNsq};

use crate::Outcome;
use crate::interrupt::Interrupt;
use crate::log::Log;
use crate::runtime;
use destination::Destination;
use filter::Filter;
use pool::{Mode, Pool};
use timing::Timing;

/// Longest time to give messages back at the end.
const CLOSE: Duration = Duration::from_secs(5);

/// All that forwarding needs.
struct Job {
    client: Client,
    options: SubscribeOptions,
    channel: String,
    topics: Vec<String>,
    /// Another topic at the destination than the message's.
    to_topic: Option<String>,
    destinations: Vec<Destination>,
    mode: Mode,
    /// Most messages on their way to destinations, for each topic.
    concurrency: usize,
    /// Share of the messages that go on.
    sample: f64,
    filter: Filter,
    /// Whether headers go on.
    has_headers: bool,
    retry: Retry,
    /// Topic at the source for messages that are given up; without it they are gone.
    give_up_topic: Option<String>,
    status_every: usize,
    log: Log,
}

/// Settings of what follows a failure.
#[derive(Clone, Copy)]
struct Retry {
    /// Deliveries after which a message is given up; 0: never.
    max_attempts: u16,
    /// Whether the failure of the last delivery gives it up, rather than its coming once more, as with
    /// go-nsq.
    ends_with_last_failure: bool,
    /// Delay of a requeue, times the attempts.
    delay: Duration,
    delay_max: Duration,
    backoff_unit: Duration,
    backoff_max: Duration,
}

/// Parts that the topics share.
struct Shared {
    job: Job,
    pool: Mutex<Pool>,
    timing: Mutex<Timing>,
}

/// Forwards until a signal ends it.
pub(crate) fn run(options: Forward) -> Outcome {
    runtime()?.block_on(async { forward(options.job()?).await })
}

/// The same with the flags of nsq_to_http.
pub(crate) fn run_http(options: NsqToHttp) -> Outcome {
    runtime()?.block_on(async { forward(options.job().await?).await })
}

/// The same with the flags of nsq_to_nsq.
pub(crate) fn run_nsq(options: NsqToNsq) -> Outcome {
    runtime()?.block_on(async { forward(options.job().await?).await })
}

async fn forward(job: Job) -> Outcome {
    let mut interrupt = Interrupt::catch()?;
    let (stop, stopped) = watch::channel(false);
    let pool = Mutex::new(Pool::new(job.mode, job.destinations.len(), Instant::now()));
    let names = job.destinations.iter().map(|destination| destination.name().to_owned());
    let timing = Mutex::new(Timing::new(job.status_every, names));
    let shared = Arc::new(Shared { job, pool, timing });
    let mut running = JoinSet::new();
    for topic in &shared.job.topics {
        let subscription =
            shared.job.client.subscribe_in_background(topic, &shared.job.channel, shared.job.options);
        let subscription = subscription.map_err(|error| format!("{topic}: {error}"))?;
        running.spawn(topic::run(Arc::clone(&shared), topic.clone(), subscription, stopped.clone()));
    }
    let mut outcome = Ok(0);
    tokio::select! {
        Some(ended) = running.join_next() => {
            outcome = ended.unwrap_or_else(|error| Err(error.to_string())).map(|()| 0);
        }
        _ = interrupt.next() => {}
    }
    stop.send_replace(true);
    while let Some(ended) = running.join_next().await {
        let ended = ended.unwrap_or_else(|error| Err(error.to_string()));
        outcome = outcome.and(ended.map(|()| 0));
    }
    outcome
}

//! `mq archive` and `nsq_to_file`: topics into files. A message is finished once its bytes are on disk.
//!
//! - [`run`], [`run_nsq`]: the commands; `options`: their flags
//! - `filename`, `strftime`: names of files; `rotation`: the time for a new one; `record`: a message's bytes.
//!   Pure
//! - `files`: the files of a topic; `topic`: from a subscription to them; `discovery`: topics by a pattern

mod discovery;
mod filename;
mod files;
mod options;
mod record;
mod rotation;
mod strftime;
mod topic;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use libmq::{Client, SubscribeOptions};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

pub(crate) use options::{Archive, NsqToFile};

use crate::Outcome;
use crate::brokers::nsq_flags::Source;
use crate::interrupt::Interrupt;
use crate::log::Log;
use discovery::Discovery;
use files::Settings;

/// Threads of the command: they write files, and connections have threads of their own.
const THREADS: usize = 4;
/// Longest time to give messages back at the end.
const CLOSE: Duration = Duration::from_secs(5);

/// All that an archive needs.
struct Job {
    client: Client,
    options: SubscribeOptions,
    channel: String,
    topics: Vec<String>,
    discovery: Option<Discovery>,
    settings: Settings,
    sync_interval: Duration,
    skip_empty_files: bool,
    log: Log,
}

/// Orders to all topics. Counted, so that none is missed.
#[derive(Clone, Copy, Default)]
struct Orders {
    hang_ups: u64,
    stop: bool,
}

/// Archives until a signal ends it.
pub(crate) fn run(options: Archive) -> Outcome {
    runtime()?.block_on(async { archive(options.job()?).await })
}

/// The same with the flags of nsq_to_file.
pub(crate) fn run_nsq(options: NsqToFile) -> Outcome {
    runtime()?.block_on(async {
        options.check()?;
        let Source { client, options: subscribe, .. } = options.connect().await?;
        archive(options.job(client, subscribe)?).await
    })
}

fn runtime() -> Result<tokio::runtime::Runtime, String> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(THREADS).enable_all().build().map_err(|error| format!("cannot start: {error}"))
}

async fn archive(job: Job) -> Outcome {
    let mut interrupt = Interrupt::catch()?;
    let (orders, listen) = watch::channel(Orders::default());
    let (settings, log) = (Arc::new(job.settings.clone()), job.log.clone());
    let mut running = JoinSet::new();
    let mut known = BTreeSet::new();
    let mut begin = |topic: &str, running: &mut JoinSet<Result<(), String>>| -> Result<(), String> {
        if known.insert(topic.to_owned()) {
            let subscription = job.client.subscribe_in_background(topic, &job.channel, job.options);
            let subscription = subscription.map_err(|error| format!("{topic}: {error}"))?;
            let worker = topic::Topic::new(&job, topic, subscription, Arc::clone(&settings))?;
            running.spawn(worker.run(listen.clone()));
        }
        Ok(())
    };
    for topic in &job.topics {
        begin(topic, &mut running)?;
    }
    let mut refresh = interval(job.discovery.as_ref().map_or(Duration::from_secs(3600), |d| d.every));
    refresh.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut failed = None;
    loop {
        tokio::select! {
            _ = refresh.tick() => {
                let Some(discovery) = &job.discovery else { continue };
                match discovery.topics().await {
                    Ok(topics) => for topic in topics {
                        if let Err(error) = begin(&topic, &mut running) {
                            log.error(error);
                        }
                    },
                    Err(error) => log.error(error),
                }
            }
            Some(ended) = running.join_next(), if !running.is_empty() => {
                failed = Some(ended.unwrap_or_else(|error| Err(error.to_string())));
                break;
            }
            (name, _) = interrupt.next() => match name {
                "SIGHUP" => orders.send_modify(|orders| orders.hang_ups += 1),
                _ => break,
            }
        }
    }
    orders.send_modify(|orders| orders.stop = true);
    while let Some(ended) = running.join_next().await {
        let ended = ended.unwrap_or_else(|error| Err(error.to_string()));
        if ended.is_err() && failed.is_none() {
            failed = Some(ended);
        }
    }
    failed.unwrap_or(Ok(())).map(|()| 0)
}

//! From the subscription of a topic to its files.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Zoned;
use libmq::{Batch, Error, Subscription};
use tokio::sync::watch;
use tokio::task::block_in_place;
use tokio::time::{MissedTickBehavior, interval};

use super::files::{Files, Settings};
use super::{CLOSE, Job, Orders};
use crate::log::Log;
use crate::watch::{LOOK_EVERY, Watch};

/// A topic being archived.
pub(super) struct Topic {
    /// Its name and its channel's, for people.
    name: String,
    subscription: Subscription,
    files: Files,
    settings: Arc<Settings>,
    /// Messages that are written and not known to be on disk, so not finished.
    held: Vec<Batch>,
    max_held: usize,
    /// A record being made.
    record: Vec<u8>,
    sync_interval: Duration,
    skip_empty_files: bool,
    watch: Watch,
    log: Log,
}

impl Topic {
    pub(super) fn new(
        job: &Job,
        topic: &str,
        subscription: Subscription,
        settings: Arc<Settings>,
    ) -> Result<Self, String> {
        let name = format!("[{topic}/{}]", job.channel);
        Ok(Self {
            watch: Watch::new(&job.log, &name, job.options.start),
            name,
            subscription,
            files: Files::new(topic, Arc::clone(&settings), job.log.clone()),
            settings,
            held: Vec::new(),
            max_held: usize::try_from(job.options.max_in_flight).map_err(|error| error.to_string())?,
            record: Vec::new(),
            sync_interval: job.sync_interval,
            skip_empty_files: job.skip_empty_files,
            log: job.log.clone(),
        })
    }

    /// Archives until it is ordered to stop.
    ///
    /// # Errors
    /// The first failure of a file: what was not on disk then is not finished, and comes again.
    pub(super) async fn run(mut self, mut orders: watch::Receiver<Orders>) -> Result<(), String> {
        let mut tick = interval(self.sync_interval);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // Its first tick is now.
        tick.tick().await;
        let mut look = interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut hang_ups = orders.borrow().hang_ups;
        loop {
            let room = self.max_held - self.held_count();
            let named = |error: io::Error| error.to_string();
            tokio::select! {
                biased;
                changed = orders.changed() => {
                    let now = *orders.borrow_and_update();
                    if changed.is_err() || now.stop {
                        break;
                    }
                    if now.hang_ups != hang_ups {
                        hang_ups = now.hang_ups;
                        block_in_place(|| self.close()).map_err(named)?;
                    }
                }
                _ = tick.tick() => {
                    block_in_place(|| self.tick()).map_err(named)?;
                }
                _ = look.tick() => self.watch.look(&self.subscription, Instant::now()),
                Ok(events) = self.subscription.events_async() => self.watch.note(events, Instant::now()),
                batch = self.subscription.next_batch_async(room) => match batch {
                    Ok(batch) => block_in_place(|| self.take(batch)).map_err(named)?,
                    Err(Error::Closed) => break,
                    Err(error) => return Err(format!("{}: {error}", self.name)),
                },
            }
        }
        block_in_place(|| self.close()).map_err(|error| error.to_string())?;
        let subscription = self.subscription.clone();
        let closed = tokio::task::spawn_blocking(move || subscription.close(CLOSE)).await;
        self.watch.end(&self.subscription).await;
        match closed {
            Ok(true) => Ok(()),
            _ => {
                Err(format!("{}: no answer within {CLOSE:?} at the end: messages may come again", self.name))
            }
        }
    }

    fn held_count(&self) -> usize {
        self.held.iter().map(Batch::len).sum()
    }

    /// Writes messages. Those that are on disk are finished if there are as many as may be held, or a broker
    /// waits for it.
    fn take(&mut self, batch: Batch) -> io::Result<()> {
        let now = Zoned::now();
        for at in 0..batch.len() {
            let Some(message) = batch.get(at) else { break };
            if self.files.needs_rotation(&now) {
                // What is in the file that ends is on disk with it.
                self.files.rotate(&now)?;
                self.finish();
                batch.finish(..at);
            }
            self.record.clear();
            self.settings.format.put(message, &mut self.record);
            self.files.write(&self.record)?;
        }
        self.held.push(batch);
        if self.held_count() >= self.max_held || self.subscription.is_starved() {
            self.sync()?;
        }
        Ok(())
    }

    /// Syncs and finishes what is held, and ends a file that is due to.
    fn tick(&mut self) -> io::Result<()> {
        let now = Zoned::now();
        if self.files.needs_rotation(&now) {
            if !self.skip_empty_files {
                self.files.rotate(&now)?;
                self.finish();
            } else if self.files.is_open() {
                self.close()?;
            }
        }
        self.sync()
    }

    fn sync(&mut self) -> io::Result<()> {
        if self.held.is_empty() {
            return Ok(());
        }
        self.log.debug(format_args!("{} syncing {} records to disk", self.name, self.held_count()));
        self.files.sync()?;
        self.finish();
        Ok(())
    }

    fn close(&mut self) -> io::Result<()> {
        self.files.close()?;
        self.finish();
        Ok(())
    }

    /// Finishes what is held: it is on disk.
    fn finish(&mut self) {
        self.held.drain(..).for_each(|batch| batch.finish(..));
    }
}

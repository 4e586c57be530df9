//! From the subscription of a topic to destinations.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use libmq::{Error, Message, NewMessage, Subscription};
use mq_bench::plain_words::plain;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep_until};

use super::backoff::{Backoff, Effect};
use super::filter::Verdict;
use super::{CLOSE, Shared};
use crate::watch::{LOOK_EVERY, Watch};

/// Longest part of a message in a log line.
const SHOWN_MAX: usize = 200;

/// Forwards until it is stopped.
pub(super) async fn run(
    shared: Arc<Shared>,
    topic: String,
    subscription: Subscription,
    mut stopped: watch::Receiver<bool>,
) -> Result<(), String> {
    let job = &shared.job;
    let to_topic: Arc<str> = job.to_topic.as_ref().unwrap_or(&topic).as_str().into();
    let mut backoff = Backoff::new(job.retry.backoff_unit, job.retry.backoff_max);
    let mut under_way: JoinSet<Option<bool>> = JoinSet::new();
    let mut watch = Watch::new(&job.log, &format!("{topic}/{}", job.channel), job.options.start);
    let mut look = interval(LOOK_EVERY);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut is_stopping = false;
    loop {
        if is_stopping && under_way.is_empty() {
            break;
        }
        let credit = |max: u32| subscription.set_max_in_flight(max).map_err(|error| error.to_string());
        let pause = backoff.until();
        tokio::select! {
            biased;
            _ = stopped.wait_for(|stopped| *stopped), if !is_stopping => is_stopping = true,
            Some(ended) = under_way.join_next() => {
                // One that was given up says nothing about the destination.
                let Some(was_delivered) = ended.unwrap_or(Some(false)) else { continue };
                match backoff.note(was_delivered, Instant::now()) {
                    Effect::None => {}
                    Effect::Pause(until) => {
                        let time = until.saturating_duration_since(Instant::now());
                        job.log.warn(format_args!("{topic}: backing off for {time:.1?}"));
                        credit(0)?;
                    }
                    Effect::Resume => credit(job.options.max_in_flight)?,
                }
            }
            () = sleep_until(pause.unwrap_or_else(Instant::now).into()), if pause.is_some() && !is_stopping => {
                backoff.end_pause();
                credit(1)?;
            }
            _ = look.tick() => watch.look(&subscription, Instant::now()),
            Ok(events) = subscription.events_async() => watch.note(events, Instant::now()),
            message = subscription.next_async(), if !is_stopping && under_way.len() < job.concurrency => {
                match message {
                    Ok(message) => begin(&shared, &topic, &to_topic, message, &mut under_way),
                    Err(Error::Closed) => break,
                    Err(error) => return Err(format!("{topic}: {error}")),
                }
            }
        }
    }
    let closing = subscription.clone();
    let closed = tokio::task::spawn_blocking(move || closing.close(CLOSE)).await;
    watch.end(&subscription).await;
    match closed {
        Ok(true) => Ok(()),
        _ => Err(format!("{topic}: no answer within {CLOSE:?} at the end: messages may come again")),
    }
}

/// Begins with a message. `under_way` says of each that ends whether it was delivered, and nothing of one
/// that was given up.
fn begin(
    shared: &Arc<Shared>,
    topic: &str,
    to_topic: &Arc<str>,
    message: Message,
    under_way: &mut JoinSet<Option<bool>>,
) {
    let owned = || (Arc::clone(shared), topic.to_owned());
    match admit(shared, topic, &message) {
        Admitted::Send(body) => {
            let ((own, topic), to_topic) = (owned(), Arc::clone(to_topic));
            under_way.spawn(async move {
                let is_delivered = forward(&own, &to_topic, &message, body).await;
                if !is_delivered {
                    fail(&own, &topic, message).await;
                }
                Some(is_delivered)
            });
        }
        Admitted::Done => message.finish(),
        Admitted::GivenUp => {
            let ((own, topic), attempts) = (owned(), message.attempts().saturating_sub(1));
            under_way.spawn(async move { give_up(&own, &topic, message, attempts).await });
        }
        Admitted::Failed => {
            let (own, topic) = owned();
            under_way.spawn(async move {
                fail(&own, &topic, message).await;
                Some(false)
            });
        }
    }
}

enum Admitted {
    Send(Bytes),
    Done,
    /// It was delivered too often.
    GivenUp,
    Failed,
}

/// Looks at a message before it is sent.
fn admit(shared: &Shared, topic: &str, message: &Message) -> Admitted {
    let job = &shared.job;
    if job.retry.max_attempts > 0 && message.attempts() > job.retry.max_attempts {
        return Admitted::GivenUp;
    }
    if job.sample < 1.0 && fastrand::f64() > job.sample {
        return Admitted::Done;
    }
    match job.filter.judge(message.body()) {
        Verdict::Pass(body) => Admitted::Send(body),
        Verdict::Drop => Admitted::Done,
        Verdict::Broken => {
            let start = message.body().get(..SHOWN_MAX).unwrap_or(message.body());
            job.log.error(format_args!("{topic}: no JSON object, dropped: {}", start.escape_ascii()));
            Admitted::Done
        }
        Verdict::Requeue => {
            job.log.error(format_args!("{topic}: a message without the field to check is requeued"));
            Admitted::Failed
        }
    }
}

/// Answers a message that was not delivered: it comes again, or this was the last of its attempts.
async fn fail(shared: &Shared, topic: &str, message: Message) {
    let (retry, attempts) = (&shared.job.retry, message.attempts());
    match retry.ends_with_last_failure && retry.max_attempts > 0 && attempts >= retry.max_attempts {
        true => drop(give_up(shared, topic, message, attempts).await),
        false => requeue(shared, &message),
    }
}

/// Publishes a message that failed `attempts` times to the topic for such, and finishes it. Returns
/// `Some(false)` if that failed: it comes again.
async fn give_up(shared: &Shared, topic: &str, message: Message, attempts: u16) -> Option<bool> {
    let job = &shared.job;
    let id = message.id().to_hex();
    let id = String::from_utf8_lossy(&id).into_owned();
    let what = format!("{topic}: giving up message {id} after {attempts} attempts");
    let Some(to) = &job.give_up_topic else {
        job.log.error(format_args!("{what}: it is finished, and gone"));
        message.finish();
        return None;
    };
    let copy = NewMessage::new(message.body().clone());
    let headers = message.headers().iter().cloned();
    let copy = headers.fold(copy, |copy, (name, value)| copy.header(name, value));
    match job.client.publish_async(to, copy).await {
        Ok(_) => {
            job.log.error(format_args!("{what}: it is in topic {to} now"));
            message.finish();
            None
        }
        Err(error) => {
            let error = plain(&error.to_string());
            job.log
                .error(format_args!("{topic}: message {id} is not in topic {to}, and comes again: {error}"));
            requeue(shared, &message);
            Some(false)
        }
    }
}

/// Delivers a message, and finishes it if that succeeded. Returns whether it did.
async fn forward(shared: &Shared, topic: &str, message: &Message, body: Bytes) -> bool {
    let chosen = shared.pool.lock().choose(Instant::now(), fastrand::f64);
    for at in chosen {
        let Some(destination) = shared.job.destinations.get(at) else { continue };
        let began = Instant::now();
        let headers = if shared.job.has_headers { message.headers() } else { &[] };
        let delivered = destination.deliver(topic, body.clone(), headers).await;
        let took = began.elapsed();
        shared.pool.lock().mark(at, delivered.is_ok(), took, Instant::now());
        if let Err(error) = delivered {
            let error = plain(&error);
            shared.job.log.error(format_args!("{}: {error}", destination.name()));
            return false;
        }
        let lines = shared.timing.lock().note(at, took);
        lines.iter().for_each(|line| shared.job.log.info(line));
    }
    message.finish();
    true
}

fn requeue(shared: &Shared, message: &Message) {
    let retry = &shared.job.retry;
    message.requeue(retry.delay.saturating_mul(message.attempts().into()).min(retry.delay_max));
}

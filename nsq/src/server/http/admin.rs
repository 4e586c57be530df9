//! Changes to topics and channels by administrators. Each is answered when it is in the log.

use std::sync::Arc;
use std::time::Duration;

use mq_core::{Broker, Error, ErrorKind, Result as CoreResult, Ticket};

use serde::Serialize;

use super::Endpoints;
use super::names::{bad_request, existing_channel, existing_topic, switch, topic, topic_and_channel};
use super::refused::refused;
use mq_net::http::{Answer, Request, StatusCode};
use mq_net::log_wait::LogWait;

/// A change to an existing topic.
#[derive(Clone, Copy)]
pub(super) enum TopicAction {
    Delete,
    Empty,
    Pause,
    Unpause,
}

/// A change to an existing channel.
#[derive(Clone, Copy)]
pub(super) enum ChannelAction {
    Delete,
    Empty,
    Pause,
    Unpause,
}

/// POST /topic/create
pub(super) async fn create_topic(api: Arc<Endpoints>, request: Request) -> Result<Answer, Answer> {
    let name = topic(&request.query()?, "INVALID_TOPIC")?;
    api.caller(&request).publish(&name)?;
    let broker = api.broker.clone();
    let topic = blocking(move || broker.topic(&name)).await.map_err(|error| refused(&error))?;
    let answer = once_stored(&api.broker, topic.created()).await?;
    LogWait::new(&api.broker).announced(&topic, api.shared.config.announce_wait).await;
    Ok(answer)
}

/// POST /topic/delete, empty, pause, unpause
pub(super) async fn change_topic(
    api: Arc<Endpoints>,
    request: Request,
    action: TopicAction,
) -> Result<Answer, Answer> {
    let query = request.query()?;
    if matches!(action, TopicAction::Empty) {
        topic(&query, "INVALID_TOPIC")?;
    }
    let topic = existing_topic(&api.broker, &query)?;
    api.caller(&request).publish(topic.name())?;
    let broker = api.broker.clone();
    let changed = blocking(move || match action {
        TopicAction::Delete => broker.delete_topic(topic.name()),
        TopicAction::Empty => topic.empty(),
        TopicAction::Pause => topic.pause(),
        TopicAction::Unpause => topic.unpause(),
    });
    ticket_or_gone(&api.broker, changed.await, "TOPIC_NOT_FOUND").await
}

/// POST /drain
pub(super) async fn drain(api: Arc<Endpoints>, request: Request) -> Result<Answer, Answer> {
    /// Time enough for consumers that keep up.
    const TIMEOUT_MS: u64 = 60_000;
    let query = request.query()?;
    api.caller(&request).manage()?;
    let timeout = match query.get("timeout") {
        Some(text) => text.parse().map_err(|_| {
            let detail = format!("timeout {text:?} is no number of milliseconds");
            Answer::error_with(StatusCode::BAD_REQUEST, "INVALID_TIMEOUT", &detail)
        })?,
        None => TIMEOUT_MS,
    };
    let wait =
        query.get("wait").map(|text| switch(text).ok_or_else(|| bad_request("INVALID_WAIT"))).transpose()?;
    let drain = &api.shared.config.drain;
    drain.ask(Duration::from_millis(timeout));
    if wait == Some(true) {
        let messages = drain.ended().await;
        return Ok(Answer::json(&DrainStatus { state: "ended", messages }));
    }
    Ok(Answer::empty())
}

/// Answer of `GET /drain`.
#[derive(Serialize)]
pub(super) struct DrainStatus {
    /// `none`: the broker was not asked to drain; `draining`; `ended`: it stops now.
    state: &'static str,
    /// Messages that are not finished.
    messages: u64,
}

/// An answer of `GET /drain`.
#[cfg(test)]
pub(super) fn sample_drain() -> Answer {
    Answer::json(&DrainStatus { state: "none", messages: 0 })
}

/// GET /drain
pub(super) async fn drain_status(api: Arc<Endpoints>, request: Request) -> Result<Answer, Answer> {
    let _ = request.query()?;
    api.caller(&request).manage()?;
    let drain = &api.shared.config.drain;
    let status = match (drain.is_asked(), drain.left()) {
        (_, Some(left)) => DrainStatus { state: "ended", messages: left },
        (true, None) => DrainStatus { state: "draining", messages: api.broker.pending() },
        (false, None) => DrainStatus { state: "none", messages: api.broker.pending() },
    };
    Ok(Answer::json(&status))
}

/// POST /channel/create
pub(super) async fn create_channel(api: Arc<Endpoints>, request: Request) -> Result<Answer, Answer> {
    let (topic, channel) = topic_and_channel(&api.broker, &request.query()?)?;
    api.caller(&request).consume(topic.name(), &channel)?;
    let wake = LogWait::new(&api.broker).wake;
    let created = blocking(move || topic.channel(&channel, &wake).map(|(_, ticket)| ticket)).await;
    ticket_or_gone(&api.broker, created, "TOPIC_NOT_FOUND").await
}

/// POST /channel/delete, empty, pause, unpause
pub(super) async fn change_channel(
    api: Arc<Endpoints>,
    request: Request,
    action: ChannelAction,
) -> Result<Answer, Answer> {
    let (topic, name) = topic_and_channel(&api.broker, &request.query()?)?;
    let channel = existing_channel(&topic, &name)?;
    api.caller(&request).consume(topic.name(), &name)?;
    let changed = blocking(move || match action {
        ChannelAction::Delete => topic.delete_channel(&name),
        ChannelAction::Empty => channel.empty(),
        ChannelAction::Pause => channel.pause(),
        ChannelAction::Unpause => channel.unpause(),
    });
    ticket_or_gone(&api.broker, changed.await, "CHANNEL_NOT_FOUND").await
}

/// Answers when the change is in the log. What was deleted in between is `gone`.
async fn ticket_or_gone(broker: &Broker, changed: CoreResult<Ticket>, gone: &str) -> Result<Answer, Answer> {
    match changed {
        Ok(ticket) => once_stored(broker, ticket).await,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound) => {
            Err(Answer::error(StatusCode::NOT_FOUND, gone))
        }
        Err(error) => Err(refused(&error)),
    }
}

/// Answers a change: empty once the ticket is done, the error if it failed.
pub(super) async fn once_stored(broker: &Broker, ticket: Ticket) -> Result<Answer, Answer> {
    match LogWait::new(broker).follow(ticket).await {
        Ok(()) => Ok(Answer::empty()),
        Err(error) => Err(refused(&error)),
    }
}

/// Runs work that may wait for a disk on a thread of the blocking pool.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> CoreResult<T> + Send + 'static,
) -> CoreResult<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|_| Err(Error::new(ErrorKind::Closed, "the server is stopping")))
}

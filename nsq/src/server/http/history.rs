//! GET /history: rates of the last minute, and the curves behind them.

use std::sync::Arc;

use super::Endpoints;
use super::names::bad_request;
use crate::server::history::{Curve, Overview, Span};
use mq_net::http::{Answer, Request, StatusCode};

/// GET /history
pub(super) async fn history(api: Arc<Endpoints>, request: Request) -> Result<Answer, Answer> {
    let query = request.query()?;
    let caller = api.caller(&request);
    let span = match query.get_some("span") {
        None => None,
        Some("10m") => Some(Span::Minutes),
        Some("1d") => Some(Span::Day),
        Some(other) => {
            let detail = format!("span {other:?} is none of 10m, 1d");
            return Err(Answer::error_with(StatusCode::BAD_REQUEST, "INVALID_SPAN", &detail));
        }
    };
    let topic = query.get_some("topic").map(str::to_owned);
    let channel = query.get_some("channel").map(str::to_owned);
    if channel.is_some() && topic.is_none() {
        return Err(bad_request("MISSING_ARG_TOPIC"));
    }
    if topic.as_deref().is_some_and(|topic| !caller.sees(topic)) {
        return Err(Answer::error(StatusCode::FORBIDDEN, "FORBIDDEN"));
    }
    let turn = request.turn().await;
    let history = Arc::clone(&api.history);
    // Written where the lock's holder delays nobody but the next to ask.
    let made_in = turn.clone();
    let written = tokio::task::spawn_blocking(move || {
        // Given up with the work: who asked may be gone before it is done.
        let _turn = turn;
        let history = history.lock();
        let Some(span) = span else {
            let wanted = |name: &str| caller.sees(name) && topic.as_deref().is_none_or(|topic| topic == name);
            return Answer::json(&Overview::new(&history, wanted));
        };
        let place = topic.as_deref().map(|topic| (topic, channel.as_deref()));
        let curve = Curve::new(&history, place, span);
        Answer::json(&curve.unwrap_or_else(|| Curve::empty(&history, span)))
    });
    let failed = |_| Answer::error(StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL_ERROR");
    written.await.map(|answer| answer.made_in(made_in)).map_err(failed)
}

//! Requests to graphite, for programs that read nsqadmin's charts: a rate, and `/render` for browsers. Only
//! the graphite that settings name is called, on that one path.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hyper::header::{AUTHORIZATION, HOST};
use mq_net::http::{Answer, Method, Query, Request, StatusCode, send};
use mq_net::transport::Transport;
use serde::Deserialize;
use serde_json::json;
use tokio::time::timeout;

use super::refused;
use crate::settings::{Graphite, Settings};

/// Largest answer: a picture, or points of a week.
const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Longest query: hundreds of targets.
const QUERY_BYTES_MAX: usize = 16 * 1024;

/// Graphite's answer about one target.
#[derive(Deserialize)]
struct Series {
    datapoints: Vec<(Option<f64>, f64)>,
}

/// `GET /api/graphite`: the rate of a target over the brokers' last interval.
pub(super) async fn rate(settings: &Settings, query: &Query) -> Result<Answer, Answer> {
    let bad = |code| refused(StatusCode::BAD_REQUEST, code);
    if query.get("metric") != Some("rate") {
        return Err(bad("INVALID_ARG_METRIC"));
    }
    let target = query.get("target").ok_or_else(|| bad("INVALID_ARG_TARGET"))?;
    let failed = |error: String| {
        tracing::warn!(error, "graphite does not answer");
        refused(StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL_ERROR")
    };
    let graphite = settings.nsqadmin.graphite.as_ref();
    let graphite = graphite.ok_or_else(|| failed("--graphite-url is not given".to_owned()))?;
    let interval = graphite.interval.as_secs().max(1);
    let query = format!(
        "format=json&from=-{}sec&target={}&until=-{interval}sec",
        interval * 2,
        crate::upstream::escaped(target)
    );
    let body = render(settings, graphite, &query).await.map_err(failed)?;
    let series: Vec<Series> = serde_json::from_slice(&body).map_err(|error| failed(error.to_string()))?;
    let value = series.first().and_then(|series| series.datapoints.first()?.0);
    let value = value.ok_or_else(|| failed("it has no value of this target".to_owned()))?;
    let rate = if value < 0.0 { "N/A".to_owned() } else { format!("{:.2}", value / interval as f64) };
    Ok(Answer::json(&json!({ "rate": rate })))
}

/// `GET /render`, for browsers that do not reach graphite themselves.
pub(super) async fn proxy(settings: &Settings, request: &Request) -> Result<Answer, Answer> {
    let graphite = settings.nsqadmin.graphite.as_ref().filter(|graphite| graphite.is_proxied);
    let graphite = graphite.ok_or_else(Answer::not_found)?;
    if request.method() != Method::GET {
        return Err(refused(StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED"));
    }
    let query = request.query_text();
    if query.len() > QUERY_BYTES_MAX {
        return Err(refused(StatusCode::URI_TOO_LONG, "QUERY_TOO_LONG"));
    }
    let body = render(settings, graphite, query).await.map_err(|error| {
        tracing::warn!(error, "graphite does not answer");
        Answer::error_with(StatusCode::BAD_GATEWAY, "UPSTREAM_ERROR", &error)
    })?;
    // By what it is, not by what it calls itself: nothing of graphite's is a page or a script of this server.
    let kind = match body.as_slice() {
        [0x89, b'P', b'N', b'G', ..] => "image/png",
        [b'[' | b'{', ..] => "application/json; charset=utf-8",
        _ => "text/plain; charset=utf-8",
    };
    Ok(Answer::text(body).content_type(kind))
}

async fn render(settings: &Settings, graphite: &Graphite, query: &str) -> Result<Vec<u8>, String> {
    let mut request = hyper::Request::builder()
        .method(Method::GET)
        .uri(format!("{}/render?{query}", graphite.path))
        .header(HOST, &graphite.authority);
    if let Some(login) = &graphite.login {
        request = request.header(AUTHORIZATION, format!("Basic {}", STANDARD.encode(login.expose())));
    }
    let request = request.body(Bytes::new()).map_err(|error| error.to_string())?;
    let late = |limit: Duration| format!("no answer within {limit:?}");
    let address = match graphite.authority.rsplit_once(':') {
        Some(_) => graphite.authority.clone(),
        None => format!("{}:80", graphite.authority),
    };
    let connecting = timeout(settings.connect_timeout, Transport::connect(&address)).await;
    let connected = connecting.map_err(|_| late(settings.connect_timeout))?;
    let stream = connected.map_err(|error| format!("no connection: {error}"))?;
    let answered = timeout(settings.request_timeout, send(stream, request, ANSWER_BYTES_MAX)).await;
    match answered.map_err(|_| late(settings.request_timeout))?? {
        (StatusCode::OK, body) => Ok(body),
        (status, _) => Err(format!("status {status}")),
    }
}

//! Endpoints that are polled: /ping, /info, /stats, /metrics.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

use super::names::switch;
use super::{Endpoints, Ports};
use crate::server::config::Config;
use crate::server::metrics;
use crate::server::stats::Selection;
use mq_net::http::{Answer, Query, Request, StatusCode};
use mq_net::transport::tls::TlsConfig;

/// GET /ping
pub(super) async fn ping(api: Arc<Endpoints>, _: Request) -> Result<Answer, Answer> {
    let health = api.collector.health();
    let status = if health == "OK" { StatusCode::OK } else { StatusCode::INTERNAL_SERVER_ERROR };
    Ok(Answer::text(health).plain().status(status))
}

/// Durations are in nanoseconds.
#[derive(Serialize)]
struct Info<'a> {
    version: &'a str,
    broadcast_address: &'a str,
    hostname: &'a str,
    http_port: i32,
    tcp_port: i32,
    start_time: u64,
    max_heartbeat_interval: u128,
    max_output_buffer_size: u32,
    max_output_buffer_timeout: u128,
    max_deflate_level: u8,
    topology_zone: &'a str,
    topology_region: &'a str,
    /// Not one of nsqd's fields, and absent unless the broker empties itself.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    draining: bool,
}

/// GET /info
pub(super) async fn info(api: Arc<Endpoints>, _: Request) -> Result<Answer, Answer> {
    let start_time = api.collector.started.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let draining = api.broker.is_draining();
    Ok(Answer::json(&Info { draining, ..Info::of(&api.shared.config, api.ports, start_time) }))
}

impl<'a> Info<'a> {
    fn of(config: &'a Config, ports: Ports, start_time: u64) -> Self {
        Self {
            version: &config.version,
            broadcast_address: &config.broadcast_address,
            hostname: &config.hostname,
            http_port: ports.http,
            tcp_port: ports.tcp,
            start_time,
            max_heartbeat_interval: config.max_heartbeat_interval.as_nanos(),
            max_output_buffer_size: config.max_output_buffer_size,
            max_output_buffer_timeout: config.max_output_buffer_timeout.as_nanos(),
            max_deflate_level: config.max_deflate_level,
            topology_zone: &config.topology_zone,
            topology_region: &config.topology_region,
            draining: false,
        }
    }
}

/// A sample for the test of the API's description.
#[cfg(test)]
pub(super) fn sample_info(draining: bool) -> Answer {
    Answer::json(&Info { draining, ..Info::of(&Config::default(), Ports::default(), 0) })
}

/// GET /stats
pub(super) async fn stats(api: Arc<Endpoints>, request: Request) -> Result<Answer, Answer> {
    let query = request.query()?;
    let selection = Selection {
        topic: query.get("topic").unwrap_or_default(),
        channel: query.get("channel").unwrap_or_default(),
        clients: wanted(&query, "include_clients"),
        memory: wanted(&query, "include_mem"),
    };
    let caller = api.caller(&request);
    let turn = request.turn().await;
    let stats = api.collector.stats(selection, |topic| caller.sees(topic));
    if query.get("format") == Some("json") {
        return Ok(Answer::json(&stats).made_in(turn));
    }
    let now = SystemTime::now();
    let uptime = now.duration_since(api.collector.started).unwrap_or_default();
    Ok(Answer::text(stats.text(uptime, now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()))
        .made_in(turn))
}

/// Returns whether a part of the answer is wanted: it is unless the query refuses it.
fn wanted(query: &Query, name: &str) -> bool {
    query.get(name).and_then(switch).unwrap_or(true)
}

/// GET /metrics
pub(super) async fn metrics(api: Arc<Endpoints>, request: Request) -> Result<Answer, Answer> {
    let query = request.query()?;
    let caller = api.caller(&request);
    let with_topics = wanted(&query, "topics");
    let turn = request.turn().await;
    let (broker, per_channel) = (api.broker.clone(), api.shared.config.metrics_per_channel);
    let collector = api.collector.clone();
    let publishing = Arc::clone(&api.publishing);
    let certificate_expires = api.shared.tls.as_ref().and_then(TlsConfig::expires);
    // From the first request on there are times to report.
    broker.measure_latency(None);
    publishing.start();
    let made_in = turn.clone();
    let written = tokio::task::spawn_blocking(move || {
        // Given up with the work: who asked may be gone before it is done.
        let _turn = turn;
        let publishing = publishing.histogram();
        let source = metrics::Source { collector: &collector, publishing, per_channel, certificate_expires };
        metrics::write(&source, |topic| with_topics && caller.sees(topic))
    });
    match written.await {
        Ok(Ok(text)) => Ok(Answer::text(text).plain().content_type(metrics::CONTENT_TYPE).made_in(made_in)),
        _ => Err(Answer::error(StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL_ERROR")),
    }
}

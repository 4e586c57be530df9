//! The HTTP API of a lookup server.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use mq_core::discovery::{Node, View};
use mq_core::{ChannelName, TopicName};

use super::answers::{Channels, Info, Lookup, Nodes, Topics, debug};
use super::metrics;
use crate::wire::lookup;
use mq_net::directory::Directory;
use mq_net::http::{
    Answer, Api, Handling, HostNames, Method, Parameter, Query, Request, Route, Site, StatusCode,
};

/// The API over a [`Directory`].
pub struct LookupApi {
    directory: Arc<Directory>,
    version: String,
    hosts: HostNames,
    lookups: AtomicU64,
    /// The pages beside the API, once there are any.
    pages: OnceLock<Arc<dyn Site>>,
}

impl LookupApi {
    /// Serves `pages` beside it. There is one site at most: the first counts.
    pub(super) fn add_pages(&self, pages: Arc<dyn Site>) {
        let _ = self.pages.set(pages);
    }

    /// The API; `version` is the one that clients see, `hosts` the names they may ask for.
    pub fn new(directory: Arc<Directory>, version: String, hosts: HostNames) -> Self {
        Self { directory, version, hosts, lookups: AtomicU64::new(0), pages: OnceLock::new() }
    }
}

const TOPIC: Parameter = Parameter::required("topic", "Name of the topic");
const CHANNEL: Parameter = Parameter::required("channel", "Name of the channel");
const EXISTING: Parameter = Parameter::new(lookup::EXISTING, "true: without channels that were deleted");
const NODE: Parameter = Parameter::required("node", "The broker to hide, as broadcast address and HTTP port");

const BAD: StatusCode = StatusCode::BAD_REQUEST;
const NONE: StatusCode = StatusCode::NOT_FOUND;
const BROKEN: StatusCode = StatusCode::INTERNAL_SERVER_ERROR;
const FULL: StatusCode = StatusCode::SERVICE_UNAVAILABLE;

impl Api for LookupApi {
    const ROUTES: &'static [Route<Self>] = &[
        route(Method::GET, "/ping", &[], &[], |_, _| Box::pin(async { Answer::text("OK").plain() })),
        route(Method::GET, "/info", &[], &[], |api, _| {
            Box::pin(async move { Answer::json(&Info { version: &api.version }) })
        }),
        route(Method::GET, "/topics", &[], &[BROKEN], |api, _| {
            long(api, |directory| Answer::json(&Topics::new(&directory.topics(View::All))))
        }),
        route(Method::GET, "/channels", &[TOPIC, EXISTING], &[BAD], |api, request| {
            handle(api, request, channels)
        }),
        route(Method::GET, "/lookup", &[TOPIC], &[BAD, NONE], |api, request| handle(api, request, look_up)),
        route(Method::GET, "/nodes", &[], &[BROKEN], |api, _| {
            long(api, |directory| Answer::json(&Nodes::new(&directory.nodes())))
        }),
        route(Method::GET, "/debug", &[], &[BROKEN], |api, _| {
            long(api, |directory| Answer::raw_json(debug(directory)))
        }),
        route(Method::GET, "/metrics", &[], &[], |api, _| Box::pin(async move { api.metrics() })),
        route(Method::POST, "/topic/create", &[TOPIC], &[BAD, FULL], |api, request| {
            handle(api, request, create_topic)
        }),
        route(Method::POST, "/topic/delete", &[TOPIC], &[BAD], |api, request| {
            handle(api, request, delete_topic)
        }),
        route(Method::POST, "/topic/tombstone", &[TOPIC, NODE], &[BAD], |api, request| {
            handle(api, request, tombstone)
        }),
        route(Method::POST, "/channel/create", &[TOPIC, CHANNEL], &[BAD, FULL], |api, request| {
            handle(api, request, create_channel)
        }),
        route(Method::POST, "/channel/delete", &[TOPIC, CHANNEL], &[BAD, NONE], |api, request| {
            handle(api, request, delete_channel)
        }),
    ];

    fn hosts(&self) -> Option<&HostNames> {
        Some(&self.hosts)
    }

    fn site(&self, request: &Request) -> Result<Option<Arc<dyn Site>>, Answer> {
        Ok(self.pages.get().filter(|pages| pages.has(request.path())).cloned())
    }

    async fn admit(&self, _: Option<&'static Route<Self>>, _: &mut Request) -> Result<(), Answer> {
        // As nsqlookupd: who reaches the port may ask, and administer.
        Ok(())
    }
}

const fn route(
    method: Method,
    path: &'static str,
    parameters: &'static [Parameter],
    statuses: &'static [StatusCode],
    handler: fn(Arc<LookupApi>, Request) -> Handling,
) -> Route<LookupApi> {
    Route { method, path, parameters, statuses, handler }
}

/// Result of a handler: an answer either way.
type Outcome = Result<Answer, Answer>;

fn handle(api: Arc<LookupApi>, request: Request, with: fn(&LookupApi, &Query) -> Outcome) -> Handling {
    Box::pin(async move {
        let outcome = request.query().and_then(|query| with(&api, &query));
        outcome.unwrap_or_else(|answer| answer)
    })
}

/// An answer that is long where there are many brokers: nobody else waits for it to be written.
fn long(api: Arc<LookupApi>, write: fn(&Directory) -> Answer) -> Handling {
    Box::pin(async move {
        let written = tokio::task::spawn_blocking(move || write(&api.directory)).await;
        written.unwrap_or_else(|_| Answer::error(BROKEN, "INTERNAL_ERROR"))
    })
}

impl LookupApi {
    fn metrics(&self) -> Answer {
        let text = metrics::render(&self.directory, self.lookups.load(Ordering::Relaxed));
        Answer::text(text).plain().content_type("text/plain; version=0.0.4; charset=utf-8")
    }
}

fn channels(api: &LookupApi, query: &Query) -> Outcome {
    let topic = given(query, "topic", "MISSING_ARG_TOPIC")?;
    let view = match query.get(lookup::EXISTING) {
        Some("true") => View::Existing,
        _ => View::All,
    };
    let channels = TopicName::parse(topic).map(|topic| api.directory.channels(&topic, view));
    Ok(Answer::json(&Channels::new(&channels.unwrap_or_default())))
}

fn look_up(api: &LookupApi, query: &Query) -> Outcome {
    let topic = given(query, "topic", "MISSING_ARG_TOPIC")?;
    api.lookups.fetch_add(1, Ordering::Relaxed);
    let found = TopicName::parse(topic).ok().and_then(|topic| api.directory.lookup(&topic, View::All));
    let found = found.ok_or_else(|| Answer::error(NONE, "TOPIC_NOT_FOUND"))?;
    Ok(Answer::json(&Lookup::new(&found)))
}

fn create_topic(api: &LookupApi, query: &Query) -> Outcome {
    let topic = topic(query)?;
    api.directory.create(&topic, None).map_err(full)?;
    Ok(Answer::empty())
}

fn delete_topic(api: &LookupApi, query: &Query) -> Outcome {
    let topic = given(query, "topic", "MISSING_ARG_TOPIC")?;
    // What has no valid name does not exist; nsqlookupd does not mind.
    if let Ok(topic) = TopicName::parse(topic) {
        tracing::info!(%topic, "topic deleted");
        api.directory.delete_topic(&topic);
    }
    Ok(Answer::empty())
}

fn tombstone(api: &LookupApi, query: &Query) -> Outcome {
    let topic = given(query, "topic", "MISSING_ARG_TOPIC")?;
    let node = Node::parse(given(query, "node", "MISSING_ARG_NODE")?);
    if let Ok(topic) = TopicName::parse(topic) {
        tracing::info!(%topic, %node, "tombstone");
        api.directory.tombstone(&topic, &node);
    }
    Ok(Answer::empty())
}

fn create_channel(api: &LookupApi, query: &Query) -> Outcome {
    let (topic, channel) = (topic(query)?, channel(query)?);
    api.directory.create(&topic, Some(&channel)).map_err(full)?;
    Ok(Answer::empty())
}

fn delete_channel(api: &LookupApi, query: &Query) -> Outcome {
    let (topic, channel) = (topic(query)?, channel(query)?);
    if !api.directory.delete_channel(&topic, &channel) {
        return Err(Answer::error(NONE, "CHANNEL_NOT_FOUND"));
    }
    tracing::info!(%topic, %channel, "channel deleted");
    Ok(Answer::empty())
}

fn given<'a>(query: &'a Query, name: &str, code: &str) -> Result<&'a str, Answer> {
    query.get(name).ok_or_else(|| Answer::error(BAD, code))
}

fn topic(query: &Query) -> Result<TopicName, Answer> {
    let name = given(query, "topic", "MISSING_ARG_TOPIC")?;
    TopicName::parse(name).map_err(|_| Answer::error(BAD, "INVALID_ARG_TOPIC"))
}

fn channel(query: &Query) -> Result<ChannelName, Answer> {
    let name = given(query, "channel", "MISSING_ARG_CHANNEL")?;
    ChannelName::parse(name).map_err(|_| Answer::error(BAD, "INVALID_ARG_CHANNEL"))
}

fn full(error: mq_core::Error) -> Answer {
    Answer::error_with(FULL, "LIMIT_REACHED", &error.to_string())
}

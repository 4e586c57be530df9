//! The server's HTTP API: nsqd's, and a little more.
//!
//! - [`Endpoints`]: the table of all of it
//! - `status`: what is asked most; `history`: how it was; `peek`: messages, read without consuming them;
//!   `message`: one of them, dropped or requeued
//! - `publish`, `admin`, `topic_config`, `channel_config`: what changes something; `options`: /config
//! - `names`: topics and channels in a query; `refused`: errors of the core as answers

mod admin;
mod channel_config;
mod history;
mod message;
mod names;
#[cfg(test)]
mod openapi_test;
mod options;
mod peek;
mod publish;
mod refused;
mod status;
mod topic_config;

use std::future::Future;
use std::sync::{Arc, OnceLock};

use mq_core::Broker;
use parking_lot::Mutex;

use self::admin::{ChannelAction, TopicAction};
use self::message::MessageAction;
use super::history::History;
use super::options::Options;
use super::session::Shared;
use super::stats::{Publishing, StatsCollector};
use crate::wire::Limits;
use mq_net::access::{Access, Caller};
use mq_net::http::{Answer, Api, Handling, HostNames, Method, Parameter, Request, Route, Site, StatusCode};

/// State behind the handlers of HTTP requests.
pub(super) struct Endpoints {
    pub(super) broker: Broker,
    pub(super) shared: Arc<Shared>,
    pub(super) limits: Limits,
    pub(super) collector: StatsCollector,
    pub(super) publishing: Arc<Publishing>,
    pub(super) history: Arc<Mutex<History>>,
    /// The pages beside the API, once there are any.
    pub(super) pages: OnceLock<Arc<dyn Site>>,
    pub(super) options: Options,
    pub(super) ports: Ports,
    /// Whether plain HTTP is refused.
    pub(super) tls_required: bool,
    /// The names of this server that requests may be for.
    hosts: HostNames,
    access: Arc<Access>,
}

/// Ports of the server: -1 on a unix socket, 0 if it does not listen.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Ports {
    pub(super) tcp: i32,
    pub(super) http: i32,
    pub(super) https: i32,
}

const TOPIC: Parameter = Parameter::required("topic", "Name of the topic");
const CHANNEL: Parameter = Parameter::required("channel", "Name of the channel");

const ID: Parameter = Parameter::required("id", "The message's id, 16 hexadecimal digits");

const BAD: StatusCode = StatusCode::BAD_REQUEST;
const FORBIDDEN: StatusCode = StatusCode::FORBIDDEN;
const MISSING: StatusCode = StatusCode::NOT_FOUND;
const CONFLICT: StatusCode = StatusCode::CONFLICT;
const LARGE: StatusCode = StatusCode::PAYLOAD_TOO_LARGE;
const BROKEN: StatusCode = StatusCode::INTERNAL_SERVER_ERROR;
const BUSY: StatusCode = StatusCode::SERVICE_UNAVAILABLE;
const ABSENT: StatusCode = StatusCode::NOT_IMPLEMENTED;

/// Declares a handler that gives an answer or the answer to an error.
macro_rules! by {
    ($handler:expr) => {
        |api, request| either($handler(api, request))
    };
    ($handler:expr, $with:expr) => {
        |api, request| either($handler(api, request, $with))
    };
}

const fn get(
    path: &'static str,
    parameters: &'static [Parameter],
    statuses: &'static [StatusCode],
    handler: fn(Arc<Endpoints>, Request) -> Handling,
) -> Route<Endpoints> {
    Route { method: Method::GET, path, parameters, statuses, handler }
}

const fn put(
    path: &'static str,
    parameters: &'static [Parameter],
    statuses: &'static [StatusCode],
    handler: fn(Arc<Endpoints>, Request) -> Handling,
) -> Route<Endpoints> {
    Route { method: Method::PUT, path, parameters, statuses, handler }
}

const fn post(
    path: &'static str,
    parameters: &'static [Parameter],
    statuses: &'static [StatusCode],
    handler: fn(Arc<Endpoints>, Request) -> Handling,
) -> Route<Endpoints> {
    Route { method: Method::POST, path, parameters, statuses, handler }
}

const PUBLISH: &[StatusCode] = &[BAD, FORBIDDEN, LARGE, BROKEN, BUSY];
const CREATE: &[StatusCode] = &[BAD, FORBIDDEN, BROKEN, BUSY];
const CHANGE: &[StatusCode] = &[BAD, FORBIDDEN, MISSING, BROKEN, BUSY];

impl Api for Endpoints {
    const ROUTES: &'static [Route<Self>] = &[
        get("/ping", &[], &[BROKEN], by!(status::ping)),
        get("/info", &[], &[], by!(status::info)),
        get(
            "/stats",
            &[
                Parameter::new("format", "json, or anything else for text"),
                Parameter::new("topic", "Only this topic"),
                Parameter::new("channel", "Only channels of this name"),
                Parameter::new("include_clients", "Whether to list clients"),
                Parameter::new("include_mem", "Whether to report the process's memory"),
            ],
            &[BAD],
            by!(status::stats),
        ),
        get(
            "/metrics",
            &[Parameter::new("topics", "Whether to report topics and channels too; true if not given")],
            &[BAD, BROKEN],
            by!(status::metrics),
        ),
        get(
            "/history",
            &[
                Parameter::new("span", "10m for curves of 10 minutes, 1d for a day; rates if not given"),
                Parameter::new("topic", "Only this topic; the whole node if not given"),
                Parameter::new("channel", "Only this channel of it"),
            ],
            &[BAD, FORBIDDEN, BROKEN],
            by!(history::history),
        ),
        get(
            "/peek",
            &[
                TOPIC,
                Parameter::new(
                    "channel",
                    "Only messages that this channel holds; all that are kept if not given",
                ),
                Parameter::new("from", "The id to begin at; the oldest message if not given"),
                Parameter::new("max", "Most messages, up to 1000; 20 if not given"),
            ],
            &[BAD, FORBIDDEN, MISSING, BROKEN, BUSY],
            by!(peek::peek),
        ),
        post(
            "/pub",
            &[
                TOPIC,
                Parameter::new("defer", "Milliseconds until the message is delivered"),
                Parameter::header(
                    publish::MESSAGE_ID,
                    "The publisher's id of the message: sent again with it, the message is not stored again",
                ),
                Parameter::header(publish::ANY_HEADER, "Stored with the message under the name that follows"),
            ],
            PUBLISH,
            by!(publish::publish),
        ),
        post(
            "/mpub",
            &[
                TOPIC,
                Parameter::new("binary", "Whether the body has lengths; if not, each line is a message"),
                Parameter::header(
                    publish::ANY_HEADER,
                    "Stored with each message under the name that follows",
                ),
            ],
            PUBLISH,
            by!(publish::publish_many),
        ),
        post("/topic/create", &[TOPIC], CREATE, by!(admin::create_topic)),
        post("/topic/delete", &[TOPIC], CHANGE, by!(admin::change_topic, TopicAction::Delete)),
        post("/topic/empty", &[TOPIC], CHANGE, by!(admin::change_topic, TopicAction::Empty)),
        post("/topic/pause", &[TOPIC], CHANGE, by!(admin::change_topic, TopicAction::Pause)),
        post("/topic/unpause", &[TOPIC], CHANGE, by!(admin::change_topic, TopicAction::Unpause)),
        get("/topic/config", &[TOPIC], &[BAD, FORBIDDEN, MISSING], by!(topic_config::get)),
        put(
            "/topic/config",
            &[TOPIC],
            &[BAD, FORBIDDEN, MISSING, LARGE, BROKEN, BUSY],
            by!(topic_config::put),
        ),
        post("/channel/create", &[TOPIC, CHANNEL], CHANGE, by!(admin::create_channel)),
        post("/channel/delete", &[TOPIC, CHANNEL], CHANGE, by!(admin::change_channel, ChannelAction::Delete)),
        post("/channel/empty", &[TOPIC, CHANNEL], CHANGE, by!(admin::change_channel, ChannelAction::Empty)),
        post("/channel/pause", &[TOPIC, CHANNEL], CHANGE, by!(admin::change_channel, ChannelAction::Pause)),
        post(
            "/channel/unpause",
            &[TOPIC, CHANNEL],
            CHANGE,
            by!(admin::change_channel, ChannelAction::Unpause),
        ),
        get("/channel/config", &[TOPIC, CHANNEL], &[BAD, FORBIDDEN, MISSING], by!(channel_config::get)),
        put(
            "/channel/config",
            &[TOPIC, CHANNEL],
            &[BAD, FORBIDDEN, MISSING, LARGE, BROKEN, BUSY],
            by!(channel_config::put),
        ),
        post(
            "/message/drop",
            &[TOPIC, CHANNEL, ID],
            &[BAD, FORBIDDEN, MISSING, CONFLICT, BROKEN, BUSY],
            by!(message::change_message, MessageAction::Drop),
        ),
        post(
            "/message/requeue",
            &[TOPIC, CHANNEL, ID],
            CHANGE,
            by!(message::change_message, MessageAction::Requeue),
        ),
        get("/config/{option}", &[], &[BAD], by!(options::get)),
        put("/config/{option}", &[], &[BAD, FORBIDDEN, LARGE, BROKEN], by!(options::put)),
        get("/drain", &[], &[BAD, FORBIDDEN], by!(admin::drain_status)),
        post(
            "/drain",
            &[
                Parameter::new(
                    "timeout",
                    "Milliseconds the broker may take to become empty; 60000 if not given",
                ),
                Parameter::new(
                    "wait",
                    "Whether to answer when the drain is over, with what is left; false if not given",
                ),
            ],
            &[BAD, FORBIDDEN],
            by!(admin::drain),
        ),
        get("/debug/pprof/", &[], &[ABSENT], by!(absent)),
        get("/debug/pprof/{profile}", &[], &[ABSENT], by!(absent)),
        post("/debug/pprof/{profile}", &[], &[ABSENT], by!(absent)),
        put("/debug/setblockrate", &[], &[ABSENT], by!(absent)),
        post("/debug/freememory", &[], &[ABSENT], by!(absent)),
    ];

    fn hosts(&self) -> Option<&HostNames> {
        self.access.is_open().then_some(&self.hosts)
    }

    fn site(&self, request: &Request) -> Result<Option<Arc<dyn Site>>, Answer> {
        let Some(pages) = self.pages.get().filter(|pages| pages.has(request.path())) else { return Ok(None) };
        match self.tls_required && request.peer().tls.is_none() {
            true => Err(tls_required(self.ports.https)),
            false => Ok(Some(Arc::clone(pages))),
        }
    }

    async fn admit(&self, route: Option<&'static Route<Self>>, request: &mut Request) -> Result<(), Answer> {
        if self.tls_required && request.peer().tls.is_none() {
            return Err(tls_required(self.ports.https));
        }
        if route.is_some_and(|route| route.path == "/ping") {
            return Ok(());
        }
        let caller = self.access.caller(request.bearer(), request.peer()).await?;
        request.extensions_mut().insert(caller);
        Ok(())
    }
}

/// Answer to plain HTTP where TLS is required. NSQ's own clients come again at the port.
fn tls_required(https_port: i32) -> Answer {
    let body = format!("{{\"message\": \"TLS_REQUIRED\", \"https_port\": {https_port}}}");
    Answer::raw_json(body).status(FORBIDDEN)
}

/// Answers requests for the Go runtime's debugger, which has no counterpart here.
async fn absent(_: Arc<Endpoints>, request: Request) -> Result<Answer, Answer> {
    let detail = match request.path() {
        "/debug/freememory" => {
            "memory is given back to the system as it becomes free: there is nothing to force"
        }
        _ => "profiles of the Go runtime do not exist here: see /metrics, or profile the process with perf",
    };
    Err(Answer::error_with(ABSENT, "NOT_IMPLEMENTED", detail))
}

/// A handler's future whose error is an answer, too.
fn either(answer: impl Future<Output = Result<Answer, Answer>> + Send + 'static) -> Handling {
    Box::pin(async { answer.await.unwrap_or_else(|error| error) })
}

/// Parts of [`Endpoints`].
pub(super) struct Parts {
    pub(super) shared: Arc<Shared>,
    pub(super) collector: StatsCollector,
    pub(super) ports: Ports,
    pub(super) access: Arc<Access>,
    pub(super) tls_required: bool,
}

impl Endpoints {
    pub(super) fn new(parts: Parts) -> Self {
        let Parts { shared, collector, ports, access, tls_required } = parts;
        let config = &shared.config;
        let own = [&config.hostname, &config.broadcast_address];
        let hosts = own.into_iter().chain(&config.http_allowed_hosts).map(String::as_str);
        Self {
            hosts: HostNames::new(hosts),
            broker: shared.broker.clone(),
            limits: shared.limits.clone(),
            publishing: Arc::clone(&shared.publishing),
            history: Arc::default(),
            pages: OnceLock::new(),
            options: shared.config.options.clone(),
            access,
            shared,
            collector,
            ports,
            tls_required,
        }
    }

    /// The caller of the request, as [`Api::admit`] found out.
    fn caller(&self, request: &Request) -> Caller {
        request.extensions().get().cloned().unwrap_or_else(Caller::nobody)
    }
}

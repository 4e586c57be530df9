//! `mq.v1.SubscribeService`: from the first request to a session.

use std::sync::Arc;
use std::time::Duration;

use mq_core::{ChannelName, Start, SubscribeOptions, Subscription, TopicName, Wake};
use mq_net::clients::Consumer;
use mq_net::log_wait::LogWait;
use mq_net::signal::Signal;
use tokio::time::timeout;
use tonic::{Code, Request, Response, Status, Streaming};

use super::response_queue::{ResponseStream, response_queue};
use super::session::SubscribeSession;
use super::start::start;
use super::stream_end::StreamEnd;
use super::{Core, channel_name, leases, link, peer, topic_name};
use crate::status::Refusal;
use crate::v1::subscribe_request::Request as Body;
use crate::v1::subscribe_response::Response as Answer;
use crate::v1::subscribe_service_server::SubscribeService;
use crate::v1::{
    AcknowledgeRequest, AcknowledgeResponse, PullRequest, PullResponse, SubscribeOpen, SubscribeOpened,
    SubscribeRequest, SubscribeResponse,
};

/// Longest wait for a client's first request, which opens the stream.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);

/// Name of the protocol in `/stats`.
pub(super) const PROTOCOL: &str = "gRPC";

/// Longest `client_name` in bytes.
const CLIENT_NAME_BYTES_MAX: usize = 255;

/// The shortest message timeout a client may choose; NSQ's.
const MSG_TIMEOUT_MIN: Duration = Duration::from_millis(1);

/// The largest message for a client that does not say: the limit of gRPC's clients is 4 MiB, and a frame has
/// up to 64 KiB beside its last message.
const MESSAGE_BYTES_DEFAULT: usize = (4 << 20) - (64 << 10);

/// Answers the calls of `SubscribeService`.
pub(crate) struct SubscribeHandler(pub(crate) Arc<Core>);

/// A client's request for a stream, checked.
pub(super) struct Opening {
    pub(super) topic: TopicName,
    pub(super) channel: ChannelName,
    pub(super) start: Start,
    pub(super) options: SubscribeOptions,
    pub(super) message_bytes_max: usize,
}

#[tonic::async_trait]
impl SubscribeService for SubscribeHandler {
    type SubscribeStream = ResponseStream<SubscribeResponse>;

    async fn subscribe(
        &self,
        request: Request<Streaming<SubscribeRequest>>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        let core = &self.0;
        let stream_end = StreamEnd::of(&request, &core.stop);
        let caller = core.caller(&request).await?;
        let (peer, link) = (peer(&request), link(&request).cloned());
        let user_agent = user_agent(&request);
        let mut input = request.into_inner();
        let open = read_open(core, &mut input).await?;
        let opening = Opening::check(core, &open)?;
        caller.consume(&opening.topic, &opening.channel).map_err(Refusal::from)?;
        let signal = Arc::new(Signal::default());
        let wake = Arc::clone(&signal) as Arc<dyn Wake>;
        let (mut subscription, created) = opening.open(core, &wake).await?;
        subscription.set_message_bytes_max(opening.message_bytes_max);
        let listed = core.clients.register_consumer(Consumer {
            protocol: PROTOCOL,
            peer: &peer,
            name: open.client_name,
            user_agent,
            topic: opening.topic,
            options: opening.options,
            subscription: &subscription,
        });
        tracing::debug!(
            client = listed.client().id,
            peer = peer.address,
            topic = open.topic,
            channel = open.channel,
            client_id = listed.client().identity().client_id,
            "subscribed over gRPC"
        );
        let opened = SubscribeOpened {
            msg_timeout_ms: millis(opening.options.msg_timeout),
            max_credit_messages: core.config.max_credit,
            created,
            max_delay_ms: millis(core.config.max_delay),
            max_message_bytes: match opening.message_bytes_max {
                usize::MAX => 0,
                bytes => bytes as u64,
            },
        };
        let (responses, stream) = response_queue();
        responses.put(SubscribeResponse { response: Some(Answer::Opened(opened)) }, None);
        let mut session = SubscribeSession::new(
            Arc::clone(core),
            link,
            subscription,
            listed,
            input,
            (responses, signal),
            stream_end,
        );
        if let Some(credit) = open.credit {
            session.set_credit(credit, "open.")?;
        }
        tokio::spawn(session.run());
        Ok(Response::new(stream))
    }

    async fn pull(&self, request: Request<PullRequest>) -> Result<Response<PullResponse>, Status> {
        Ok(Response::new(leases::pull(&self.0, request).await?))
    }

    async fn acknowledge(
        &self,
        request: Request<AcknowledgeRequest>,
    ) -> Result<Response<AcknowledgeResponse>, Status> {
        Ok(Response::new(leases::acknowledge(&self.0, request).await?))
    }
}

/// Reads the request that opens a stream.
///
/// # Errors
/// `NOT_OPEN` if the first request does not come in time or opens nothing; the stream's own error; a stop.
async fn read_open(core: &Core, input: &mut Streaming<SubscribeRequest>) -> Result<SubscribeOpen, Status> {
    let first = tokio::select! {
        first = timeout(OPEN_TIMEOUT, input.message()) => first,
        () = core.stop.cancelled() => return Err(Refusal::stopping().into()),
    };
    let opens_nothing =
        || Refusal::new(Code::FailedPrecondition, "NOT_OPEN", "the first request must have `open`");
    let first = first.map_err(|_| opens_nothing())??.ok_or_else(opens_nothing)?;
    match first.request {
        Some(Body::Open(open)) => Ok(open),
        _ => Err(opens_nothing().into()),
    }
}

/// The program that calls, as it says.
pub(super) fn user_agent<T>(request: &Request<T>) -> String {
    let user_agent = request.metadata().get("user-agent").and_then(|value| value.to_str().ok());
    user_agent.unwrap_or_default().to_owned()
}

/// A message timeout as a request has it in `field`.
pub(super) fn msg_timeout(core: &Core, ms: u64, field: &str) -> Result<Duration, Refusal> {
    let config = &core.config;
    let timeout = if ms == 0 { config.msg_timeout } else { Duration::from_millis(ms) };
    if !(MSG_TIMEOUT_MIN..=config.max_msg_timeout).contains(&timeout) {
        let max = config.max_msg_timeout.as_millis();
        let text = format!("{ms} ms is more than {max} ms, the longest (--max-msg-timeout)");
        return Err(Refusal::invalid(field, text));
    }
    Ok(timeout)
}

/// The largest message that a client can receive, as a request has it.
pub(super) fn message_bytes_max(field: Option<u64>) -> usize {
    match field {
        None => MESSAGE_BYTES_DEFAULT,
        Some(0) => usize::MAX,
        Some(bytes) => usize::try_from(bytes).unwrap_or(usize::MAX),
    }
}

pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl Opening {
    fn check(core: &Core, open: &SubscribeOpen) -> Result<Self, Refusal> {
        let topic = topic_name(&open.topic, "open.topic")?;
        let channel = channel_name(&open.channel, "open.channel")?;
        let msg_timeout = msg_timeout(core, open.msg_timeout_ms, "open.msg_timeout_ms")?;
        let sample_rate =
            u8::try_from(open.sample_rate).ok().filter(|rate| *rate < 100).ok_or_else(|| {
                Refusal::invalid("open.sample_rate", format!("{} is not 0 to 99 percent", open.sample_rate))
            })?;
        if open.client_name.len() > CLIENT_NAME_BYTES_MAX {
            let text = format!(
                "it takes {} bytes, at most {CLIENT_NAME_BYTES_MAX} are allowed",
                open.client_name.len()
            );
            return Err(Refusal::invalid("open.client_name", text));
        }
        let start = start(core, open.start.as_ref(), "open.")?;
        let message_bytes_max = message_bytes_max(open.max_message_bytes);
        let options = SubscribeOptions { msg_timeout, sample_rate };
        Ok(Self { topic, channel, start, options, message_bytes_max })
    }

    /// Subscribes, and waits until the channel is in the log. Also says whether it is new.
    pub(super) async fn open(
        &self,
        core: &Core,
        wake: &Arc<dyn Wake>,
    ) -> Result<(Subscription, bool), Refusal> {
        let (broker, topic, channel) = (core.broker.clone(), self.topic.clone(), self.channel.clone());
        let (start, options, wake) = (self.start, self.options, Arc::clone(wake));
        let subscribe = move || broker.subscribe_at(&topic, &channel, start, options, &wake);
        let (subscription, opened) = match start {
            // The place of a time may have to be read from a disk.
            Start::Time(_) => super::blocking(subscribe).await?,
            _ => subscribe()?,
        };
        LogWait::new(&core.broker).follow(opened.ticket).await?;
        Ok((subscription, opened.is_new))
    }
}

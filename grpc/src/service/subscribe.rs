//! `mq.v1.SubscribeService`: from the first request to a session.

use std::sync::Arc;
use std::time::Duration;

use mq_core::{ChannelName, Offset, TopicName};
use mq_core::{Start, SubscribeOptions, Subscription, Wake};
use mq_net::clients::Consumer;
use mq_net::log_wait::LogWait;
use mq_net::signal::Signal;
use tokio::time::timeout;
use tonic::{Code, Request, Response, Status, Streaming};

use super::ending::Ending;
use super::outlet::{Frames, outlet};
use super::session::Session;
use super::{Core, channel_name, peer, topic_name};
use crate::status::Refusal;
use crate::v1::start_position::Position;
use crate::v1::subscribe_response::Response as Body;
use crate::v1::subscribe_service_server::SubscribeService;
use crate::v1::{
    StartEdge, StartPosition, SubscribeOpen, SubscribeOpened, SubscribeRequest, SubscribeResponse,
};

/// How long a client may take to say what it wants.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);

/// What its clients speak, as `/stats` shows it.
const PROTOCOL: &str = "gRPC";

/// Longest `client_name` in bytes.
const CLIENT_NAME_BYTES_MAX: usize = 255;

/// The shortest message timeout a client may choose; NSQ's.
const MSG_TIMEOUT_MIN: Duration = Duration::from_millis(1);

/// The service.
pub(crate) struct Subscribing(pub(crate) Arc<Core>);

/// What a client asked for, checked.
struct Opening {
    topic: TopicName,
    channel: ChannelName,
    start: Start,
    options: SubscribeOptions,
}

#[tonic::async_trait]
impl SubscribeService for Subscribing {
    type SubscribeStream = Frames<SubscribeResponse>;

    async fn subscribe(
        &self,
        request: Request<Streaming<SubscribeRequest>>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        let core = &self.0;
        let ending = Ending::of(&request, &core.stop);
        let caller = core.caller(&request).await?;
        let peer = peer(&request);
        let user_agent = request.metadata().get("user-agent").and_then(|value| value.to_str().ok());
        let user_agent = user_agent.unwrap_or_default().to_owned();
        let mut input = request.into_inner();
        let first = tokio::select! {
            first = timeout(OPEN_TIMEOUT, input.message()) => first,
            () = core.stop.cancelled() => return Err(Refusal::stopping().into()),
        };
        let opens_nothing =
            || Refusal::new(Code::FailedPrecondition, "NOT_OPEN", "the first request must have `open`");
        let mut first = first.map_err(|_| opens_nothing())??.ok_or_else(opens_nothing)?;
        let open = first.open.take().ok_or_else(opens_nothing)?;
        let opening = Opening::check(core, &open)?;
        caller.consume(&opening.topic, &opening.channel).map_err(Refusal::from)?;
        let signal = Arc::new(Signal::default());
        let subscription = opening.open(core, &signal).await?;
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
            msg_timeout_ms: u64::try_from(opening.options.msg_timeout.as_millis()).unwrap_or(u64::MAX),
            max_credit_messages: core.config.max_credit,
        };
        let (outlet, frames) = outlet();
        outlet.put(SubscribeResponse { response: Some(Body::Opened(opened)) });
        let session = Session::new(Arc::clone(core), subscription, listed, input, outlet, signal, ending);
        tokio::spawn(session.run(first));
        Ok(Response::new(frames))
    }
}

impl Opening {
    fn check(core: &Core, open: &SubscribeOpen) -> Result<Self, Refusal> {
        let config = &core.config;
        let topic = topic_name(&open.topic).map_err(|refusal| refusal.of("open.topic"))?;
        let channel = channel_name(&open.channel).map_err(|refusal| refusal.of("open.channel"))?;
        let msg_timeout = match open.msg_timeout_ms {
            0 => config.msg_timeout,
            ms => Duration::from_millis(ms),
        };
        if !(MSG_TIMEOUT_MIN..=config.max_msg_timeout).contains(&msg_timeout) {
            let max = config.max_msg_timeout.as_millis();
            let text = format!("{} ms is more than {max} ms, the longest", open.msg_timeout_ms);
            return Err(Refusal::invalid("open.msg_timeout_ms", text));
        }
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
        let start = start(open.start.as_ref())?;
        Ok(Self { topic, channel, start, options: SubscribeOptions { msg_timeout, sample_rate } })
    }

    /// Subscribes, and waits until the channel is in the log.
    async fn open(&self, core: &Core, signal: &Arc<Signal>) -> Result<Subscription, Refusal> {
        let (broker, topic, channel) = (core.broker.clone(), self.topic.clone(), self.channel.clone());
        let (start, options, wake) = (self.start, self.options, Arc::clone(signal) as Arc<dyn Wake>);
        let subscribe = move || broker.subscribe_at(&topic, &channel, start, options, &wake);
        let (subscription, created) = match start {
            // The place of a time may have to be read from a disk.
            Start::Time(_) => super::blocking(subscribe).await?,
            _ => subscribe()?,
        };
        LogWait::new(&core.broker).follow(created).await?;
        Ok(subscription)
    }
}

fn start(position: Option<&StartPosition>) -> Result<Start, Refusal> {
    Ok(match position.and_then(|position| position.position) {
        None => Start::Now,
        Some(Position::Offset(offset)) => Start::Offset(Offset(offset)),
        Some(Position::TimeNs(time)) => Start::Time(time),
        Some(Position::Edge(edge)) => match StartEdge::try_from(edge) {
            Ok(StartEdge::Unspecified | StartEdge::Now) => Start::Now,
            Ok(StartEdge::Earliest) => Start::Earliest,
            Err(_) => return Err(Refusal::invalid("open.start.edge", format!("{edge} is no edge"))),
        },
    })
}

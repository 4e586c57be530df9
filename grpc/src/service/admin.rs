//! `mq.v1.AdminService`. Changes are answered when they are in the log.

use std::sync::Arc;
use std::time::Duration;

use mq_core::{Channel, Error, ErrorKind, Result as CoreResult, Ticket, Topic, TopicName};
use mq_net::access::Caller;
use mq_net::log_wait::LogWait;
use tonic::{Request, Response, Status};

use super::ending::Ending;
use super::stats::{self, INTERVAL_MS, INTERVAL_MS_DEFAULT, Watching};
use super::{Core, blocking, channel_name, peek, settings, topic_name};
use crate::status::Refusal;
use crate::v1::admin_service_server::AdminService;
use crate::v1::*;

/// The service.
pub(crate) struct Administering(pub(crate) Arc<Core>);

#[tonic::async_trait]
impl AdminService for Administering {
    async fn list_topics(
        &self,
        request: Request<ListTopicsRequest>,
    ) -> Result<Response<ListTopicsResponse>, Status> {
        let caller = self.0.caller(&request).await?;
        let topics = self.0.broker.names().into_iter().filter(|topic| caller.sees(topic.name.as_str()));
        let info = |topic: mq_core::TopicNames| TopicInfo {
            name: topic.name.to_string(),
            channels: topic.channels.iter().map(ToString::to_string).collect(),
        };
        Ok(Response::new(ListTopicsResponse { topics: topics.map(info).collect() }))
    }

    async fn create_topic(
        &self,
        request: Request<CreateTopicRequest>,
    ) -> Result<Response<CreateTopicResponse>, Status> {
        let caller = self.0.caller(&request).await?;
        let name = topic_name(&request.get_ref().topic)?;
        caller.publish(&name).map_err(Refusal::from)?;
        let broker = self.0.broker.clone();
        self.change(move || broker.topic(&name).map(|topic| topic.created())).await?;
        Ok(Response::new(CreateTopicResponse {}))
    }

    async fn delete_topic(
        &self,
        request: Request<DeleteTopicRequest>,
    ) -> Result<Response<DeleteTopicResponse>, Status> {
        self.change_topic(&request, &request.get_ref().topic, |core, topic| {
            core.broker.delete_topic(topic.name())
        })
        .await?;
        Ok(Response::new(DeleteTopicResponse {}))
    }

    async fn empty_topic(
        &self,
        request: Request<EmptyTopicRequest>,
    ) -> Result<Response<EmptyTopicResponse>, Status> {
        self.change_topic(&request, &request.get_ref().topic, |_, topic| topic.empty()).await?;
        Ok(Response::new(EmptyTopicResponse {}))
    }

    async fn pause_topic(
        &self,
        request: Request<PauseTopicRequest>,
    ) -> Result<Response<PauseTopicResponse>, Status> {
        self.change_topic(&request, &request.get_ref().topic, |_, topic| topic.pause()).await?;
        Ok(Response::new(PauseTopicResponse {}))
    }

    async fn resume_topic(
        &self,
        request: Request<ResumeTopicRequest>,
    ) -> Result<Response<ResumeTopicResponse>, Status> {
        self.change_topic(&request, &request.get_ref().topic, |_, topic| topic.unpause()).await?;
        Ok(Response::new(ResumeTopicResponse {}))
    }

    async fn get_topic_settings(
        &self,
        request: Request<GetTopicSettingsRequest>,
    ) -> Result<Response<GetTopicSettingsResponse>, Status> {
        let caller = self.0.caller(&request).await?;
        let topic = self.seen(&caller, &request.get_ref().topic)?;
        Ok(Response::new(GetTopicSettingsResponse { settings: Some(settings::of(&topic)) }))
    }

    async fn update_topic_settings(
        &self,
        request: Request<UpdateTopicSettingsRequest>,
    ) -> Result<Response<UpdateTopicSettingsResponse>, Status> {
        let caller = self.0.caller(&request).await?;
        let topic = self.topic(&request.get_ref().topic)?;
        caller.publish(topic.name()).map_err(Refusal::from)?;
        let wanted = request.into_inner().settings.unwrap_or_default();
        // All are looked at before any is changed.
        for change in settings::changes(&topic, &wanted)? {
            let topic = Arc::clone(&topic);
            self.change(move || change.make(&topic)).await?;
        }
        Ok(Response::new(UpdateTopicSettingsResponse { settings: Some(settings::of(&topic)) }))
    }

    async fn create_channel(
        &self,
        request: Request<CreateChannelRequest>,
    ) -> Result<Response<CreateChannelResponse>, Status> {
        let caller = self.0.caller(&request).await?;
        let CreateChannelRequest { topic, channel } = request.get_ref();
        let (topic, name) = (self.topic(topic)?, channel_name(channel)?);
        caller.consume(topic.name(), &name).map_err(Refusal::from)?;
        let wake = LogWait::new(&self.0.broker).wake;
        self.change(move || topic.channel(&name, &wake).map(|(_, ticket)| ticket)).await?;
        Ok(Response::new(CreateChannelResponse {}))
    }

    async fn delete_channel(
        &self,
        request: Request<DeleteChannelRequest>,
    ) -> Result<Response<DeleteChannelResponse>, Status> {
        let DeleteChannelRequest { topic, channel } = request.get_ref();
        self.change_channel(&request, topic, channel, |topic, channel| topic.delete_channel(channel.name()))
            .await?;
        Ok(Response::new(DeleteChannelResponse {}))
    }

    async fn empty_channel(
        &self,
        request: Request<EmptyChannelRequest>,
    ) -> Result<Response<EmptyChannelResponse>, Status> {
        let EmptyChannelRequest { topic, channel } = request.get_ref();
        self.change_channel(&request, topic, channel, |_, channel| channel.empty()).await?;
        Ok(Response::new(EmptyChannelResponse {}))
    }

    async fn pause_channel(
        &self,
        request: Request<PauseChannelRequest>,
    ) -> Result<Response<PauseChannelResponse>, Status> {
        let PauseChannelRequest { topic, channel } = request.get_ref();
        self.change_channel(&request, topic, channel, |_, channel| channel.pause()).await?;
        Ok(Response::new(PauseChannelResponse {}))
    }

    async fn resume_channel(
        &self,
        request: Request<ResumeChannelRequest>,
    ) -> Result<Response<ResumeChannelResponse>, Status> {
        let ResumeChannelRequest { topic, channel } = request.get_ref();
        self.change_channel(&request, topic, channel, |_, channel| channel.unpause()).await?;
        Ok(Response::new(ResumeChannelResponse {}))
    }

    async fn get_stats(
        &self,
        request: Request<GetStatsRequest>,
    ) -> Result<Response<GetStatsResponse>, Status> {
        let caller = self.0.caller(&request).await?;
        let topic = match request.get_ref().topic.as_str() {
            "" => None,
            name => Some(self.seen(&caller, name)?.name().clone()),
        };
        let broker = self.0.broker.clone();
        let stats = blocking(move || Ok(stats::gather(&broker, &caller, topic.as_ref()))).await;
        Ok(Response::new(stats.map_err(Refusal::from)?))
    }

    type WatchStatsStream = Watching;

    async fn watch_stats(&self, request: Request<WatchStatsRequest>) -> Result<Response<Watching>, Status> {
        let ending = Ending::of(&request, &self.0.stop);
        let caller = self.0.caller(&request).await?;
        let WatchStatsRequest { topic, interval_ms } = request.into_inner();
        let topic = if topic.is_empty() { None } else { Some(topic_name(&topic)?) };
        let interval_ms = if interval_ms == 0 { INTERVAL_MS_DEFAULT } else { interval_ms };
        if !INTERVAL_MS.contains(&interval_ms) {
            let text = format!("{interval_ms} is not {} to {}", INTERVAL_MS.start(), INTERVAL_MS.end());
            return Err(Refusal::invalid("interval_ms", text).into());
        }
        let every = Duration::from_millis(interval_ms);
        Ok(Response::new(Watching::new(Arc::clone(&self.0), caller, topic, every, ending)))
    }

    async fn peek(&self, request: Request<PeekRequest>) -> Result<Response<PeekResponse>, Status> {
        let caller = self.0.caller(&request).await?;
        let topic = self.seen(&caller, &request.get_ref().topic)?;
        let request = request.into_inner();
        let read = tokio::task::spawn_blocking(move || peek::read(&topic, &request)).await;
        Ok(Response::new(read.map_err(|_| Refusal::stopping())??))
    }
}

impl Administering {
    fn topic(&self, name: &str) -> Result<Arc<Topic>, Refusal> {
        let name = topic_name(name)?;
        self.0.broker.find_topic(&name).ok_or_else(|| no_topic(&name))
    }

    /// A topic that the caller may know of.
    fn seen(&self, caller: &Caller, name: &str) -> Result<Arc<Topic>, Refusal> {
        let topic = self.topic(name)?;
        match caller.sees(topic.name().as_str()) {
            true => Ok(topic),
            false => Err(mq_net::access::Denied::Forbidden.into()),
        }
    }

    fn channel(&self, topic: &str, channel: &str) -> Result<(Arc<Topic>, Arc<Channel>), Refusal> {
        let (topic, name) = (self.topic(topic)?, channel_name(channel)?);
        let found = topic.find_channel(&name).ok_or_else(|| {
            let text = format!("topic {} has no channel {name}", topic.name());
            Refusal::from(Error::new(ErrorKind::NotFound, text))
        })?;
        Ok((topic, found))
    }

    /// Changes a topic that is there, for who may publish to it.
    async fn change_topic<T>(
        &self,
        request: &Request<T>,
        topic: &str,
        change: fn(&Core, &Topic) -> CoreResult<Ticket>,
    ) -> Result<(), Refusal> {
        let caller = self.0.caller(request).await?;
        let (topic, core) = (self.topic(topic)?, Arc::clone(&self.0));
        caller.publish(topic.name())?;
        self.change(move || change(&core, &topic)).await
    }

    /// Changes a channel that is there, for who may consume it.
    async fn change_channel<T>(
        &self,
        request: &Request<T>,
        topic: &str,
        channel: &str,
        change: fn(&Topic, &Channel) -> CoreResult<Ticket>,
    ) -> Result<(), Refusal> {
        let caller = self.0.caller(request).await?;
        let (topic, channel) = self.channel(topic, channel)?;
        caller.consume(topic.name(), channel.name())?;
        self.change(move || change(&topic, &channel)).await
    }

    /// Makes a change off the async workers, and waits until it is in the log.
    async fn change(
        &self,
        change: impl FnOnce() -> CoreResult<Ticket> + Send + 'static,
    ) -> Result<(), Refusal> {
        let ticket = blocking(change).await?;
        Ok(LogWait::new(&self.0.broker).follow(ticket).await?)
    }
}

fn no_topic(name: &TopicName) -> Refusal {
    Error::new(ErrorKind::NotFound, format!("there is no topic {name}")).into()
}

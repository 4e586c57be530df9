//! `mq.v1.AdminService`. Changes are answered when they are in the log.

use std::sync::Arc;
use std::time::Duration;

use mq_core::{Channel, Error, ErrorKind, Result as CoreResult, Ticket, Topic, TopicName};
use mq_net::access::Caller;
use mq_net::log_wait::LogWait;
use prost::Message;
use tonic::{Request, Response, Status};

use super::pages::Page;
use super::stats::{self, Filter, INTERVAL_MS, INTERVAL_MS_DEFAULT, StatsWatch};
use super::stream_end::StreamEnd;
use super::{
    Core, blocking, channel_name, channel_settings, link, peek, settings, start, subscribers, topic_name,
};
use crate::status::Refusal;
use crate::v1::admin_service_server::AdminService;
use crate::v1::*;

/// Topics in a response, and the most.
const TOPICS_DEFAULT: usize = 1_000;
const TOPICS_MAX: usize = 10_000;

/// Subscribers in a response, and the most.
const SUBSCRIBERS_DEFAULT: usize = 100;
const SUBSCRIBERS_MAX: usize = 1_000;

/// Answers the calls of `AdminService`.
pub(crate) struct AdminHandler(pub(crate) Arc<Core>);

#[tonic::async_trait]
impl AdminService for AdminHandler {
    async fn list_topics(
        &self,
        request: Request<ListTopicsRequest>,
    ) -> Result<Response<ListTopicsResponse>, Status> {
        let caller = self.0.caller(&request).await?;
        self.0.room(&request)?;
        let ListTopicsRequest { page_size, page_token, prefix } = request.into_inner();
        let page = Page::new(page_size, page_token, TOPICS_DEFAULT, TOPICS_MAX)?;
        let mut topics = self.0.broker.names();
        topics.retain(|topic| {
            let name = topic.name.as_str();
            name.starts_with(&prefix) && page.goes_on_at(name) && caller.sees(name)
        });
        topics.sort_by(|a, b| a.name.cmp(&b.name));
        let info = |topic: mq_core::TopicNames| TopicInfo {
            name: topic.name.to_string(),
            channels: topic.channels.iter().map(ToString::to_string).collect(),
        };
        let (topics, next_page_token) =
            page.fill(topics.into_iter().map(info).map(|topic| (topic.name.clone(), topic)));
        Ok(Response::new(ListTopicsResponse { topics, next_page_token }))
    }

    async fn create_topic(
        &self,
        request: Request<CreateTopicRequest>,
    ) -> Result<Response<CreateTopicResponse>, Status> {
        let caller = self.0.caller(&request).await?;
        let CreateTopicRequest { topic, settings } = request.into_inner();
        let name = topic_name(&topic, "topic")?;
        caller.publish(&name).map_err(Refusal::from)?;
        let default = self.0.broker.default_durability();
        let change = settings::Change::check(settings.unwrap_or_default(), None, default)?;
        let broker = self.0.broker.clone();
        let create = move || {
            let (topic, created) = broker.create_topic(&name, |settings| change.make(settings))?;
            let ticket = topic.created();
            Ok(((topic, created), ticket))
        };
        let (topic, created) = self.change(create).await.map_err(|refusal| refusal.of("settings"))?;
        let settings = Some(settings::of(&topic));
        Ok(Response::new(CreateTopicResponse { created, settings }))
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
        let UpdateTopicSettingsRequest { topic, settings, update_mask } = request.into_inner();
        let topic = self.topic(&topic)?;
        caller.publish(topic.name()).map_err(Refusal::from)?;
        let (wanted, default) = (settings.unwrap_or_default(), self.0.broker.default_durability());
        let change = settings::Change::check(wanted, update_mask.as_ref(), default)?;
        let changed = Arc::clone(&topic);
        let change = move || Ok(((), changed.update(|settings| change.make(settings))?));
        self.change(change).await.map_err(|refusal| refusal.of("settings"))?;
        Ok(Response::new(UpdateTopicSettingsResponse { settings: Some(settings::of(&topic)) }))
    }

    async fn create_channel(
        &self,
        request: Request<CreateChannelRequest>,
    ) -> Result<Response<CreateChannelResponse>, Status> {
        let caller = self.0.caller(&request).await?;
        let CreateChannelRequest { topic, channel, start, settings } = request.into_inner();
        let (topic, name) = (self.topic(&topic)?, channel_name(&channel, "channel")?);
        caller.consume(topic.name(), &name).map_err(Refusal::from)?;
        let start = start::start(&self.0, start.as_ref(), "")?;
        let change = channel_settings::Change::check(&settings.unwrap_or_default(), None, &caller)?;
        let wake = LogWait::new(&self.0.broker).wake;
        let create = move || {
            let opened = topic.create_channel(&name, start, |settings| change.make(settings), &wake)?;
            Ok(((opened.channel, opened.is_new), opened.ticket))
        };
        let (channel, created) = self.change(create).await.map_err(|refusal| refusal.of("settings"))?;
        let settings = Some(channel_settings::of(&channel));
        Ok(Response::new(CreateChannelResponse { created, settings }))
    }

    async fn get_channel_settings(
        &self,
        request: Request<GetChannelSettingsRequest>,
    ) -> Result<Response<GetChannelSettingsResponse>, Status> {
        let caller = self.0.caller(&request).await?;
        let GetChannelSettingsRequest { topic, channel } = request.get_ref();
        let (topic, channel) = self.channel(topic, channel)?;
        self.see(&caller, &topic)?;
        Ok(Response::new(GetChannelSettingsResponse { settings: Some(channel_settings::of(&channel)) }))
    }

    async fn update_channel_settings(
        &self,
        request: Request<UpdateChannelSettingsRequest>,
    ) -> Result<Response<UpdateChannelSettingsResponse>, Status> {
        let caller = self.0.caller(&request).await?;
        let UpdateChannelSettingsRequest { topic, channel, settings, update_mask } = request.into_inner();
        let (topic, channel) = self.channel(&topic, &channel)?;
        caller.consume(topic.name(), channel.name()).map_err(Refusal::from)?;
        let wanted = settings.unwrap_or_default();
        let change = channel_settings::Change::check(&wanted, update_mask.as_ref(), &caller)?;
        let changed = Arc::clone(&channel);
        let change = move || Ok(((), changed.update(|settings| change.make(settings))?));
        self.change(change).await.map_err(|refusal| refusal.of("settings"))?;
        let settings = Some(channel_settings::of(&channel));
        Ok(Response::new(UpdateChannelSettingsResponse { settings }))
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

    async fn list_subscribers(
        &self,
        request: Request<ListSubscribersRequest>,
    ) -> Result<Response<ListSubscribersResponse>, Status> {
        let caller = self.0.caller(&request).await?;
        self.0.room(&request)?;
        let ListSubscribersRequest { topic, channel, page_size, page_token } = request.into_inner();
        let (topic, channel) = self.channel(&topic, &channel)?;
        self.see(&caller, &topic)?;
        let page = Page::new(page_size, page_token, SUBSCRIBERS_DEFAULT, SUBSCRIBERS_MAX)?;
        let (subscribers, next_page_token) = subscribers::list(&self.0, topic.name(), channel.name(), &page);
        Ok(Response::new(ListSubscribersResponse { subscribers, next_page_token }))
    }

    async fn get_stats(
        &self,
        request: Request<GetStatsRequest>,
    ) -> Result<Response<GetStatsResponse>, Status> {
        let caller = self.0.caller(&request).await?;
        self.0.room(&request)?;
        let GetStatsRequest { topic, prefix, page_size, page_token } = request.into_inner();
        if !topic.is_empty() {
            self.seen(&caller, &topic)?;
        }
        let filter = Filter::new(&topic, prefix)?;
        let page = Page::new(page_size, page_token, TOPICS_DEFAULT, TOPICS_MAX)?;
        let core = Arc::clone(&self.0);
        let stats = blocking(move || Ok(stats::page(&core, &caller, &filter, &page))).await;
        Ok(Response::new(stats.map_err(Refusal::from)?))
    }

    type WatchStatsStream = StatsWatch;

    async fn watch_stats(&self, request: Request<WatchStatsRequest>) -> Result<Response<StatsWatch>, Status> {
        let stream_end = StreamEnd::of(&request, &self.0.stop);
        let caller = self.0.caller(&request).await?;
        self.0.room(&request)?;
        let WatchStatsRequest { topic, interval_ms, prefix } = request.into_inner();
        let filter = Filter::new(&topic, prefix)?;
        let interval_ms = if interval_ms == 0 { INTERVAL_MS_DEFAULT } else { interval_ms };
        if !INTERVAL_MS.contains(&interval_ms) {
            let text = format!("{interval_ms} is not {} to {}", INTERVAL_MS.start(), INTERVAL_MS.end());
            return Err(Refusal::invalid("interval_ms", text).into());
        }
        let every = Duration::from_millis(interval_ms);
        Ok(Response::new(StatsWatch::new(Arc::clone(&self.0), caller, filter, every, stream_end)))
    }

    async fn peek(&self, request: Request<PeekRequest>) -> Result<Response<PeekResponse>, Status> {
        let caller = self.0.caller(&request).await?;
        let link = link(&request).cloned();
        let turn = match &link {
            Some(link) => link.sole_turn().await,
            None => None,
        };
        self.0.room(&request)?;
        let PeekRequest { topic, from_offset, max_messages, channel } = request.into_inner();
        let max = peek::max_messages(max_messages)?;
        let topic = self.seen(&caller, &topic)?;
        let channel = match channel.as_str() {
            "" => None,
            name => Some(self.channel(topic.name().as_str(), name)?.1),
        };
        let now = self.0.broker.wall();
        let _counted = turn.clone();
        let read = tokio::task::spawn_blocking(move || {
            // Given up with the work: the call may be cancelled before it is done.
            let _turn = turn;
            match channel {
                Some(channel) => peek::channel(&channel, from_offset, max, now.0),
                None => peek::topic(&topic, from_offset, max),
            }
        })
        .await;
        let mut response = Response::new(read.map_err(|_| Refusal::stopping())??);
        if let Some(link) = link {
            let bytes = response.get_ref().encoded_len();
            response.extensions_mut().insert(link.count_response(bytes));
        }
        Ok(response)
    }
}

impl AdminHandler {
    fn topic(&self, name: &str) -> Result<Arc<Topic>, Refusal> {
        let name = topic_name(name, "topic")?;
        self.0.broker.find_topic(&name).ok_or_else(|| no_topic(&name))
    }

    /// A topic that the caller may know of.
    fn seen(&self, caller: &Caller, name: &str) -> Result<Arc<Topic>, Refusal> {
        let topic = self.topic(name)?;
        self.see(caller, &topic)?;
        Ok(topic)
    }

    /// Refuses a caller who may not know of a topic.
    fn see(&self, caller: &Caller, topic: &Topic) -> Result<(), Refusal> {
        match caller.sees(topic.name().as_str()) {
            true => Ok(()),
            false => Err(mq_net::access::Denied::Forbidden.into()),
        }
    }

    fn channel(&self, topic: &str, channel: &str) -> Result<(Arc<Topic>, Arc<Channel>), Refusal> {
        let (topic, name) = (self.topic(topic)?, channel_name(channel, "channel")?);
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
        self.change(move || change(&core, &topic).map(|ticket| ((), ticket))).await
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
        self.change(move || change(&topic, &channel).map(|ticket| ((), ticket))).await
    }

    /// Makes a change off the async workers, and waits until it is in the log. Returns what the change gave
    /// besides.
    async fn change<T: Send + 'static>(
        &self,
        change: impl FnOnce() -> CoreResult<(T, Ticket)> + Send + 'static,
    ) -> Result<T, Refusal> {
        let (given, ticket) = blocking(change).await?;
        LogWait::new(&self.0.broker).follow(ticket).await?;
        Ok(given)
    }
}

fn no_topic(name: &TopicName) -> Refusal {
    Error::new(ErrorKind::NotFound, format!("there is no topic {name}")).into()
}

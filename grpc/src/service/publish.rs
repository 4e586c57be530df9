//! `mq.v1.PublishService`.

use std::sync::Arc;

use mq_net::log_wait::LogWait;
use tonic::{Request, Response, Status, Streaming};

use super::publish_stream::PublishStream;
use super::stream_end::StreamEnd;
use super::{Core, publish_batch, topic_name};
use crate::status::Refusal;
use crate::v1::publish_service_server::PublishService;
use crate::v1::{PublishRequest, PublishResponse, PublishStreamRequest};

/// Answers the calls of `PublishService`.
pub(crate) struct PublishHandler(pub(crate) Arc<Core>);

impl PublishHandler {
    /// Publishes the messages of a request. Nothing is awaited between the publish and the wait for the log:
    /// a cancelled call has stored all of its messages, or none.
    async fn store(&self, request: Request<PublishRequest>) -> Result<PublishResponse, Refusal> {
        let core = &self.0;
        let caller = core.caller(&request).await?;
        let PublishRequest { topic, messages } = request.into_inner();
        let name = topic_name(&topic, "topic")?;
        caller.publish(&name)?;
        let bytes = publish_batch::check(core, &messages)?;
        let wait = LogWait::new(&core.broker);
        if core.broker.is_congested(&wait.wake) {
            let _place = core.input.take(bytes + size_of_val(&messages[..]))?;
            wait.room().await;
        }
        let count = messages.len();
        let topic = core.broker.topic(&name)?;
        wait.announced(&topic, core.config.announce_wait).await;
        let published = {
            let mut batch = topic.batch();
            publish_batch::encode(core, &mut batch, &messages)?;
            // They are in the broker's memory now.
            drop(messages);
            topic.publish(batch, &wait.wake).map_err(|error| Refusal::from(error).of("messages"))?
        };
        wait.ticket(published.ticket).await?;
        Ok(PublishResponse { offsets: publish_batch::offsets(&published, 0, count) })
    }
}

#[tonic::async_trait]
impl PublishService for PublishHandler {
    async fn publish(&self, request: Request<PublishRequest>) -> Result<Response<PublishResponse>, Status> {
        Ok(Response::new(self.store(request).await?))
    }

    type PublishStreamStream = PublishStream;

    async fn publish_stream(
        &self,
        request: Request<Streaming<PublishStreamRequest>>,
    ) -> Result<Response<PublishStream>, Status> {
        let core = &self.0;
        let stream_end = StreamEnd::of(&request, &core.stop);
        let caller = core.caller(&request).await?;
        Ok(Response::new(PublishStream::new(Arc::clone(core), caller, request.into_inner(), stream_end)))
    }
}

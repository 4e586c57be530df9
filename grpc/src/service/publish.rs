//! `mq.v1.PublishService`.

use std::sync::Arc;

use mq_net::log_wait::LogWait;
use tonic::{Request, Response, Status, Streaming};

use super::ending::Ending;
use super::publish_stream::PublishSession;
use super::{Core, intake, topic_name};
use crate::status::Refusal;
use crate::v1::publish_service_server::PublishService;
use crate::v1::{PublishRequest, PublishResponse, PublishStreamRequest};

/// The service.
pub(crate) struct Publishing(pub(crate) Arc<Core>);

impl Publishing {
    /// Between publishing and the last wait nothing is awaited: whoever is cancelled has all stored, or
    /// nothing.
    async fn store(&self, request: Request<PublishRequest>) -> Result<PublishResponse, Refusal> {
        let core = &self.0;
        let caller = core.caller(&request).await?;
        let PublishRequest { topic, messages } = request.into_inner();
        let name = topic_name(&topic, "topic")?;
        caller.publish(&name)?;
        let bytes = intake::check(core, &messages)?;
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
            intake::encode(core, &mut batch, &messages)?;
            // They are in the broker's memory now.
            drop(messages);
            topic.publish(batch, &wait.wake).map_err(|error| Refusal::from(error).of("messages"))?
        };
        wait.ticket(published.ticket).await?;
        Ok(PublishResponse { offsets: intake::offsets(&published, 0, count) })
    }
}

#[tonic::async_trait]
impl PublishService for Publishing {
    async fn publish(&self, request: Request<PublishRequest>) -> Result<Response<PublishResponse>, Status> {
        Ok(Response::new(self.store(request).await?))
    }

    type PublishStreamStream = PublishSession;

    async fn publish_stream(
        &self,
        request: Request<Streaming<PublishStreamRequest>>,
    ) -> Result<Response<PublishSession>, Status> {
        let core = &self.0;
        let ending = Ending::of(&request, &core.stop);
        let caller = core.caller(&request).await?;
        Ok(Response::new(PublishSession::new(Arc::clone(core), caller, request.into_inner(), ending)))
    }
}

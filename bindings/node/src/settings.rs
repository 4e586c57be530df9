//! Settings of channels.

use libmq::ChannelSettings;
use mq_core::TopicName;
use napi_derive::napi;

use crate::client::{NativeClient, check_names, milliseconds};
use crate::problem::Problem;

#[napi]
impl NativeClient {
    /// The settings of a channel. Returns the task's number; its value is JSON: the most attempts, the dead
    /// letter topic, `null` for none, and the delay in milliseconds.
    #[napi]
    pub fn channel_settings(&self, topic: String, channel: String) -> u32 {
        if let Err(problem) = check_names(&topic, Some(&channel)) {
            return self.failed(problem);
        }
        self.call_client(move |client| {
            let ChannelSettings { max_attempts, dead_letter_topic, redelivery_delay } =
                client.channel_settings(&topic, &channel)?;
            let dead_letter_topic = dead_letter_topic.as_ref().map(TopicName::as_str);
            let delay_ms = redelivery_delay.as_secs_f64() * 1000.0;
            Ok(Some(serde_json::json!([max_attempts, dead_letter_topic, delay_ms]).to_string()))
        })
    }

    /// Changes the settings of a channel, all at once. Returns the task's number.
    #[napi]
    pub fn set_channel_settings(
        &self,
        topic: String,
        channel: String,
        max_attempts: u16,
        dead_letter_topic: Option<String>,
        redelivery_delay_ms: f64,
    ) -> u32 {
        if let Err(problem) = check_names(&topic, Some(&channel)) {
            return self.failed(problem);
        }
        let dead_letter_topic = match dead_letter_topic.map(|name| name.parse()).transpose() {
            Ok(name) => name,
            Err(error) => return self.failed(Problem::name(format!("deadLetterTopic: {error}"))),
        };
        let redelivery_delay = milliseconds(redelivery_delay_ms);
        let settings = ChannelSettings { max_attempts, dead_letter_topic, redelivery_delay };
        self.call_client(move |client| {
            client.set_channel_settings(&topic, &channel, settings)?;
            Ok(None)
        })
    }
}

//! libmq's own commands, once a client has agreed on them: see [`wire::extension`](crate::wire::extension).

use std::sync::Arc;
use std::time::Duration;

use mq_core::{
    Acks, Attributes, Batch, DeliveryToken, Error, ErrorKind, HeadersBuf, Limits, MessageId, Result, Start,
    Topic,
};

use super::auth::Permission;
use super::authorize::Check;
use super::input::Burst;
use super::results::Part;
use super::session::Session;
use crate::wire::error::{Code, WireError};
use crate::wire::extension::{MESSAGES, Offer, Record, Records};
use crate::wire::frame::{OK, OK_FRAME};
use crate::wire::identify::Request;
use crate::wire::name::Name;
use crate::wire::tokens::Tokens;
use crate::wire::{Command, Together};

/// A connection's agreement on the extension.
#[derive(Debug, Default)]
pub(super) struct Extension {
    /// The word that UPGRADE has to name. Empty: nothing was offered.
    nonce: String,
    /// Whether its commands are known.
    pub(super) is_on: bool,
    /// Whether messages go out as deliveries.
    pub(super) delivers: bool,
}

/// The answers to a SUBSCRIBE.
const CREATED: &[u8] = br#"{"created":true}"#;
const FOUND: &[u8] = br#"{"created":false}"#;

impl Extension {
    /// The offer to a client that asks for features.
    pub(super) fn offer(
        &mut self,
        request: &Request,
        dedup_window: Duration,
        max_req_timeout: Duration,
    ) -> Option<Offer> {
        if !request.libmq.iter().any(|feature| feature == MESSAGES) {
            return None;
        }
        if self.nonce.is_empty() {
            self.nonce = format!("{:016x}", fastrand::u64(..));
        }
        let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Some(Offer {
            features: vec![MESSAGES.to_owned()],
            nonce: self.nonce.clone(),
            dedup_window: ms(dedup_window),
            max_req_timeout: ms(max_req_timeout),
        })
    }
}

impl Session {
    /// Executes a command of the extension that is no acknowledgement. Returns whether it was put off.
    pub(super) fn execute_extension(&mut self, command: Command<'_>, burst: &mut Burst<'_>) -> bool {
        match command {
            Command::PublishRecords(topic, together, records) => {
                return self.publish_records(topic, together, records, burst);
            }
            Command::SubscribeAt(topic, channel, start, bytes_max) => {
                self.subscribe_at(topic, channel, start, bytes_max);
            }
            Command::Upgrade(nonce, features) => self.upgrade_to(nonce, features),
            Command::Confirm => self.confirm(),
            _ => {}
        }
        false
    }

    /// Switches the extension on.
    fn upgrade_to(&mut self, nonce: &[u8], features: &[u8]) {
        let error = if self.extension.nonce.is_empty() || nonce != self.extension.nonce.as_bytes() {
            "UPGRADE does not name what IDENTIFY was answered with"
        } else if features != MESSAGES.as_bytes() {
            "UPGRADE to features that were not offered"
        } else {
            tracing::debug!(client = self.client.id, "UPGRADE");
            self.extension.is_on = true;
            return self.replies.response(OK);
        };
        self.fail(WireError::new(Code::Invalid, error));
    }

    /// Whether a PUBLISH may be executed. A refusal is its result and ends nothing.
    pub(super) fn may_publish_records(&mut self, topic: Name<'_>, count: u32) -> Check {
        match self.authorize("PUBLISH", Permission::Publish, topic.as_str(), "") {
            Check::Refused(error) if error.code() == Code::Unauthorized => {
                self.replies.results(vec![Part::error(count, false, &error)], 1);
                Check::Skip
            }
            other => other,
        }
    }

    /// Publishes what a PUBLISH has. Returns whether it was put off.
    fn publish_records(
        &mut self,
        name: Name<'_>,
        together: Together,
        records: Records<'_>,
        burst: &mut Burst<'_>,
    ) -> bool {
        let count = records.left();
        let to = match self.topic(name) {
            Ok(to) if self.wait_announced(&to, burst) => return true,
            Ok(to) => to,
            Err(error) => {
                self.replies.results(vec![Part::refused(count, &error)], 1);
                return false;
            }
        };
        let mut parts = Vec::with_capacity(1);
        match together {
            Together::All => parts.push(self.publish_together(&to, records)),
            Together::Each => self.publish_each(&to, records, &mut parts),
        }
        self.replies.results(parts, count as usize);
        false
    }

    fn publish_together(&self, to: &Arc<Topic>, mut records: Records<'_>) -> Part {
        let (count, mut batch) = (records.left(), to.batch());
        match records.try_for_each(|record| self.push(&mut batch, &record)) {
            Ok(()) => self.publish_part(to, batch),
            Err(error) => Part::refused(count, &error),
        }
    }

    /// One frame for all that can be stored, or one for each where a limit of the topic may refuse some.
    fn publish_each(&self, to: &Arc<Topic>, records: Records<'_>, parts: &mut Vec<Part>) {
        let is_limited = to.limits() != Limits::default();
        let mut batch = to.batch();
        for record in records {
            let refused = self.push(&mut batch, &record).err();
            if (refused.is_some() || is_limited) && !batch.is_empty() {
                parts.push(self.publish_part(to, std::mem::replace(&mut batch, to.batch())));
            }
            parts.extend(refused.map(|error| Part::refused(1, &error)));
        }
        if !batch.is_empty() {
            parts.push(self.publish_part(to, batch));
        }
    }

    fn publish_part(&self, to: &Arc<Topic>, batch: Batch) -> Part {
        let count = batch.len();
        match to.publish(batch, &self.wake) {
            Ok(published) => {
                self.client.count_published(to.name(), count as u64);
                Part::Published(published)
            }
            Err(error) => Part::refused(u32::try_from(count).unwrap_or(u32::MAX), &error),
        }
    }

    /// Adds a message to a batch, which is as before if it is refused.
    fn push(&self, batch: &mut Batch, record: &Record<'_>) -> Result<()> {
        let refused = |kind, why: String| Err(Error::new(kind, why));
        let (limits, body) = (&self.shared.limits, record.body);
        if body.is_empty() {
            return refused(ErrorKind::InvalidArgument, "a message must have at least one byte".to_owned());
        }
        if body.len() > limits.max_msg_size as usize {
            let (len, max) = (body.len(), limits.max_msg_size);
            let why = format!("the message takes {len} bytes, at most {max} are allowed (--max-msg-size)");
            return refused(ErrorKind::TooBig, why);
        }
        let attributes = match &record.attributes {
            Ok(attributes) => attributes,
            Err(why) => return refused(ErrorKind::InvalidArgument, why.to_string()),
        };
        if attributes.delay > limits.max_req_timeout {
            let why = delay_too_long(attributes.delay, limits.max_req_timeout);
            return refused(ErrorKind::InvalidArgument, why);
        }
        let mut headers = HeadersBuf::new();
        for header in attributes.headers.iter() {
            // They were looked at when the attributes were decoded.
            let Ok((name, value)) = header else { break };
            headers.push(name, value)?;
        }
        let not_before = self.shared.broker.wall_after(attributes.delay);
        let (dedup_id, headers) = (attributes.id, headers.as_attribute());
        batch.push(&Attributes { not_before, dedup_id, headers }, body)
    }

    fn subscribe_at(&mut self, topic: Name<'_>, channel: Name<'_>, start: Start, bytes_max: Option<u32>) {
        let answer = |created| if created { CREATED } else { FOUND };
        self.extension.delivers = true;
        self.subscribe("SUBSCRIBE", topic, channel, start, answer);
        if let (Some(subscription), Some(bytes)) = (&mut self.subscription, bytes_max) {
            subscription.set_message_bytes_max(bytes as usize);
        }
    }

    /// Answers once all acknowledgements so far are in the log.
    fn confirm(&mut self) {
        let Some(subscription) = &self.subscription else { return self.replies.response(OK) };
        let (channel, wake) = (Arc::clone(subscription.channel()), Arc::clone(&self.wake));
        let broker = self.shared.broker.clone();
        self.replies.later(move || {
            let written = channel.log_acknowledged(&wake).and_then(|ticket| ticket.wait(&broker));
            let failed = |error| WireError::refused(Code::ConfirmFailed, "CONFIRM", &error);
            written.map(|()| OK_FRAME.to_vec()).map_err(failed)
        });
    }
}

/// The refusal of a delay, whatever it is of.
fn delay_too_long(delay: Duration, max: Duration) -> String {
    let (ms, max) = (delay.as_millis(), max.as_millis());
    format!("a delay of {ms} ms, at most {max} ms are allowed (--max-req-timeout)")
}

/// The refusals of a REQUEUE for longer than `max`, one for each delivery: they stay in flight.
pub(super) fn refused_delay(
    tokens: Tokens<'_>,
    delay: Duration,
    max: Duration,
) -> impl Iterator<Item = WireError> {
    let why = delay_too_long(delay, max);
    tokens.iter().map(move |token| {
        let id = MessageId::to_hex(token.id);
        WireError::new(Code::ReqFailed, [b"REQ ", &id[..], b" failed ", why.as_bytes()].concat())
    })
}

/// An answer to deliveries.
#[derive(Clone, Copy)]
pub(super) enum Acknowledge {
    Finish,
    Requeue(Duration),
    Extend,
    Release,
}

impl Acknowledge {
    /// Does it, and returns how many there were. Calls `refused` for those that are over.
    pub(super) fn all(
        self,
        tokens: Tokens<'_>,
        acks: &mut Acks<'_>,
        mut refused: impl FnMut(WireError),
    ) -> u64 {
        let mut done = 0;
        for token in tokens.iter() {
            match self.one(token, acks) {
                Ok(()) => done += 1,
                Err(error) => {
                    let (code, word) = match self {
                        Self::Finish => (Code::FinFailed, "FIN"),
                        Self::Requeue(_) | Self::Release => (Code::ReqFailed, "REQ"),
                        Self::Extend => (Code::TouchFailed, "TOUCH"),
                    };
                    refused(WireError::refused_id(code, word, &MessageId::to_hex(token.id), error.kind()));
                }
            }
        }
        done
    }

    fn one(self, token: DeliveryToken, acks: &mut Acks<'_>) -> Result<()> {
        let id = acks.delivered(token)?;
        match self {
            Self::Finish => acks.finish(id),
            Self::Requeue(delay) => acks.requeue(id, delay),
            Self::Extend => acks.touch(id),
            Self::Release => acks.release(id),
        }
    }
}

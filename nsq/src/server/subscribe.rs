//! SUB and what follows it: RDY, FIN, REQ, TOUCH, CLS.

use std::time::Duration;

use mq_core::{
    Acks, ChannelName, Departure, ErrorKind, MessageId, Result, Start, SubscribeOptions, Subscription,
    Ticket, TopicName,
};
use mq_net::clients::{ClientState, Subscribed};

use super::extension::{Acknowledge, refused_delay};
use super::input::{Burst, Next};
use super::session::Session;
use crate::wire::State;
use crate::wire::command::Command;
use crate::wire::error::{Code, WireError};
use crate::wire::frame::{CLOSE_WAIT, OK};
use crate::wire::name::Name;
use crate::wire::tokens::Tokens;

/// Acknowledgements under one lock of the channel, which its other subscribers wait for.
const RUN_ACKS: usize = 512;

impl Session {
    /// Subscribes by the command `word`; `answer` is what to say, by whether the channel was created.
    pub(super) fn subscribe(
        &mut self,
        word: &str,
        topic: Name<'_>,
        channel: Name<'_>,
        start: Start,
        answer: impl FnOnce(bool) -> &'static [u8],
    ) {
        match self.try_subscribe(topic, channel, start) {
            Ok((subscription, is_new, ticket)) => {
                tracing::debug!(
                    client = self.client.id,
                    topic = topic.as_str(),
                    channel = channel.as_str(),
                    word
                );
                self.client.set_subscribed(Subscribed {
                    topic: subscription.topic().name().clone(),
                    channel: subscription.channel().name().clone(),
                    view: subscription.view(),
                });
                self.subscription = Some(subscription);
                self.set_state(State::Subscribed);
                self.replies.subscribed(ticket, answer(is_new));
            }
            Err(error) => self.fail(WireError::refused(Code::SubFailed, word, &error)),
        }
    }

    fn try_subscribe(
        &self,
        topic: Name<'_>,
        channel: Name<'_>,
        start: Start,
    ) -> Result<(Subscription, bool, Ticket)> {
        let (topic, channel) = (TopicName::parse(topic.as_str())?, ChannelName::parse(channel.as_str())?);
        let options = SubscribeOptions {
            msg_timeout: self.settings.msg_timeout,
            sample_rate: self.settings.sample_rate,
        };
        let subscribed = self.shared.broker.subscribe_at(&topic, &channel, start, options, &self.wake);
        subscribed.map(|(subscription, opened)| (subscription, opened.is_new, opened.ticket))
    }

    pub(super) fn close(&mut self) {
        if let Some(subscription) = &mut self.subscription {
            subscription.acks().set_credit(0);
            // It says goodbye: what it leaves unfinished is not held against any message.
            subscription.set_departure(Departure::Orderly);
        }
        tracing::debug!(client = self.client.id, "CLS");
        self.client.set_ready(0);
        self.set_state(State::Closing);
        self.replies.response(CLOSE_WAIT);
    }

    fn set_state(&mut self, state: State) {
        self.state = state;
        self.client.set_state(match state {
            State::Init => ClientState::Connected,
            State::Subscribed => ClientState::Subscribed,
            State::Closing => ClientState::Closing,
        });
    }

    /// Gives deliveries one answer, and counts those that are over. Returns how many there were.
    fn answer_all(
        &mut self,
        answer: Acknowledge,
        tokens: Tokens<'_>,
        acks: &mut Acks<'_>,
        refused: &mut u32,
    ) -> u64 {
        answer.all(tokens, acks, |error| {
            *refused += 1;
            self.replies.error(error);
        })
    }

    /// Refuses the delay of a REQUEUE for each of its deliveries. Returns how many there are.
    fn refuse_delay(&mut self, tokens: Tokens<'_>, delay: Duration) -> u32 {
        let mut refused = 0;
        for error in refused_delay(tokens, delay, self.shared.limits.max_req_timeout) {
            refused += 1;
            self.replies.error(error);
        }
        refused
    }

    /// Logs acknowledgements that were refused, and the first delay of the connection that was cut.
    fn log_acknowledged(&mut self, refused: u32, cut: Option<Duration>) {
        if refused > 0 {
            tracing::debug!(client = self.client.id, refused, "acknowledgements refused");
        }
        if let Some(delay) = cut.filter(|_| !self.said_cut) {
            self.said_cut = true;
            tracing::warn!(
                client = self.client.id,
                peer = self.client.remote_address,
                ?delay,
                max_req_timeout = ?self.shared.limits.max_req_timeout,
                "requeues for longer than --max-req-timeout are cut to it; said once for a connection"
            );
        }
    }

    /// Executes an acknowledgement and those that follow under one lock of the channel.
    pub(super) fn acknowledge_run<'a>(&mut self, mut next: Next<'a>, burst: &mut Burst<'a>) -> Next<'a> {
        // Taken out, since parsing needs the session. There is one in each state that lets these commands
        // pass.
        let Some(mut subscription) = self.subscription.take() else {
            return Next::End;
        };
        let mut acks = subscription.acks();
        let (mut finished, mut requeued, mut refused) = (0, 0, 0_u32);
        let (longest, mut cut) = (self.shared.limits.max_req_timeout, None);
        let mut done = 0;
        while done < RUN_ACKS {
            done += 1;
            let failed = match next {
                Next::Command(Command::Ready(count)) => {
                    acks.set_credit(count);
                    self.client.set_ready(count);
                    None
                }
                Next::Command(Command::Finish(id)) => {
                    let result = in_flight(id, |id| acks.finish(id));
                    finished += u64::from(result.is_ok());
                    result.err().map(|kind| WireError::refused_id(Code::FinFailed, "FIN", id, kind))
                }
                Next::Command(Command::Requeue(id, delay)) => {
                    cut = cut.or((delay > longest).then_some(delay));
                    let result = in_flight(id, |id| acks.requeue(id, delay.min(longest)));
                    requeued += u64::from(result.is_ok());
                    result.err().map(|kind| WireError::refused_id(Code::ReqFailed, "REQ", id, kind))
                }
                Next::Command(Command::Touch(id)) => {
                    let result = in_flight(id, |id| acks.touch(id));
                    result.err().map(|kind| WireError::refused_id(Code::TouchFailed, "TOUCH", id, kind))
                }
                Next::Command(Command::FinishDeliveries(tokens)) => {
                    done += tokens.len();
                    finished += self.answer_all(Acknowledge::Finish, tokens, &mut acks, &mut refused);
                    None
                }
                Next::Command(Command::RequeueDeliveries(tokens, delay)) => {
                    done += tokens.len();
                    if delay > longest {
                        refused += self.refuse_delay(tokens, delay);
                    } else {
                        let answer = Acknowledge::Requeue(delay);
                        requeued += self.answer_all(answer, tokens, &mut acks, &mut refused);
                    }
                    None
                }
                Next::Command(Command::ByteCredit(bytes)) => {
                    acks.set_byte_credit(bytes);
                    self.replies.response(OK);
                    None
                }
                Next::Command(Command::ExtendDeliveries(tokens)) => {
                    done += tokens.len();
                    self.answer_all(Acknowledge::Extend, tokens, &mut acks, &mut refused);
                    None
                }
                Next::Command(Command::ReleaseDeliveries(tokens)) => {
                    done += tokens.len();
                    self.answer_all(Acknowledge::Release, tokens, &mut acks, &mut refused);
                    None
                }
                _ => break,
            };
            if let Some(error) = failed {
                refused += 1;
                self.replies.error(error);
            }
            next = self.next(burst);
        }
        drop(acks);
        self.log_acknowledged(refused, cut);
        if !self.is_draining() {
            self.subscription = Some(subscription);
        }
        self.client.count_acknowledged(finished, requeued);
        next
    }
}

/// An id that is none can't be in flight.
fn in_flight(id: &[u8; 16], act: impl FnOnce(MessageId) -> Result<()>) -> Result<(), ErrorKind> {
    let id = MessageId::from_hex(id).ok_or(ErrorKind::NotInFlight)?;
    act(id).map_err(|error| error.kind())
}

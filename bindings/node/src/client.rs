//! A client: what it publishes keeps its order, and waits where the crate has no room for more.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::{Rc, Weak};
use std::time::Duration;

use bytes::Bytes;
use libmq::{Client, Config, IntoMessage, NewMessage, Outgoing, Pending, Start, Stored, SubscribeOptions};
use mq_core::{ChannelName, TopicName};
use napi::Env;
use napi::bindgen_prelude::{BigInt, Unknown};
use napi_derive::napi;

use crate::blocking::blocking;
use crate::event;
use crate::gate::{Bodies, Gate, Payload, Publish, split};
use crate::problem::Problem;
use crate::runtime::{AtEnd, Environment, GroupResult, Outcome};
use crate::subscription::SubscriptionHandle;
use crate::value;

/// The group that is on its way.
struct Group {
    /// Number of its task.
    number: u32,
    publish: Rc<Publish>,
    /// Parts that JavaScript has given up.
    given_up: usize,
}

/// A client of the crate, and what it is about to publish.
pub(crate) struct ClientHandle {
    environment: Rc<Environment>,
    /// `None` once it is closed.
    client: RefCell<Option<Client>>,
    gate: RefCell<Gate>,
    group: RefCell<Option<Group>>,
    /// Publishes in the crate, by the number of its task; `None` of a group that goes out one by one, and
    /// can't be taken back any more.
    pendings: RefCell<HashMap<u32, Option<Pending>>>,
    /// Number of the task that waits for what happens to its connection.
    events: u32,
}

/// Bytes of a publish that is under way.
struct Room {
    client: Rc<ClientHandle>,
    /// Number of its task.
    number: u32,
    bytes: usize,
    is_group: bool,
}

impl Drop for Room {
    fn drop(&mut self) {
        self.client.pendings.borrow_mut().remove(&self.number);
        self.client.gate.borrow_mut().leave(self.bytes, self.is_group);
    }
}

impl Room {
    /// Publishes messages, which can be given up from when there is room for them in the crate: at once,
    /// unless what was given up before still takes it.
    async fn publish(&self, client: Client, topic: &str, payload: Payload) -> libmq::Result<Stored> {
        let pending = match payload {
            Payload::Encoded(messages, _) => client.send_encoded_async(topic, Ok(messages)).await?,
            Payload::Bodies(bodies) => client.send_many_async(topic, bodies.iter()).await?,
            Payload::Messages(messages) => client.send_many_async(topic, messages).await?,
        };
        drop(client);
        self.outcome(pending).await
    }

    /// The same of a group, whose bodies stay: they may be published again one by one.
    async fn publish_group(&self, client: Client, group: &Publish) -> libmq::Result<Stored> {
        let pending = client.send_many_async(&group.topic, group.bodies()).await?;
        drop(client);
        self.outcome(pending).await
    }

    async fn outcome(&self, pending: Pending) -> libmq::Result<Stored> {
        self.client.pendings.borrow_mut().insert(self.number, Some(pending.clone()));
        pending.stored().await
    }
}

impl AtEnd for ClientHandle {
    fn end(&self) {
        if let Some(client) = self.client.borrow_mut().take() {
            // Waits for no broker over the network. One in this process stops, whatever subscriptions
            // JavaScript still has.
            let _ = client.close(Duration::ZERO);
        }
    }
}

impl Drop for ClientHandle {
    fn drop(&mut self) {
        self.environment.release(self.events);
        // The last handle of a broker in this process waits for its disk.
        if let Some(client) = self.client.take() {
            drop(blocking(move || {
                drop(client);
                Ok(())
            }));
        }
    }
}

impl ClientHandle {
    fn client(&self) -> Option<Client> {
        self.client.borrow().clone()
    }

    /// Starts the publishes whose turn it is.
    pub(crate) fn admit(self: &Rc<Self>) {
        loop {
            let passed = self.gate.borrow_mut().pass();
            let Some(passed) = passed else { return };
            // A group has a number of its own, beside those of its parts.
            let number = match passed.parts.first() {
                Some(only) if !passed.is_group => only.task,
                _ => self.environment.reserve(),
            };
            let (bytes, is_group) = (passed.bytes(), passed.is_group);
            let room = Room { client: Rc::clone(self), number, bytes, is_group };
            let Some(client) = self.client() else {
                drop(room);
                if is_group {
                    self.environment.release(number);
                }
                for part in passed.parts {
                    self.environment.settle(part.task, Outcome::Failed(libmq::Error::Closed.into()));
                }
                continue;
            };
            if is_group { self.begin_group(room, client, passed) } else { self.begin(room, client, passed) }
        }
    }

    fn begin(&self, room: Room, client: Client, publish: Publish) {
        let number = room.number;
        let Publish { topic, parts, .. } = publish;
        // One: nothing joins what is no group.
        let Some(part) = parts.into_iter().next() else { return };
        let task = async move {
            let result = room.publish(client, &topic, part.payload).await;
            Outcome::Published(Rc::clone(&room.client), result)
        };
        self.environment.run(number, Box::pin(task));
    }

    fn begin_group(&self, room: Room, client: Client, publish: Publish) {
        let (number, publish) = (room.number, Rc::new(publish));
        *self.group.borrow_mut() = Some(Group { number, publish: Rc::clone(&publish), given_up: 0 });
        let task = async move {
            let results = outcomes(&room, client, &publish).await;
            Outcome::Grouped(Rc::clone(&room.client), publish, results)
        };
        self.environment.run(number, Box::pin(task));
    }

    /// Notes the end of a group.
    pub(crate) fn end_group(&self, number: u32) {
        let mut group = self.group.borrow_mut();
        if group.as_ref().is_some_and(|group| group.number == number) {
            *group = None;
        }
    }

    /// Gives up a publish, which has no outcome then. Returns why it was never sent, if that is sure.
    fn give_up(&self, task: u32) -> Option<String> {
        let withdrawn = self.gate.borrow_mut().withdraw(task);
        if withdrawn {
            self.environment.release(task);
            return Some("out of time: it waited for those before it".to_owned());
        }
        let group = self.group.borrow_mut().take_if(|group| group.publish.has(task));
        let Some(mut group) = group else {
            let unsent = self.take_back(task);
            if self.environment.cancel(task) {
                self.environment.release(task);
            }
            return unsent;
        };
        let unsent = self.take_back(group.number);
        group.given_up += 1;
        if unsent.is_none() && group.given_up < group.publish.parts.len() {
            *self.group.borrow_mut() = Some(group);
            return None;
        }
        if !self.environment.cancel(group.number) {
            // Its outcome is about to be taken.
            return unsent;
        }
        self.environment.release(group.number);
        if unsent.is_none() {
            group.publish.parts.iter().for_each(|part| self.environment.release(part.task));
        } else if let Ok(publish) = Rc::try_unwrap(group.publish) {
            // The others of the group are sent without it.
            self.environment.release(task);
            self.gate.borrow_mut().put_back(publish, task);
        }
        unsent
    }

    /// Takes back what is in the crate with this number. Returns why it was never sent, if that is sure.
    fn take_back(&self, number: u32) -> Option<String> {
        let Some(pending) = self.pendings.borrow().get(&number).cloned() else {
            return Some("out of time: it waited for room".to_owned());
        };
        let error = self.client()?.give_up(&pending?).err()?;
        matches!(error, libmq::Error::Timeout(_)).then(|| error.to_string())
    }

    /// Lets publishes go on that waited for a subscription.
    pub(crate) fn opened(self: &Rc<Self>) {
        self.gate.borrow_mut().end_opening();
        self.admit();
    }
}

/// The outcome of each message of a group: those of all together, or of one by one if that failed for a
/// reason that may be one message's.
async fn outcomes(room: &Room, client: Client, group: &Publish) -> GroupResult {
    match room.publish_group(client.clone(), group).await {
        Ok(stored) => return GroupResult::Together(stored),
        Err(error @ (libmq::Error::Unknown { .. } | libmq::Error::Closed)) => {
            return GroupResult::Each(group.bodies().map(|_| Err(error.clone())).collect());
        }
        Err(error) if group.messages() == 1 => return GroupResult::Each(vec![Err(error)]),
        Err(_) => {}
    }
    room.client.pendings.borrow_mut().insert(room.number, None);
    let mut results = Vec::with_capacity(group.messages());
    for body in group.bodies() {
        results.push(client.publish_async(&group.topic, body).await);
    }
    GroupResult::Each(results)
}

/// Settings of a subscription.
#[napi(object)]
pub struct SubscriptionSettings {
    /// Most messages without an answer.
    pub max_in_flight: u32,
    /// Longest time of a message without an answer; 0 for the brokers' own.
    pub msg_timeout_ms: f64,
    /// Percent of the messages; 0 is all.
    pub sample_rate: u8,
    /// The kind of a new channel's first message.
    pub start: String,
    /// Its number, where it has one.
    pub start_at: BigInt,
    /// Most bytes of a message; 0 is any.
    pub max_message_bytes: u32,
    /// Most bytes of bodies in flight; 0 is any.
    pub max_in_flight_bytes: f64,
}

/// A client, as `lib/client.js` holds it.
#[napi]
pub struct NativeClient {
    client: Rc<ClientHandle>,
}

impl NativeClient {
    pub(crate) fn new(client: Rc<ClientHandle>) -> Self {
        Self { client }
    }

    /// Opens a client on a thread.
    pub(crate) fn connect(
        environment: &Rc<Environment>,
        url: String,
        settings: &[String],
        bytes_max: usize,
    ) -> u32 {
        let mut config = Config::default();
        for pair in settings.chunks(2) {
            let [key, value] = pair else { break };
            if let Err(error) = config.set(key, value) {
                return environment.start(Box::pin(std::future::ready(Outcome::Connected(Err(error)))));
            }
        }
        let opened = blocking(move || libmq::connect_with(&url, config));
        let environment_of_client = Rc::clone(environment);
        environment.start(Box::pin(async move {
            Outcome::Connected(opened.await.map(|client| {
                let client = Rc::new(ClientHandle {
                    events: environment_of_client.reserve(),
                    environment: environment_of_client,
                    client: RefCell::new(Some(client)),
                    gate: RefCell::new(Gate::new(bytes_max)),
                    group: RefCell::default(),
                    pendings: RefCell::default(),
                });
                let weak = Rc::downgrade(&client);
                client.environment.register(weak as Weak<dyn AtEnd>);
                client
            }))
        }))
    }

    fn enqueue(&self, topic: String, payload: Payload, bytes: usize, is_group: bool) -> u32 {
        if let Err(error) = topic.parse::<TopicName>() {
            return self.failed(Problem::name(error));
        }
        let number = self.client.environment.reserve();
        let publish = Publish::new(number, topic, payload, bytes, is_group);
        self.client.gate.borrow_mut().push(publish);
        self.client.admit();
        number
    }
}

/// Bodies that stand one after the other, encoded.
fn encode(bytes: &[u8], ends: &[u32]) -> libmq::Result<Payload> {
    let messages =
        Outgoing::fill(ends.len(), |batch| split(bytes, ends).try_for_each(|body| body.append_to(batch)))?;
    Ok(Payload::Encoded(messages, ends.len()))
}

/// Length of what the crate counts of a message.
fn length(body: &[u8], id: Option<&[u8]>, headers: &[(String, Bytes)]) -> usize {
    let headers = headers.iter().map(|(name, value)| name.len() + value.len());
    body.len() + id.map_or(0, <[u8]>::len) + headers.sum::<usize>()
}

#[napi]
impl NativeClient {
    /// Publishes messages. All arguments but the topic and the delays are arrays with an element for each,
    /// or none at all. Returns the task's number.
    #[napi]
    pub fn publish(
        &self,
        env: Env,
        topic: String,
        bodies: Unknown<'_>,
        ids: Unknown<'_>,
        headers: Unknown<'_>,
        delays_ms: Option<Vec<f64>>,
    ) -> napi::Result<u32> {
        let bodies = value::elements(&env, value::raw(&bodies))?;
        let ids = value::elements(&env, value::raw(&ids))?;
        let headers = value::elements(&env, value::raw(&headers))?;
        let (mut messages, mut total) = (Vec::with_capacity(bodies.len()), 0);
        for (at, &body) in bodies.iter().enumerate() {
            let body = value::bytes(&env, body)?;
            let id = ids.get(at).map(|&id| value::optional_bytes(&env, id)).transpose()?.flatten();
            let headers = headers.get(at).map(|&list| value::headers(&env, list)).transpose()?;
            let headers = headers.unwrap_or_default();
            total += length(&body, id.as_deref(), &headers);
            let mut message = NewMessage::new(body);
            if let Some(id) = id {
                message = message.id(id);
            }
            for (name, value) in headers {
                message = message.header(name, value);
            }
            if let Some(&delay) = delays_ms.as_ref().and_then(|delays| delays.get(at)) {
                message = message.delay(milliseconds(delay));
            }
            messages.push(message);
        }
        Ok(self.enqueue(topic, Payload::Messages(messages), total, false))
    }

    /// Publishes messages that have nothing but a body: their bytes one after the other, and the end of each.
    /// Those of a group succeed or fail each for itself. Returns the task's number.
    #[napi]
    pub fn publish_bodies(
        &self,
        env: Env,
        topic: String,
        bodies: Unknown<'_>,
        ends: Unknown<'_>,
        is_group: bool,
    ) -> napi::Result<u32> {
        let (bodies, ends) = (value::raw(&bodies), value::raw(&ends));
        value::with_numbers(&env, ends, |ends| {
            value::with_bytes(&env, bodies, |bytes| {
                let payload = if is_group {
                    Ok(Payload::Bodies(Bodies::new(Bytes::copy_from_slice(bytes), ends.to_vec())))
                } else {
                    encode(bytes, ends)
                };
                match payload {
                    Ok(payload) => self.enqueue(topic, payload, bytes.len(), is_group),
                    Err(error) => self.failed(error.into()),
                }
            })
        })?
    }

    /// Gives up publishes: they have no outcome then. Returns of each why it was never sent, or `null` if it
    /// may have been. None of them is sent in the place of another that is given up with it.
    #[napi]
    pub fn cancel(&self, numbers: Vec<u32>) -> Vec<Option<String>> {
        let unsent = numbers.into_iter().map(|number| self.client.give_up(number)).collect();
        self.client.admit();
        unsent
    }

    /// Opens a subscription, and keeps publishes waiting until it is open. Returns the task's number.
    #[napi]
    pub fn subscribe(&self, topic: String, channel: String, settings: SubscriptionSettings) -> u32 {
        if let Err(problem) = check_names(&topic, Some(&channel)) {
            return self.failed(problem);
        }
        let Some(client) = self.client.client() else { return self.failed(libmq::Error::Closed.into()) };
        let SubscriptionSettings {
            max_in_flight,
            msg_timeout_ms,
            sample_rate,
            start,
            start_at,
            max_message_bytes,
            max_in_flight_bytes,
        } = settings;
        let (_, start_at, _) = start_at.get_u64();
        let start = match start.as_str() {
            "earliest" => Start::Earliest,
            "latest" => Start::Latest,
            "offset" => Start::Offset(start_at),
            "time" => Start::Time(start_at),
            _ => Start::Waiting,
        };
        let msg_timeout = milliseconds(msg_timeout_ms);
        let options = SubscribeOptions {
            max_in_flight,
            msg_timeout,
            sample_rate,
            start,
            max_message_bytes,
            // A whole number from 0 on, which the caller has checked.
            max_in_flight_bytes: max_in_flight_bytes as u64,
        };
        self.client.gate.borrow_mut().begin_opening();
        let opened = blocking(move || client.subscribe(&topic, &channel, options));
        let handle = Rc::clone(&self.client);
        self.client.environment.start(Box::pin(async move {
            let subscription = opened.await;
            let made =
                subscription.map(|subscription| SubscriptionHandle::new(&handle.environment, subscription));
            Outcome::Subscribed(handle, made)
        }))
    }

    /// Connects now, and again whenever the connection is lost.
    #[napi]
    pub fn stay_connected(&self) {
        if let Some(client) = self.client.client() {
            // Closed meanwhile, it needs no connection.
            let _ = client.stay_connected();
        }
    }

    /// Number of the task that waits for what happens to the connection: the outcomes have it.
    #[napi(getter)]
    pub fn events(&self) -> u32 {
        self.client.events
    }

    /// Events of the connection: see [`event::values`]. `null` if nothing has: the outcome comes
    /// with a wake-up, and this is called again only then. It keeps nothing alive, and ends with the
    /// client.
    #[napi]
    pub fn poll_events(&self, env: Env) -> napi::Result<Unknown<'static>> {
        let Some(client) = self.client.client() else {
            return value::returned(&env, value::value(&env, napi::bindgen_prelude::Null)?);
        };
        let task = async move { Outcome::Happened(client.events_async().await.unwrap_or_default()) };
        event::poll(&env, &self.client.environment, self.client.events, Box::pin(task))
    }

    /// Ends the client within this time, and waits for a broker in this process to stop. Returns the task's
    /// number.
    #[napi]
    pub fn close(&self, timeout_ms: f64) -> u32 {
        self.client.environment.cancel(self.client.events);
        let client = self.client.client.borrow_mut().take();
        self.call(move || {
            let Some(client) = client else { return Ok(None) };
            client.close(milliseconds(timeout_ms))?;
            Ok(None)
        })
    }

    /// Does to a topic or channel what the name of the crate's call says. Returns the task's number.
    #[napi]
    pub fn change(&self, call: String, topic: String, channel: Option<String>) -> u32 {
        if let Err(problem) = check_names(&topic, channel.as_deref()) {
            return self.failed(problem);
        }
        self.call_client(move |client| {
            match (call.as_str(), channel.as_deref()) {
                ("create", None) => client.create_topic(&topic),
                ("delete", None) => client.delete_topic(&topic),
                ("empty", None) => client.empty_topic(&topic),
                ("pause", None) => client.pause_topic(&topic),
                ("unpause", None) => client.unpause_topic(&topic),
                ("create", Some(channel)) => client.create_channel(&topic, channel),
                ("delete", Some(channel)) => client.delete_channel(&topic, channel),
                ("empty", Some(channel)) => client.empty_channel(&topic, channel),
                ("pause", Some(channel)) => client.pause_channel(&topic, channel),
                ("unpause", Some(channel)) => client.unpause_channel(&topic, channel),
                _ => Err(libmq::Error::Invalid(format!("there is no call {call:?}"))),
            }?;
            Ok(None)
        })
    }

    /// The numbers of topics and channels, as JSON. Returns the task's number.
    #[napi]
    pub fn stats(&self) -> u32 {
        self.call_client(|client| {
            let stats = client.stats()?;
            let text = serde_json::to_string(&stats);
            text.map(Some).map_err(|error| libmq::Error::Invalid(error.to_string()))
        })
    }

    /// Serves a broker in this process, as flags of `mq serve` say. Returns the task's number; its value is
    /// JSON: the address of TCP, HTTP, HTTPS and gRPC, `null` for none.
    #[napi]
    pub fn serve(&self, flags: Vec<String>) -> u32 {
        self.call_client(move |client| {
            let served = client.serve(flags)?;
            let addresses = serde_json::json!([served.tcp, served.http, served.https, served.grpc]);
            Ok(Some(addresses.to_string()))
        })
    }

    /// Moves the time of a broker with a test clock on. Returns the task's number.
    #[napi]
    pub fn advance(&self, by_ms: f64) -> u32 {
        self.call_client(move |client| client.advance(milliseconds(by_ms)).map(|()| None))
    }
}

impl NativeClient {
    /// A task that has failed.
    pub(crate) fn failed(&self, problem: Problem) -> u32 {
        let environment = &self.client.environment;
        let number = environment.reserve();
        environment.settle(number, Outcome::Failed(problem));
        number
    }

    /// A call of the client on a thread, which fails if it is closed.
    pub(crate) fn call_client(
        &self,
        call: impl FnOnce(Client) -> libmq::Result<Option<String>> + Send + 'static,
    ) -> u32 {
        match self.client.client() {
            Some(client) => self.call(move || call(client)),
            None => self.failed(libmq::Error::Closed.into()),
        }
    }

    /// A call on a thread.
    fn call(&self, call: impl FnOnce() -> libmq::Result<Option<String>> + Send + 'static) -> u32 {
        let called = blocking(call);
        self.client.environment.start(Box::pin(async move { Outcome::Called(called.await) }))
    }
}

pub(crate) fn check_names(topic: &str, channel: Option<&str>) -> Result<(), Problem> {
    topic.parse::<TopicName>().map_err(Problem::name)?;
    channel.map_or(Ok(()), |channel| channel.parse::<ChannelName>().map(drop).map_err(Problem::name))
}

/// A time of milliseconds, which are no longer than a year as `lib/check.js` sees to.
pub(crate) fn milliseconds(ms: f64) -> Duration {
    Duration::try_from_secs_f64(ms / 1000.0).unwrap_or_default()
}

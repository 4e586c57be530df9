//! A client: what it publishes keeps its order, and waits where the crate has no room for more.

use std::cell::RefCell;
use std::rc::{Rc, Weak};
use std::time::Duration;

use libmq::{Client, Config, NewMessage, Start, SubscribeOptions};
use mq_core::{ChannelName, TopicName};
use napi::Env;
use napi::bindgen_prelude::{BigInt, Unknown};
use napi_derive::napi;

use crate::blocking::blocking;
use crate::gate::Gate;
use crate::problem::Problem;
use crate::runtime::{AtEnd, Environment, Outcome};
use crate::subscription::SubscriptionHandle;
use crate::value;

/// Messages of one publish.
struct Publish {
    topic: String,
    messages: Vec<NewMessage>,
}

/// A client of the crate, and what it is about to publish.
pub(crate) struct ClientHandle {
    environment: Rc<Environment>,
    /// `None` once it is closed.
    client: RefCell<Option<Client>>,
    gate: RefCell<Gate<Publish>>,
}

/// Bytes of a publish that is under way.
struct Room {
    client: Rc<ClientHandle>,
    bytes: usize,
}

impl Drop for Room {
    fn drop(&mut self) {
        self.client.gate.borrow_mut().leave(self.bytes);
    }
}

impl AtEnd for ClientHandle {
    fn end(&self) {
        if let Some(client) = self.client.borrow_mut().take() {
            // Waits for no broker over the network. One in this process stops, whatever subscriptions JavaScript
            // still has.
            let _ = client.close(Duration::ZERO);
        }
    }
}

impl Drop for ClientHandle {
    fn drop(&mut self) {
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
            let Some((number, bytes, Publish { topic, messages })) = passed else { return };
            let room = Room { client: Rc::clone(self), bytes };
            let Some(client) = self.client() else {
                drop(room);
                self.environment.settle(number, Outcome::Failed(libmq::Error::Closed.into()));
                continue;
            };
            let task = async move {
                let result = publish(&client, &topic, messages).await;
                drop(client);
                Outcome::Published(Rc::clone(&room.client), result)
            };
            self.environment.run(number, Box::pin(task));
        }
    }

    /// Lets publishes go on that waited for a subscription.
    pub(crate) fn opened(self: &Rc<Self>) {
        self.gate.borrow_mut().end_opening();
        self.admit();
    }
}

async fn publish(
    client: &Client,
    topic: &str,
    mut messages: Vec<NewMessage>,
) -> libmq::Result<Vec<libmq::Receipt>> {
    match messages.pop() {
        Some(message) if messages.is_empty() => Ok(vec![client.publish_async(topic, message).await?]),
        last => {
            messages.extend(last);
            client.publish_many_async(topic, messages).await
        }
    }
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
                    environment: environment_of_client,
                    client: RefCell::new(Some(client)),
                    gate: RefCell::new(Gate::new(bytes_max)),
                });
                let weak = Rc::downgrade(&client);
                client.environment.register(weak as Weak<dyn AtEnd>);
                client
            }))
        }))
    }

    fn enqueue(&self, topic: String, messages: Vec<NewMessage>, bytes: usize) -> u32 {
        let environment = &self.client.environment;
        let number = environment.reserve();
        match topic.parse::<TopicName>() {
            Ok(_) => {
                self.client.gate.borrow_mut().push(number, bytes, Publish { topic, messages });
                self.client.admit();
            }
            Err(error) => environment.settle(number, Outcome::Failed(Problem::name(error))),
        }
        number
    }
}

/// Length of what the crate counts of a message.
fn length(body: &[u8], id: Option<&[u8]>, headers: &[(String, bytes::Bytes)]) -> usize {
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
        Ok(self.enqueue(topic, messages, total))
    }

    /// Publishes one message that has nothing but a body. Returns the task's number.
    #[napi]
    pub fn publish_body(&self, env: Env, topic: String, body: Unknown<'_>) -> napi::Result<u32> {
        let body = value::bytes(&env, value::raw(&body))?;
        let bytes = body.len();
        Ok(self.enqueue(topic, vec![NewMessage::new(body)], bytes))
    }

    /// Gives up a publish: it has no outcome then. Returns whether it was never begun.
    #[napi]
    pub fn cancel(&self, number: u32) -> bool {
        let waited = self.client.gate.borrow_mut().withdraw(number).is_some();
        if waited || self.client.environment.cancel(number) {
            self.client.environment.release(number);
        }
        self.client.admit();
        waited
    }

    /// Opens a subscription, and keeps publishes waiting until it is open. `start` is that of a new channel:
    /// a kind, and its number where it has one. Returns the task's number.
    #[napi]
    pub fn subscribe(
        &self,
        topic: String,
        channel: String,
        max_in_flight: u32,
        msg_timeout_ms: f64,
        start: String,
        start_at: BigInt,
    ) -> u32 {
        if let Err(problem) = check_names(&topic, Some(&channel)) {
            return self.failed(problem);
        }
        let Some(client) = self.client.client() else { return self.failed(libmq::Error::Closed.into()) };
        let (_, start_at, _) = start_at.get_u64();
        let start = match start.as_str() {
            "earliest" => Start::Earliest,
            "latest" => Start::Latest,
            "offset" => Start::Offset(start_at),
            "time" => Start::Time(start_at),
            _ => Start::Waiting,
        };
        let options = SubscribeOptions { max_in_flight, msg_timeout: milliseconds(msg_timeout_ms), start };
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

    /// Ends the client within this time, and waits for a broker in this process to stop. Returns the task's
    /// number.
    #[napi]
    pub fn close(&self, timeout_ms: f64) -> u32 {
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
        let Some(client) = self.client.client() else { return self.failed(libmq::Error::Closed.into()) };
        self.call(move || {
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
        let Some(client) = self.client.client() else { return self.failed(libmq::Error::Closed.into()) };
        self.call(move || {
            let stats = client.stats()?;
            let text = serde_json::to_string(&stats);
            text.map(Some).map_err(|error| libmq::Error::Invalid(error.to_string()))
        })
    }

    /// Moves the time of a broker with a test clock on. Returns the task's number.
    #[napi]
    pub fn advance(&self, by_ms: f64) -> u32 {
        let Some(client) = self.client.client() else { return self.failed(libmq::Error::Closed.into()) };
        self.call(move || client.advance(milliseconds(by_ms)).map(|()| None))
    }
}

impl NativeClient {
    /// A task that has failed.
    fn failed(&self, problem: Problem) -> u32 {
        let environment = &self.client.environment;
        let number = environment.reserve();
        environment.settle(number, Outcome::Failed(problem));
        number
    }

    /// A call on a thread.
    fn call(&self, call: impl FnOnce() -> libmq::Result<Option<String>> + Send + 'static) -> u32 {
        let called = blocking(call);
        self.client.environment.start(Box::pin(async move { Outcome::Called(called.await) }))
    }
}

fn check_names(topic: &str, channel: Option<&str>) -> Result<(), Problem> {
    topic.parse::<TopicName>().map_err(Problem::name)?;
    channel.map_or(Ok(()), |channel| channel.parse::<ChannelName>().map(drop).map_err(Problem::name))
}

/// A time of milliseconds, which are no longer than a year as `lib/check.js` sees to.
fn milliseconds(ms: f64) -> Duration {
    Duration::try_from_secs_f64(ms / 1000.0).unwrap_or_default()
}

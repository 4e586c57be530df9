//! The surface of go-nsq, for programs that are moved from Go and for those who know it: [`Consumer`] calls
//! handlers on threads of its own, [`Producer`] publishes.
//!
//! ```no_run
//! use libmq::nsq::{Config, Consumer, Message, Producer};
//!
//! # fn main() -> libmq::Result<()> {
//! let config = Config::default();
//! let consumer = Consumer::new("orders", "billing", &config)?;
//! consumer.add_handler(|message: &Message| {
//!     println!("{}", String::from_utf8_lossy(message.body()));
//!     Ok(())
//! })?;
//! consumer.connect_to_nsqd("127.0.0.1:4150")?;
//!
//! let producer = Producer::new("127.0.0.1:4150", &config)?;
//! producer.publish("orders", "one pizza")?;
//! # Ok(())
//! # }
//! ```
//!
//! What a user of go-nsq finds different:
//!
//! - Connections are made in the background and made again until the consumer stops or disconnects, the first
//!   one too; what fails is in [`Consumer::failures`].
//! - What is with a handler, or waits for one, is touched before it times out: a slow handler gets no message
//!   twice. A message that a program keeps and drops without an answer comes again soon, not after its
//!   timeout.
//! - `max_in_flight` bounds credit and messages in flight of all connections together. Only messages that
//!   were on their way when a connection got less credit, as one more broker was connected to, come beyond
//!   it.
//! - Where go-nsq panics, a call returns an error; a handler that panics has failed, as one that returns an
//!   error.
//! - A producer over several addresses goes on with the next one when a broker is lost.
//!
//! | go-nsq | [`Error`](crate::Error) |
//! |---|---|
//! | `ErrStopped`, "consumer stopped" | `Closed` |
//! | `ErrAlreadyConnected`, `ErrNotConnected` of an unknown address, "no handlers" | `Invalid` |
//! | `ErrProtocol` | `Refused` |
//! | `ErrNotConnected` of a publish | `Unknown` if it was sent, else `Timeout` |
//! | `ErrIdentify`, an error of dialing | `Unreachable`, in [`Consumer::failures`] |
//!
//! - [`Config`]: `config` has its fields and their ranges, `keys` the names and forms of `Config::set`
//! - [`Consumer`], [`Handler`], [`Message`]; `engine`: the threads behind them
//! - [`BackoffStrategy`]; pure, with the time as an argument: `backoff` the pause after failures, `keeper`
//!   the messages to be touched, `drain` the end
//! - [`Producer`]; `address`: addresses as go-nsq takes them

mod address;
mod backoff;
mod config;
mod consumer;
mod drain;
mod engine;
mod handler;
mod keeper;
mod keys;
mod message;
mod producer;
#[cfg(test)]
mod simulation;
mod strategy;

pub use config::NsqConfig as Config;
pub use consumer::{Consumer, ConsumerStats};
pub use handler::{Handler, HandlerError};
pub use message::NsqMessage as Message;
pub use mq_nsq::client::TlsVersion;
pub use producer::Producer;
pub use strategy::{BackoffStrategy, ExponentialStrategy, FullJitterStrategy};

//! A message queue: in your program, on your brokers, or on a fleet of them. One API for all; what changes is
//! one string.
//!
//! ```
//! use std::time::Duration;
//! use libmq::SubscribeOptions;
//!
//! # fn main() -> libmq::Result<()> {
//! // "./data" is a folder of this program, "mq://broker-1:4150,broker-2:4150" are brokers over the network.
//! let client = libmq::connect("mq:memory")?;
//! let billing = client.subscribe("orders", "billing", SubscribeOptions::default())?;
//!
//! // Returns once the message is stored.
//! client.publish("orders", "one pizza")?;
//!
//! if let Some(message) = billing.next(Duration::from_secs(1))? {
//!     println!("{}", String::from_utf8_lossy(message.body()));
//!     message.finish();
//! }
//! # Ok(())
//! # }
//! ```
//!
//! - [`connect`], [`Client`]: publishing; [`NewMessage`], [`Receipt`], [`Pending`]
//! - [`Subscription`]: consuming; [`Message`], [`Failure`]
//! - [`Config`], [`SubscribeOptions`]: settings; [`Error`]
//! - `url`: what a URL means; `signal`: how threads and futures wait; `credit`: messages in flight over
//!   connections; `embedded`: a broker in this process; `remote`: brokers over the network

mod client;
mod config;
mod credit;
#[cfg(feature = "embedded")]
mod embedded;
mod error;
mod message;
mod publish;
mod remote;
mod signal;
mod subscription;
mod url;

pub use client::{Client, connect, connect_with};
pub use config::Config;
pub use error::{Error, Result};
pub use message::NewMessage;
pub use publish::{Pending, PublishState, Receipt};
pub use subscription::{Failure, Message, SubscribeOptions, Subscription};

pub use mq_core::{Durability, MessageId};

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
//! - [`connect`], [`Client`]: publishing; [`NewMessage`], [`IntoMessage`], [`OutgoingBatch`], [`Receipt`],
//!   [`Pending`]
//! - [`Subscription`]: consuming; [`Message`], [`Batch`], [`Delivery`], [`Failure`]; [`ConnectionEvent`]
//! - [`Config`], [`SubscribeOptions`], [`Start`]: settings; [`Error`]
//! - `admin`: topics and channels, [`TopicSettings`], [`ChannelSettings`]; [`Stats`]; [`Peeked`], a look at a
//!   topic
//! - [`nsq`]: go-nsq's surface, consumers that call handlers
//! - `log`: lines for other languages; `fork`: handles in a child; `url`: what a URL means; `signal`: how
//!   threads and futures wait; `scratch`: memory that a thread publishes from; `credit`: messages in flight
//!   over connections, `turns` where these are more than messages, and `byte_shares` where their bytes are
//!   bounded; `embedded`: a broker in this process; `remote`: brokers over the network

#[cfg(feature = "embedded")]
mod admin;
mod byte_shares;
mod client;
mod config;
mod credit;
mod delivery;
#[cfg(feature = "embedded")]
mod embedded;
mod error;
mod events;
mod fork;
mod log;
mod message;
pub mod nsq;
mod outgoing;
mod peek;
mod peeked;
mod publish;
mod remote;
mod scratch;
mod signal;
#[cfg(feature = "embedded")]
mod stats;
mod subscription;
mod turns;
mod url;

pub use client::{Client, OPENING_MAX, connect, connect_with};
pub use config::{Compression, Config, PublishTo, Retry};
pub use delivery::{Batch, Delivery, Message, Messages};
pub use error::{Error, Result};
pub use events::ConnectionEvent;
pub use message::NewMessage;
pub use outgoing::{IntoMessage, OutgoingBatch};
pub use peeked::Peeked;
pub use publish::{Pending, PublishState, Receipt};
#[cfg(feature = "embedded")]
pub use stats::{ChannelStats, Stats, TopicStats};
pub use subscription::{Failure, Start, SubscribeOptions, Subscription};

#[doc(hidden)] // For the packages of other languages.
pub use fork::process_generation;
#[doc(hidden)] // For the packages of other languages.
pub use log::{LogLevel, broker_lines};
#[doc(hidden)] // For the packages of other languages.
pub use mq_core::sync;
pub use mq_core::{ChannelSettings, Dedup, Durability, Limits, MessageId, Overflow, TopicSettings};
#[cfg(feature = "serve")]
pub use mq_server::Addresses;
#[doc(hidden)] // For the packages of other languages.
pub use outgoing::{Borrowed, Outgoing};
#[doc(hidden)] // For the packages of other languages.
pub use publish::Stored;

#[cfg(doctest)]
#[doc = include_str!("../../docs/rust.md")]
mod guide {}

//! The core of libmq: a broker with topics, channels and one log on disk, embedded in a process. No sockets,
//! no wire formats.
//!
//! ```standalone_crate
//! use mq_core::{Broker, Options, SubscribeOptions};
//! use std::time::Duration;
//!
//! fn main() -> mq_core::Result<()> {
//! #   let folder = tempfile::tempdir().unwrap();
//! #   std::env::set_current_dir(&folder).unwrap();
//!     let broker = Broker::open(Options { data_path: "data".into(), ..Options::default() })?;
//!     let (topic, channel) = ("orders".parse()?, "billing".parse()?);
//!     let mut billing = broker.subscribe(&topic, &channel, SubscribeOptions::default())?;
//!     // Returns once the message is stored as the topic's durability level wants it.
//!     broker.topic(&topic)?.publish_one(b"one pizza")?.wait(&broker)?;
//!     while let Some(message) = billing.recv(Duration::from_secs(1))? {
//!         println!("{}", String::from_utf8_lossy(message.body()));
//!         message.finish()?;
//!     }
//!     broker.close()
//! }
//! ```
//!
//! - [`Broker`]: the handle; `drain`: emptying it; `open`: from a data folder to running topics
//! - `shared`: the ground of all topics, with `blocks` (offsets), `timers`, `io_pool`, `dirty` (who has
//!   something for the log) and `watch` (changes that discovery follows)
//! - `maintenance`: the background work, as functions; `threads`: when it is done; `snapshot`: what a
//!   checkpoint stores
//! - [`Topic`]: offsets, the pump position, publishing
//! - [`Channel`]: a cursor over its topic; [`Consumer`]: a subscriber that blocks, on [`Subscription`], the
//!   form for sessions and event loops
//! - [`Wake`]: how whoever waits is woken; `wait`, [`Parker`]: blocking until the log has decided
//! - `store`: the broker log behind a small disk interface; [`repair`] and [`repair::inspect`] read a folder
//!   without one
//! - [`name`], [`message`], [`headers`], [`config`]: names parsed once; offsets, ids, attributes; named
//!   values of a message; settings
//! - [`discovery`]: producers of each topic, behind a lookup server
//! - [`sync`]: locks that a child of `fork` can go on with
//! - [`clock`], [`error`]: injected time; the one error type
//! - [`stats`], [`TopicStats`], [`ChannelStats`]: numbers; `latency`: time from publish to finish, sampled

mod blocks;
mod broker;
mod channel;
pub mod clock;
pub mod config;
mod consumer;
mod dirty;
pub mod discovery;
mod drain;
pub mod error;
pub mod headers;
mod io_pool;
mod latency;
mod maintenance;
pub mod message;
pub mod name;
mod open;
mod parker;
mod shared;
mod snapshot;
pub mod stats;
mod store;
pub mod sync;
#[cfg(any(test, feature = "testkit"))]
pub mod testkit;
mod threads;
mod timers;
mod topic;
mod wait;
mod wake;
mod watch;

pub use broker::Broker;
pub use channel::{
    Acks, Channel, ChannelStats, Departure, PendingMessage, Pulled, SubscribeOptions, SubscriberView,
    Subscription,
};
pub use clock::{Clock, ManualClock, SystemClock};
pub use config::{ChannelSettings, Dedup, Durability, Limits, Options, Overflow, StoreSizes};
pub use consumer::{Consumer, Message};
pub use error::{Error, ErrorKind, Result};
pub use headers::{Headers, HeadersBuf};
pub use latency::{BUCKETS_US, Histogram, Quantiles};
#[cfg(any(test, feature = "testkit"))]
pub use maintenance::Step;
pub use message::{Attributes, Delivery, DeliveryToken, MessageId, Offset};
pub use name::{ChannelName, TopicName};
pub use parker::Parker;
pub use stats::BrokerStats;
pub use store::format::numbers::{ChannelNo, TopicNo};
pub use store::log::{Outcome, Ticket};
pub use store::memory::batch::Batch;
pub use store::repair;
pub use topic::{
    ChannelReport, OpenedChannel, Published, Start, Topic, TopicDamage, TopicSettings, TopicStats,
};
pub use wake::Wake;
pub use watch::TopicNames;

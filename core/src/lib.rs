//! The core of libmq: a broker with topics, channels and one log on disk. No sockets, no wire formats.
//!
//! - [`Broker`]: the handle; `watch`: what discovery hears of it; `drain`: emptying it; `blocks` (offsets), `timers`, `io_pool` and `maintenance` are what topics share
//! - [`Topic`]: offsets, the pump position, publishing
//! - [`Channel`], [`Subscription`]: a cursor over its topic, and who reads through it
//! - [`store`]: the broker log behind a small disk interface
//! - [`name`], [`message`], [`headers`], [`config`]: names parsed once; offsets, ids, attributes; named values of a message; settings
//! - [`discovery`]: who has which topic, behind a lookup server
//! - [`clock`], [`error`]: injected time; the one error type
//! - [`stats`], [`TopicStats`], [`ChannelStats`]: numbers; `latency`: time from publish to finish, sampled

mod blocks;
mod broker;
mod channel;
pub mod clock;
pub mod config;
pub mod discovery;
mod drain;
pub mod error;
pub mod headers;
mod io_pool;
mod latency;
mod maintenance;
pub mod message;
pub mod name;
pub mod stats;
pub mod store;
mod timers;
mod topic;
mod watch;

pub use broker::Broker;
pub use channel::{Acks, Channel, ChannelStats, Pulled, SubscribeOptions, SubscriberView, Subscription};
pub use clock::{Clock, ManualClock, SystemClock};
pub use config::{Dedup, Durability, Limits, Options, Overflow, StoreSizes};
pub use error::{Error, ErrorKind, Result};
pub use headers::{Headers, HeadersBuf};
pub use latency::{BUCKETS_US, Histogram, Quantiles};
pub use maintenance::Step;
pub use message::{Attributes, Delivery, MessageId, Offset};
pub use name::{ChannelName, TopicName};
pub use stats::BrokerStats;
pub use store::log::{Outcome, Ticket, Wake};
pub use store::memory::batch::Batch;
pub use topic::{ChannelReport, Published, Start, Topic, TopicDamage, TopicStats};
pub use watch::TopicNames;

//! Topics: offsets and the pump position.
//!
//! - [`Topic`]: a topic behind its lock; `state`: what the lock guards
//! - `publish`, `limits`: publishing, and what may wait; `message_ids`: publishing with ids,
//!   each stored once; `dedup`: the ids of a topic
//! - `cache`: the frames in memory, and eviction to the log; `committed`: frames
//!   that were written, or refused
//! - `channels`: finding and creating channels; `admin`: changes by administrators
//! - `peek`: reading without consuming; `stats`: numbers
//! - `recovered`: a topic as it is opened; `damage`: a topic that is stopped
//!
//! A topic's state is plain data under one short mutex. Locks are taken in the order topic, channel, blocks,
//! log; the log's writer takes a topic's lock to mark what was written as readable, so nobody waits for the
//! writer while holding one.

mod admin;
mod announcement;
pub(crate) mod cache;
mod channels;
mod committed;
mod damage;
mod dedup;
mod limits;
mod message_ids;
mod peek;
mod publish;
mod recovered;
mod settings;
mod state;
mod stats;
mod topic;

pub use channels::{OpenedChannel, Start};
pub use damage::TopicDamage;
pub use publish::Published;
pub(crate) use recovered::OnDisk;
pub use settings::TopicSettings;
pub(crate) use state::TopicState;
pub use stats::{ChannelReport, TopicStats};
pub use topic::Topic;

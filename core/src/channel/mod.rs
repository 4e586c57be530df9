//! A channel: a cursor over its topic.
//!
//! - `state`: what the channel knows and does, pure
//!   - `state/delivery`: what a subscriber may take, and taking it
//!   - `in_flight`, `ready`, `deferred`: the messages below the cursor that are not finished
//!   - `gaps`: what the cursor has yet to skip; `lowest`: the floor of a set
//!   - `subscribers`: credit, fairness, who is woken
//!   - `delta`: what the log must learn
//! - [`Channel`]: the state behind its lock, and what the topic and timers do with it; `admin`, `logged`, `load`: what
//!   administrators do, what the log is told, what is read from disk
//! - [`ChannelStats`]: its numbers
//! - [`Subscription`]: one subscriber's handle; `window`: what was read ahead from disk

mod admin;
#[expect(clippy::module_inception, reason = "the noun is the module's")]
mod channel;
mod deferred;
mod delta;
mod gaps;
mod in_flight;
mod load;
mod logged;
mod lowest;
mod ready;
mod state;
mod stats;
mod subscribers;
mod subscription;
mod window;

pub(crate) use channel::{Backlog, ChannelSetup};
pub use channel::{Channel, SubscribeOptions};
pub(crate) use delta::{Delta, Unfinished};
pub(crate) use in_flight::AckError;
pub(crate) use load::{Load, Wanted};
pub(crate) use state::{Pick, State, Taken, back_off};
pub(crate) use stats::Held;
pub use stats::{ChannelStats, SubscriberView};
pub(crate) use subscribers::SubId;
pub(crate) use subscription::nanos;
pub use subscription::{Acks, Pulled, Subscription};

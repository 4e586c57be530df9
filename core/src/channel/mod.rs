//! A channel: a cursor over its topic.
//!
//! - `state`: the pure state machine of a channel
//!   - `state/delivery`: choosing a subscriber's next message, and taking it
//!   - `in_flight`, `ready`, `deferred`: the messages below the cursor that are not finished
//!   - `gaps`: ranges ahead that the cursor skips; `lowest`: the lowest offset of a set
//!   - `subscribers`: credit, fairness, wake-ups
//!   - `delta`: changes that are not in the log yet
//! - [`Channel`]: the state behind its lock, for the topic and the timers; `admin`: changes by
//!   administrators; `logged`: the channel's events for the log; `load`: reads from disk
//! - [`ChannelStats`]: its numbers
//! - [`Subscription`]: one subscriber's handle; `read_ahead`: frames read from disk before they are needed

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
mod peek;
mod read_ahead;
mod ready;
mod state;
mod stats;
mod subscribers;
mod subscription;

pub(crate) use channel::{Backlog, ChannelSetup};
pub use channel::{Channel, SubscribeOptions};
pub(crate) use delta::{Delta, Unfinished};
pub(crate) use in_flight::AckError;
pub(crate) use load::{Load, Wanted};
pub use state::{Departure, Held};
pub(crate) use state::{Pick, State, Taken, back_off};
pub(crate) use stats::InMemory;
pub use stats::{ChannelStats, SubscriberView};
pub(crate) use subscribers::SubId;
pub(crate) use subscription::nanos;
pub use subscription::{Acks, Pulled, Subscription};

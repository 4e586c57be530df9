//! A channel: a cursor over its topic.
//!
//! - `state`: the pure state machine of a channel
//!   - `state/delivery`: choosing a subscriber's next message, and taking it; `state/drops`: messages that
//!     are dropped; `state/single`: one message, whoever holds it; `state/dead_letters`: messages that were
//!     delivered as often as may be
//!   - `in_flight`, `ready`, `deferred`: the messages below the cursor that are not finished
//!   - `gaps`: ranges ahead that the cursor skips; `lowest`: the lowest offset of a set
//!   - `subscribers`: credit, fairness, wake-ups; `byte_credit`: bytes in flight where a subscriber bounds
//!     them
//!   - `delta`: changes that are not in the log yet
//! - [`Channel`]: the state behind its lock, for the topic and the timers; `admin`, `settings`: changes by
//!   administrators, `single`: of one message; `dead_letters`: moving them to their topic; `logged`: the
//!   channel's events for the log; `load`: reads from disk
//! - [`ChannelStats`]: its numbers
//! - [`Subscription`]: one subscriber's handle; `pull`: what it takes; [`Acks`]: what it answers;
//!   `read_ahead`: frames read from disk before they are needed

mod acks;
mod admin;
mod byte_credit;
mod channel;
mod dead_letters;
mod deferred;
mod delta;
mod gaps;
mod in_flight;
mod load;
mod logged;
mod lowest;
mod peek;
mod pull;
mod read_ahead;
mod ready;
mod settings;
mod single;
mod state;
mod stats;
mod subscribers;
mod subscription;

pub use acks::Acks;
pub use channel::Channel;
pub(crate) use channel::{Backlog, ChannelSetup};
pub(crate) use delta::{Delta, Unfinished};
pub(crate) use in_flight::AckError;
pub(crate) use load::{Load, Wanted};
pub use peek::PendingMessage;
pub use pull::Pulled;
pub use state::Departure;
pub(crate) use state::{DeadLetter, Pick, State, Taken, back_off};
pub(crate) use stats::InMemory;
pub use stats::{ChannelStats, SubscriberView};
pub(crate) use subscribers::SubId;
pub use subscription::{SubscribeOptions, Subscription};

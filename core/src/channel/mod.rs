//! A channel: a cursor over its topic.
//!
//! - `state`: the whole channel as plain data; events and times in, answers and the next wake-up out
//! - `in_flight`: who holds which message until when
//! - `ready`: what waits for its next delivery
//! - `deferred`: what must not be delivered yet
//! - `gaps`: what lies ahead and is to be skipped
//! - `subscribers`: credit, fair turns, who is woken
//! - `delta`: what the log has yet to learn
//!
//! Nothing here locks, waits, reads a clock or does I/O: the broker holds a channel under a short mutex, reads the
//! bodies, and tells it the time.

// Until the broker wraps it.
#![allow(dead_code, unused_imports)]

mod deferred;
mod delta;
mod gaps;
mod in_flight;
mod lowest;
mod ready;
pub(crate) mod state;
mod subscribers;

pub(crate) use delta::{Delta, Unfinished};
pub(crate) use in_flight::AckError;
pub(crate) use state::{Pick, State, Taken};
pub(crate) use subscribers::{SubId, SubscriberStats};

//! Publishes on their way: what waits, what became of each, and the bound on all of them.
//!
//! A [`Publication`] waits in a [`Queue`] for its connection, and has taken its bytes of the client's
//! [`Buffer`]. Its [`Slot`] takes the outcome, frees those bytes, and is what a [`Pending`] waits for.

mod buffer;
mod pending;
mod publication;
mod queue;
mod receipt;
mod slot;

use std::time::{Duration, Instant};

pub(crate) use buffer::{Buffer, Freed};
pub use pending::Pending;
pub(crate) use publication::{Publication, Resend};
pub(crate) use queue::{Next, Queue};
pub use receipt::{Receipt, Stored};
pub use slot::PublishState;
pub(crate) use slot::{Slot, SlotRef};

/// The time `timeout` from now. `None`: there is no such time.
pub(crate) fn deadline(timeout: Duration) -> Option<Instant> {
    Instant::now().checked_add(timeout)
}

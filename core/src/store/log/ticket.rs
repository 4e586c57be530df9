//! Tickets: the way to the outcome of a change that is on its way to the log.

use crate::error::Error;
use crate::store::format::log_pos::LogPos;

/// A span between two failed writes, in which the log hands out each position once: the number of failures
/// so far, and one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Epoch(pub(super) u64);

/// A change on its way to the log. It is done once the change is stored as its topic's durability level wants
/// it: [`Ticket::wait`] blocks until then, [`Broker::outcome`](crate::Broker::outcome) looks.
///
/// ```
/// # use mq_core::{Broker, Options, Outcome};
/// # fn main() -> mq_core::Result<()> {
/// # let folder = tempfile::tempdir().unwrap();
/// # let broker = Broker::open(Options { data_path: folder.path().into(), ..Options::default() })?;
/// let orders = broker.topic(&"orders".parse()?)?;
/// let ticket = orders.pause()?;
/// ticket.wait(&broker)?;
/// assert!(matches!(broker.outcome(ticket), Outcome::Done));
/// # broker.close()
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "nothing is stored before the ticket is done"]
pub struct Ticket {
    /// The epoch in which the frame was queued: positions are handed out again after a failure.
    pub(super) epoch: Epoch,
    /// The position after the frame; 0 if it was acknowledged at once.
    pub(super) position: LogPos,
    /// Whether it is acknowledged only once it is fsync'd.
    pub(super) synced: bool,
}

impl Ticket {
    /// Done from the start.
    pub(crate) const DONE: Self = Self { epoch: Epoch(0), position: LogPos(0), synced: false };

    /// Whether it was done from the start: nothing has to be written.
    pub fn is_done(self) -> bool {
        self.position == LogPos(0)
    }

    /// Whether it was given in `epoch`.
    pub(crate) fn is_of(self, epoch: Epoch) -> bool {
        self.epoch == epoch
    }

    /// Whether it waits for an fsync.
    pub(crate) fn is_synced(self) -> bool {
        self.synced
    }
}

/// The outcome of a frame.
///
/// ```
/// # use mq_core::{Broker, Options, Outcome};
/// # fn main() -> mq_core::Result<()> {
/// # let folder = tempfile::tempdir().unwrap();
/// # let broker = Broker::open(Options { data_path: folder.path().into(), ..Options::default() })?;
/// let orders = broker.topic(&"orders".parse()?)?;
/// let published = orders.publish_one(b"one pizza")?;
/// broker.commit();
/// match broker.outcome(published.ticket) {
///     Outcome::Pending => println!("not yet"),
///     Outcome::Done => println!("stored"),
///     Outcome::Failed(error) => return Err(error),
/// }
/// # broker.close()
/// # }
/// ```
#[derive(Debug)]
pub enum Outcome {
    /// Neither committed nor failed so far.
    Pending,
    /// The topic's level is met.
    Done,
    /// The frame was not stored and never will be.
    Failed(Error),
}

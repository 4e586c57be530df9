//! The caller's side of a publish that was sent without a wait.

use std::fmt;
use std::time::Duration;

use super::{PublishState, Receipt, SlotRef, Stored, deadline};
use crate::error::{Error, Result};
use crate::fork::OwnProcess;

/// A message on its way, made by [`Client::send`](crate::Client::send). Dropping it changes nothing for the
/// message.
///
/// ```
/// # use std::time::Duration;
/// let client = libmq::connect("mq:memory")?;
/// let pending = client.send("orders", "one pizza")?;
/// let receipt = pending.wait(Duration::from_secs(5))?;
/// assert_eq!(pending.state(), libmq::PublishState::Stored);
/// # drop(receipt);
/// # Ok::<(), libmq::Error>(())
/// ```
#[derive(Clone)]
pub struct Pending(pub(crate) OwnProcess<SlotRef>);

impl Pending {
    /// The message's stage; in a child of `fork` it is unknown.
    pub fn state(&self) -> PublishState {
        self.0.get().map_or(PublishState::Unknown, |slot| slot.state())
    }

    /// Waits for the outcome.
    ///
    /// # Errors
    /// `Timeout` if there is none within `timeout`: the message is still on its way. Else what keeps the
    /// message from being stored, `Unknown`, or `Forked`.
    pub fn wait(&self, timeout: Duration) -> Result<Receipt> {
        self.wait_stored(timeout)?.first()
    }

    /// The same with a receipt for each message that was sent with it: see
    /// [`Client::send_many`](crate::Client::send_many).
    ///
    /// # Errors
    /// As [`Pending::wait`].
    pub fn wait_all(&self, timeout: Duration) -> Result<Vec<Receipt>> {
        Ok(self.wait_stored(timeout)?.receipts())
    }

    /// The same without a receipt for each.
    #[doc(hidden)] // For the packages of other languages.
    pub fn wait_stored(&self, timeout: Duration) -> Result<Stored> {
        let result = self.0.get()?.result_by(deadline(timeout));
        result.unwrap_or_else(|| Err(Error::Timeout("the publish has no outcome yet".to_owned())))
    }

    /// The same as a future, without a timeout.
    ///
    /// # Errors
    /// As [`Pending::wait`].
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing for the message.
    pub async fn wait_async(&self) -> Result<Receipt> {
        self.stored().await?.first()
    }

    /// The same with a receipt for each message that was sent with it.
    ///
    /// # Errors
    /// As [`Pending::wait`].
    ///
    /// # Cancel safety
    /// As [`Pending::wait_async`].
    pub async fn wait_all_async(&self) -> Result<Vec<Receipt>> {
        Ok(self.stored().await?.receipts())
    }

    /// The same without a receipt for each.
    #[doc(hidden)] // For the packages of other languages.
    pub async fn stored(&self) -> Result<Stored> {
        self.0.get()?.eventual_result().await
    }
}

impl fmt::Debug for Pending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pending").field(&self.state()).finish()
    }
}

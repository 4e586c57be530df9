//! A file that only takes space: released on a full disk, for the finishes, the checkpoint and the cleaning
//! that make room again, and taken back when there is, with some to spare.

use crate::sync::Mutex;

use crate::error::{Error, Result};
use crate::store::disk::Disk;
use crate::store::format::own::{self, Name, RESERVE_NAME};
use crate::store::log::health::Health;

/// The reserve.
pub(crate) struct Reserve {
    /// One log file's: what cleaning needs to fill a new one.
    bytes: u64,
    is_there: Mutex<bool>,
}

impl Reserve {
    pub(crate) fn new(bytes: u64) -> Self {
        Self { bytes, is_there: Mutex::new(false) }
    }

    /// Takes the reserve, unless it is there. With it, publishes are accepted again: after a full disk only
    /// where a quarter as much is free beyond it. Else the next few messages would fill the disk again.
    ///
    /// # Errors
    /// `Full`, `Io`: there is no room for it.
    pub(super) fn take(&self, disk: &dyn Disk, health: &Health) -> Result<()> {
        let mut is_there = self.is_there.lock();
        if *is_there {
            return Ok(());
        }
        let beyond = if health.is_full() { self.bytes / 4 } else { 0 };
        let take = |bytes| {
            remove_reserve(disk)?;
            own::create(disk, RESERVE_NAME)?.1.allocate(bytes)
        };
        let probed = if beyond > 0 { take(self.bytes + beyond) } else { Ok(()) };
        if let Err(error) = probed.and_then(|()| take(self.bytes)) {
            // What it took is needed by others; it is tried again.
            let _ = remove_reserve(disk);
            health.set_full(true);
            let why = match beyond >> 10 {
                0 => format!("there is no room for the {} KiB kept in reserve", self.bytes >> 10),
                beyond => format!(
                    "there is no room for the {} KiB kept in reserve and {beyond} KiB beyond",
                    self.bytes >> 10
                ),
            };
            return Err(Error::io(why, error));
        }
        *is_there = true;
        health.set_full(false);
        Ok(())
    }

    /// Releases the reserve: the disk is full. `false` if it was released already.
    pub(super) fn release(&self, disk: &dyn Disk, health: &Health) -> bool {
        let mut is_there = self.is_there.lock();
        health.set_full(true);
        if !std::mem::take(&mut *is_there) {
            return false;
        }
        if let Err(error) = remove_reserve(disk) {
            tracing::warn!("could not release {RESERVE_NAME}: {error}");
        }
        true
    }
}

/// Removes the reserve, if it is there.
pub(crate) fn remove_reserve(disk: &dyn Disk) -> std::io::Result<()> {
    let found = own::own(disk, |name| name == Name::Reserve)?;
    found.iter().try_for_each(|(name, _)| disk.remove(name))
}

//! A file that only takes space: given up on a full disk, for the finishes, the checkpoint and the cleaning
//! that make room again, and taken back when there is.

use crate::sync::Mutex;

use crate::error::{Error, Result};
use crate::store::disk::Disk;
use crate::store::format::own::{self, Name, RESERVE_NAME};
use crate::store::log::Log;

/// Whether it is there.
pub(crate) struct Reserve {
    /// One log file's: what cleaning needs to fill a new one.
    bytes: u64,
    held: Mutex<bool>,
}

impl Reserve {
    pub(crate) fn new(bytes: u64) -> Self {
        Self { bytes, held: Mutex::new(false) }
    }
}

impl Log {
    /// Takes the reserve, unless it is there. With it, publishes are accepted again.
    ///
    /// # Errors
    /// `Full`, `Io`: there is no room for it.
    pub(crate) fn take_reserve(&self) -> Result<()> {
        let mut held = self.reserve.held.lock();
        if *held {
            return Ok(());
        }
        let take = || {
            remove_reserve(&*self.disk)?;
            own::create(&*self.disk, RESERVE_NAME)?.1.allocate(self.reserve.bytes)
        };
        if let Err(error) = take() {
            // What it took is needed by others; it is tried again.
            let _ = remove_reserve(&*self.disk);
            self.trouble.set_full(true);
            let why = format!("there is no room for the {} KiB kept in reserve", self.reserve.bytes >> 10);
            return Err(Error::io(why, error));
        }
        *held = true;
        self.trouble.set_full(false);
        Ok(())
    }

    /// Gives the reserve up: the disk is full. `false` if it was given up already.
    pub(super) fn release_reserve(&self) -> bool {
        let mut held = self.reserve.held.lock();
        self.trouble.set_full(true);
        if !std::mem::take(&mut *held) {
            return false;
        }
        if let Err(error) = remove_reserve(&*self.disk) {
            tracing::warn!("could not give up {RESERVE_NAME}: {error}");
        }
        true
    }
}

/// Removes the reserve, if it is there.
pub(crate) fn remove_reserve(disk: &dyn Disk) -> std::io::Result<()> {
    let found = own::own(disk, |name| name == Name::Reserve)?;
    found.iter().try_for_each(|(name, _)| disk.remove(name))
}

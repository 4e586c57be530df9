//! Descriptors that are readable or not, as the library says. Nobody else reads them.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

#[cfg(target_os = "linux")]
use rustix::event::{EventfdFlags, eventfd};

/// A descriptor that is readable while it is set. Its owner's lock orders the calls.
pub(crate) struct Readiness {
    read: OwnedFd,
    /// The other end, where there are no eventfds.
    #[cfg(not(target_os = "linux"))]
    write: OwnedFd,
    is_set: bool,
}

impl Readiness {
    #[cfg(target_os = "linux")]
    pub(crate) fn new() -> io::Result<Self> {
        let read = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self { read, is_set: false })
    }

    #[cfg(not(target_os = "linux"))]
    pub(crate) fn new() -> io::Result<Self> {
        let (read, write) = std::os::unix::net::UnixStream::pair()?;
        read.set_nonblocking(true)?;
        write.set_nonblocking(true)?;
        Ok(Self { read: read.into(), write: write.into(), is_set: false })
    }

    /// Makes it readable or not. One system call if that is a change, else none.
    pub(crate) fn set(&mut self, is_set: bool) {
        if self.is_set == is_set {
            return;
        }
        self.is_set = is_set;
        // An eventfd takes and gives a number of 8 bytes, here one that is the same in every byte order.
        // Neither call can fail: there is room for one write, and what was written is there.
        let _ = if is_set {
            rustix::io::write(self.writer(), &[1; 8])
        } else {
            rustix::io::read(&self.read, &mut [0_u8; 8])
        };
    }

    pub(crate) fn fd(&self) -> RawFd {
        self.read.as_raw_fd()
    }

    fn writer(&self) -> impl AsFd + '_ {
        #[cfg(target_os = "linux")]
        return &self.read;
        #[cfg(not(target_os = "linux"))]
        return &self.write;
    }
}

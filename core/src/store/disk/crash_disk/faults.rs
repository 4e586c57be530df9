//! Faults that can be injected into a [`CrashDisk`](super::CrashDisk).

use std::io;

/// A call of the store to its disk, as a fault hook sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call<'a> {
    /// Number of changing calls (see [`Op::changes`]) before this one, failed ones included.
    pub index: u64,
    /// The operation that is asked for.
    pub op: Op,
    /// The file: the name it was opened by, the old name of a rename; empty for calls on the folder.
    pub file: &'a str,
    /// Offset at which a read or write starts; else 0.
    pub at: u64,
    /// Bytes to read or write, or the length asked for; else 0.
    pub len: u64,
}

/// The calls of [`Disk`](crate::store::disk::Disk) and [`File`](crate::store::disk::File) that can fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "named after the calls")]
pub enum Op {
    Create,
    Open,
    Read,
    ReadNowait,
    Write,
    Truncate,
    Allocate,
    Sync,
    Rename,
    Remove,
    SyncDir,
    List,
}

impl Op {
    /// Whether the call changes the disk or what would survive. Only these are numbered, so that a number
    /// means the same however many readers there are.
    pub fn changes(self) -> bool {
        !matches!(self, Self::Open | Self::Read | Self::ReadNowait | Self::List)
    }
}

/// Manner in which a call fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// `StorageFull`, nothing done.
    Enospc,
    /// An error of kind `Other`, nothing done.
    Eio,
    /// A write takes only its first bytes, this many, then `StorageFull`. Any other call: as
    /// [`Fault::Enospc`].
    ShortWrite(usize),
    /// A sync fails, and what it was to make durable stays lost or not until the file is gone, whatever later
    /// syncs say: Linux reports a failed writeback once and marks the pages clean, so the running process
    /// goes on reading bytes that may never have reached the medium. So it is for whatever fault meets a
    /// [`Op::Sync`]; a failed [`Op::SyncDir`] does no harm beyond itself, since a journal that fails
    /// stops its file system. Any other call: as [`Fault::Eio`].
    SyncFails,
    /// `WouldBlock`: what a nowait read gives when the bytes are not cached.
    WouldBlock,
}

impl Fault {
    pub(super) fn error(self) -> io::Error {
        match self {
            Self::Enospc | Self::ShortWrite(_) => io::ErrorKind::StorageFull.into(),
            Self::Eio | Self::SyncFails => io::Error::other("injected I/O error"),
            Self::WouldBlock => io::ErrorKind::WouldBlock.into(),
        }
    }
}

/// Decides which calls fail; none where it gives `None`.
pub type FaultHook = Box<dyn FnMut(&Call<'_>) -> Option<Fault> + Send>;

/// The hook, and the numbers of calls.
#[derive(Default)]
pub(super) struct Faults {
    pub(super) hook: Option<FaultHook>,
    pub(super) calls: u64,
}

impl Faults {
    pub(super) fn meet(&mut self, op: Op, file: &str, at: u64, len: u64) -> Option<Fault> {
        let call = Call { index: self.calls, op, file, at, len };
        self.calls += u64::from(op.changes());
        self.hook.as_mut().and_then(|hook| hook(&call))
    }
}

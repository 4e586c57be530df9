//! A disk in memory that knows what a crash would have left of it, and fails on demand. A seam for tests
//! (this crate's, and `cargo xtask crash`), behind the feature `testkit`: nothing here is for a running
//! broker.
//!
//! Every change is an event with a number. A test runs the store on a [`CrashDisk`], notes
//! [`CrashDisk::events`] at each acknowledgement, then cuts the history at every event with
//! [`CrashDisk::replay`], opens the store on each image and looks for what had been acknowledged by then. An
//! image is a disk like any other: it can be run on and crashed again.
//!
//! The model of a power loss is that of [`disk`](crate::store::disk), taken at its worst; what real disks
//! promise beyond it (an order of directory changes, say) is not kept. Everything is a function of the calls
//! made and the seeds given.

use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::sync::Arc;

use crate::sync::Mutex;

use super::disk::{Disk, File, FileId, OpenMode, check_name};
use faults::Faults;
use model::{Event, Inode, Model};

mod faults;
mod model;
mod replay;

#[cfg(test)]
mod tests;

pub use faults::{Call, Fault, FaultHook, Op};
pub use replay::{Crash, Replay};

/// A longer file is refused: no test means to have one, but a damaged length may ask for it.
const FILE_BYTES_MAX: u64 = 1 << 30;

/// An in-memory disk with a history. Clones are handles of the same disk.
#[derive(Clone, Default)]
pub struct CrashDisk {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// Apart from the state, so that a hook can ask the disk for its events.
    faults: Mutex<Faults>,
}

#[derive(Default)]
struct State {
    /// The disk before the first event.
    base: Model,
    /// The disk after the last event: what the process sees.
    now: Model,
    events: Vec<Event>,
    capacity: Option<u64>,
    /// Space reserved by `allocate`, kept apart as it is no content: images start without.
    reserved: BTreeMap<Inode, u64>,
    /// Creations, renames and removals so far.
    version: u64,
    /// See [`CrashDisk::move_away`].
    is_away: bool,
}

impl CrashDisk {
    /// An empty disk.
    pub fn new() -> Self {
        Self::default()
    }

    /// Number of events so far. What was acknowledged when this was `n` must survive a crash after `n`
    /// events or more.
    pub fn events(&self) -> usize {
        self.shared.state.lock().events.len()
    }

    /// The events in words, for the message of a failed test.
    pub fn history(&self) -> Vec<String> {
        self.shared.state.lock().events.iter().map(Event::to_string).collect()
    }

    /// The disk as a crash right after `event` events leaves it. For every event in turn,
    /// [`CrashDisk::replay`] is faster.
    pub fn image(&self, event: usize, crash: Crash) -> CrashDisk {
        let mut replay = self.replay();
        while replay.event() < event && replay.step() {}
        match crash {
            Crash::Kill => replay.kill_image(),
            Crash::KillTorn { seed } => replay.torn_image(seed).unwrap_or_else(|| replay.kill_image()),
            Crash::Power { seed } => replay.power_image(seed),
        }
    }

    /// Goes through the history so far from its beginning.
    pub fn replay(&self) -> Replay {
        let state = self.shared.state.lock();
        Replay::new(state.base.clone(), state.events.clone())
    }

    /// Asks `hook` about every call from now on. It may not set a hook itself, and a hook that blocks stops
    /// the disk.
    pub fn set_faults(&self, hook: FaultHook) {
        self.shared.faults.lock().hook = Some(hook);
    }

    /// Lets every call through again.
    pub fn clear_faults(&self) {
        self.shared.faults.lock().hook = None;
    }

    /// Fails the changing call number `index` (see [`CrashDisk::calls`]), and no other.
    pub fn fail_at(&self, index: u64, fault: Fault) {
        self.set_faults(Box::new(move |call| (call.op.changes() && call.index == index).then_some(fault)));
    }

    /// Number of changing calls so far, failed ones included.
    pub fn calls(&self) -> u64 {
        self.shared.faults.lock().calls
    }

    /// Limits the space of all files, by their length or what is reserved for them; beyond it, what fits is
    /// written and the call is `StorageFull`. A removed file takes no space, though it may still be open.
    /// `None`: no limit.
    pub fn capacity(&self, bytes: Option<u64>) {
        self.shared.state.lock().capacity = bytes;
    }

    /// Space taken, as [`CrashDisk::capacity`] counts it.
    pub fn used(&self) -> u64 {
        self.shared.state.lock().used()
    }

    /// Moves the folder away from its path, or back: all calls go on to work on it.
    pub fn move_away(&self, is_away: bool) {
        self.shared.state.lock().is_away = is_away;
    }

    /// The whole of a file.
    ///
    /// # Panics
    /// If there is none of this name: in a test that is its end.
    #[expect(clippy::panic, reason = "a helper of tests")]
    pub fn bytes(&self, name: &str) -> Vec<u8> {
        let state = self.shared.state.lock();
        match state.now.inode(name) {
            Some(inode) => state.now.bytes(inode).to_vec(),
            None => panic!("no file {name:?} on the disk"),
        }
    }

    /// All files and their contents.
    pub fn dump(&self) -> BTreeMap<String, Vec<u8>> {
        let state = self.shared.state.lock();
        let names = state.now.names().iter();
        names.map(|(name, inode)| (name.to_string(), state.now.bytes(*inode).to_vec())).collect()
    }

    /// Replaces or creates a file behind the store's back. It is durable at once, name and contents, and an
    /// event: replays go through it too.
    pub fn set_bytes(&self, name: &str, bytes: impl Into<Vec<u8>>) {
        let event = Event::Plant { name: name.into(), bytes: Arc::new(bytes.into()) };
        self.shared.state.lock().record(event);
    }

    /// Turns one bit of a file, counted from the lowest of its first byte. Like [`CrashDisk::set_bytes`] this
    /// makes the whole file durable.
    ///
    /// # Panics
    /// If there is no such file or bit.
    pub fn flip_bit(&self, name: &str, bit: u64) {
        let mut bytes = self.bytes(name);
        bytes[(bit / 8) as usize] ^= 1 << (bit % 8);
        self.set_bytes(name, bytes);
    }

    /// `model` as the disk of a process that starts now.
    fn holding(model: Model) -> Self {
        let state = State { base: model.clone(), now: model, ..State::default() };
        Self { shared: Arc::new(Shared { state: Mutex::new(state), faults: Mutex::default() }) }
    }
}

impl Disk for CrashDisk {
    fn open(&self, name: &str, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        check_name(name)?;
        let create = mode == OpenMode::Create;
        self.shared.meet(if create { Op::Create } else { Op::Open }, name, 0, 0)?;
        let name: Arc<str> = name.into();
        let mut state = self.shared.state.lock();
        if create {
            if state.now.inode(&name).is_some() {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            state.record(Event::Create { name: Arc::clone(&name) });
        }
        let inode = state.find(&name)?;
        let shared = Arc::clone(&self.shared);
        Ok(Arc::new(CrashFile { shared, name, inode, writable: mode != OpenMode::Read }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        check_name(from)?;
        check_name(to)?;
        self.shared.meet(Op::Rename, from, 0, 0)?;
        let mut state = self.shared.state.lock();
        state.find(from)?;
        state.record(Event::Rename { from: from.into(), to: to.into() });
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        check_name(name)?;
        self.shared.meet(Op::Remove, name, 0, 0)?;
        let mut state = self.shared.state.lock();
        state.find(name)?;
        state.record(Event::Remove { name: name.into() });
        Ok(())
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.shared.meet(Op::SyncDir, "", 0, 0)?;
        self.shared.state.lock().record(Event::SyncDir);
        Ok(())
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.shared.meet(Op::List, "", 0, 0)?;
        Ok(self.shared.state.lock().now.names().keys().map(|name| name.to_string()).collect())
    }

    fn id(&self, name: &str) -> io::Result<FileId> {
        check_name(name)?;
        Ok((0, self.shared.state.lock().find(name)? as u64))
    }

    fn is_in_place(&self) -> io::Result<bool> {
        Ok(!self.shared.state.lock().is_away)
    }

    fn version(&self) -> io::Result<u64> {
        Ok(self.shared.state.lock().version)
    }
}

impl Shared {
    fn fault(&self, op: Op, file: &str, at: u64, len: u64) -> Option<Fault> {
        self.faults.lock().meet(op, file, at, len)
    }

    fn meet(&self, op: Op, file: &str, at: u64, len: u64) -> io::Result<()> {
        self.fault(op, file, at, len).map_or(Ok(()), |fault| Err(fault.error()))
    }
}

impl State {
    fn record(&mut self, event: Event) {
        let is_of_names = matches!(
            event,
            Event::Create { .. } | Event::Rename { .. } | Event::Remove { .. } | Event::Plant { .. }
        );
        self.version += u64::from(is_of_names);
        self.now.apply(&event);
        self.events.push(event);
    }

    fn find(&self, name: &str) -> io::Result<Inode> {
        self.now.inode(name).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Bytes of the capacity that one file takes.
    fn space(&self, inode: Inode) -> u64 {
        let reserved = self.reserved.get(&inode).copied().unwrap_or(0);
        reserved.max(self.now.bytes(inode).len() as u64)
    }

    fn used(&self) -> u64 {
        self.now.names().values().map(|inode| self.space(*inode)).sum()
    }

    /// Most bytes that this file may have.
    fn len_max(&self, inode: Inode) -> u64 {
        let Some(capacity) = self.capacity else { return FILE_BYTES_MAX };
        FILE_BYTES_MAX.min(self.space(inode) + capacity.saturating_sub(self.used()))
    }

    fn check_len(&self, inode: Inode, len: u64) -> io::Result<()> {
        if len <= self.len_max(inode) { Ok(()) } else { Err(io::ErrorKind::StorageFull.into()) }
    }
}

struct CrashFile {
    shared: Arc<Shared>,
    /// The name by which it was opened.
    name: Arc<str>,
    inode: Inode,
    writable: bool,
}

impl CrashFile {
    fn check_writable(&self) -> io::Result<()> {
        if self.writable { Ok(()) } else { Err(io::ErrorKind::PermissionDenied.into()) }
    }

    fn read(&self, op: Op, buf: &mut [u8], at: u64) -> io::Result<usize> {
        self.shared.meet(op, &self.name, at, buf.len() as u64)?;
        let state = self.shared.state.lock();
        let bytes = state.now.bytes(self.inode);
        let rest = usize::try_from(at).ok().and_then(|at| bytes.get(at..)).unwrap_or_default();
        let n = rest.len().min(buf.len());
        buf[..n].copy_from_slice(&rest[..n]);
        Ok(n)
    }
}

impl File for CrashFile {
    fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<usize> {
        self.read(Op::Read, buf, at)
    }

    fn read_at_nowait(&self, buf: &mut [u8], at: u64) -> io::Result<usize> {
        self.read(Op::ReadNowait, buf, at)
    }

    fn write_at(&self, bufs: &mut [IoSlice<'_>], at: u64) -> io::Result<()> {
        self.check_writable()?;
        let mut bytes: Vec<u8> = bufs.iter().flat_map(|slice| slice.iter().copied()).collect();
        let fault = self.shared.fault(Op::Write, &self.name, at, bytes.len() as u64);
        let mut outcome = fault.map_or(Ok(()), |fault| Err(fault.error()));
        match fault {
            Some(Fault::ShortWrite(n)) => bytes.truncate(n),
            Some(_) => bytes.clear(),
            None => {}
        }
        let mut state = self.shared.state.lock();
        let room = state.len_max(self.inode).saturating_sub(at);
        if bytes.len() as u64 > room {
            bytes.truncate(room as usize);
            outcome = Err(io::ErrorKind::StorageFull.into());
        }
        if !bytes.is_empty() {
            let name = Arc::clone(&self.name);
            state.record(Event::Write { name, inode: self.inode, at, bytes: bytes.into() });
        }
        outcome
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.check_writable()?;
        self.shared.meet(Op::Truncate, &self.name, 0, len)?;
        let mut state = self.shared.state.lock();
        state.check_len(self.inode, len)?;
        state.reserved.remove(&self.inode);
        state.record(Event::Truncate { name: Arc::clone(&self.name), inode: self.inode, len });
        Ok(())
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        self.check_writable()?;
        self.shared.meet(Op::Allocate, &self.name, 0, len)?;
        let mut state = self.shared.state.lock();
        let (outcome, max) = (state.check_len(self.inode, len), state.len_max(self.inode));
        // What there is is taken, also if it is not enough.
        let reserved = state.reserved.entry(self.inode).or_default();
        *reserved = len.min(max).max(*reserved);
        outcome
    }

    fn sync(&self) -> io::Result<()> {
        let (name, inode) = (Arc::clone(&self.name), self.inode);
        match self.shared.fault(Op::Sync, &name, 0, 0) {
            None => self.shared.state.lock().record(Event::Sync { name, inode }),
            Some(fault) => {
                self.shared.state.lock().record(Event::SyncFailed { name, inode });
                return Err(fault.error());
            }
        }
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.shared.state.lock().now.bytes(self.inode).len() as u64)
    }

    fn id(&self) -> io::Result<FileId> {
        Ok((0, self.inode as u64))
    }
}

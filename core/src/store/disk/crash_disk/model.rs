//! The contents of a folder: in the eyes of the running process, on the medium for sure, and in between.
//!
//! Pure: the live disk and a replay of its history are the same [`Model::apply`], so a replayed image can't
//! differ from what the process saw.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use fastrand::Rng;

/// Bytes that a disk writes as a unit: all of them are there after a power loss, or none.
pub(super) const SECTOR: u64 = 512;

/// A file apart from its name. Numbers are never used again within one disk.
pub(super) type Inode = usize;
pub(super) type Names = BTreeMap<Arc<str>, Inode>;

/// One thing that happened to a folder. `name` of a file's event is the one its handle was opened by.
#[derive(Clone)]
pub(super) enum Event {
    Create {
        name: Arc<str>,
    },
    Write {
        name: Arc<str>,
        inode: Inode,
        at: u64,
        bytes: Arc<[u8]>,
    },
    Truncate {
        name: Arc<str>,
        inode: Inode,
        len: u64,
    },
    Sync {
        name: Arc<str>,
        inode: Inode,
    },
    SyncFailed {
        name: Arc<str>,
        inode: Inode,
    },
    Rename {
        from: Arc<str>,
        to: Arc<str>,
    },
    Remove {
        name: Arc<str>,
    },
    SyncDir,
    /// Not done by the process: bytes as a test puts them, durable at once.
    Plant {
        name: Arc<str>,
        bytes: Arc<Vec<u8>>,
    },
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Create { name } => write!(f, "create {name}"),
            Self::Write { name, at, bytes, .. } => write!(f, "write {name} at {at}: {} bytes", bytes.len()),
            Self::Truncate { name, len, .. } => write!(f, "truncate {name} to {len}"),
            Self::Sync { name, .. } => write!(f, "sync {name}"),
            Self::SyncFailed { name, .. } => write!(f, "sync {name}: failed"),
            Self::Rename { from, to } => write!(f, "rename {from} to {to}"),
            Self::Remove { name } => write!(f, "remove {name}"),
            Self::SyncDir => write!(f, "sync folder"),
            Self::Plant { name, bytes } => write!(f, "plant {name}: {} bytes", bytes.len()),
        }
    }
}

/// The state of a folder. Cloning copies pointers; contents are copied when one side changes them.
#[derive(Clone, Default)]
pub(super) struct Model {
    dir: Arc<Dir>,
    files: Vec<Arc<Contents>>,
}

#[derive(Clone, Default)]
struct Dir {
    live: Names,
    /// Names as of the last sync of the folder.
    durable: Names,
    /// Moves since then, in order.
    unsynced: Vec<Move>,
}

/// A file got this name and lost the one it had; without a name, it was removed. Creation, renaming and
/// removal are all this one step, which is why none of them can be half done.
#[derive(Clone)]
struct Move {
    inode: Inode,
    name: Option<Arc<str>>,
}

impl Move {
    fn apply(&self, names: &mut Names) {
        names.retain(|_, inode| *inode != self.inode);
        if let Some(name) = &self.name {
            names.insert(Arc::clone(name), self.inode);
        }
    }
}

#[derive(Clone, Default)]
struct Contents {
    live: Arc<Vec<u8>>,
    /// Bytes as of the last sync before `changes`.
    durable: Arc<Vec<u8>>,
    /// Changes that lead from `durable` to `live`, in order.
    changes: Vec<(Change, Trust)>,
}

#[derive(Clone)]
enum Change {
    Write { at: u64, bytes: Arc<[u8]> },
    Truncate { len: u64 },
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Trust {
    /// May survive a power loss, whole or torn.
    Unsynced,
    /// Unsynced, and no later sync changes that: one has failed on it.
    Suspect,
    /// Synced, and kept apart only because what lies under it is suspect.
    Synced,
}

/// Manner in which a power loss treats a group of unsynced changes. Drawn for each group first: if every
/// sector of a long history had its own coin, the images in which nothing or everything survived would never
/// come up.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Lost,
    Whole,
    Mixed,
}

impl Fate {
    fn draw(rng: &mut Rng) -> Self {
        match rng.u8(..4) {
            0 => Self::Lost,
            1 => Self::Whole,
            _ => Self::Mixed,
        }
    }

    /// The fate of one of the group.
    fn one(self, rng: &mut Rng) -> Self {
        if self == Self::Mixed { Self::draw(rng) } else { self }
    }

    /// The fate of what is whole or not at all.
    fn spares(self, rng: &mut Rng) -> bool {
        match self {
            Self::Lost => false,
            Self::Whole => true,
            Self::Mixed => rng.bool(),
        }
    }
}

impl Model {
    pub(super) fn names(&self) -> &Names {
        &self.dir.live
    }

    pub(super) fn inode(&self, name: &str) -> Option<Inode> {
        self.dir.live.get(name).copied()
    }

    pub(super) fn bytes(&self, inode: Inode) -> &Arc<Vec<u8>> {
        &self.files[inode].live
    }

    /// Takes one step. A name or number that leads nowhere is no step: the disk has checked both.
    pub(super) fn apply(&mut self, event: &Event) {
        match event {
            Event::Create { name } => {
                self.files.push(Arc::default());
                self.rename(self.files.len() - 1, Some(name));
            }
            Event::Write { inode, at, bytes, .. } => {
                self.contents(*inode).change(Change::Write { at: *at, bytes: Arc::clone(bytes) });
            }
            Event::Truncate { inode, len, .. } => {
                self.contents(*inode).change(Change::Truncate { len: *len })
            }
            Event::Sync { inode, .. } => self.contents(*inode).sync(),
            Event::SyncFailed { inode, .. } => self.contents(*inode).mark_suspect(),
            Event::Rename { from, to } => {
                if let Some(inode) = self.inode(from) {
                    self.rename(inode, Some(to));
                }
            }
            Event::Remove { name } => {
                if let Some(inode) = self.inode(name) {
                    self.rename(inode, None);
                }
            }
            Event::SyncDir => {
                let dir = Arc::make_mut(&mut self.dir);
                dir.durable.clone_from(&dir.live);
                dir.unsynced.clear();
            }
            Event::Plant { name, bytes } => self.plant(name, bytes),
        }
    }

    /// The folder as a new process finds it after a power loss.
    pub(super) fn after_power_loss(&self, rng: &mut Rng) -> Model {
        let mut names = self.dir.durable.clone();
        let fate = Fate::draw(rng);
        for step in &self.dir.unsynced {
            if fate.spares(rng) {
                step.apply(&mut names);
            }
        }
        let mut after = Model::default();
        for (name, inode) in &names {
            after.plant(name, &self.files[*inode].after_power_loss(rng));
        }
        after
    }

    fn rename(&mut self, inode: Inode, name: Option<&Arc<str>>) {
        let step = Move { inode, name: name.cloned() };
        let dir = Arc::make_mut(&mut self.dir);
        step.apply(&mut dir.live);
        dir.unsynced.push(step);
    }

    fn contents(&mut self, inode: Inode) -> &mut Contents {
        Arc::make_mut(&mut self.files[inode])
    }

    fn plant(&mut self, name: &Arc<str>, bytes: &Arc<Vec<u8>>) {
        let inode = self.inode(name).unwrap_or_else(|| {
            self.files.push(Arc::default());
            self.files.len() - 1
        });
        *self.contents(inode) =
            Contents { live: Arc::clone(bytes), durable: Arc::clone(bytes), changes: Vec::new() };
        // Only this name becomes durable, and nothing older may take it back; what else is unsynced stays so.
        let dir = Arc::make_mut(&mut self.dir);
        let step = Move { inode, name: Some(Arc::clone(name)) };
        step.apply(&mut dir.live);
        step.apply(&mut dir.durable);
        dir.unsynced.retain(|step| step.inode != inode && step.name.as_ref() != Some(name));
    }
}

impl Contents {
    fn change(&mut self, change: Change) {
        change.apply(Arc::make_mut(&mut self.live));
        self.changes.push((change, Trust::Unsynced));
    }

    fn sync(&mut self) {
        // Nothing may be folded over what is suspect: in some image that part is lost and the synced is
        // not.
        let suspect = self.changes.iter().position(|(_, trust)| *trust == Trust::Suspect);
        let durable = Arc::make_mut(&mut self.durable);
        for (change, _) in self.changes.drain(..suspect.unwrap_or(self.changes.len())) {
            change.apply(durable);
        }
        self.mark(Trust::Synced);
    }

    fn mark_suspect(&mut self) {
        self.mark(Trust::Suspect);
    }

    fn mark(&mut self, as_now: Trust) {
        for (_, trust) in self.changes.iter_mut().filter(|(_, trust)| *trust == Trust::Unsynced) {
            *trust = as_now;
        }
    }

    fn after_power_loss(&self, rng: &mut Rng) -> Arc<Vec<u8>> {
        let mut survived = Arc::clone(&self.durable);
        let fate = Fate::draw(rng);
        for (change, trust) in &self.changes {
            match (trust, fate.one(rng)) {
                (Trust::Synced, _) | (_, Fate::Whole) => change.apply(Arc::make_mut(&mut survived)),
                (_, Fate::Lost) => {}
                (_, Fate::Mixed) => change.apply_torn(Arc::make_mut(&mut survived), rng),
            }
        }
        survived
    }
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Write { at, bytes: new } => put(bytes, *at, new),
            Self::Truncate { len } => bytes.resize(*len as usize, 0),
        }
    }

    /// Each sector survives or not by itself. So may the length: a file system can have written that down
    /// before the bytes, which then read as zeros.
    fn apply_torn(&self, bytes: &mut Vec<u8>, rng: &mut Rng) {
        let Self::Write { at, bytes: new } = self else {
            if rng.bool() {
                self.apply(bytes);
            }
            return;
        };
        let end = at + new.len() as u64;
        let mut from = *at;
        while from < end {
            let to = end.min((from / SECTOR + 1) * SECTOR);
            if rng.bool() {
                put(bytes, from, &new[(from - at) as usize..(to - at) as usize]);
            }
            from = to;
        }
        if (bytes.len() as u64) < end && rng.u8(..4) == 0 {
            bytes.resize(end as usize, 0);
        }
    }
}

fn put(bytes: &mut Vec<u8>, at: u64, new: &[u8]) {
    let (at, end) = (at as usize, at as usize + new.len());
    if bytes.len() < end {
        bytes.resize(end, 0);
    }
    bytes[at..end].copy_from_slice(new);
}

//! The store's own files among others in the data folder.
//!
//! A file is the store's if it has one of its names and begins as its files do, or holds nothing. Any other
//! file may stand there too, under any name: it is never changed or removed, and where it has a name that the
//! store needs, the store takes another.

use std::io::{self, ErrorKind, IoSlice};
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::store::disk::{Disk, File, OpenMode};
use crate::store::format::checkpoint;
use crate::store::format::file::{self, FileNo, checkpoint_name, log_name};
use crate::store::format::manifest::{self, MANIFEST_NAME};

/// A manifest before it takes the old one's place.
pub(crate) const MANIFEST_NEW_NAME: &str = "manifest.new";
/// A file that only takes space. Nothing in it counts.
pub(crate) const RESERVE_NAME: &str = "reserve";
/// A file that is there from a failed fsync until all suspect files were written anew. It is of use after a
/// kill: a suspect file reads well from the system's cache, and a later fsync of it would succeed and do
/// nothing. After a power loss nothing suspect can be read, so this need not survive one.
pub(crate) const DOUBT_NAME: &str = "doubt";
/// Ending of a file that a repair replaced.
pub(crate) const SET_ASIDE: &str = ".damaged";

/// File numbers stay below this: far more than any broker makes, and far enough below what a `u64` holds to
/// count on.
const NUMBER_MAX: FileNo = FileNo(1 << 48);
/// Names tried before giving up: foreign files under so many of the store's names are no accident.
const TRIES: u32 = 10_000;
/// Bytes that a disk writes whole or not at all.
const SECTOR: usize = 512;
/// Bytes read at a time of a file that may be all zeros.
const READ_BYTES: usize = 64 << 10;

/// A name that the store gives its files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Name {
    /// A log file, with its number.
    Log(FileNo),
    /// A checkpoint, with its number.
    Checkpoint(FileNo),
    /// The manifest.
    Manifest,
    /// [`MANIFEST_NEW_NAME`], or what was taken in its place.
    ManifestNew,
    /// [`RESERVE_NAME`], or what was taken in its place.
    Reserve,
    /// [`DOUBT_NAME`], or what was taken in its place.
    Doubt,
}

/// The contents of a file that has one of the store's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Contents {
    /// The first bytes are those of the store's files.
    Own,
    /// Empty or all zeros: the store's, before anything was written, or as a power loss left it.
    Blank,
    /// Somebody else's.
    Foreign,
}

impl Name {
    /// Reads a name. `None` if the store gives no file that name.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        let is_one_of = |base: &str| {
            let Some(rest) = name.strip_prefix(base) else { return false };
            let number = |digits: &str| digits.parse().is_ok_and(|n: u32| n > 0 && n.to_string() == digits);
            rest.is_empty() || rest.strip_prefix('.').is_some_and(number)
        };
        match name {
            MANIFEST_NAME => Some(Self::Manifest),
            _ if is_one_of(MANIFEST_NEW_NAME) => Some(Self::ManifestNew),
            _ if is_one_of(RESERVE_NAME) => Some(Self::Reserve),
            _ if is_one_of(DOUBT_NAME) => Some(Self::Doubt),
            _ => {
                let log = number(name, log_name, ".log").map(Self::Log);
                log.or_else(|| number(name, checkpoint_name, ".checkpoint").map(Self::Checkpoint))
            }
        }
    }

    /// Whether the first bytes of a file of `len` bytes are those of the store's file of this name. Where
    /// only the magic is damaged, the rest of a header proves it.
    fn is_begun_by(self, head: &[u8], len: u64) -> bool {
        match self {
            Self::Log(no) => file::is_begun_by(head, no),
            Self::Checkpoint(_) => checkpoint::is_begun_by(head, len),
            Self::Manifest | Self::ManifestNew => manifest::is_begun_by(head),
            Self::Reserve | Self::Doubt => false,
        }
    }
}

fn number(name: &str, of: fn(FileNo) -> String, ending: &str) -> Option<FileNo> {
    let no = name.strip_suffix(ending)?.parse().ok().map(FileNo).filter(|no| *no < NUMBER_MAX)?;
    (of(no) == name).then_some(no)
}

/// Looks into the file `name`. A file without one of the store's names is foreign.
pub(crate) fn contents(disk: &dyn Disk, name: &str) -> io::Result<Contents> {
    let Some(parsed) = Name::parse(name) else { return Ok(Contents::Foreign) };
    let file = disk.open(name, OpenMode::Read)?;
    let len = file.len()?;
    let mut bytes = vec![0; READ_BYTES];
    let got = file.read_at(&mut bytes, 0)?;
    if got > 0 && parsed.is_begun_by(&bytes[..got], len) {
        return Ok(Contents::Own);
    }
    let (mut at, mut got) = (0, got);
    while got > 0 {
        if bytes[..got].iter().any(|byte| *byte != 0) {
            return Ok(Contents::Foreign);
        }
        at += got as u64;
        got = file.read_at(&mut bytes, at)?;
    }
    Ok(Contents::Blank)
}

/// The store's own files whose names are `is_wanted`.
pub(crate) fn own(disk: &dyn Disk, is_wanted: impl Fn(Name) -> bool) -> io::Result<Vec<(String, Contents)>> {
    let mut found = Vec::new();
    for name in disk.list()? {
        if Name::parse(&name).is_some_and(&is_wanted) {
            match contents(disk, &name)? {
                Contents::Foreign => {}
                contents => found.push((name, contents)),
            }
        }
    }
    Ok(found)
}

/// A log file or checkpoint of the store with something in it, if there is one.
pub(crate) fn orphan(disk: &dyn Disk) -> io::Result<Option<String>> {
    let found = own(disk, |name| matches!(name, Name::Log(_) | Name::Checkpoint(_)))?;
    Ok(found.into_iter().find(|(_, contents)| *contents == Contents::Own).map(|(name, _)| name))
}

/// Whether somebody else's file has the manifest's name. Among the store's files it is one that was damaged.
pub(crate) fn is_manifest_foreign(disk: &dyn Disk) -> io::Result<bool> {
    if !disk.list()?.iter().any(|name| name == MANIFEST_NAME) {
        // What is no plain file is not listed.
        return Ok(disk.open(MANIFEST_NAME, OpenMode::Read).is_ok());
    }
    Ok(contents(disk, MANIFEST_NAME)? == Contents::Foreign && orphan(disk)?.is_none())
}

/// Creates a log file or checkpoint under the next number whose name is free.
pub(crate) fn create_numbered(
    disk: &dyn Disk,
    name: fn(FileNo) -> String,
    mut take_no: impl FnMut() -> FileNo,
) -> Result<(FileNo, Arc<dyn File>)> {
    let mut tries = 0;
    loop {
        let no = take_no();
        match disk.open(&name(no), OpenMode::Create) {
            Ok(file) => return Ok((no, file)),
            Err(e) if e.kind() == ErrorKind::AlreadyExists && tries < TRIES => tries += 1,
            Err(e) => return Err(Error::io(format!("could not create {}", name(no)), e)),
        }
    }
}

/// Creates `base`, or the first of `base.1`, `base.2`, ... that is free. What the store has left there is
/// replaced.
pub(crate) fn create(disk: &dyn Disk, base: &str) -> io::Result<(String, Arc<dyn File>)> {
    for n in 0..TRIES {
        let name = if n == 0 { base.to_owned() } else { format!("{base}.{n}") };
        match disk.open(&name, OpenMode::Create) {
            Ok(file) => return Ok((name, file)),
            Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
            Err(e) => return Err(e),
        }
        // What is no plain file is not listed.
        if disk.list()?.contains(&name) && contents(disk, &name)? != Contents::Foreign {
            disk.remove(&name)?;
            return Ok((name.clone(), disk.open(&name, OpenMode::Create)?));
        }
    }
    Err(io::Error::new(ErrorKind::AlreadyExists, format!("{base} and {TRIES} names like it are taken")))
}

/// Writes a new file whole and fsyncs it: `head`, at most a sector, before `rest`. So a power loss can't
/// leave a file that does not show whose it is.
pub(crate) fn fill(file: &dyn File, head: &[u8], rest: &[u8]) -> io::Result<()> {
    debug_assert!(head.len() <= SECTOR, "a sector is written whole");
    file.write_at(&mut [IoSlice::new(head)], 0)?;
    file.sync()?;
    if rest.is_empty() {
        return Ok(());
    }
    file.write_at(&mut [IoSlice::new(rest)], head.len() as u64)?;
    file.sync()
}

/// [`fill`] with bytes that are parted nowhere.
pub(crate) fn fill_bytes(file: &dyn File, bytes: &[u8]) -> io::Result<()> {
    let (head, rest) = bytes.split_at(bytes.len().min(SECTOR));
    fill(file, head, rest)
}

/// Files of a data folder that are not the store's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Foreign {
    /// Files in which nsqd keeps its topics and messages.
    pub(crate) nsqd: Vec<String>,
    /// Other files that are not the store's.
    pub(crate) others: Vec<String>,
}

impl Foreign {
    /// Finds the files that are not the store's. Skips folders, links and all else that is no plain file.
    pub(crate) fn find(disk: &dyn Disk) -> io::Result<Self> {
        let mut found = Self::default();
        let mut names = disk.list()?;
        names.sort_unstable();
        for name in names {
            let is_aside = name.split_once(SET_ASIDE).is_some_and(|(name, _)| Name::parse(name).is_some());
            let is_nsqd =
                (name.starts_with("nsqd.") && name.ends_with(".dat")) || name.contains(".diskqueue.");
            if is_nsqd {
                found.nsqd.push(name);
            } else if !is_aside && contents(disk, &name)? == Contents::Foreign {
                found.others.push(name);
            }
        }
        Ok(found)
    }

    /// A line for each kind, to warn of them.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if !self.others.is_empty() {
            let names = listed(&self.others);
            lines.push(format!(
                "the data folder holds files that are not libmq's; they are left alone: {names}"
            ));
        }
        if !self.nsqd.is_empty() {
            let names = listed(&self.nsqd);
            lines.push(format!(
                "the data folder holds nsqd's own data, which is not read: {names}; its messages stay there until an nsqd delivers them"
            ));
        }
        lines
    }
}

/// Names in one line at most: a folder may hold any number of other files.
const LISTED_MAX: usize = 10;

fn listed(names: &[String]) -> String {
    let shown: Vec<String> =
        names.iter().take(LISTED_MAX).map(|name| name.escape_debug().to_string()).collect();
    let more = names.len().saturating_sub(LISTED_MAX);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    shown.join(", ") + &more
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::disk::crash_disk::CrashDisk;
    use crate::store::format::file::{FileHeader, FileKind};
    use crate::store::format::log_pos::LogPos;
    use crate::store::format::manifest::Manifest;

    #[test]
    fn only_exact_names_are_the_stores() {
        let own = [
            ("00000001.log", Name::Log(FileNo(1))),
            ("123456789.log", Name::Log(FileNo(123_456_789))),
            ("00000002.checkpoint", Name::Checkpoint(FileNo(2))),
            ("manifest", Name::Manifest),
            ("manifest.new", Name::ManifestNew),
            ("manifest.new.3", Name::ManifestNew),
            ("reserve.1", Name::Reserve),
            ("doubt", Name::Doubt),
        ];
        for (name, parsed) in own {
            assert_eq!(Name::parse(name), Some(parsed), "{name}");
        }
        let foreign = [
            "app.log",
            "1.log",
            "000000001.log",
            "00000001.LOG",
            "+0000001.log",
            "00000001.log.damaged",
            "x00000001.log",
            "a.checkpoint",
            "manifest.old",
            "manifest.new.",
            "manifest.new.0",
            "manifest.new.01",
            "manifest.new.x",
            "reserved",
            "reserve.txt",
            "doubts",
            "18446744073709551615.log",
            "",
        ];
        for name in foreign {
            assert_eq!(Name::parse(name), None, "{name}");
        }
    }

    #[test]
    fn contents_tell_whose_a_file_is() {
        let disk = CrashDisk::new();
        let header = FileHeader { kind: FileKind::Log, no: FileNo(7), base: LogPos(9), salt: 11 }.encode();
        let mut bad_magic = header;
        bad_magic[0] ^= 1;
        let mut late = vec![0; READ_BYTES + 1];
        late[READ_BYTES] = 1;
        let cases: [(&str, &[u8], Contents); 12] = [
            ("00000007.log", &header, Contents::Own),
            ("00000007.log", &header[..5], Contents::Own),
            ("00000007.log", &bad_magic, Contents::Own),
            ("00000008.log", &bad_magic, Contents::Foreign),
            ("00000007.log", b"", Contents::Blank),
            ("00000007.log", &[0; READ_BYTES * 2], Contents::Blank),
            ("00000007.log", &late, Contents::Foreign),
            ("00000007.log", b"2026-01-01 started\n", Contents::Foreign),
            ("00000007.checkpoint", b"libmqckp", Contents::Own),
            ("00000007.checkpoint", &header, Contents::Foreign),
            ("reserve", b"libmqlog", Contents::Foreign),
            ("notes.txt", b"", Contents::Foreign),
        ];
        for (name, bytes, expected) in cases {
            disk.set_bytes(name, bytes);
            assert_eq!(
                contents(&disk, name).unwrap(),
                expected,
                "{name} {:?}",
                &bytes[..bytes.len().min(20)]
            );
            disk.remove(name).unwrap();
        }
        Manifest::default().store(&disk).unwrap();
        assert_eq!(contents(&disk, "manifest").unwrap(), Contents::Own);
    }

    #[test]
    fn a_name_that_is_taken_is_passed_over() {
        let disk = CrashDisk::new();
        disk.set_bytes("00000001.log", *b"mine");
        disk.set_bytes("00000002.log", *b"");
        let mut no = 0;
        let mut take_no = || {
            no += 1;
            FileNo(no)
        };
        assert_eq!(create_numbered(&disk, log_name, &mut take_no).unwrap().0, FileNo(3));
        disk.set_bytes("reserve", *b"mine");
        disk.set_bytes("reserve.1", *b"\0\0");
        assert_eq!(create(&disk, RESERVE_NAME).unwrap().0, "reserve.1");
        assert_eq!((disk.bytes("reserve"), disk.bytes("00000001.log")), (b"mine".to_vec(), b"mine".to_vec()));
    }

    #[test]
    fn many_foreign_files_are_one_line_each_kind() {
        let others = (0..12).map(|n| format!("{n}\n.log")).collect();
        let foreign = Foreign { nsqd: vec!["nsqd.dat".into(), "t.diskqueue.meta.dat".into()], others };
        let lines = foreign.warnings();
        assert_eq!(lines.len(), 2);
        assert!(lines[0].contains(r"0\n.log") && lines[0].ends_with("and 2 more"), "{}", lines[0]);
        assert!(lines[1].contains("nsqd.dat, t.diskqueue.meta.dat"), "{}", lines[1]);
        assert_eq!(Foreign::default().warnings(), [] as [String; 0]);
    }
}

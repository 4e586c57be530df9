//! The manifest: which files count. It is replaced whole, by rename; a file it does not name is deleted at
//! open.
//!
//! ```text
//! u8[8] "libmqman", u32 format version, u32 clean stop (0 or 1), u64 next file number,
//! u64 checkpoint number (0: none), u64 checkpoint's log position, u32 files,
//! (u64 number, u32 kind) * files, u32 CRC-32C of all before
//! ```

use crate::error::{Error, ErrorKind, Result};
use crate::store::disk::{Disk, OpenMode};
use crate::store::format::fields::{Field, get_count};
use crate::store::format::file::{FORMAT_VERSION, FileKind, FileNo};
use crate::store::format::log_pos::LogPos;
use crate::store::format::own::{self, MANIFEST_NEW_NAME};

/// Its name.
pub(crate) const MANIFEST_NAME: &str = "manifest";
const MAGIC: &[u8; 8] = b"libmqman";

/// Contents of the manifest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Manifest {
    /// Whether the broker was stopped cleanly: everything is in the checkpoint and the files.
    pub(crate) clean_stop: bool,
    /// Number for the next file of any kind.
    pub(crate) next_no: FileNo,
    /// The checkpoint in force, if any, and the log position replay starts from.
    pub(crate) checkpoint: Option<(FileNo, LogPos)>,
    /// The files that count, log files in the order of their positions.
    pub(crate) files: Vec<(FileNo, FileKind)>,
}

impl Manifest {
    /// Reads the manifest. `None` in a folder that has none.
    ///
    /// # Errors
    /// `Damaged`, `Version`, `Io`.
    pub(crate) fn load(disk: &dyn Disk) -> Result<Option<Self>> {
        let names = disk.list().map_err(|e| Error::io("could not list the data folder", e))?;
        if !names.iter().any(|n| n == MANIFEST_NAME) {
            return Ok(None);
        }
        let read = || {
            let file = disk.open(MANIFEST_NAME, OpenMode::Read)?;
            let mut bytes = vec![0; usize::try_from(file.len()?).unwrap_or(usize::MAX)];
            let len = file.read_at(&mut bytes, 0)?;
            bytes.truncate(len);
            Ok(bytes)
        };
        let bytes = read().map_err(|e| Error::io("could not read the manifest", e))?;
        Self::decode(&bytes).map(Some)
    }

    /// Replaces the manifest by this one, durably.
    ///
    /// # Errors
    /// `Full`, `Io`; the manifest on disk is then the old one or the new one.
    pub(crate) fn store(&self, disk: &dyn Disk) -> Result<()> {
        let bytes = self.encode();
        let write = || {
            let (name, file) = own::create(disk, MANIFEST_NEW_NAME)?;
            own::fill_bytes(&*file, &bytes)?;
            // The names of the files it speaks of must be durable before it is.
            disk.sync_dir()?;
            disk.rename(&name, MANIFEST_NAME)?;
            disk.sync_dir()
        };
        write().map_err(|e| Error::io("could not replace the manifest", e))
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        FORMAT_VERSION.put(&mut out);
        u32::from(self.clean_stop).put(&mut out);
        self.next_no.0.put(&mut out);
        let (no, position) = self.checkpoint.unwrap_or_default();
        no.0.put(&mut out);
        position.0.put(&mut out);
        (self.files.len() as u32).put(&mut out);
        for (no, kind) in &self.files {
            no.0.put(&mut out);
            (*kind as u32).put(&mut out);
        }
        let crc = crc32c::crc32c(&out);
        crc.put(&mut out);
        out
    }

    fn decode(bytes: &[u8]) -> Result<Self> {
        let damaged =
            || Error::new(ErrorKind::Damaged, "the manifest is damaged; `mq repair` can rebuild it");
        let (body, crc) = bytes.split_last_chunk::<4>().ok_or_else(damaged)?;
        if !body.starts_with(MAGIC) || crc32c::crc32c(body) != u32::from_le_bytes(*crc) {
            return Err(damaged());
        }
        let mut rest = &body[MAGIC.len()..];
        let version = u32::get(&mut rest).ok_or_else(damaged)?;
        if version != FORMAT_VERSION {
            return Err(Error::new(
                ErrorKind::Version,
                format!("the data folder has format {version}, this mq reads format {FORMAT_VERSION}"),
            ));
        }
        let mut read = || {
            let clean_stop = u32::get(&mut rest)? != 0;
            let next_no = FileNo(u64::get(&mut rest)?);
            let (no, position) = (FileNo(u64::get(&mut rest)?), LogPos(u64::get(&mut rest)?));
            let mut files = Vec::new();
            for _ in 0..get_count(&mut rest, 12)? {
                let no = FileNo(u64::get(&mut rest)?);
                let kind = match u32::get(&mut rest)? {
                    1 => FileKind::Log,
                    2 => FileKind::Clean,
                    _ => return None,
                };
                files.push((no, kind));
            }
            Some(Self { clean_stop, next_no, checkpoint: (no != FileNo(0)).then_some((no, position)), files })
        };
        read().ok_or_else(damaged)
    }
}

/// Whether a manifest begins with these bytes.
pub(crate) fn is_begun_by(head: &[u8]) -> bool {
    MAGIC.starts_with(&head[..head.len().min(MAGIC.len())])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_comes_back_and_any_flipped_bit_is_seen() {
        let manifest = Manifest {
            clean_stop: true,
            next_no: FileNo(9),
            checkpoint: Some((FileNo(4), LogPos(1000))),
            files: vec![(FileNo(1), FileKind::Log), (FileNo(3), FileKind::Clean)],
        };
        let bytes = manifest.encode();
        assert_eq!(Manifest::decode(&bytes).unwrap(), manifest);
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Manifest::decode(&bad).unwrap_err().kind(), ErrorKind::Damaged, "bit {bit}");
        }
    }
}

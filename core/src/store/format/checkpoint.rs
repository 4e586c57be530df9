//! A checkpoint: the whole state as events, in a file of its own. State frames below its log position are
//! dead.
//!
//! ```text
//! u8[8] "libmqckp", u32 format version, u32 CRC-32C of the events, u64 log position, u64 bytes of events,
//! u32 CRC-32C of bytes 0..32, events
//! ```

use crate::error::{Error, ErrorKind, Result};
use crate::store::disk::{Disk, OpenMode};
use crate::store::format::event::Event;
use crate::store::format::fields::Field;
use crate::store::format::file::{FORMAT_VERSION, FileNo, checkpoint_name};
use crate::store::format::frame::{u32_at, u64_at};
use crate::store::format::log_pos::LogPos;
use crate::store::format::own;

const MAGIC: &[u8; 8] = b"libmqckp";
const HEADER_BYTES: usize = 36;

/// Writes a checkpoint with `events` for replay from `position` under the next free number, which is
/// returned, and fsyncs it. Its name is durable only after the manifest was stored.
///
/// # Errors
/// `Full`, `Io`.
pub(crate) fn store(
    disk: &dyn Disk,
    take_no: impl FnMut() -> FileNo,
    position: LogPos,
    events: &[u8],
) -> Result<FileNo> {
    let mut header = MAGIC.to_vec();
    FORMAT_VERSION.put(&mut header);
    crc32c::crc32c(events).put(&mut header);
    position.0.put(&mut header);
    (events.len() as u64).put(&mut header);
    let crc = crc32c::crc32c(&header);
    crc.put(&mut header);
    let (no, file) = own::create_numbered(disk, checkpoint_name, take_no)?;
    own::fill(&*file, &header, events).map_err(|e| {
        let name = checkpoint_name(no);
        // Nothing names it: if it can't be removed now, it is at the next open.
        let _ = disk.remove(&name);
        Error::io(format!("could not write checkpoint {name}"), e)
    })?;
    Ok(no)
}

/// Whether a checkpoint of `len` bytes begins with these. Where the magic is damaged, version and length
/// prove it.
pub(crate) fn is_begun_by(head: &[u8], len: u64) -> bool {
    let is_proven = |head: &[u8]| {
        u32_at(head, 8) == FORMAT_VERSION && u64_at(head, 24).checked_add(HEADER_BYTES as u64) == Some(len)
    };
    MAGIC.starts_with(&head[..head.len().min(MAGIC.len())]) || head.get(..HEADER_BYTES).is_some_and(is_proven)
}

/// Reads checkpoint `no`: its log position and its events.
///
/// # Errors
/// `Damaged`, `Version`, `Io`.
pub(crate) fn load(disk: &dyn Disk, no: FileNo) -> Result<(LogPos, Vec<Event>)> {
    let name = checkpoint_name(no);
    let read = || {
        let file = disk.open(&name, OpenMode::Read)?;
        let mut bytes = vec![0; usize::try_from(file.len()?).unwrap_or(usize::MAX)];
        let len = file.read_at(&mut bytes, 0)?;
        bytes.truncate(len);
        Ok(bytes)
    };
    let bytes = read().map_err(|e| Error::io(format!("could not read checkpoint {name}"), e))?;
    decode(&bytes).map_err(|e| Error::new(e.kind(), format!("checkpoint {name}: {e}")))
}

fn decode(bytes: &[u8]) -> Result<(LogPos, Vec<Event>)> {
    let damaged = || Error::new(ErrorKind::Damaged, "damaged; `mq repair` salvages the messages");
    let header = bytes.get(..HEADER_BYTES).ok_or_else(damaged)?;
    if !header.starts_with(MAGIC) || crc32c::crc32c(&header[..32]) != u32_at(header, 32) {
        return Err(damaged());
    }
    let version = u32_at(header, 8);
    if version != FORMAT_VERSION {
        return Err(Error::new(
            ErrorKind::Version,
            format!("has format {version}, this mq reads format {FORMAT_VERSION}"),
        ));
    }
    let events = &bytes[HEADER_BYTES..];
    if events.len() as u64 != u64_at(header, 24) || crc32c::crc32c(events) != u32_at(header, 12) {
        return Err(damaged());
    }
    let events = Event::decode_all(events).ok_or_else(damaged)?;
    Ok((LogPos(u64_at(header, 16)), events))
}

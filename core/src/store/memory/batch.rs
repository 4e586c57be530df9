//! Messages being encoded, and encoded.

use std::sync::Arc;

use bytes::Bytes;

use crate::error::{Error, ErrorKind, Result};
use crate::message::Attributes;
use crate::store::format::frame::{self, PAYLOAD_BYTES_MAX, Record};
use crate::store::format::ids::IdHash;
use crate::store::format::numbers::TopicNo;
use crate::store::memory::chunk::{Chunk, Pool, Residency};
use crate::store::memory::marks::{MARK_EVERY, Marks};

/// Messages on their way into one frame: encoded as they are added, outside of any lock.
///
/// Hold it only while filling it: it owns the tail of a chunk. Dropping it forgets the messages.
///
/// ```
/// # use mq_core::{Attributes, Broker, Options};
/// # fn main() -> mq_core::Result<()> {
/// # let folder = tempfile::tempdir().unwrap();
/// # let broker = Broker::open(Options { data_path: folder.path().into(), ..Options::default() })?;
/// let orders = broker.topic(&"orders".parse()?)?;
/// let mut batch = orders.batch();
/// for body in ["one pizza", "two salads"] {
///     batch.push(&Attributes::NONE, body.as_bytes())?;
/// }
/// assert_eq!(batch.len(), 2);
/// orders.publish(batch, None)?.wait(&broker)?;
/// # broker.close()
/// # }
/// ```
pub struct Batch {
    pool: Arc<Pool>,
    residency: Residency,
    /// The chunk that the batch is encoded into: at the end of the chunk's filled part.
    chunk: Option<Chunk>,
    count: u32,
    /// CRC-32C over the records' CRCs so far.
    chain: u32,
    deferred: bool,
    /// Messages that have an id, by index.
    ids: Vec<(u32, IdHash)>,
    /// Positions of every [`MARK_EVERY`]th record; see [`Marks`].
    marks: Vec<u32>,
}

/// A batch's messages, encoded: the payload of a data frame.
pub(crate) struct Payload {
    pub(crate) bytes: Bytes,
    pub(crate) count: u32,
    pub(crate) crc: u32,
    /// Whether any message has a not-before time.
    pub(crate) deferred: bool,
    /// Messages that have an id of their publisher's, by index, in order.
    pub(crate) ids: Vec<(u32, IdHash)>,
    pub(crate) marks: Marks,
    /// The chunk that holds the bytes.
    pub(crate) chunk: u64,
}

impl Payload {
    /// Bytes of the bodies and attributes.
    pub(crate) fn body_bytes(&self) -> u64 {
        (self.bytes.len() - self.count as usize * frame::RECORD_HEADER_BYTES) as u64
    }
}

impl Batch {
    pub(super) fn new(pool: Arc<Pool>, residency: Residency) -> Self {
        Self {
            pool,
            residency,
            chunk: None,
            count: 0,
            chain: 0,
            deferred: false,
            ids: Vec::new(),
            marks: Vec::new(),
        }
    }

    /// Adds a message.
    ///
    /// # Errors
    /// `TooBig` if the attributes pass 64 KiB or the batch 1 GiB; the batch is as it was before.
    pub fn push(&mut self, attributes: &Attributes<'_>, body: &[u8]) -> Result<()> {
        let need = frame::record_len(attributes, body.len())?;
        let room = self.chunk.as_ref().map_or(0, |c| c.tail.capacity() - c.tail.len());
        if room < need {
            self.grow(need)?;
        }
        let Some(chunk) = &mut self.chunk else { return Ok(()) };
        if self.count.is_multiple_of(MARK_EVERY) && self.count > 0 {
            self.marks.push(chunk.tail.len() as u32);
        }
        let crc = frame::put_record(&mut chunk.tail, attributes, body);
        if let Some(id) = attributes.dedup_id {
            self.ids.push((self.count, IdHash::of(id)));
        }
        self.chain = crc32c::crc32c_append(self.chain, &crc.to_le_bytes());
        self.count += 1;
        self.deferred |= attributes.not_before.is_some();
        Ok(())
    }

    /// Adds the record that `bytes` begin with, which another batch encoded. Its id is not taken down.
    ///
    /// # Errors
    /// As [`Batch::push`].
    pub(crate) fn push_record(&mut self, record: &Record<'_>, bytes: &[u8]) -> Result<()> {
        let room = self.chunk.as_ref().map_or(0, |c| c.tail.capacity() - c.tail.len());
        if room < record.len {
            self.grow(record.len)?;
        }
        let Some(chunk) = &mut self.chunk else { return Ok(()) };
        if self.count.is_multiple_of(MARK_EVERY) && self.count > 0 {
            self.marks.push(chunk.tail.len() as u32);
        }
        chunk.tail.extend_from_slice(&bytes[..record.len]);
        self.chain = crc32c::crc32c_append(self.chain, &bytes[..4]);
        self.count += 1;
        self.deferred |= !record.is_plain() && record.attributes().not_before.is_some();
        Ok(())
    }

    /// Messages added.
    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// Whether nothing was added.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Bytes of the messages as they are stored.
    pub fn bytes(&self) -> usize {
        self.chunk.as_ref().map_or(0, |c| c.tail.len())
    }

    /// Moves to a chunk with room for `need` more bytes.
    fn grow(&mut self, need: usize) -> Result<()> {
        let total = self.bytes() + need;
        if total > PAYLOAD_BYTES_MAX {
            return Err(Error::new(
                ErrorKind::TooBig,
                format!("a batch takes at most {PAYLOAD_BYTES_MAX} bytes, this one would take {total}"),
            ));
        }
        let mut roomy = self.pool.open(self.residency, total, (2 * self.bytes()).min(PAYLOAD_BYTES_MAX));
        if let Some(old) = self.chunk.take() {
            roomy.tail.extend_from_slice(&old.tail);
            self.pool.seal(self.residency, old);
        }
        self.chunk = Some(roomy);
        Ok(())
    }

    /// Ends the batch for the topic with number `topic`.
    pub(crate) fn finish(mut self, topic: TopicNo) -> Payload {
        let mut out = Payload {
            bytes: Bytes::new(),
            count: self.count,
            crc: self.chain,
            deferred: self.deferred,
            ids: std::mem::take(&mut self.ids),
            marks: std::mem::take(&mut self.marks).into(),
            chunk: 0,
        };
        if let Some(mut chunk) = self.chunk.take() {
            out.bytes = chunk.tail.split().freeze();
            out.chunk = chunk.id;
            self.pool.put_back(self.residency, chunk, Some(topic));
        }
        out
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        if let Some(mut chunk) = self.chunk.take() {
            chunk.tail.clear();
            self.pool.put_back(self.residency, chunk, None);
        }
    }
}

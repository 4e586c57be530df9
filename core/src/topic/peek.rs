//! Reading a topic without consuming.

use crate::error::{Error, ErrorKind, Result};
use crate::message::{Delivery, MessageId, Offset};
use crate::store::format::frame::RECORD_HEADER_BYTES;
use crate::store::read::reader;
use crate::topic::Topic;

impl Topic {
    /// Hands up to `max` messages from `from` on to `sink`, moving nothing, and returns the offset to go on
    /// from. `None` begins at the pump position: what the next first channel would get. It ends early
    /// before a message with which the bodies and attributes would pass `bytes_max`; one message is given
    /// even if it is larger.
    ///
    /// From memory where the messages are there, else from the disk, which it may have to wait for: call it
    /// on a thread that may block, never on one that serves others too. What all channels have finished
    /// is given as long as it is there.
    ///
    /// # Errors
    /// `Closed`, `Damaged`, `Io`.
    pub fn peek(
        &self,
        from: Option<Offset>,
        max: usize,
        bytes_max: usize,
        sink: &mut dyn FnMut(Delivery<'_>),
    ) -> Result<Offset> {
        let (mut from, end) = {
            let state = self.state.lock();
            if state.deleted {
                return Err(Error::new(ErrorKind::Closed, format!("topic {} is closed", self.name())));
            }
            (from.unwrap_or(state.pump.offset), state.end.offset)
        };
        let node = self.shared.options.node_id;
        let mut left = max;
        let mut bytes = 0;
        while left > 0 && from < end {
            let in_memory = {
                let state = self.state.lock();
                let at = state.extents.seek(from, state.end).offset;
                from = from.max(at);
                state.ring.find(from).cloned()
            };
            let frames = match in_memory {
                Some(frame) => vec![frame],
                None => {
                    let bytes = self.shared.read_bytes();
                    reader::read(&self.shared.catalog, None, self.no, from, bytes, false)?.unwrap_or_default()
                }
            };
            if frames.is_empty() {
                // What stood here was finished and removed.
                let state = self.state.lock();
                from = state.ring.after(from).map_or(end, |f| f.first);
                continue;
            }
            for frame in &frames {
                for (offset, record) in reader::records(frame, from) {
                    if offset >= end {
                        // On disk, and not acknowledged yet.
                        return Ok(end);
                    }
                    let len = record.len - RECORD_HEADER_BYTES;
                    if left == 0 || (left < max && bytes + len > bytes_max) {
                        return Ok(offset);
                    }
                    bytes += len;
                    sink(Delivery {
                        id: MessageId::new(node, offset),
                        token: None,
                        time: frame.time,
                        attempts: 0,
                        attributes: record.attributes(),
                        body: record.body,
                    });
                    left -= 1;
                    from = offset.plus(1);
                }
            }
        }
        Ok(from.min(end))
    }
}

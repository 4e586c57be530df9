//! Pending messages of a topic, and the parts of frames that they are.

use crate::message::Offset;
use crate::store::format::frame::Record;
use crate::store::memory::frame::Frame;
use crate::store::memory::marks::Marks;

/// The pending messages of a topic: all from `from` on, and some below.
pub(crate) struct Pending {
    pub(crate) from: Offset,
    /// Pending messages below `from`, sorted.
    pub(crate) below: Vec<Offset>,
}

/// The pending messages of a topic as they were collected under its lock, in no order: sorting a million of
/// them takes too long for that lock.
pub(crate) struct Collected {
    pub(crate) from: Offset,
    pub(crate) below: Vec<Offset>,
}

impl Collected {
    /// The pending messages in order.
    pub(crate) fn sort(self) -> Pending {
        let Self { from, mut below } = self;
        below.retain(|offset| *offset < from);
        below.sort_unstable();
        below.dedup();
        Pending { from, below }
    }
}

impl Pending {
    /// Counts the pending messages of the dense range `first..=last`.
    pub(crate) fn count(&self, first: Offset, last: Offset) -> u64 {
        if first >= self.from {
            return last.0 - first.0 + 1;
        }
        let from_here = (last.0 + 1).saturating_sub(self.from.0);
        let below = self.below.partition_point(|o| *o <= last) - self.below.partition_point(|o| *o < first);
        from_here + below as u64
    }

    /// Whether the message is pending.
    pub(crate) fn contains(&self, offset: Offset) -> bool {
        offset >= self.from || self.below.binary_search(&offset).is_ok()
    }
}

/// The parts of a frame that are pending, each a run of neighbouring messages.
pub(crate) fn runs(frame: &Frame, pending: &Pending) -> Vec<Frame> {
    if frame.first >= pending.from {
        return vec![frame.clone()];
    }
    if pending.count(frame.first, frame.last()) == 0 {
        return Vec::new();
    }
    let mut out: Vec<Frame> = Vec::new();
    let (mut at, mut offset) = (0, frame.first);
    let mut begun: Option<(Offset, usize)> = None;
    let end = |begun: Option<(Offset, usize)>, at: usize, offset: Offset, out: &mut Vec<Frame>| {
        let Some((first, from)) = begun else { return };
        let count = (offset.0 - first.0) as u32;
        let payload = frame.payload.slice(from..at);
        out.push(Frame { first, count, payload, marks: Marks::default(), ..frame.clone() });
    };
    while let Some(record) = Record::parse(&frame.payload[at..]) {
        if pending.contains(offset) {
            begun = begun.or(Some((offset, at)));
        } else {
            end(begun.take(), at, offset, &mut out);
        }
        at += record.len;
        offset = offset.plus(1);
    }
    end(begun, at, offset, &mut out);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Wall;
    use crate::message::Attributes;
    use crate::store::format::frame;
    use bytes::BytesMut;

    #[test]
    fn only_what_is_pending_is_spilled() {
        let mut payload = BytesMut::new();
        for body in [&b"a"[..], b"bb", b"ccc", b"dddd", b"eeeee"] {
            frame::put_record(&mut payload, &Attributes::NONE, body);
        }
        let frame = Frame {
            first: Offset(10),
            count: 5,
            time: Wall(1),
            deferred: false,
            has_ids: false,
            payload: payload.freeze(),
            marks: Marks::default(),
        };
        let pending = Pending { from: Offset(14), below: vec![Offset(3), Offset(11), Offset(12)] };
        let runs = runs(&frame, &pending);
        let facts: Vec<_> = runs.iter().map(|f| (f.first.0, f.count, f.payload.len())).collect();
        assert_eq!(facts, [(11, 2, 12 + 2 + 12 + 3), (14, 1, 12 + 5)]);
        assert_eq!(pending.count(Offset(10), Offset(14)), 3);
        assert_eq!(pending.count(Offset(4), Offset(10)), 0);
    }
}

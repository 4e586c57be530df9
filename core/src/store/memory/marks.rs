//! Positions of some records in the payload of a large frame, so that a message in its middle is found
//! without a walk from its start.

use std::sync::Arc;

/// Every so many records one position is kept: a walk passes at most 63 records, and the positions take at
/// most half a percent of what the records take.
pub(crate) const MARK_EVERY: u32 = 64;

/// The positions of every [`MARK_EVERY`]-th record in a payload but the first, in order. None for a small
/// frame. One pointer, since it is part of every frame.
#[derive(Clone, Debug, Default)]
pub(crate) struct Marks(Option<Arc<Vec<u32>>>);

impl Marks {
    /// The number and position of the last marked record at or before record `index`; the first record if no
    /// mark is.
    pub(crate) fn before(&self, index: u64) -> (u64, usize) {
        let marked = (index / u64::from(MARK_EVERY)) as usize;
        let Some(marks) = self.0.as_ref().filter(|_| marked > 0) else { return (0, 0) };
        let marked = marked.min(marks.len());
        (marked as u64 * u64::from(MARK_EVERY), marks[marked - 1] as usize)
    }

    /// Bytes of memory.
    pub(crate) fn bytes(&self) -> usize {
        self.0.as_ref().map_or(0, |marks| size_of_val(&marks[..]))
    }
}

impl From<Vec<u32>> for Marks {
    fn from(positions: Vec<u32>) -> Self {
        Self((!positions.is_empty()).then(|| Arc::new(positions)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Attributes;
    use crate::store::format::frame::Record;
    use crate::store::format::numbers::TopicNo;
    use crate::store::memory::chunk::{Pool, Residency};

    #[test]
    fn any_record_of_a_batch_is_at_most_63_records_after_a_mark() {
        let pool = Pool::new(1 << 20, 4 << 10);
        for count in [1_u64, 64, 65, 1_000] {
            let mut batch = pool.batch(Residency::MemoryOnly);
            let mut positions = Vec::new();
            for n in 0..count {
                positions.push(batch.bytes());
                batch.push(&Attributes::NONE, &vec![1; (n * 7 % 50) as usize]).unwrap();
            }
            let payload = batch.finish(TopicNo(1));
            for index in 0..count {
                let (marked, at) = payload.marks.before(index);
                assert!(marked <= index && index - marked < u64::from(MARK_EVERY), "{index} from {marked}");
                assert_eq!(positions[marked as usize], at);
                assert!(Record::parse(&payload.bytes[at..]).is_some());
            }
            assert_eq!(payload.marks.bytes() as u64, (count - 1) / 64 * 4);
        }
    }
}

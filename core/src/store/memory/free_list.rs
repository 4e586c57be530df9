//! Buffers that nobody uses, to be used again.

use std::collections::BTreeMap;

use bytes::BytesMut;

/// A size of chunks that has room for `bytes`: there are sixteen between a power of two and the next, so that
/// chunks of frames about as large are of one size and few bytes are wasted.
pub(super) fn class(bytes: usize) -> usize {
    let step = (bytes.next_power_of_two() / 32).max(1);
    bytes.next_multiple_of(step)
}

/// Free buffers by their size.
#[derive(Default)]
pub(super) struct FreeList {
    classes: BTreeMap<usize, Class>,
    /// Bytes of all of them.
    bytes: u64,
}

/// Free buffers of one size.
#[derive(Default)]
struct Class {
    buffers: Vec<BytesMut>,
    /// Fewest of them since the last [`FreeList::release_idle`].
    least: usize,
}

impl FreeList {
    /// Bytes of all buffers.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Takes a buffer of `bytes`, if there is one.
    pub(super) fn take(&mut self, bytes: usize) -> Option<BytesMut> {
        let class = self.classes.get_mut(&bytes)?;
        let buffer = class.buffers.pop()?;
        class.least = class.least.min(class.buffers.len());
        self.bytes -= bytes as u64;
        Some(buffer)
    }

    /// Keeps an empty buffer of `bytes`.
    pub(super) fn put(&mut self, bytes: usize, buffer: BytesMut) {
        self.classes.entry(bytes).or_default().buffers.push(buffer);
        self.bytes += bytes as u64;
    }

    /// Drops buffers of `over` bytes or more together, large ones first, or all. Returns how many bytes they
    /// had.
    pub(super) fn release(&mut self, over: u64) -> u64 {
        let before = self.bytes;
        for (&bytes, class) in self.classes.iter_mut().rev() {
            let missing = over.saturating_sub(before - self.bytes).div_ceil(bytes as u64) as usize;
            let keep = class.buffers.len().saturating_sub(missing);
            self.bytes -= class.truncate(keep, bytes);
        }
        before - self.bytes
    }

    /// Drops the buffers that were not needed since the last call. Returns how many bytes they had.
    pub(super) fn release_idle(&mut self) -> u64 {
        let before = self.bytes;
        self.classes.retain(|&bytes, class| {
            let keep = class.buffers.len() - class.least;
            self.bytes -= class.truncate(keep, bytes);
            class.least = keep;
            keep > 0
        });
        before - self.bytes
    }
}

impl Class {
    /// Drops all buffers but `keep`. Returns how many bytes they had.
    fn truncate(&mut self, keep: usize, bytes: usize) -> u64 {
        let dropped = self.buffers.len() - keep;
        self.buffers.truncate(keep);
        self.least = self.least.min(keep);
        (dropped * bytes) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn free(sizes: &[usize]) -> FreeList {
        let mut free = FreeList::default();
        for &bytes in sizes {
            free.put(bytes, BytesMut::with_capacity(bytes));
        }
        free
    }

    #[test]
    fn a_class_has_room_and_wastes_little() {
        for bytes in
            (1..5_000).chain((0..18).flat_map(|n| [(1 << n) * 4_000 - 1, (1 << n) * 4_096, (1 << n) * 4_097]))
        {
            let class_bytes = class(bytes);
            assert!((bytes..=bytes + bytes / 16).contains(&class_bytes), "{bytes}: {class_bytes}");
            assert_eq!(class(class_bytes), class_bytes);
        }
    }

    #[test]
    fn a_buffer_is_taken_by_its_size() {
        let mut free = free(&[100, 200, 200]);
        assert_eq!(free.take(200).unwrap().capacity(), 200);
        assert!(free.take(150).is_none());
        assert_eq!(free.bytes(), 300);
    }

    #[test]
    fn what_is_released_is_no_more_than_needed() {
        let mut free = free(&[100, 100, 1_000]);
        assert_eq!(free.release(0), 0);
        assert_eq!(free.release(1_050), 1_100);
        assert_eq!((free.bytes(), free.release(u64::MAX), free.bytes()), (100, 100, 0));
    }

    #[test]
    fn only_what_was_not_needed_meanwhile_is_idle() {
        let mut free = free(&[100, 100, 100, 500]);
        assert_eq!(free.release_idle(), 0, "they are new");
        let used = [free.take(100).unwrap(), free.take(100).unwrap()];
        used.into_iter().for_each(|buffer| free.put(100, buffer));
        assert_eq!(free.release_idle(), 600);
        assert_eq!(free.release_idle(), 200);
        assert_eq!(free.bytes(), 0);
    }
}

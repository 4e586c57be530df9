//! Bytes between two messages of a topic, and their age: by samples, not by message.

use std::collections::VecDeque;

use crate::clock::Wall;

/// Bytes and times at some ranks. What lies between two samples counts as evenly spread.
#[derive(Debug, Default)]
pub(crate) struct Volume {
    samples: VecDeque<Sample>,
    /// Bytes of all messages so far.
    total: u64,
    /// Bytes between samples; doubles whenever there are too many.
    step: u64,
}

#[derive(Clone, Copy, Debug)]
struct Sample {
    rank: u64,
    /// Bytes of the messages before it.
    bytes: u64,
    /// Its time, and that of the last message before the next sample. Times never go back.
    first_time: Wall,
    last_time: Wall,
}

/// Samples are at least this many bytes apart, or [`STEP_NS`].
const STEP_BYTES: u64 = 64 << 10;
const STEP_NS: u64 = 1_000_000_000;
/// The most samples of a topic: 128 KiB.
const SAMPLES_MAX: usize = 4096;

impl Volume {
    /// Messages of `bytes` in all, published at `time`, begin at `rank`.
    pub(crate) fn note(&mut self, rank: u64, bytes: u64, time: Wall) {
        self.step = self.step.max(STEP_BYTES);
        let is_due = |last: &Sample| {
            let later = time.since(last.first_time);
            self.total - last.bytes >= self.step || later >= STEP_NS * (self.step / STEP_BYTES)
        };
        match self.samples.back_mut() {
            Some(last) if !is_due(last) => last.last_time = time,
            _ => {
                if self.samples.len() == SAMPLES_MAX {
                    self.thin_out();
                }
                let (bytes, first_time, last_time) = (self.total, time, time);
                self.samples.push_back(Sample { rank, bytes, first_time, last_time });
            }
        }
        self.total += bytes;
    }

    /// Messages of `bytes` in all, the first and the last of which were published at these times, begin at
    /// `rank`.
    pub(crate) fn note_part(&mut self, rank: u64, bytes: u64, first_time: Wall, last_time: Wall) {
        if self.samples.len() == SAMPLES_MAX {
            self.thin_out();
        }
        self.samples.push_back(Sample { rank, bytes: self.total, first_time, last_time });
        self.total += bytes;
    }

    /// Joins neighbouring samples.
    fn thin_out(&mut self) {
        self.step = 2 * self.step.max(STEP_BYTES);
        let samples = std::mem::take(&mut self.samples);
        for pair in Vec::from(samples).chunks(2) {
            if let (Some(first), Some(last)) = (pair.first(), pair.last()) {
                self.samples.push_back(Sample { last_time: last.last_time, ..*first });
            }
        }
    }

    /// Bytes from the message of `rank` on; `end` is the rank after the last.
    pub(crate) fn bytes_from(&self, rank: u64, end: u64) -> u64 {
        let after = self.samples.partition_point(|sample| sample.rank <= rank);
        let Some(before) = after.checked_sub(1).and_then(|at| self.samples.get(at)) else {
            return self.samples.front().map_or(0, |first| self.total - first.bytes);
        };
        let (next_rank, next_bytes) =
            self.samples.get(after).map_or((end, self.total), |next| (next.rank, next.bytes));
        let messages = next_rank.saturating_sub(before.rank).max(1);
        let passed = (rank - before.rank).min(messages);
        let bytes = u128::from(next_bytes - before.bytes) * u128::from(passed) / u128::from(messages);
        self.total - before.bytes - bytes as u64
    }

    /// The first rank that is known of.
    pub(crate) fn first_rank(&self) -> u64 {
        self.samples.front().map_or(0, |first| first.rank)
    }

    /// The rank up to which all messages were published at `time` or before, as far as the samples show.
    pub(crate) fn rank_by(&self, time: Wall, end: u64) -> u64 {
        let after = self.samples.partition_point(|sample| sample.last_time <= time);
        match self.samples.get(after) {
            Some(first) if after > 0 => first.rank,
            Some(_) => 0,
            None => end,
        }
    }

    /// Earliest time at which the message of `rank` was published: the time of the sample it belongs to.
    pub(crate) fn time_at(&self, rank: u64) -> Option<Wall> {
        let after = self.samples.partition_point(|sample| sample.rank <= rank);
        after.checked_sub(1).and_then(|at| self.samples.get(at)).map(|sample| sample.first_time)
    }

    /// Forgets what is only needed for messages before `rank`.
    pub(crate) fn trim(&mut self, rank: u64) {
        while self.samples.get(1).is_some_and(|second| second.rank <= rank) {
            self.samples.pop_front();
        }
        if self.samples.len() < SAMPLES_MAX / 4 {
            self.step = STEP_BYTES;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_exact_at_samples_and_near_between_them() {
        let mut volume = Volume::default();
        for rank in 0..1000 {
            volume.note(rank, 1000, Wall(rank));
        }
        assert_eq!(volume.bytes_from(0, 1000), 1_000_000);
        assert_eq!(volume.bytes_from(990, 1000), 10_000);
        assert_eq!(volume.bytes_from(1000, 1000), 0);
        volume.trim(500);
        assert_eq!(volume.bytes_from(600, 1000), 400_000);
        assert!(volume.samples.len() < 12);
    }

    #[test]
    fn many_messages_take_few_samples() {
        let mut volume = Volume::default();
        for rank in 0..100_000 {
            volume.note(rank, 100_000, Wall(0));
        }
        assert!(volume.samples.len() <= SAMPLES_MAX);
        let bytes = volume.bytes_from(50_000, 100_000);
        assert_eq!(bytes, 5_000_000_000);
    }

    #[test]
    fn age_is_told_by_samples() {
        let second = STEP_NS;
        let mut volume = Volume::default();
        for rank in 0..10 {
            volume.note(rank, 1, Wall(rank * second));
        }
        assert_eq!(volume.rank_by(Wall(0), 10), 1);
        assert_eq!(volume.rank_by(Wall(4 * second), 10), 5);
        assert_eq!(volume.rank_by(Wall(9 * second), 10), 10);
        assert_eq!(Volume::default().rank_by(Wall(0), 0), 0);
        assert_eq!((volume.time_at(0), volume.time_at(7)), (Some(Wall(0)), Some(Wall(7 * second))));
        assert_eq!(Volume::default().time_at(0), None);
        volume.thin_out();
        assert_eq!(volume.rank_by(Wall(4 * second), 10), 4);
    }
}

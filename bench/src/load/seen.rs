//! The set of messages that came: a bit each, so that millions cost little.

/// Most connections of publishers whose messages are recognised; others are counted as strangers.
const SOURCES_MAX: usize = 65_536;
/// The highest sequence number of a connection that is recognised: 512 MiB of bits.
const SEQUENCE_MAX: u64 = 1 << 32;

/// Messages that one consumer, or one channel, has seen.
#[derive(Default)]
pub(crate) struct Seen {
    sources: Vec<Source>,
    /// Index of the last message's source.
    last: usize,
    /// Deliveries of messages that had been seen.
    duplicates: u64,
}

/// A publisher's connection in a run.
struct Source {
    run: u32,
    connection: u32,
    bits: Vec<u64>,
}

/// First sight of a message, or a later one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sight {
    First,
    Again,
    /// Beyond the sources and numbers that are recognised.
    Unknown,
}

/// Counts of all messages seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// Different messages.
    pub(crate) distinct: u64,
    /// Deliveries beyond the first of a message.
    pub(crate) duplicates: u64,
}

impl Seen {
    /// Notes a message.
    pub(crate) fn note(&mut self, run: u32, connection: u32, sequence: u64) -> Sight {
        if sequence >= SEQUENCE_MAX {
            return Sight::Unknown;
        }
        let Some(source) = self.source(run, connection) else { return Sight::Unknown };
        let (word, bit) = ((sequence / 64) as usize, 1_u64 << (sequence % 64));
        if word >= source.bits.len() {
            source.bits.resize((word + 1).next_power_of_two(), 0);
        }
        let Some(word) = source.bits.get_mut(word) else { return Sight::Unknown };
        let again = *word & bit != 0;
        *word |= bit;
        self.duplicates += u64::from(again);
        if again { Sight::Again } else { Sight::First }
    }

    fn source(&mut self, run: u32, connection: u32) -> Option<&mut Source> {
        let is = |source: &Source| source.run == run && source.connection == connection;
        if !self.sources.get(self.last).is_some_and(is) {
            self.last = match self.sources.iter().position(is) {
                Some(at) => at,
                None if self.sources.len() == SOURCES_MAX => return None,
                None => {
                    self.sources.push(Source { run, connection, bits: Vec::new() });
                    self.sources.len() - 1
                }
            };
        }
        self.sources.get_mut(self.last)
    }

    /// Adds what another consumer of the same channel saw: what both saw came twice.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.duplicates += other.duplicates;
        for theirs in &other.sources {
            let Some(ours) = self.source(theirs.run, theirs.connection) else { continue };
            if ours.bits.len() < theirs.bits.len() {
                ours.bits.resize(theirs.bits.len(), 0);
            }
            let mut both = 0;
            for (ours, theirs) in ours.bits.iter_mut().zip(&theirs.bits) {
                both += u64::from((*ours & theirs).count_ones());
                *ours |= theirs;
            }
            self.duplicates += both;
        }
    }

    pub(crate) fn verdict(&self) -> Verdict {
        let mut verdict = Verdict { duplicates: self.duplicates, ..Verdict::default() };
        for source in &self.sources {
            verdict.distinct += source.bits.iter().map(|word| u64::from(word.count_ones())).sum::<u64>();
        }
        verdict
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(messages: &[(u32, u32, u64)]) -> Seen {
        let mut seen = Seen::default();
        for (run, connection, sequence) in messages {
            seen.note(*run, *connection, *sequence);
        }
        seen
    }

    #[test]
    fn what_comes_once_each_is_whole_in_any_order() {
        let all = seen(&[(1, 0, 2), (1, 1, 0), (1, 0, 0), (1, 0, 1), (2, 0, 0)]);
        assert_eq!(all.verdict(), Verdict { distinct: 5, duplicates: 0 });
        assert_eq!(Seen::default().verdict(), Verdict::default());
    }

    #[test]
    fn a_duplicate_is_found_in_one_consumer_and_between_two() {
        let mut one = Seen::default();
        assert_eq!(one.note(1, 0, 200), Sight::First);
        assert_eq!(one.note(1, 0, 200), Sight::Again);
        for sequence in 0..200 {
            one.note(1, 0, sequence);
        }
        assert_eq!(one.verdict(), Verdict { distinct: 201, duplicates: 1 });
        one.merge(&seen(&[(1, 0, 7), (1, 0, 201), (1, 3, 0)]));
        assert_eq!(one.verdict(), Verdict { distinct: 203, duplicates: 2 });
    }

    #[test]
    fn what_is_beyond_bounds_is_not_noted() {
        let mut seen = Seen::default();
        assert_eq!(seen.note(1, 0, SEQUENCE_MAX), Sight::Unknown);
        assert_eq!(seen.verdict(), Verdict::default());
    }
}

//! Messages that must stand on disk and do not, and holes: those of which that is known for good.

use crate::config::Durability;
use crate::message::{Offset, SEQ_BITS};
use crate::store::format::numbers::TopicNo;
use crate::store::format::range_set::RangeSet;
use crate::store::open::replay::Replay;
use crate::store::read::catalog::Catalog;

/// Messages between those of topic `number` that stand on disk (`spans`), in the same block, and is
/// waited for: some channel has not finished it. What was published at level `memory`, or is known to be
/// gone, is no one's loss.
pub(crate) fn missing(replay: &Replay, number: TopicNo, spans: &[(Offset, Offset)]) -> Vec<(Offset, Offset)> {
    let Some(topic) = replay.topics.get(&number) else { return Vec::new() };
    gaps(spans)
        .filter(|(first, _)| topic.level_at(*first) != Durability::Memory)
        .flat_map(|(first, last)| topic.holes.missing(first, last))
        .filter(|(first, last)| is_awaited(replay, number, *first, *last))
        .collect()
}

/// Messages of the topic's last block after all that stand on disk (`spans`), up to the topic's end, that are
/// waited for. The end is that of the checkpoint at least, and all before a checkpoint was on the disk.
pub(crate) fn missing_at_end(
    replay: &Replay,
    number: TopicNo,
    spans: &[(Offset, Offset)],
) -> Vec<(Offset, Offset)> {
    let Some(topic) = replay.topics.get(&number) else { return Vec::new() };
    let block = Offset::of_block(topic.end.0 >> SEQ_BITS);
    let first = spans.last().map_or(block, |(_, last)| last.plus(1).max(block));
    if first >= topic.end || topic.level_at(first) == Durability::Memory {
        return Vec::new();
    }
    let gaps = topic.holes.missing(first, Offset(topic.end.0 - 1)).into_iter();
    gaps.filter(|(first, last)| is_awaited(replay, number, *first, *last)).collect()
}

/// Whether some channel of topic `number`, or the next one, waits for a message within `first..=last`.
pub(crate) fn is_awaited(replay: &Replay, number: TopicNo, first: Offset, last: Offset) -> bool {
    let mut channels = replay.channels.values().filter(|c| c.topic == number).peekable();
    match channels.peek() {
        None => replay.topics.get(&number).is_some_and(|topic| last >= topic.pump),
        Some(_) => channels.any(|c| !c.finished.missing(first, last).is_empty()),
    }
}

/// Number of messages within `first..=last` that some channel of topic `number`, or the next one, waits for.
pub(crate) fn awaited(replay: &Replay, number: TopicNo, first: Offset, last: Offset) -> u64 {
    let mut channels = replay.channels.values().filter(|c| c.topic == number).peekable();
    let mut out = RangeSet::default();
    if channels.peek().is_none() {
        let pump = replay.topics.get(&number).map_or(first, |topic| topic.pump.max(first));
        if pump <= last {
            out.insert(pump, last);
        }
    }
    let parts = channels.flat_map(|channel| channel.finished.missing(first, last));
    parts.for_each(|(first, last)| out.insert(first, last));
    out.iter().map(|(first, last)| last.0 - first.0 + 1).sum()
}

/// The parts of blocks before and between `spans`.
fn gaps(spans: &[(Offset, Offset)]) -> impl Iterator<Item = (Offset, Offset)> {
    let mut end = Offset(0);
    spans.iter().filter_map(move |(first, last)| {
        let from = end.max(Offset::of_block(first.0 >> SEQ_BITS));
        end = last.plus(1);
        (from < *first).then(|| (from, Offset(first.0 - 1)))
    })
}

/// Keeps those holes that lie between messages on disk, so that checkpoints record them as long as a missing
/// message there would be damage. A cursor need not know of them: else one far ahead would have it list all
/// that lies before.
pub(crate) fn keep_between_messages(replay: &mut Replay, catalog: &Catalog) {
    for (&number, topic) in &replay.topics {
        let spans = catalog.spans(number);
        let known = |(first, last): (Offset, Offset)| {
            let unknown = topic.holes.missing(first, last);
            let mut from = first;
            let mut out = Vec::new();
            for (gap_first, gap_last) in unknown {
                if from < gap_first {
                    out.push((from, Offset(gap_first.0 - 1)));
                }
                from = gap_last.plus(1);
            }
            if from <= last {
                out.push((from, last));
            }
            out
        };
        let holes: Vec<_> = gaps(&spans).flat_map(known).collect();
        if holes.is_empty() {
            continue;
        }
        for channel in replay.channels.values_mut().filter(|c| c.topic == number) {
            let on_disk =
                spans.iter().rev().find_map(|(first, last)| channel.finished.last_within(*first, *last));
            channel.finished.truncate(on_disk.unwrap_or_default());
        }
        catalog.set_holes(number, holes);
    }
}

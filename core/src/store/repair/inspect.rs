//! Contents of a data folder, and whether all of them are sound: a report that changes nothing.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use crate::config::Durability;
use crate::error::Result;
use crate::message::Offset;
use crate::store::disk::Disk;
use crate::store::disk::real_disk::RealDisk;
use crate::store::format::file::{FORMAT_VERSION, FileKind, log_name};
use crate::store::format::numbers::{ChannelNo, TopicNo};
use crate::store::format::range_set::RangeSet;
use crate::store::open::replay::{ChannelState, TopicState};
pub use crate::store::repair::damage::{Damage, Tail, What};
use crate::store::repair::folder::Surveyed;
pub use crate::store::repair::pass::Progress;
use crate::store::repair::survey::Survey;

/// Contents of a data folder.
#[derive(Clone, Debug)]
pub struct Report {
    /// Version of the files' format.
    pub format: u32,
    /// Whether the last broker stopped cleanly; `false` while one runs.
    pub clean_stop: bool,
    /// Number and log position of the checkpoint.
    pub checkpoint: Option<(u64, u64)>,
    /// Position after the log's last frame.
    pub log_end: u64,
    /// Position up to which the log is known fsync'd.
    pub synced_to: u64,
    /// Log files in the order of their positions, then clean files.
    pub files: Vec<FileReport>,
    /// Topics by name.
    pub topics: Vec<TopicReport>,
    /// All that is damaged. Empty: everything is sound.
    pub damage: Vec<Damage>,
    /// Place at which a crash cut the log, if it did.
    pub tail: Option<Tail>,
}

/// One log file.
#[derive(Clone, Debug)]
pub struct FileReport {
    /// Its name.
    pub name: String,
    /// Whether it is a piece of the log, and not what the cleaner kept.
    pub is_log: bool,
    /// Whether it is full and has its index.
    pub is_sealed: bool,
    /// Its length.
    pub bytes: u64,
    /// Messages in it.
    pub messages: u64,
    /// Bytes of messages that are waited for, to the nearest message of average size.
    pub live_bytes: u64,
    /// All other bytes.
    pub dead_bytes: u64,
}

/// One topic.
#[derive(Clone, Debug)]
pub struct TopicReport {
    /// Its number.
    pub number: TopicNo,
    /// Its name.
    pub name: String,
    /// Its level.
    pub level: Durability,
    /// Whether it is paused.
    pub paused: bool,
    /// Messages that wait in it for a channel, or for the end of the pause.
    pub depth: u64,
    /// Messages on disk, finished ones included.
    pub messages: u64,
    /// Bytes of those that are waited for.
    pub live_bytes: u64,
    /// Bytes of the others.
    pub dead_bytes: u64,
    /// Channels by name.
    pub channels: Vec<InspectedChannel>,
}

/// One channel.
#[derive(Clone, Debug)]
pub struct InspectedChannel {
    /// Its number.
    pub number: ChannelNo,
    /// Its name.
    pub name: String,
    /// Whether it is paused.
    pub paused: bool,
    /// Messages it has not finished.
    pub depth: u64,
    /// Number of them that were delivered before, or are deferred.
    pub requeued: u64,
}

/// Reports on a data folder, reading every byte. A broker may run on it: the report then shows what is on
/// disk, which lacks what is only in memory and the last moments' finishes.
///
/// # Errors
/// `Io`: also where there is no folder; `Version`.
pub fn inspect(folder: &Path, progress: Progress<'_>) -> Result<Report> {
    inspect_on(&RealDisk::open_to_read(folder)?, progress)
}

/// [`inspect`] on any disk.
///
/// # Errors
/// As [`inspect`].
pub fn inspect_on(disk: &dyn Disk, progress: Progress<'_>) -> Result<Report> {
    Survey::read(disk, progress).map(|survey| report(&survey))
}

fn report(survey: &Survey) -> Report {
    let mut channels: HashMap<TopicNo, Channels<'_>> = HashMap::new();
    for (&number, channel) in &survey.replay.channels {
        channels.entry(channel.topic).or_default().push((number, channel));
    }
    let mut topics = BTreeMap::new();
    let mut live = HashMap::new();
    for (&number, state) in &survey.replay.topics {
        let spans = survey.spans(number);
        let channels = channels.remove(&number).unwrap_or_default();
        topics.insert(number, topic(number, state, &channels, &spans));
        live.insert(number, awaited(state, &channels, &spans));
    }
    let mut files = Vec::new();
    for surveyed in &survey.files {
        let mut report = file(surveyed);
        for (number, part) in &surveyed.topics {
            let of_topic =
                |(first, last): &(Offset, Offset)| live.get(number).map_or(0, |set| set.count(*first, *last));
            let messages: u64 = part.spans.iter().map(|(first, last)| last.0 - first.0 + 1).sum();
            let awaited: u64 = part.spans.iter().map(of_topic).sum();
            let bytes =
                (u128::from(part.bytes) * u128::from(awaited)).div_ceil(u128::from(messages.max(1))) as u64;
            report.messages += messages;
            report.live_bytes += bytes;
            if let Some(topic) = topics.get_mut(number) {
                topic.live_bytes += bytes;
                topic.dead_bytes += part.bytes - bytes;
            }
        }
        report.dead_bytes = report.bytes.saturating_sub(report.live_bytes);
        files.push(report);
    }
    let mut topics: Vec<TopicReport> = topics.into_values().collect();
    topics.sort_by(|a, b| a.name.cmp(&b.name).then(a.number.cmp(&b.number)));
    Report {
        format: FORMAT_VERSION,
        clean_stop: survey.manifest.as_ref().is_none_or(|manifest| manifest.clean_stop),
        checkpoint: survey.checkpoint.map(|(no, position)| (no.0, position.0)),
        log_end: survey.end.0,
        synced_to: survey.synced_to.0,
        files,
        topics,
        damage: survey.damage.clone(),
        tail: survey.tail.clone(),
    }
}

fn file(surveyed: &Surveyed) -> FileReport {
    FileReport {
        name: log_name(surveyed.no),
        is_log: surveyed.kind == FileKind::Log,
        is_sealed: surveyed.is_sealed,
        bytes: surveyed.len,
        messages: 0,
        live_bytes: 0,
        dead_bytes: 0,
    }
}

/// The channels of one topic, by their numbers.
type Channels<'a> = Vec<(ChannelNo, &'a ChannelState)>;

fn topic(
    number: TopicNo,
    state: &TopicState,
    channels: &Channels<'_>,
    spans: &[(Offset, Offset)],
) -> TopicReport {
    let count = |spans: &[(Offset, Offset)]| spans.iter().map(|(first, last)| last.0 - first.0 + 1).sum();
    let pump = pump(state, channels);
    let mut channels: Vec<InspectedChannel> = channels
        .iter()
        .map(|&(number, channel)| {
            let depth = below(spans, pump).flat_map(|(first, last)| channel.finished.missing(first, last));
            InspectedChannel {
                number,
                name: channel.name.clone(),
                paused: channel.paused,
                depth: count(&depth.collect::<Vec<_>>()),
                requeued: channel.requeued.len() as u64,
            }
        })
        .collect();
    channels.sort_by(|a, b| a.name.cmp(&b.name).then(a.number.cmp(&b.number)));
    let messages: u64 = count(spans);
    let pumped: u64 = count(&below(spans, pump).collect::<Vec<_>>());
    TopicReport {
        number,
        name: state.name.clone(),
        level: state.level(),
        paused: state.paused,
        depth: messages - pumped,
        messages,
        live_bytes: 0,
        dead_bytes: 0,
        channels,
    }
}

/// Offset that a broker would set the pump to.
fn pump(state: &TopicState, channels: &Channels<'_>) -> Offset {
    let flows = !state.paused && !channels.is_empty();
    if flows { Offset(u64::MAX) } else { state.pump }
}

/// The parts of `spans` below `end`.
fn below(spans: &[(Offset, Offset)], end: Offset) -> impl Iterator<Item = (Offset, Offset)> {
    let spans = spans.iter().take_while(move |(first, _)| *first < end);
    spans.map(move |(first, last)| (*first, (*last).min(Offset(end.0 - 1))))
}

/// The messages of a topic that some channel has not finished, or the next one waits for.
fn awaited(state: &TopicState, channels: &Channels<'_>, spans: &[(Offset, Offset)]) -> RangeSet {
    let mut out = RangeSet::default();
    let pump = pump(state, channels);
    for (first, last) in spans.iter().filter(|(_, last)| *last >= pump) {
        out.insert((*first).max(pump), *last);
    }
    for (_, channel) in channels {
        for (first, last) in spans {
            channel
                .finished
                .missing(*first, *last)
                .into_iter()
                .for_each(|(first, last)| out.insert(first, last));
        }
    }
    out
}

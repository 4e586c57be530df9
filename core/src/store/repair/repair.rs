//! Puts a damaged data folder in order: keeps every message that is whole, and says what is gone.
//!
//! No file is changed. Files with damage are copied, as far as they are whole, to clean files with new
//! numbers; all that is known of topics and channels goes to a new checkpoint, at a position after the end of
//! the log, where a new log file begins. Until the manifest names these, by rename, the folder is what it
//! was. The files that were copied from are then renamed: a broker passes over a name that ends in
//! `.damaged`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::clock::Wall;
use crate::config::Durability;
use crate::error::{Error, Result};
use crate::message::Offset;
use crate::name::{ChannelName, TopicName};
use crate::store::disk::Disk;
use crate::store::disk::real_disk::RealDisk;
use crate::store::format::checkpoint;
use crate::store::format::file::{
    FILE_HEADER_BYTES, FileHeader, FileKind, FileNo, checkpoint_name, log_name,
};
use crate::store::format::frame::{self, Header, Kind, Record};
use crate::store::format::frame_file::FrameFile;
use crate::store::format::log_pos::LogPos;
use crate::store::format::manifest::Manifest;
use crate::store::format::numbers::{ChannelNo, TopicNo};
use crate::store::format::own::{self, Name, SET_ASIDE};
use crate::store::format::range_set::RangeSet;
use crate::store::open::holes;
use crate::store::open::replay::TopicState;
use crate::store::read::reader::{Scanned, Scanner};
use crate::store::repair::damage::{Damage, Tail};
use crate::store::repair::folder::Surveyed;
use crate::store::repair::pass::Progress;
use crate::store::repair::salvage::Sound;
use crate::store::repair::survey::Survey;

/// Findings of a repair, and what it does, or has done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Repair {
    /// Whether there is anything to do.
    pub is_needed: bool,
    /// Whether it was done.
    pub is_written: bool,
    /// Damage found.
    pub damage: Vec<Damage>,
    /// Place at which a crash cut the log. A broker would drop what follows; a repair keeps what is whole of
    /// it.
    pub tail: Option<Tail>,
    /// Messages that are gone, by topic name.
    pub losses: Vec<Loss>,
    /// Whether `losses` is a lower bound: of what stood in a missing or unreadable part of the log it has
    /// only what its neighbours and the checkpoint show.
    pub is_lower_bound: bool,
    /// Topics whose creation is gone: their messages are kept under a name made of their number.
    pub renamed: Vec<(TopicNo, String)>,
    /// Channels whose creation is gone, by number. A subscriber makes them anew.
    pub lost_channels: Vec<ChannelNo>,
    /// Topics left out because a later one of their name shows that they were deleted, by number and name.
    pub superseded_topics: Vec<(TopicNo, String)>,
    /// Channels left out for the same reason.
    pub superseded_channels: Vec<(ChannelNo, String)>,
    /// Entries that are gone, as far as they can be counted.
    pub lost_entries: u64,
    /// Whether entries are gone: what was finished may be delivered again, and what was paused, emptied or
    /// deleted may be as before.
    pub is_state_lost: bool,
    /// Messages that stay.
    pub kept_messages: u64,
    /// Files that are replaced, or left out; once written they are renamed to their name and `.damaged`.
    pub replaced: Vec<String>,
}

/// Messages of one topic that are gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// The topic's number.
    pub topic: TopicNo,
    /// Its name.
    pub name: String,
    /// First and last offset of each range they stood in.
    pub ranges: Vec<(u64, u64)>,
    /// Number of messages in them that some channel waited for.
    pub messages: u64,
}

/// Numbers passed over where those that are gone can't be known.
const NUMBERS_LOST: u32 = 1 << 16;
/// Blocks passed over in that case: far more than are reserved at a time.
const BLOCKS_LOST: u64 = 1 << 20;

/// Repairs a data folder, or with `write` off reports what that would do. Takes the folder's lock either way.
///
/// # Errors
/// `Locked` if a broker runs on it; `NotFound`; `Version`; `Io`, `Full`: the folder is then as before.
pub fn repair(folder: &Path, write: bool, progress: Progress<'_>) -> Result<Repair> {
    repair_on(&RealDisk::open_existing(folder)?, write, progress)
}

/// [`repair`] on any disk.
///
/// # Errors
/// As [`repair`], but for the lock.
pub fn repair_on(disk: &dyn Disk, write: bool, progress: Progress<'_>) -> Result<Repair> {
    let survey = Survey::read(disk, progress)?;
    let mut plan = Plan::new(survey);
    if plan.repair.is_needed && write {
        plan.write(disk)?;
        plan.repair.is_written = true;
    }
    Ok(plan.repair)
}

struct Plan {
    survey: Survey,
    repair: Repair,
}

impl Plan {
    fn new(survey: Survey) -> Self {
        let is_needed = !survey.damage.is_empty() || survey.tail.as_ref().is_some_and(|tail| tail.frames > 0);
        let repair = Repair {
            is_needed,
            damage: survey.damage.clone(),
            tail: survey.tail.clone(),
            is_state_lost: survey.state_lost,
            lost_entries: survey.lost_entries,
            is_lower_bound: survey.damage.iter().any(|damage| damage.what.hides_messages()),
            ..Repair::default()
        };
        let mut plan = Self { survey, repair };
        if is_needed {
            plan.name_topics();
            plan.name_channels();
            plan.raise_counters();
            plan.record_losses();
            let replaced = plan.survey.files.iter().filter(|file| !file.is_sound);
            plan.repair.replaced = replaced.map(|file| log_name(file.no)).collect();
        }
        let topics = &plan.survey.replay.topics;
        let kept = plan.survey.present.iter().filter(|(topic, _)| topics.contains_key(topic));
        plan.repair.kept_messages = kept.flat_map(|(_, set)| set.iter()).map(|(f, l)| l.0 - f.0 + 1).sum();
        plan
    }

    /// Gives those topics a name whose creation is gone, and drops those that a later one of their name shows
    /// deleted.
    fn name_topics(&mut self) {
        let Survey { replay, seen, state_lost, present, .. } = &mut self.survey;
        // Without a loss of state, what is not known was deleted.
        let may_live = |number: TopicNo| {
            let was_counted = seen.counted.is_some_and(|(topic, _)| number < topic);
            *state_lost && !was_counted && !seen.topics_gone.contains(&number)
        };
        let unknown =
            seen.topics.iter().filter(|number| !replay.topics.contains_key(number) && may_live(**number));
        let unknown: Vec<TopicNo> = unknown.copied().collect();
        let mut names: BTreeMap<String, TopicNo> = BTreeMap::new();
        for (&number, topic) in &replay.topics {
            if let Some(older) = names.insert(topic.name.clone(), number) {
                self.repair.superseded_topics.push((older, topic.name.clone()));
            }
        }
        for (older, _) in &self.repair.superseded_topics {
            replay.topics.remove(older);
            replay.channels.retain(|_, channel| channel.topic != *older);
        }
        let misnamed = replay.topics.iter().filter(|(_, topic)| TopicName::parse(&topic.name).is_err());
        let misnamed: Vec<TopicNo> = misnamed.map(|(number, _)| *number).collect();
        for number in unknown.into_iter().chain(misnamed) {
            let mut name = format!("recovered-{number}");
            while names.contains_key(&name) {
                name.push_str("-again");
            }
            names.insert(name.clone(), number);
            self.repair.renamed.push((number, name.clone()));
            let new = || TopicState::new(String::new(), false, Offset(0), Offset(0), Durability::default());
            let topic = replay.topics.entry(number).or_insert_with(new);
            topic.name = name;
        }
        for (number, topic) in &mut replay.topics {
            let last =
                present.get(number).and_then(RangeSet::last).map_or(Offset(0), |(_, last)| last.plus(1));
            topic.end = topic.end.max(last);
        }
    }

    fn name_channels(&mut self) {
        let Survey { replay, seen, state_lost, .. } = &mut self.survey;
        let mut names: BTreeMap<(TopicNo, String), ChannelNo> = BTreeMap::new();
        for (&number, channel) in &mut replay.channels {
            if ChannelName::parse(&channel.name).is_err() {
                channel.name = format!("recovered-{number}");
            }
            if let Some(older) = names.insert((channel.topic, channel.name.clone()), number) {
                self.repair.superseded_channels.push((older, channel.name.clone()));
            }
        }
        let topics = &replay.topics;
        let older: BTreeSet<ChannelNo> =
            self.repair.superseded_channels.iter().map(|(number, _)| *number).collect();
        let names_of_topics: BTreeSet<TopicNo> = topics.keys().copied().collect();
        replay.channels.retain(|number, channel| {
            names_of_topics.contains(&channel.topic)
                && (!older.contains(number)
                    || names.get(&(channel.topic, channel.name.clone())) == Some(number))
        });
        let may_live = |number: &ChannelNo| {
            let was_counted = seen.counted.is_some_and(|(_, channel)| *number < channel);
            *state_lost && !was_counted && !seen.channels_known.contains(number)
        };
        self.repair.lost_channels = seen.channels.iter().copied().filter(may_live).collect();
    }

    /// Passes over every number and block that was used, or may have been.
    fn raise_counters(&mut self) {
        let Survey { replay, seen, state_lost, .. } = &mut self.survey;
        let spare = if *state_lost { NUMBERS_LOST } else { 0 };
        let last_topic = seen.topics.last().copied().unwrap_or_default();
        let last_channel = seen.channels.last().copied().unwrap_or_default();
        replay.next_topic = replay.next_topic.max(last_topic.next()).plus(spare);
        replay.next_channel = replay.next_channel.max(last_channel.next()).plus(spare);
        replay.next_block = replay.next_block.max(seen.block + 1) + if *state_lost { BLOCKS_LOST } else { 0 };
    }

    /// Records the missing offsets of each topic as holes.
    fn record_losses(&mut self) {
        let numbers: Vec<TopicNo> = self.survey.replay.topics.keys().copied().collect();
        for number in numbers {
            let Survey { replay, present, lost, .. } = &self.survey;
            let spans = self.survey.spans(number);
            let mut gone = RangeSet::default();
            let mut add = |(first, last): (Offset, Offset)| gone.insert(first, last);
            holes::missing(replay, number, &spans).into_iter().for_each(&mut add);
            if self.repair.is_lower_bound {
                holes::missing_at_end(replay, number, &spans).into_iter().for_each(&mut add);
            }
            let none = RangeSet::default();
            let whole = present.get(&number).unwrap_or(&none);
            let damaged = lost.get(&number).into_iter().flat_map(RangeSet::iter);
            let damaged = damaged.flat_map(|(first, last)| whole.missing(first, last));
            damaged
                .filter(|(first, last)| holes::is_awaited(replay, number, *first, *last))
                .for_each(&mut add);
            let awaited = |(first, last)| holes::awaited(replay, number, first, last);
            let messages = gone.iter().map(awaited).sum();
            let Some(topic) = self.survey.replay.topics.get_mut(&number) else { continue };
            let ranges: Vec<_> = gone.iter().map(|(first, last)| (first.0, last.0)).collect();
            gone.iter().for_each(|(first, last)| topic.holes.insert(first, last));
            // The checkpoint has the level in force only: what was lost as the level allowed must be known
            // as such.
            topic.levels = vec![(Offset(0), topic.level())];
            let allowed = holes::missing(&self.survey.replay, number, &spans);
            let Some(topic) = self.survey.replay.topics.get_mut(&number) else { continue };
            allowed.into_iter().for_each(|(first, last)| topic.holes.insert(first, last));
            if !ranges.is_empty() {
                self.repair.losses.push(Loss { topic: number, name: topic.name.clone(), ranges, messages });
            }
        }
        self.repair.losses.sort_by(|a, b| a.name.cmp(&b.name));
    }

    fn write(&self, disk: &dyn Disk) -> Result<()> {
        let Survey { manifest, files, end, replay, .. } = &self.survey;
        let mut no = self.first_free(disk)?;
        let mut take_no = || {
            let taken = no;
            no = taken.next();
            taken
        };
        let mut named: Vec<(FileNo, FileKind)> =
            files.iter().filter(|file| file.is_sound).map(|file| (file.no, file.kind)).collect();
        let (mut aside, mut old) = (Vec::new(), Vec::new());
        for file in files.iter().filter(|file| !file.is_sound) {
            aside.push(log_name(file.no));
            named.extend(self.copy(disk, file, &mut take_no)?.map(|no| (no, FileKind::Clean)));
        }
        named.push((begin_log(disk, &mut take_no, *end)?, FileKind::Log));
        let mut events = Vec::new();
        replay.events().iter().for_each(|event| event.encode(&mut events));
        let checkpoint_no = checkpoint::store(disk, &mut take_no, *end, &events)?;
        let next_no = take_no();
        let checkpoint = Some((checkpoint_no, *end));
        Manifest { clean_stop: false, next_no, checkpoint, files: named }.store(disk)?;
        // From here on the folder is repaired: at worst a broker removes what is still there under its old
        // name.
        match (&self.survey.checkpoint, manifest.as_ref().and_then(|m| m.checkpoint)) {
            (Some((whole, _)), _) => old.push(checkpoint_name(*whole)),
            (None, Some((damaged, _))) => aside.push(checkpoint_name(damaged)),
            (None, None) => {}
        }
        set_aside(disk, &aside, &old)
    }

    /// The first number no file has had, as far as the folder shows.
    fn first_free(&self, disk: &dyn Disk) -> Result<FileNo> {
        let names = disk.list().map_err(|e| Error::io("could not list the data folder", e))?;
        let numbers = names.iter().filter_map(|name| {
            match Name::parse(name.split_once(SET_ASIDE).map_or(name, |(name, _)| name)) {
                Some(Name::Log(no) | Name::Checkpoint(no)) => Some(no),
                _ => None,
            }
        });
        let next_no = self.survey.manifest.as_ref().map_or(FileNo(1), |manifest| manifest.next_no);
        Ok(numbers.map(FileNo::next).max().unwrap_or(FileNo(1)).max(next_no))
    }

    /// Copies what is whole in `file` and belongs to a topic there is. Returns the new file's number, if
    /// there is one.
    fn copy(
        &self,
        disk: &dyn Disk,
        file: &Surveyed,
        take_no: &mut impl FnMut() -> FileNo,
    ) -> Result<Option<FileNo>> {
        let Some(header) = file.header else { return Ok(None) };
        let mut out = None;
        let mut put = |frame: Header, payload: &[u8]| {
            if !self.survey.replay.topics.contains_key(&frame.topic) {
                return Ok(());
            }
            let out = match &mut out {
                Some(out) => out,
                none => none.insert(FrameFile::clean(disk, &mut *take_no)?),
            };
            out.put(&Header { synced_to: LogPos(0), ..frame }, payload)
        };
        let mut scan = Scanner::new(&file.file, header, FILE_HEADER_BYTES, file.until);
        loop {
            match scan.next()? {
                Scanned::End => break,
                Scanned::Frame(at, frame) if frame.kind == Kind::Data => {
                    put(frame, scan.payload(at, &frame)?)?
                }
                Scanned::Frame(..) => {}
                Scanned::BadPayload(at, frame) => {
                    let next = scan.at();
                    if let Some((_, rows)) = file.salvaged.get(&at) {
                        let payload = scan.payload(at, &frame)?;
                        for row in rows {
                            let (frame, payload) = row_frame(&frame, payload, row);
                            put(frame, &payload)?;
                        }
                    }
                    if next == at {
                        scan.resync(at)?;
                    }
                }
                Scanned::Bad(at) => {
                    scan.resync(at)?;
                }
            }
        }
        let filled = out.map(|out: FrameFile<'_>| out.finish(true)).transpose()?;
        Ok(filled.map(|filled| filled.header.no))
    }
}

/// A frame of some sound records of another.
fn row_frame(frame: &Header, payload: &[u8], row: &Sound) -> (Header, Vec<u8>) {
    let mut payload = payload.get(row.bytes.clone()).unwrap_or_default().to_vec();
    // A record can be sound though its checksum was not; see `salvage`.
    let mut at = 0;
    while let Some(len) = Record::parse(&payload[at..]).map(|record| record.len) {
        let crc = crc32c::crc32c(&payload[at + 4..at + len]);
        payload[at..at + 4].copy_from_slice(&crc.to_le_bytes());
        at += len;
    }
    let header = Header {
        payload_len: payload.len() as u32,
        count: row.count,
        payload_crc: frame::records_crc(&payload),
        first: frame.first.plus(u64::from(row.index)),
        ..*frame
    };
    (header, payload)
}

/// Writes a log file that goes on at `position`, with a mark in it: the log is never shorter than its
/// checkpoint says. Returns its number.
fn begin_log(disk: &dyn Disk, take_no: impl FnMut() -> FileNo, position: LogPos) -> Result<FileNo> {
    let (no, file) = own::create_numbered(disk, log_name, take_no)?;
    let header = FileHeader { kind: FileKind::Log, no, base: position, salt: fastrand::u64(..) };
    let mark = Header {
        kind: Kind::Mark,
        payload_len: 0,
        count: 0,
        topic: TopicNo::NONE,
        payload_crc: 0,
        first: Offset(0),
        time: Wall(0),
        has_ids: false,
        synced_to: position,
    };
    own::fill(&*file, &header.encode(), &mark.encode(header.salt, position))
        .map_err(|e| Error::io(format!("could not write {}", log_name(no)), e))?;
    Ok(no)
}

/// Renames what was replaced, and removes what is needless. What is not there is passed over.
fn set_aside(disk: &dyn Disk, aside: &[String], old: &[String]) -> Result<()> {
    let is_done = |result: std::io::Result<()>| match result {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other,
    };
    let all = || {
        let names = disk.list()?;
        for name in aside {
            let free = (0..).map(|n| match n {
                0 => format!("{name}{SET_ASIDE}"),
                n => format!("{name}{SET_ASIDE}.{n}"),
            });
            if let Some(free) = free.take(names.len() + 1).find(|free| !names.contains(free)) {
                is_done(disk.rename(name, &free))?;
            }
        }
        for name in old {
            is_done(disk.remove(name))?;
        }
        disk.sync_dir()
    };
    all().map_err(|e| Error::io("the folder is repaired, but the old files could not be renamed", e))
}

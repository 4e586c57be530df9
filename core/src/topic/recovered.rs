//! A topic as recovery found it: its messages are those on disk.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::channel::{Channel, ChannelSetup};
use crate::clock::Wall;
use crate::error::Result;
use crate::message::{Offset, Pos};
use crate::name::{ChannelName, TopicName};
use crate::shared::Shared;
use crate::store::format::event::Unfinished;
use crate::store::format::ids::StoredId;
use crate::store::format::numbers::{ChannelNo, TopicNo};
use crate::store::open::replay::{ChannelState, TopicState as StoredTopic};
use crate::store::read::reader;
use crate::topic::cache::{Extents, Volume};
use crate::topic::{Topic, TopicDamage, TopicState};

/// Facts about a topic that recovery found besides the events of the log.
pub(crate) struct OnDisk {
    /// The first offset of each dense range, and the bytes of its frames.
    pub(crate) bytes: BTreeMap<Offset, u64>,
    /// Each once, in the order of their offsets.
    pub(crate) ids: Vec<StoredId>,
    /// Ranges of messages that are damaged or missing, in order.
    pub(crate) damaged: Vec<(Offset, Offset)>,
}

impl Topic {
    /// Topic `no` with the messages that stand on disk and the channels that the log has.
    ///
    /// # Errors
    /// `InvalidName` if a stored name breaks the rule, which only damage can cause.
    pub(crate) fn recovered(
        no: TopicNo,
        stored: &StoredTopic,
        channels: &[(ChannelNo, &ChannelState)],
        clean_stop: bool,
        damage: Option<TopicDamage>,
        OnDisk { bytes, ids, damaged }: OnDisk,
        shared: &Arc<Shared>,
    ) -> Result<Arc<Self>> {
        let spans = shared.catalog.spans(no);
        let aged = !stored.limits.max_age.is_zero();
        let time_of = |offset| if aged { shared.time_of(no, offset) } else { Wall(0) };
        let Stored { extents, volume, mut end } = Stored::of(&spans, &bytes, aged, time_of);
        // What was handed out below and stands nowhere is gone: cursors that have read all stand after it.
        end.offset = end.offset.max(stored.end);
        // Offsets are handed out on from the last block only if nothing in it can have been lost.
        let next = if clean_stop { end.offset } else { Offset(0) };
        let block_end = Offset(next.0.next_multiple_of(1 << crate::message::SEQ_BITS));
        // I10, should the clock have been set back since.
        let time = spans.last().map_or(Wall(0), |(_, last)| shared.time_of(no, *last));
        let flows = !channels.is_empty() && !stored.paused;
        let pump = if flows { end } else { extents.seek(stored.pump, end) };
        let state = TopicState {
            paused: stored.paused,
            damage,
            time,
            next,
            block_end,
            end,
            pump,
            pump_logged: stored.pump,
            extents,
            volume,
            limits: stored.limits,
            dedup: stored.dedup,
            spilled_end: end.offset,
            ..TopicState::new(stored.level(), shared)
        };
        let topic = Self::with_state(no, TopicName::parse(&stored.name)?, shared, state);
        let mut state = topic.state.lock();
        topic.remember(&mut state, ids);
        for (channel_no, stored) in channels {
            let channel = topic.recovered_channel(*channel_no, stored, &spans, &state, &damaged)?;
            state.channels.push(channel);
        }
        for channel in &state.channels {
            channel.advance(&state, None);
        }
        drop(state);
        Ok(topic)
    }

    /// A channel of it as it was stored.
    fn recovered_channel(
        &self,
        no: ChannelNo,
        stored: &ChannelState,
        spans: &[(Offset, Offset)],
        state: &TopicState,
        damaged: &[(Offset, Offset)],
    ) -> Result<Arc<Channel>> {
        let setup = ChannelSetup {
            no,
            name: ChannelName::parse(&stored.name)?,
            topic: self.me.clone(),
            shared: self.shared.clone(),
        };
        let (next, unfinished) = cursor(stored, spans, &state.extents, state.end);
        let settings = stored.settings.clone();
        let channel = Channel::restored(setup, next, unfinished, stored.paused, settings, state.pump);
        // A repair that finds some of them whole finds them unfinished, too.
        channel.set_lost(unfinished_of(stored, damaged, next.offset));
        Ok(channel)
    }
}

/// The part of a topic that stands on disk.
struct Stored {
    extents: Extents,
    volume: Volume,
    /// Place after the last message.
    end: Pos,
}

impl Stored {
    /// The messages of `spans`, with the bytes of each; if they are `aged`, in parts with the times of their
    /// first.
    fn of(
        spans: &[(Offset, Offset)],
        bytes: &BTreeMap<Offset, u64>,
        aged: bool,
        time_of: impl Fn(Offset) -> Wall,
    ) -> Self {
        let (mut extents, mut volume, mut end) = (Extents::default(), Volume::default(), Pos::default());
        for (first, last) in spans {
            let at = Pos { offset: *first, rank: end.rank };
            extents.note(at);
            let bytes = bytes.get(first).copied().unwrap_or_default();
            let parts = if aged { AGED_PARTS } else { 1 };
            note_parts(&mut volume, at, *last, bytes, parts, &time_of);
            end = Pos { offset: last.plus(1), rank: end.rank + (last.0 - first.0 + 1) };
        }
        Self { extents, volume, end }
    }
}

/// Parts of a range of messages whose times are read where their age is limited.
const AGED_PARTS: u64 = 16;

/// Notes the messages from `first` to `last`, of `bytes` in all, in so many parts of equal size.
fn note_parts(
    volume: &mut Volume,
    first: Pos,
    last: Offset,
    bytes: u64,
    parts: u64,
    time_of: impl Fn(Offset) -> Wall,
) {
    let count = last.0 - first.offset.0 + 1;
    let parts = parts.min(count);
    let share = |part: u64, of: u64| (u128::from(of) * u128::from(part) / u128::from(parts)) as u64;
    let mut time = time_of(first.offset);
    for part in 0..parts {
        let (from, to) = (share(part, count), share(part + 1, count));
        let next = if to == count { last } else { first.offset.plus(to) };
        let next_time = time_of(next).max(time);
        volume.note_part(first.rank + from, share(part + 1, bytes) - share(part, bytes), time, next_time);
        time = next_time;
    }
}

impl Shared {
    /// The publish time of a message on disk. A message that can't be read counts as young: it is not dropped
    /// for its age.
    fn time_of(&self, topic: TopicNo, offset: Offset) -> Wall {
        let frames = reader::read(&self.catalog, None, topic, offset, 1, false).ok().flatten();
        frames.iter().flatten().map(|frame| frame.time).next().unwrap_or_else(|| self.clock.wall())
    }
}

/// A channel's read position and what it has not finished below: of what stands on disk, all that the log
/// does not call finished.
fn cursor(
    stored: &ChannelState,
    spans: &[(Offset, Offset)],
    extents: &Extents,
    end: Pos,
) -> (Pos, Vec<Unfinished>) {
    let finished = stored.finished.last().map(|(_, last)| last);
    let touched = finished.into_iter().chain(stored.requeued.keys().copied()).max();
    let Some(touched) = touched else { return (extents.seek(Offset(0), end), Vec::new()) };
    (extents.seek(touched.plus(1), end), unfinished_of(stored, spans, touched.plus(1)))
}

/// The messages of `spans` before `end` that the log does not call finished.
fn unfinished_of(stored: &ChannelState, spans: &[(Offset, Offset)], end: Offset) -> Vec<Unfinished> {
    let mut unfinished = Vec::new();
    for (first, last) in spans.iter().take_while(|(first, _)| *first < end) {
        for (from, to) in stored.finished.missing(*first, (*last).min(Offset(end.0 - 1))) {
            unfinished.extend((from.0..=to.0).map(|offset| {
                let offset = Offset(offset);
                let (attempts, due) = stored.requeued.get(&offset).copied().unwrap_or_default();
                Unfinished { offset, attempts, due }
            }));
        }
    }
    unfinished
}

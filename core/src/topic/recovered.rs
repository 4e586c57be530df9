//! A topic as recovery found it: what is on disk decides which messages it has.

use std::sync::Arc;

use crate::broker::Shared;
use crate::channel::{Channel, ChannelSetup};
use crate::error::Result;
use crate::message::{Offset, Pos};
use crate::name::{ChannelName, TopicName};
use crate::store::event::Unfinished;
use crate::store::replay::{ChannelState, TopicState as Told};
use crate::topic::ring::Extents;
use crate::topic::{Topic, TopicState};

impl Topic {
    /// Topic `no` with the messages that stand on disk and the channels the log told of.
    ///
    /// # Errors
    /// `InvalidName` if a stored name breaks the rule, which only damage can cause.
    pub(crate) fn recovered(
        no: u32,
        told: &Told,
        channels: &[(u32, &ChannelState)],
        clean_stop: bool,
        damaged: Option<String>,
        shared: &Arc<Shared>,
    ) -> Result<Arc<Self>> {
        let spans = shared.catalog.spans(no);
        let mut extents = Extents::default();
        let mut end = Pos::default();
        for (first, last) in &spans {
            let at = Pos { offset: *first, rank: end.rank };
            extents.note(at);
            end = Pos { offset: last.plus(1), rank: end.rank + (last.0 - first.0 + 1) };
        }
        // What was handed out below and stands nowhere is gone: cursors that have read all stand after it.
        end.offset = end.offset.max(told.end);
        // Offsets are handed out on from the last block only if nothing in it can have been lost.
        let next = if clean_stop { end.offset } else { Offset(0) };
        let block_end = Offset(next.0.next_multiple_of(1 << crate::message::SEQ_BITS));
        let flows = !channels.is_empty() && !told.paused;
        let pump = if flows { end } else { extents.seek(told.pump, end) };
        let state = TopicState {
            paused: told.paused,
            damaged,
            next,
            block_end,
            end,
            pump,
            pump_logged: told.pump,
            extents,
            spilled_end: end.offset,
            ..TopicState::new(told.level(), shared)
        };
        let topic = Self::with_state(no, TopicName::parse(&told.name)?, shared, state);
        let mut state = topic.state.lock();
        for (channel_no, told) in channels {
            let setup = ChannelSetup {
                no: *channel_no,
                name: ChannelName::parse(&told.name)?,
                topic: topic.me.clone(),
                shared: shared.clone(),
            };
            let (next, unfinished) = cursor(told, &spans, &state.extents, end);
            let channel = Channel::restored(setup, next, unfinished, told.paused, pump);
            state.channels.push(channel);
        }
        for channel in &state.channels {
            channel.advance(&state, None);
        }
        drop(state);
        Ok(topic)
    }
}

/// A channel's read position and what it has not finished below: of what stands on disk, all that the log does not
/// call finished.
fn cursor(
    told: &ChannelState,
    spans: &[(Offset, Offset)],
    extents: &Extents,
    end: Pos,
) -> (Pos, Vec<Unfinished>) {
    let finished = told.finished.last().map(|(_, last)| last);
    let touched = finished.into_iter().chain(told.requeued.keys().copied()).max();
    let Some(touched) = touched else { return (extents.seek(Offset(0), end), Vec::new()) };
    let mut unfinished = Vec::new();
    for (first, last) in spans.iter().take_while(|(first, _)| *first <= touched) {
        for (from, to) in told.finished.missing(*first, (*last).min(touched)) {
            unfinished.extend((from.0..=to.0).map(|offset| {
                let offset = Offset(offset);
                let (attempts, due) = told.requeued.get(&offset).copied().unwrap_or_default();
                Unfinished { offset, attempts, due }
            }));
        }
    }
    (extents.seek(touched.plus(1), end), unfinished)
}

//! What a broker says of messages that are stored.

use std::sync::Arc;

use crate::error::{Error, Result};

/// A broker's answer for a message that is stored.
///
/// ```
/// let client = libmq::connect("mq:memory")?;
/// let order = || libmq::NewMessage::new("one pizza").id("order 7");
/// let (first, again) = (client.publish("orders", order())?, client.publish("orders", order())?);
/// assert!(!first.duplicate && again.duplicate);
/// assert_eq!(again.offset, first.offset);
/// # Ok::<(), libmq::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The message's place in its topic, that of the first with its id if it is a duplicate. `None` from
    /// nsqd, which does not say.
    pub offset: Option<u64>,
    /// Whether it was not stored again, because one with its id was before.
    pub duplicate: bool,
    /// The broker: its address or folder.
    pub broker: Arc<str>,
}

/// Messages that are stored: at which offsets, and where. Nothing is allocated for messages that follow each
/// other.
#[derive(Clone, Debug)]
pub struct Stored {
    broker: Arc<str>,
    first: Run,
    more: Vec<Run>,
}

/// Messages in a row with the same outcome.
#[derive(Clone, Copy, Debug, Default)]
struct Run {
    count: usize,
    /// Offset of the first.
    offset: Option<u64>,
    is_duplicate: bool,
}

impl Stored {
    pub(crate) fn new(broker: Arc<str>) -> Self {
        Self { broker, first: Run::default(), more: Vec::new() }
    }

    /// Appends messages at offsets that follow each other.
    pub(crate) fn push(&mut self, count: usize, offset: Option<u64>, is_duplicate: bool) {
        let last = self.more.last_mut().unwrap_or(&mut self.first);
        let next = last.offset.map(|first| first + last.count as u64);
        if last.count == 0 {
            *last = Run { count, offset, is_duplicate };
        } else if last.is_duplicate == is_duplicate && next == offset {
            last.count += count;
        } else {
            self.more.push(Run { count, offset, is_duplicate });
        }
    }

    /// Whether all of them were stored before.
    pub(super) fn is_duplicate(&self) -> bool {
        self.runs().all(|run| run.is_duplicate)
    }

    fn runs(&self) -> impl Iterator<Item = &Run> {
        std::iter::once(&self.first).chain(&self.more)
    }

    /// The offset of each message, and whether it is a duplicate: see [`Receipt`].
    pub fn places(&self) -> impl Iterator<Item = (Option<u64>, bool)> {
        self.runs().flat_map(|run| {
            (0..run.count).map(|at| (run.offset.map(|first| first + at as u64), run.is_duplicate))
        })
    }

    /// The broker of all: see [`Receipt`].
    pub fn broker(&self) -> Arc<str> {
        Arc::clone(&self.broker)
    }

    /// The receipt of each message.
    pub(crate) fn receipts(&self) -> Vec<Receipt> {
        let mut receipts = Vec::with_capacity(self.runs().map(|run| run.count).sum());
        receipts.extend(self.places().map(|(offset, duplicate)| Receipt {
            offset,
            duplicate,
            broker: self.broker(),
        }));
        receipts
    }

    /// The receipt of a publish of one message.
    pub(crate) fn first(self) -> Result<Receipt> {
        let Self { broker, first: Run { count, offset, is_duplicate: duplicate }, .. } = self;
        let nothing = || Err(Error::Invalid("no message was published".to_owned()));
        if count == 0 { nothing() } else { Ok(Receipt { offset, duplicate, broker }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_of_runs_are_those_of_their_messages() {
        let mut stored = Stored::new("a".into());
        stored.push(2, Some(5), false);
        stored.push(1, Some(7), false);
        stored.push(1, Some(3), true);
        stored.push(2, None, false);
        let places = [(Some(5), false), (Some(6), false), (Some(7), false), (Some(3), true)];
        let places: Vec<_> = places.into_iter().chain([(None, false); 2]).collect();
        assert_eq!(stored.places().collect::<Vec<_>>(), places);
        let receipts = stored.receipts();
        let of_receipts = receipts.iter().map(|receipt| (receipt.offset, receipt.duplicate));
        assert_eq!(of_receipts.collect::<Vec<_>>(), places);
        assert_eq!((receipts.capacity(), &*receipts[0].broker), (6, "a"));
    }
}

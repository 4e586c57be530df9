//! Results of a PUBLISH.

use mq_core::{Broker, Error, Offset, Outcome, Published, Ticket};

use crate::wire::error::{Code, WireError};
use crate::wire::extension::Run;

/// Messages of a PUBLISH that share their fate.
pub(super) enum Part {
    /// Messages that are one frame of the log.
    Published(Published),
    /// The message was not stored, and never will be.
    Refused {
        /// Messages.
        count: u32,
        /// Whether the same can succeed later.
        retry: bool,
        /// The reason, as in an error frame.
        why: Vec<u8>,
    },
}

impl Part {
    /// The core refused `count` messages.
    pub(super) fn refused(count: u32, error: &Error) -> Self {
        Self::error(count, error.is_retryable(), &WireError::refused(Code::PubFailed, "PUBLISH", error))
    }

    /// `count` messages with this error.
    pub(super) fn error(count: u32, retry: bool, error: &WireError) -> Self {
        let mut why = Vec::new();
        error.write_to(&mut why);
        Self::Refused { count, retry, why }
    }

    /// The ticket of what was handed to the log.
    pub(super) fn ticket(&self) -> Option<Ticket> {
        match self {
            Self::Published(published) => Some(published.ticket),
            Self::Refused { .. } => None,
        }
    }
}

/// Whether the log has decided on all parts. What it could not write is refused from then on.
pub(super) fn are_decided(parts: &mut [Part], broker: &Broker) -> bool {
    parts.iter_mut().all(|part| {
        let Part::Published(published) = part else { return true };
        match broker.outcome(published.ticket) {
            Outcome::Pending => false,
            Outcome::Done => true,
            Outcome::Failed(error) => {
                *part = Part::refused(u32::try_from(published.len()).unwrap_or(u32::MAX), &error);
                true
            }
        }
    })
}

/// The runs of an answer.
pub(super) fn runs(parts: &[Part]) -> impl Iterator<Item = Run<'_>> {
    parts.iter().flat_map(|part| {
        let (stored, refused) = match part {
            Part::Published(published) => (Some(stored(published)), None),
            Part::Refused { count, retry, why } => {
                (None, Some(Run::Refused { count: *count, retry: *retry, why }))
            }
        };
        stored.into_iter().flatten().chain::<Option<Run<'_>>>(refused)
    })
}

/// Offsets that follow each other as one run.
fn stored<'r>(published: &'r Published) -> impl Iterator<Item = Run<'r>> {
    let mut offsets = published.offsets().peekable();
    std::iter::from_fn(move || {
        let (first, duplicate) = offsets.next()?;
        let mut count = 1;
        while offsets.next_if(|next| *next == (Offset(first.0 + u64::from(count)), duplicate)).is_some() {
            count += 1;
        }
        Some(Run::Stored { count, first: first.0, duplicate })
    })
}

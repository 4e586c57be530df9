//! A message to print.

use std::io::{self, Write};
use std::ops::Deref;
use std::sync::Arc;

use libmq::{Delivery, Message};

use super::printer::Print;
use crate::json;

/// Form of a line.
#[derive(Clone, Copy)]
pub(super) enum Form {
    Body,
    WithTopic,
    Json,
}

/// A message of a topic.
pub(super) struct Line {
    pub(super) topic: Arc<str>,
    pub(super) shown: Shown,
    pub(super) form: Form,
}

/// A message of a subscription, or one that was only looked at.
pub(super) enum Shown {
    InFlight(Message),
    Peeked(Delivery),
}

impl Deref for Shown {
    type Target = Delivery;

    fn deref(&self) -> &Delivery {
        match self {
            Self::InFlight(message) => message,
            Self::Peeked(delivery) => delivery,
        }
    }
}

impl Line {
    /// Finishes the message, if it is in flight.
    pub(super) fn finish(&self) {
        if let Shown::InFlight(message) = &self.shown {
            message.finish();
        }
    }
}

impl Print for Line {
    fn print(&self, out: &mut impl Write) -> io::Result<()> {
        let Self { topic, shown, form } = self;
        match form {
            Form::Body => out.write_all(shown.body())?,
            Form::WithTopic => {
                write!(out, "{topic} | ")?;
                out.write_all(shown.body())?;
            }
            Form::Json => {
                let line = json::Line::of(shown).in_topic(topic);
                let line = match shown {
                    Shown::InFlight(_) => line,
                    // Only mq shows what it keeps, and its ids have the offset.
                    Shown::Peeked(message) => line.at_offset(message.id().offset().0),
                };
                serde_json::to_writer(&mut *out, &line)?;
            }
        }
        out.write_all(b"\n")
    }
}

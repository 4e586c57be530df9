//! Frames of a server, sorted by what they answer.

use std::collections::VecDeque;
use std::ops::Range;

use bytes::{Bytes, BytesMut};

use super::error::Error;
use super::message::{Message, Peeked, Results};
use super::outbox::{Expected, Outbox};
use crate::wire::extension;
use crate::wire::frame::{self, CLOSE_WAIT, FRAME_HEADER_BYTES, HEARTBEAT, OK};

/// Refused acknowledgements kept for who asks for them: the newest.
const LATE_MAX: usize = 1000;

/// Bytes that were read, and what came in them until somebody takes it.
#[derive(Debug)]
pub(super) struct Inbox {
    /// Bytes of frames that are not whole.
    pub(super) input: BytesMut,
    /// Most bytes of a frame, its header apart from its length included.
    frame_bytes_max: Option<u32>,
    is_extended: bool,
    pub(super) messages: VecDeque<Message>,
    /// Answers to publishes with the extension.
    pub(super) results: VecDeque<Results>,
    /// Messages that the server has taken.
    pub(super) acknowledged: u64,
    /// Whether SUBSCRIBE created its channel, once it was answered.
    pub(super) created: Option<bool>,
    /// Answers to CREDIT that were not taken.
    pub(super) byte_credits: usize,
    /// The answer to the last CONFIRM.
    pub(super) confirmed: Option<Result<(), Error>>,
    /// The answer to the last PEEK.
    pub(super) peeked: Option<Result<Peeked, Error>>,
    /// Refusals of acknowledgements, which end nothing.
    pub(super) late: VecDeque<Error>,
}

impl Inbox {
    /// An inbox of which `input` is read already.
    pub(super) fn new(input: BytesMut, is_extended: bool, frame_bytes_max: Option<u32>) -> Self {
        Self {
            input,
            frame_bytes_max,
            is_extended,
            messages: VecDeque::new(),
            results: VecDeque::new(),
            acknowledged: 0,
            created: None,
            byte_credits: 0,
            confirmed: None,
            peeked: None,
            late: VecDeque::new(),
        }
    }

    /// Takes in every whole frame, and answers heartbeats by `outbox`. Returns whether there was one.
    pub(super) fn take_frames(&mut self, outbox: &mut Outbox) -> Result<bool, Error> {
        let mut end = 0;
        loop {
            self.check_size(end)?;
            let Ok(length) = frame::length(&self.input[end..])? else { break };
            end += length;
        }
        // One piece of memory for all of them: each message shares it.
        let frames = self.input.split_to(end).freeze();
        let mut at = 0;
        while let Ok(length) = frame::length(&frames[at..])? {
            let data = at + FRAME_HEADER_BYTES..at + length;
            match frames[data.start - 1] {
                0 => self.take_response(outbox, &frames, data)?,
                1 => self.take_error(outbox, &frames[data])?,
                2 => self.messages.push_back(Message::decode(&frames, &frames[data])?),
                3 => self.messages.push_back(Message::decode_delivery(&frames, &frames[data])?),
                _ => self.take_published(outbox, Results::decode(frames.slice(data))?)?,
            }
            at += length;
        }
        Ok(end > 0)
    }

    /// Refuses the frame at `at` where it is longer than this client takes.
    fn check_size(&self, at: usize) -> Result<(), Error> {
        let size = self.input[at..].first_chunk().map_or(0, |size| u32::from_be_bytes(*size));
        match self.frame_bytes_max {
            Some(max) if size > max => {
                Err(Error::Protocol(format!("a frame of {size} bytes: this client takes {max} at most")))
            }
            _ => Ok(()),
        }
    }

    fn take_published(&mut self, outbox: &mut Outbox, results: Results) -> Result<(), Error> {
        let Some(Expected::Published { messages, .. }) = outbox.answered() else {
            return Err(Error::unexpected("results of a publish"));
        };
        let count: u64 = results.runs().map(|run| u64::from(run.count())).sum();
        if count != messages {
            return Err(Error::Protocol(format!("{count} results for {messages} messages")));
        }
        let stored = results.runs().filter(|run| matches!(run, extension::Run::Stored { .. }));
        self.acknowledged += stored.map(|run| u64::from(run.count())).sum::<u64>();
        self.results.push_back(results);
        Ok(())
    }

    fn take_response(
        &mut self,
        outbox: &mut Outbox,
        frames: &Bytes,
        range: Range<usize>,
    ) -> Result<(), Error> {
        let data = &frames[range.clone()];
        if data == HEARTBEAT {
            outbox.put(b"NOP\n");
            return Ok(());
        }
        match outbox.answered() {
            Some(Expected::Published { messages, .. }) if data == OK => self.acknowledged += messages,
            Some(Expected::Subscribed) if data == OK => {}
            Some(Expected::Subscribed) if self.is_extended => {
                let created: Created = serde_json::from_slice(data)
                    .map_err(|error| Error::Protocol(format!("SUBSCRIBE's answer: {error}")))?;
                self.created = Some(created.created);
            }
            Some(Expected::Closed) if data == CLOSE_WAIT => {}
            Some(Expected::ByteCredit) if data == OK => self.byte_credits += 1,
            Some(Expected::Confirmed) if data == OK => self.confirmed = Some(Ok(())),
            Some(Expected::Peeked) => {
                self.peeked = Some(Peeked::decode(&frames.slice(range), self.is_extended));
            }
            _ => return Err(Error::unexpected(&format!("the response {}", data.escape_ascii()))),
        }
        Ok(())
    }

    fn take_error(&mut self, outbox: &mut Outbox, data: &[u8]) -> Result<(), Error> {
        let error = Error::server(data);
        let Error::Server { code, .. } = &error else {
            return Err(error);
        };
        match code.as_str() {
            "E_FIN_FAILED" | "E_REQ_FAILED" | "E_TOUCH_FAILED" => {
                tracing::warn!(%error, "an acknowledgement was refused");
                if self.late.len() == LATE_MAX {
                    self.late.pop_front();
                }
                self.late.push_back(error);
                Ok(())
            }
            "E_PEEK_FAILED" if outbox.answered() == Some(Expected::Peeked) => {
                self.peeked = Some(Err(error));
                Ok(())
            }
            "E_CONFIRM_FAILED" if outbox.answered() == Some(Expected::Confirmed) => {
                self.confirmed = Some(Err(error));
                Ok(())
            }
            _ => Err(error),
        }
    }
}

/// The answer to SUBSCRIBE.
#[derive(serde::Deserialize)]
struct Created {
    created: bool,
}

//! A topic without a channel: all of its messages are shown, and stay where they are.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use libmq::{Client, Error, MessageId, Start};
use tokio::time::sleep;

use super::follow::Followed;
use super::line::{Form, Line, Shown};
use super::printer::Printer;
use crate::brokers::start::has_begun;

/// Interval between two looks at a topic that has nothing new.
const PEEK_EVERY: Duration = Duration::from_millis(150);
/// Messages asked for at a time.
const PEEK_MAX: usize = 256;

/// Progress of looking at a topic.
pub(super) struct Look<'a> {
    client: &'a Client,
    topic: Arc<str>,
    form: Form,
    /// Place of the first message to show.
    start: Start,
    /// Channels that the topic had at the last look.
    channels: usize,
    /// Whether nobody else took messages at first: then all are shown.
    began_without_channel: bool,
    from: Option<MessageId>,
    /// The number of the id behind the last message shown. Ids of a topic rise.
    shown_before: u64,
}

/// End of looking.
pub(super) enum Seen {
    /// There were as many as asked for, or nobody reads any more.
    Enough,
    Output(io::Error),
    Failed(Error),
}

impl<'a> Look<'a> {
    pub(super) fn new(client: &'a Client, topic: &str, form: Form, start: Start) -> Self {
        let (topic, from) = (topic.into(), None);
        Self { client, topic, form, start, channels: 0, began_without_channel: false, from, shown_before: 0 }
    }

    /// Whether the topic had no channel at first, so that looking showed its messages.
    pub(super) fn has_shown(&self) -> bool {
        self.began_without_channel
    }

    /// Shows what is published, until the topic has a channel.
    pub(super) async fn until_a_channel(&mut self, printer: &mut Printer<Line>) -> Result<(), Seen> {
        while self.channels == 0 {
            if printer.is_done() {
                return Err(Seen::Enough);
            }
            if self.go_on(printer).await? == 0 && self.channels == 0 {
                sleep(PEEK_EVERY).await;
            }
        }
        Ok(())
    }

    /// Shows what was published before a subscription began: it is not its channel's. Ends when a look finds
    /// nothing, or what the channel has got.
    pub(super) async fn catch_up(
        &mut self,
        printer: &mut Printer<Line>,
        followed: &mut Followed,
    ) -> Result<(), Seen> {
        while self.began_without_channel && self.go_on(printer).await? > 0 && !printer.is_done() {
            if followed.first_id().map_err(Seen::Failed)?.is_some_and(|first| first.0 < self.shown_before) {
                break;
            }
        }
        followed.skip_before(self.shown_before);
        Ok(())
    }

    /// Shows what was published since the last look, and gives how many messages that was. The first look at
    /// a topic that has a channel shows nothing: its backlog is not new.
    async fn go_on(&mut self, printer: &mut Printer<Line>) -> Result<usize, Seen> {
        let peeked = self.client.peek_async(&self.topic, self.from, PEEK_MAX).await.map_err(Seen::Failed)?;
        self.channels = peeked.channels;
        if peeked.channels > 0 && !self.began_without_channel {
            return Ok(0);
        }
        self.began_without_channel = true;
        self.from = peeked.next.or(self.from);
        let count = peeked.messages.len();
        for message in peeked.messages {
            self.shown_before = message.id().0 + 1;
            if !has_begun(self.start, &message) {
                continue;
            }
            let topic = Arc::clone(&self.topic);
            printer.put(Line { topic, shown: Shown::Peeked(message), form: self.form }).await;
        }
        // The messages of the first look are passed over, and those after it are new.
        if self.start == Start::Latest && count < PEEK_MAX {
            self.start = Start::Earliest;
        }
        match printer.drain().await {
            Ok(()) => Ok(count),
            // A reader that has seen enough (`| head`) is no failure.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(Seen::Enough),
            Err(error) => Err(Seen::Output(error)),
        }
    }
}

//! Workloads that are as fast as the server: publishing, consuming, both at once, a backlog.

use std::sync::atomic::Ordering;

use super::consumer::Consumed;
use super::options::{Consuming, Publishing, Server};
use super::phase::work;
use super::report::{Check, Report};
use super::run::Run;
use super::seen::{Seen, Verdict};
use crate::Front;

/// Flags of `mq bench publish`.
#[derive(clap::Args)]
pub(crate) struct Publish {
    #[command(flatten)]
    pub(crate) server: Server,
    #[command(flatten)]
    publishing: Publishing,
    /// Make this channel of each topic first, so that messages wait there
    #[arg(long, value_name = "CHANNEL", value_parser = |text: &str| mq_core::ChannelName::parse(text))]
    channel: Option<mq_core::ChannelName>,
    /// Publish over HTTP to this address (HTTPS with a --tls flag), with one request at a time on each
    /// connection
    #[arg(long, value_name = "HOST:PORT", conflicts_with_all = ["window", "snappy"])]
    http: Option<String>,
}

impl Publish {
    pub(crate) fn run(&self, front: Front<'_>) -> Result<Report, String> {
        let (mut target, process, run) = (self.server.target()?, self.server.process()?, Run::new());
        if let Some(channel) = &self.channel {
            for topic in self.publishing.topics() {
                target.subscribe(&topic, channel.as_str())?;
            }
        }
        if let Some(address) = &self.http {
            (target.address, target.http) = (address.clone(), true);
        }
        let publishers = self.publishing.connect(&target, &run)?;
        let done = work(front, "publish", &run, process, self.publishing.messages(), publishers, Vec::new())?;
        Ok(Report::new("publish", target.address, vec![done.phase]))
    }
}

/// Flags of `mq bench consume`.
#[derive(clap::Args)]
pub(crate) struct Consume {
    #[command(flatten)]
    pub(crate) server: Server,
    /// Topic; made if there is none
    #[arg(long, value_name = "TOPIC", default_value = "bench", value_parser = |text: &str| mq_core::TopicName::parse(text))]
    topic: mq_core::TopicName,
    /// Topics, consumed side by side: TOPIC_0, TOPIC_1 and so on
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    topics: u64,
    /// Messages to consume of each channel; without, all until no more come
    #[arg(short = 'n', long, value_name = "COUNT")]
    messages: Option<u64>,
    #[command(flatten)]
    consuming: Consuming,
}

impl Consume {
    pub(crate) fn run(&self, front: Front<'_>) -> Result<Report, String> {
        let (target, process, run) = (self.server.target()?, self.server.process()?, Run::new());
        let topics = super::options::numbered(self.topic.as_str(), self.topics);
        let wanted = self.messages.unwrap_or(u64::MAX);
        let consumers = self.consuming.connect(&target, &topics, Some(wanted), None)?;
        let expected = self.messages.unwrap_or(0);
        let done = work(front, "consume", &run, process, expected, Vec::new(), consumers)?;
        let mut check = Check::default();
        for (verdict, strangers) in verdicts(&done.consumed, self.consuming.channels().len()) {
            check.duplicates += verdict.duplicates;
            check.strangers += strangers;
            // Without a number, nobody knows how many there were.
            check.lost += self.messages.unwrap_or(0).saturating_sub(verdict.distinct + strangers);
        }
        Ok(Report { check: Some(check), ..Report::new("consume", target.address, vec![done.phase]) })
    }
}

/// Flags of `mq bench both`.
#[derive(clap::Args)]
pub(crate) struct Both {
    #[command(flatten)]
    pub(crate) server: Server,
    #[command(flatten)]
    publishing: Publishing,
    #[command(flatten)]
    consuming: Consuming,
}

impl Both {
    pub(crate) fn run(&self, front: Front<'_>) -> Result<Report, String> {
        let (target, process, run) = (self.server.target()?, self.server.process()?, Run::new());
        let topics = self.publishing.topics();
        let consumers = self.consuming.connect(&target, &topics, None, None)?;
        let publishers = self.publishing.connect(&target, &run)?;
        let channels = self.consuming.channels().len();
        let expected = self.publishing.messages() * channels as u64;
        let done = work(front, "both", &run, process, expected, publishers, consumers)?;
        let check = Some(check(&run, &done.consumed, channels));
        Ok(Report { check, ..Report::new("both", target.address, vec![done.phase]) })
    }
}

/// Flags of `mq bench backlog`.
#[derive(clap::Args)]
pub(crate) struct Backlog {
    #[command(flatten)]
    pub(crate) server: Server,
    #[command(flatten)]
    publishing: Publishing,
    #[command(flatten)]
    consuming: Consuming,
}

impl Backlog {
    pub(crate) fn run(&self, front: Front<'_>) -> Result<Report, String> {
        let (target, process, run) = (self.server.target()?, self.server.process()?, Run::new());
        let (topics, channels) = (self.publishing.topics(), self.consuming.channels().len());
        self.consuming.create(&target, &topics)?;
        let publishers = self.publishing.connect(&target, &run)?;
        let fill = work(front, "fill", &run, process, self.publishing.messages(), publishers, Vec::new())?;
        let consumers = self.consuming.connect(&target, &topics, None, None)?;
        let expected = run.published.load(Ordering::Relaxed) * channels as u64;
        let drain = work(front, "drain", &run, process, expected, Vec::new(), consumers)?;
        let check = Some(check(&run, &drain.consumed, channels));
        let samples = [fill.samples, drain.samples].concat();
        let phases = vec![fill.phase, drain.phase];
        Ok(Report { check, samples, ..Report::new("backlog", target.address, phases) })
    }
}

/// Messages that the consumers of each channel saw together, and the number of strangers they met.
fn verdicts(consumed: &[Consumed], channels: usize) -> Vec<(Verdict, u64)> {
    let of_channel = |channel| {
        let (mut seen, mut strangers) = (Seen::default(), 0);
        for consumer in consumed.iter().filter(|consumer| consumer.channel == channel) {
            seen.merge(&consumer.seen);
            strangers += consumer.strangers;
        }
        (seen.verdict(), strangers)
    };
    (0..channels).map(of_channel).collect()
}

/// Holds what came against what this run published, in each channel.
pub(crate) fn check(run: &Run, consumed: &[Consumed], channels: usize) -> Check {
    let published = run.published.load(Ordering::Relaxed);
    let mut check = Check::default();
    for (verdict, strangers) in verdicts(consumed, channels) {
        check.lost += published.saturating_sub(verdict.distinct);
        check.duplicates += verdict.duplicates;
        check.strangers += strangers;
    }
    check
}

#[cfg(test)]
mod tests {
    use super::*;

    fn consumer(channel: usize, sequences: &[u64]) -> Consumed {
        let mut seen = Seen::default();
        for sequence in sequences {
            seen.note(1, 0, *sequence);
        }
        let messages = sequences.len() as u64;
        Consumed { channel, messages, bytes: 0, strangers: 0, seen, latency_ns: None, last: None }
    }

    #[test]
    fn each_channel_must_get_each_message_once() {
        let run = Run::new();
        run.published.store(4, Ordering::Relaxed);
        let whole = [consumer(0, &[0, 3]), consumer(0, &[2, 1]), consumer(1, &[0, 1, 2, 3])];
        assert_eq!(check(&run, &whole, 2), Check::default());
        // Once more at another consumer, and none of message 3 in the other channel.
        let broken = [consumer(0, &[0, 3]), consumer(0, &[2, 1, 0]), consumer(1, &[0, 1, 2])];
        assert_eq!(check(&run, &broken, 2), Check { lost: 1, duplicates: 1, strangers: 0 });
        // A duplicate does not make up for a loss.
        let both = [consumer(0, &[0, 1, 2, 2])];
        assert_eq!(check(&run, &both, 1), Check { lost: 1, duplicates: 1, strangers: 0 });
    }
}

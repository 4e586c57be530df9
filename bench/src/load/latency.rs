//! Latency of messages while the server is not busy.

use std::time::Duration;

use super::consumer::histogram;
use super::flow::check;
use super::options::{Consuming, Publishing, Server, duration};
use super::phase::work;
use super::report::{self, Report};
use super::run::Run;
use crate::Front;

/// Length of a run after its warm-up, unless a time or a number of messages is given.
const LENGTH: Duration = Duration::from_secs(10);

/// Flags of `mq bench latency`.
#[derive(clap::Args)]
pub(crate) struct Latency {
    #[command(flatten)]
    pub(crate) server: Server,
    /// Messages a second
    #[arg(long, value_name = "COUNT", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    rate: u64,
    /// Leave out of the figures what was to be sent so soon
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = duration)]
    warm_up: Duration,
    #[command(flatten)]
    publishing: Publishing,
    #[command(flatten)]
    consuming: Consuming,
}

impl Latency {
    pub(crate) fn run(&self, front: Front<'_>) -> Result<Report, String> {
        let (target, process, run) = (self.server.target()?, self.server.process()?, Run::new());
        let topics = self.publishing.topics();
        let consumers = self.consuming.connect(&target, &topics, None, Some(self.warm_up))?;
        let publishing = self.publishing.or_for(LENGTH + self.warm_up);
        let publishers = publishing.connect_paced(&target, &run, self.rate)?;
        let channels = self.consuming.channels().len();
        let expected = publishing.expected(self.rate) * channels as u64;
        let done = work(front, "latency", &run, process, expected, publishers, consumers)?;
        let mut latency_ns = histogram()?;
        for consumed in done.consumed.iter().filter_map(|consumed| consumed.latency_ns.as_ref()) {
            latency_ns.add(consumed).map_err(|error| format!("histogram: {error}"))?;
        }
        if latency_ns.is_empty() {
            return Err(format!(
                "nothing was sent after the first {:?}: --warm-up is too long",
                self.warm_up
            ));
        }
        let check = Some(check(&run, &done.consumed, channels));
        let latency = Some(report::Latency::new(&latency_ns));
        Ok(Report { check, latency, ..Report::new("latency", target.address, vec![done.phase]) })
    }
}

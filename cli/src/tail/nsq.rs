//! `nsq_tail`: the messages of topics.

use super::follow::{Follow, Followed};
use super::line::Form;
use super::printer::Printer;
use crate::brokers::nsq_flags::{NsqSource, Source};
use crate::interrupt::Interrupt;
use crate::stdout::refuse_closed_stdout;
use crate::{Outcome, go_flags, runtime};

/// Flags of `nsq_tail`.
#[derive(clap::Args)]
pub(crate) struct NsqTail {
    #[command(flatten)]
    source: NsqSource,
    /// Topic to print (may be given multiple times)
    #[arg(long, value_name = "TOPIC")]
    topic: Vec<String>,
    /// Channel to consume; one of its own without it
    #[arg(long, value_name = "CHANNEL", default_value = "")]
    channel: String,
    /// Messages in flight at most
    #[arg(long, value_name = "COUNT", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    max_in_flight: u32,
    /// Messages to print before it ends; 0: no end
    #[arg(short = 'n', long = "n", value_name = "COUNT", default_value_t = 0)]
    total: u64,
    /// Print the topic before each message
    #[arg(long, value_parser = go_flags::boolean, num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true")]
    print_topic: bool,
}

/// Prints until a signal ends it, there were as many as asked for, or nobody reads any more.
pub(crate) fn run_nsq(options: NsqTail) -> Outcome {
    refuse_closed_stdout()?;
    runtime()?.block_on(async {
        let max = (options.total > 0).then_some(options.total);
        // No more than is to be printed: the others would wait here for nothing.
        let fewest = |max: u64| u32::try_from(max).unwrap_or(u32::MAX).min(options.max_in_flight);
        let max_in_flight = max.map_or(options.max_in_flight, fewest);
        if options.topic.is_empty() {
            return Err("--topic required".to_owned());
        }
        let channel = match options.channel.as_str() {
            "" => format!("tail{:06}#ephemeral", fastrand::u32(..999_999)),
            channel => channel.to_owned(),
        };
        let Source { client, options: subscribe, .. } =
            options.source.connect("nsq_tail", max_in_flight).await?;
        let form = if options.print_topic { Form::WithTopic } else { Form::Body };
        let interrupt = Interrupt::catch()?;
        let mut followed = Vec::new();
        for topic in &options.topic {
            let subscription = client.subscribe_in_background(topic, &channel, subscribe);
            followed.push(Followed::new(topic, subscription.map_err(|error| format!("{topic}: {error}"))?));
        }
        let follow = Follow::new("nsq_tail", form, options.max_in_flight, Printer::start(max));
        // NSQ's tools end well by a signal.
        follow.run(followed, interrupt).await.map(|_| 0)
    })
}

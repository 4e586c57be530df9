//! `mq settings`: shows and changes the settings of a topic or a channel, which the broker keeps.

use std::io::{self, Write};
use std::time::Duration;

use clap::builder::NonEmptyStringValueParser;
use mq_bench::broker_flags::HttpFlags;
use mq_core::{ChannelName, TopicName};
use mq_nsq::client::AdminError;
use mq_server::config::units;
use serde_json::{Map, Value};

use crate::stdout::stdout;
use crate::words::printable;
use crate::{Outcome, runtime};

/// Flags of `mq settings`.
#[derive(clap::Args)]
pub(crate) struct Settings {
    /// Topic whose settings they are
    #[arg(value_name = "TOPIC", value_parser = |text: &str| TopicName::parse(text))]
    topic: TopicName,
    /// Settings to change, such as max_age=72h; without any, all are shown
    #[arg(value_name = "NAME=VALUE", value_parser = NonEmptyStringValueParser::new())]
    changes: Vec<String>,
    /// Channel of the topic whose settings they are, rather than the topic
    #[arg(long, value_name = "CHANNEL", value_parser = |text: &str| ChannelName::parse(text))]
    channel: Option<ChannelName>,
    /// As a JSON object, with times in milliseconds
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    http: HttpFlags,
}

/// More about the settings, for the end of the help.
pub(crate) const HELP: &str = "\
Settings of a topic:
  durability=LEVEL         when a publish is answered: memory, flush, sync
  max_messages=COUNT       messages that may wait; 0 is any number
  max_bytes=BYTES          bytes of messages that may wait, such as 10GiB; 0 is any number
  max_age=DURATION         how old a message that waits may become, such as 72h; 0 is any age
  overflow=ACTION          what is done at a limit: refuse, drop-oldest
  dedup_window=DURATION    how long ids of messages are known; none is as the broker has it
  dedup_max_ids=COUNT      the most ids that are known; none is as the broker has it

Settings of a channel:
  max_attempts=COUNT       deliveries of one message at most; 0 is any number
  dead_letter_topic=TOPIC  topic of what came back unfinished from so many; none where there is no limit
  redelivery_delay=DURATION
                           how long a message waits for each delivery it had when its consumer was lost";

/// Form of a setting's value.
#[derive(Clone, Copy)]
enum Form {
    Word,
    Count,
    Bytes,
    Duration,
}

const OF_TOPIC: &[(&str, Form)] = &[
    ("durability", Form::Word),
    ("max_messages", Form::Count),
    ("max_bytes", Form::Bytes),
    ("max_age", Form::Duration),
    ("overflow", Form::Word),
    ("dedup_window", Form::Duration),
    ("dedup_max_ids", Form::Count),
];

const OF_CHANNEL: &[(&str, Form)] =
    &[("max_attempts", Form::Count), ("dead_letter_topic", Form::Word), ("redelivery_delay", Form::Duration)];

pub(crate) fn run(options: Settings) -> Outcome {
    let known = if options.channel.is_some() { OF_CHANNEL } else { OF_TOPIC };
    let mut change = Map::new();
    for text in &options.changes {
        let (name, value) = parse(text, known, options.channel.is_some())?;
        change.insert(name.to_owned(), value);
    }
    let settings = runtime()?.block_on(ask(&options, change))?;
    // Who reads it may have seen enough.
    let _ = print(&options, known, &settings, &mut stdout());
    Ok(0)
}

fn parse<'a>(text: &'a str, known: &[(&str, Form)], is_of_channel: bool) -> Result<(&'a str, Value), String> {
    let Some((name, value)) = text.split_once('=') else {
        return Err(format!("{text:?} is no NAME=VALUE, such as {}=...", known[0].0));
    };
    let Some((_, form)) = known.iter().find(|(known, _)| *known == name) else {
        let names: Vec<_> = known.iter().map(|(name, _)| *name).collect();
        let other = if is_of_channel { OF_TOPIC } else { OF_CHANNEL };
        let hint = match (other.iter().any(|(other, _)| *other == name), is_of_channel) {
            (true, true) => format!(" ({name} is a setting of the topic: leave out --channel)"),
            (true, false) => format!(" ({name} is a setting of a channel: name it with --channel)"),
            (false, _) => String::new(),
        };
        return Err(format!("there is no setting {name:?}, but {}{hint}", names.join(", ")));
    };
    let bad = |form: &str| format!("{name}={value}: it must be {form}");
    let value = match form {
        _ if value == "none" => Value::Null,
        Form::Word => Value::from(value),
        Form::Count => Value::from(value.parse::<u64>().map_err(|_| bad("a number"))?),
        Form::Bytes => Value::from(units::parse_size(value).ok_or_else(|| bad(units::SIZE_FORM))?),
        Form::Duration => {
            let time = units::parse_duration(value).ok_or_else(|| bad(units::DURATION_FORM))?;
            Value::from(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
        }
    };
    Ok((name, value))
}

/// Makes the change, if there is one, and gives all settings.
async fn ask(options: &Settings, change: Map<String, Value>) -> Result<Map<String, Value>, String> {
    let admin = options.http.admin()?;
    let mut query = vec![("topic", options.topic.as_str())];
    let mut path = "/topic/config";
    if let Some(channel) = &options.channel {
        query.push(("channel", channel.as_str()));
        path = "/channel/config";
    }
    let answer = match change.is_empty() {
        true => admin.get(path, &query).await,
        false => admin.put(path, &query, Value::Object(change).to_string()).await,
    };
    let answer =
        answer.map_err(|error| missing(options, &error).unwrap_or_else(|| options.http.explain(&error)))?;
    serde_json::from_slice(&answer).map_err(|error| format!("the answer is none of an mq broker: {error}"))
}

/// An error for people about a topic or channel that is not there.
fn missing(options: &Settings, error: &AdminError) -> Option<String> {
    let AdminError::Refused { code, .. } = error else { return None };
    match (code.as_str(), &options.channel) {
        ("TOPIC_NOT_FOUND", _) => Some(format!("there is no topic {} ({code})", options.topic)),
        ("CHANNEL_NOT_FOUND", Some(channel)) => {
            Some(format!("topic {} has no channel {channel} ({code})", options.topic))
        }
        _ => None,
    }
}

fn print(
    options: &Settings,
    known: &[(&str, Form)],
    settings: &Map<String, Value>,
    out: &mut impl Write,
) -> io::Result<()> {
    if options.json {
        serde_json::to_writer(&mut *out, settings)?;
        writeln!(out)?;
        return out.flush();
    }
    let width = known.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
    for (name, form) in known {
        let value = match (settings.get(*name), form) {
            (None | Some(Value::Null), _) => "none".to_owned(),
            (Some(Value::Number(ms)), Form::Duration) => match ms.as_u64().unwrap_or_default() {
                0 => "0s".to_owned(),
                ms => format!("{:?}", Duration::from_millis(ms)),
            },
            (Some(Value::String(word)), _) => printable(word),
            (Some(other), _) => other.to_string(),
        };
        writeln!(out, "{name:width$}  {value}")?;
    }
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_by_their_form_and_mistakes_are_named() {
        let topic = |text| parse(text, OF_TOPIC, false).map(|(_, value)| value);
        let channel = |text| parse(text, OF_CHANNEL, true).map(|(_, value)| value);
        assert_eq!(topic("max_age=72h"), Ok(Value::from(72 * 3_600_000)));
        assert_eq!(topic("max_bytes=10MiB"), Ok(Value::from(10 << 20)));
        assert_eq!(topic("durability=sync"), Ok(Value::from("sync")));
        assert_eq!(topic("dedup_window=none"), Ok(Value::Null));
        assert_eq!(channel("max_attempts=5"), Ok(Value::from(5)));
        assert_eq!(channel("dead_letter_topic=none"), Ok(Value::Null));
        for (refused, hint) in [
            (topic("max_age"), "NAME=VALUE"),
            (topic("max_age=soon"), "max_age=soon"),
            (topic("max_messages=-1"), "a number"),
            (topic("colour=red"), "there is no setting \"colour\""),
            (topic("max_attempts=5"), "--channel"),
            (channel("max_age=5h"), "leave out --channel"),
        ] {
            let text = refused.unwrap_err();
            assert!(text.contains(hint), "{text}");
        }
    }
}

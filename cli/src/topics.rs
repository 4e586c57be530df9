//! `mq topics`: lists topics and channels, and does to them what administrators do.

use std::io::{self, BufRead, IsTerminal, Write};

use clap::ValueEnum;
use mq_core::{ChannelName, TopicName};
use mq_nsq::client::Admin;
use serde::Serialize;

use crate::stats::{self, Channel, Stats, Topic};
use crate::stdout::stdout;
use crate::words::{count, printable};
use crate::{Outcome, runtime};
use mq_bench::broker_flags::HttpFlags;

/// Flags of `mq topics`.
#[derive(clap::Args)]
pub(crate) struct Topics {
    /// Action
    #[arg(value_enum, default_value_t = Action::List)]
    action: Action,
    /// Topic to do it to; `list` takes none
    #[arg(value_name = "TOPIC", value_parser = |text: &str| TopicName::parse(text))]
    topic: Option<TopicName>,
    /// A channel, where nothing belongs: said with the flag that names one
    #[arg(value_name = "WORD", hide = true)]
    misplaced: Option<String>,
    /// Channel of the topic to do it to, rather than the topic
    #[arg(long, value_name = "CHANNEL", value_parser = |text: &str| ChannelName::parse(text))]
    channel: Option<ChannelName>,
    /// Delete or empty without asking
    #[arg(long, short = 'y')]
    yes: bool,
    /// Each topic of the list as a JSON object, with its channels
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    http: HttpFlags,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Action {
    /// Print topics and their channels
    List,
    /// Make a topic, or a channel and its topic
    Create,
    /// Delete it with all that waits in it
    Delete,
    /// Let what is published wait
    Pause,
    /// Let it go on
    Unpause,
    /// Drop all that waits in it
    Empty,
}

impl Action {
    fn word(self) -> &'static str {
        match self {
            Self::List => "list",
            Self::Create => "create",
            Self::Delete => "delete",
            Self::Pause => "pause",
            Self::Unpause => "unpause",
            Self::Empty => "empty",
        }
    }
}

/// A topic in JSON.
#[derive(Serialize)]
struct TopicLine<'a> {
    topic: &'a str,
    depth: u64,
    paused: bool,
    /// The damage that the topic is stopped for.
    #[serde(skip_serializing_if = "Option::is_none")]
    damage: Option<&'a str>,
    channels: Vec<ChannelLine<'a>>,
}

#[derive(Serialize)]
struct ChannelLine<'a> {
    channel: &'a str,
    depth: u64,
    in_flight: u64,
    deferred: u64,
    clients: u64,
    paused: bool,
}

pub(crate) fn run(options: Topics) -> Outcome {
    if let (Some(topic), Some(word)) = (&options.topic, &options.misplaced) {
        let (action, word) = (options.action.word(), printable(word));
        return Err(format!(
            "{word} is one word too many; a channel goes behind --channel: mq topics {action} {topic} --channel {word}"
        ));
    }
    runtime()?.block_on(act(&options))?;
    Ok(0)
}

async fn act(options: &Topics) -> Result<(), String> {
    let admin = options.http.admin()?;
    if options.action == Action::List {
        let topics = read(options, &admin).await?;
        // Who reads the list may have seen enough.
        let mut out = stdout();
        let _ = if options.json { list_json(&topics, &mut out) } else { list(&topics, &mut out) };
        return Ok(());
    }
    let word = options.action.word();
    let topic =
        options.topic.as_ref().ok_or_else(|| format!("name a topic: mq topics {word} TOPIC"))?.as_str();
    if matches!(options.action, Action::Delete | Action::Empty) && !options.yes {
        confirm(options, &admin, topic).await?;
    }
    let mut query = vec![("topic", topic)];
    let mut of = "topic";
    if let Some(channel) = &options.channel {
        if options.action == Action::Create {
            post(options, &admin, "/topic/create", &query).await?;
        }
        query.push(("channel", channel.as_str()));
        of = "channel";
    }
    post(options, &admin, &format!("/{of}/{word}"), &query).await
}

async fn post(options: &Topics, admin: &Admin, path: &str, query: &[(&str, &str)]) -> Result<(), String> {
    admin.post(path, query).await.map(drop).map_err(|error| options.http.explain(&error))
}

async fn read(options: &Topics, admin: &Admin) -> Result<Vec<Topic>, String> {
    let topic = options.topic.as_ref().map_or("", TopicName::as_str);
    let query =
        [("format", "json"), ("include_clients", "false"), ("include_mem", "false"), ("topic", topic)];
    let stats: Stats = stats::get(&options.http, admin, "/stats", &query).await?;
    stats.topics.ok_or_else(|| format!("there is no topic {topic}"))
}

fn list(topics: &[Topic], out: &mut impl Write) -> io::Result<()> {
    for topic in topics {
        let paused = if topic.paused { " paused" } else { "" };
        let damage = topic.damage.as_ref().map(|damage| format!(" stopped for damage: {damage}"));
        let damage = printable(&damage.unwrap_or_default());
        writeln!(out, "{}  depth {}{paused}{damage}", topic.topic_name, topic.depth)?;
        for channel in topic.channels() {
            let paused = if channel.paused { " paused" } else { "" };
            writeln!(
                out,
                "  {}  depth {} in flight {} deferred {} clients {}{paused}",
                channel.channel_name,
                channel.depth,
                channel.in_flight_count,
                channel.deferred_count,
                channel.client_count,
            )?;
        }
    }
    out.flush()
}

fn list_json(topics: &[Topic], out: &mut impl Write) -> io::Result<()> {
    for topic in topics {
        let line = TopicLine {
            topic: &topic.topic_name,
            depth: topic.depth,
            paused: topic.paused,
            damage: topic.damage.as_deref(),
            channels: topic.channels().iter().map(ChannelLine::of).collect(),
        };
        serde_json::to_writer(&mut *out, &line)?;
        writeln!(out)?;
    }
    out.flush()
}

impl<'a> ChannelLine<'a> {
    fn of(channel: &'a Channel) -> Self {
        Self {
            channel: &channel.channel_name,
            depth: channel.depth,
            in_flight: channel.in_flight_count,
            deferred: channel.deferred_count,
            clients: channel.client_count,
            paused: channel.paused,
        }
    }
}

/// Asks on the terminal whether to go on, saying what is lost.
async fn confirm(options: &Topics, admin: &Admin, topic: &str) -> Result<(), String> {
    let topics = read(options, admin).await?;
    let word = options.action.word();
    let channels = topics.iter().flat_map(|topic| topic.channels());
    let waiting = |channel: &Channel| channel.depth + channel.in_flight_count + channel.deferred_count;
    let (what, lost) = match &options.channel {
        Some(name) => {
            let found = channels.filter(|channel| channel.channel_name == name.as_str()).map(waiting).next();
            let lost = found.ok_or_else(|| format!("topic {topic} has no channel {name}"))?;
            (format!("channel {name} of topic {topic}"), lost)
        }
        None => {
            let own: u64 = topics.iter().map(|topic| topic.depth).sum();
            // Emptying a topic leaves what its channels have.
            let theirs = if options.action == Action::Delete { channels.map(waiting).sum() } else { 0 };
            (format!("topic {topic}"), own + theirs)
        }
    };
    if !io::stdin().is_terminal() {
        let wait = count(lost, "message waits", "messages wait");
        return Err(format!("to {word} {what} ({wait} there), give --yes"));
    }
    eprint!("{word} {what}, where {}? [y/N] ", count(lost, "message waits", "messages wait"));
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer).map_err(|error| format!("no answer: {error}"))?;
    match answer.trim().to_ascii_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err("nothing was done".to_owned()),
    }
}

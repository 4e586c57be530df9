//! `mq inspect`: what is in a data folder, and whether all of it is sound.

use std::io::Write;
use std::path::{Path, PathBuf};

use mq_core::TopicNo;
use mq_core::repair::inspect::{Damage, Report, Tail, What, inspect};
use serde_json::{Value, json};

use mq_server::startup_banner::shell_word;

use crate::Outcome;
use crate::progress::{Bar, Unit};
use crate::stdout::stdout;
use crate::table::Table;
use crate::words::{count, printable};
use mq_server::config::units::show_size;

/// Meaning of the exit status, for `--help`.
pub(crate) const EXIT_CODES: &str =
    "Exit code: 0 all is sound, 1 damage was found, 2 the folder could not be read";

/// Flags of `mq inspect`.
#[derive(clap::Args)]
pub(crate) struct Inspect {
    /// Folder of the broker's data; a broker may run on it
    #[arg(long, value_name = "DIR", env = "MQ_DATA_PATH", default_value = "mq-data")]
    data_path: PathBuf,
    /// Prints JSON
    #[arg(long)]
    json: bool,
}

/// Reads the folder and prints what is in it.
pub(crate) fn run(options: Inspect) -> Outcome {
    check_is_data_folder(&options.data_path)?;
    let mut bar = Bar::new(Unit::BytesRead);
    let report = inspect(&options.data_path, &mut |done, total| bar.show(done, total));
    drop(bar);
    let report = report.map_err(|e| format!("--data-path {}: {e}", options.data_path.display()))?;
    let is_sound = report.damage.is_empty();
    print(&if options.json { json_text(&as_json(&report)) } else { text(&report, &options.data_path) });
    Ok(if is_sound { 0 } else { 1 })
}

/// Refuses a folder that no broker has written to: saying that it is sound would mislead.
pub(crate) fn check_is_data_folder(folder: &Path) -> Result<(), String> {
    let shown = folder.display();
    let entries = match std::fs::read_dir(folder) {
        // The core's error says more.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(|error| format!("--data-path {shown}: {error}"))?,
    };
    let names = entries.map(|entry| entry.map(|entry| entry.file_name()));
    let names: Vec<_> =
        names.collect::<Result<_, _>>().map_err(|error| format!("--data-path {shown}: {error}"))?;
    // A lost manifest is damage; without any file of a broker there is nothing to be damaged.
    let is_ours = |name: &std::ffi::OsString| {
        let name = name.to_string_lossy();
        let (stem, kind) = name.split_once('.').unwrap_or((&name, ""));
        let is_number = !stem.is_empty() && stem.bytes().all(|byte| byte.is_ascii_digit());
        name == "manifest" || (is_number && !kind.is_empty())
    };
    match names.iter().any(is_ours) {
        true => Ok(()),
        false => Err(format!(
            "--data-path {shown}: no broker's data is there: it has neither a manifest nor log files"
        )),
    }
}

/// Prints to stdout; a reader that has enough is no failure, and what could not be printed fails the
/// command's end.
pub(crate) fn print(text: &str) {
    let mut out = stdout();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

pub(crate) fn json_text(value: &Value) -> String {
    format!("{value:#}\n")
}

fn text(report: &Report, folder: &Path) -> String {
    let mut out = String::new();
    let mut line = |text: String| {
        out.push_str(&text);
        out.push('\n');
    };
    if report.files.is_empty() && report.topics.is_empty() && report.damage.is_empty() {
        line(format!("{} holds no messages and no topics", folder.display()));
        return out;
    }
    let stop = if report.clean_stop { "stopped cleanly" } else { "in use, or not stopped cleanly" };
    line(format!("{}: format {}, {stop}", folder.display(), report.format));
    line(format!("log up to position {}, known fsync'd up to {}", report.log_end, report.synced_to));
    line(String::new());
    let mut files = Table::new(&["FILE", "KIND", "SIZE", "LIVE", "DEAD", "MESSAGES"]);
    for file in &report.files {
        let kind = match (file.is_log, file.is_sealed) {
            (true, true) => "log, full",
            (true, false) => "log",
            (false, _) => "cleaned",
        };
        let sizes = [file.bytes, file.live_bytes, file.dead_bytes].map(show_size);
        let [size, live, dead] = sizes;
        files.row(&[file.name.clone(), kind.to_owned(), size, live, dead, file.messages.to_string()]);
    }
    line(files.show());
    let mut topics =
        Table::new(&["TOPIC, CHANNEL", "DEPTH", "REQUEUED", "LEVEL", "STATE", "ON DISK", "LIVE", "DEAD"]);
    let state = |paused| if paused { "paused" } else { "" }.to_owned();
    let is_damaged = |number: TopicNo| {
        report.damage.iter().any(|place| match &place.what {
            What::Messages { topic, .. } | What::Missing { topic, .. } => *topic == number,
            _ => false,
        })
    };
    for topic in &report.topics {
        topics.row(&[
            printable(&topic.name),
            topic.depth.to_string(),
            String::new(),
            level(topic.level),
            if is_damaged(topic.number) { "damaged".to_owned() } else { state(topic.paused) },
            topic.messages.to_string(),
            show_size(topic.live_bytes),
            show_size(topic.dead_bytes),
        ]);
        for channel in &topic.channels {
            topics.row(&[
                format!("  {}", printable(&channel.name)),
                channel.depth.to_string(),
                channel.requeued.to_string(),
                String::new(),
                state(channel.paused),
            ]);
        }
    }
    line(topics.show());
    line(damage_text(&report.damage, report.tail.as_ref()));
    if !report.damage.is_empty() {
        line(format!(
            "`mq repair --data-path {}` says what can be salvaged; the broker has to be stopped for it",
            shell_word(&folder.to_string_lossy())
        ));
    }
    out
}

/// All that is damaged, a place a line.
pub(crate) fn damage_text(damage: &[Damage], tail: Option<&Tail>) -> String {
    let mut lines = Vec::new();
    if damage.is_empty() {
        lines.push("no damage: every checksum is right".to_owned());
    } else {
        lines.push(format!("damaged: {}", damage.len()));
        lines.extend(damage.iter().map(|place| format!("  {}", printable(&place.to_string()))));
    }
    if let Some(tail) = tail {
        lines.push(tail_text(tail));
    }
    lines.join("\n")
}

fn tail_text(tail: &Tail) -> String {
    let Tail { file, at, frames, messages } = tail;
    let place = format!("{file} at byte {at}: a write that was not finished, which is no damage");
    match frames {
        0 => place,
        _ => format!(
            "{place}; after it come {} in {}: a broker drops them, `mq repair --write` keeps them",
            count(*messages, "message", "messages"),
            count(*frames, "frame", "frames"),
        ),
    }
}

fn level(level: mq_core::Durability) -> String {
    format!("{level:?}").to_ascii_lowercase()
}

fn as_json(report: &Report) -> Value {
    let checkpoint =
        report.checkpoint.map(|(number, position)| json!({ "number": number, "position": position }));
    let files = report.files.iter().map(|file| {
        json!({
            "name": file.name, "kind": if file.is_log { "log" } else { "clean" }, "sealed": file.is_sealed,
            "bytes": file.bytes, "live_bytes": file.live_bytes, "dead_bytes": file.dead_bytes,
            "messages": file.messages,
        })
    });
    let topics = report.topics.iter().map(|topic| {
        let channels = topic.channels.iter().map(|channel| {
            json!({
                "number": channel.number.0, "name": channel.name, "paused": channel.paused,
                "depth": channel.depth, "requeued": channel.requeued,
            })
        });
        json!({
            "number": topic.number.0, "name": topic.name, "level": level(topic.level), "paused": topic.paused,
            "depth": topic.depth, "messages": topic.messages, "live_bytes": topic.live_bytes,
            "dead_bytes": topic.dead_bytes, "channels": channels.collect::<Vec<_>>(),
        })
    });
    json!({
        "format": report.format,
        "clean_stop": report.clean_stop,
        "checkpoint": checkpoint,
        "log_end": report.log_end,
        "synced_to": report.synced_to,
        "files": files.collect::<Vec<_>>(),
        "topics": topics.collect::<Vec<_>>(),
        "damage": report.damage.iter().map(damage_json).collect::<Vec<_>>(),
        "tail": report.tail.as_ref().map(tail_json),
    })
}

/// A damaged place: what all have, and what its kind has.
pub(crate) fn damage_json(damage: &Damage) -> Value {
    let mut out = json!({
        "kind": damage.kind(), "file": damage.file, "at": damage.at, "text": damage.to_string(),
    });
    let more = match &damage.what {
        What::Messages { topic, first, last, sound } => {
            json!({ "topic": topic.0, "first": first, "last": last, "sound": sound })
        }
        What::Missing { topic, name, first, last } => {
            json!({ "topic": topic.0, "name": name, "first": first, "last": last })
        }
        What::Log { from, to } => json!({ "from": from, "to": to }),
        What::Header { bytes, is_proven } => json!({ "bytes": bytes, "readable": is_proven }),
        What::Bytes { bytes } => json!({ "bytes": bytes }),
        What::Entries { count, is_live } => json!({ "count": count, "live": is_live }),
        What::Manifest | What::Checkpoint | What::Gone | What::Index => json!({}),
    };
    if let (Value::Object(out), Value::Object(more)) = (&mut out, more) {
        out.extend(more);
    }
    out
}

/// The place where the log was cut, as JSON.
pub(crate) fn tail_json(tail: &Tail) -> Value {
    json!({ "file": tail.file, "at": tail.at, "frames": tail.frames, "messages": tail.messages })
}

//! `mq repair`: puts a damaged data folder in order.

use std::path::{Path, PathBuf};

use mq_core::repair::{Repair, repair};
use serde_json::{Value, json};

use mq_server::startup_banner::shell_word;

use crate::Outcome;
use crate::inspect::{check_is_data_folder, damage_json, damage_text, json_text, print, tail_json};
use crate::progress::{Bar, Unit};
use crate::words::{count, printable};

/// Meaning of the exit status, for `--help`.
pub(crate) const EXIT_CODES: &str = "Exit code: 0 nothing was to do, or all was done (--write), 1 there is something to do, 2 the folder could not be read or repaired";

/// Flags of `mq repair`.
#[derive(clap::Args)]
pub(crate) struct RepairOptions {
    /// Folder of the broker's data; no broker may run on it
    #[arg(long, value_name = "DIR", env = "MQ_DATA_PATH", default_value = "mq-data")]
    data_path: PathBuf,
    /// Carries the repair out. The damaged files stay, renamed to end in .damaged
    #[arg(long)]
    write: bool,
    /// Prints JSON
    #[arg(long)]
    json: bool,
}

/// Reports the repair of the folder, or carries it out.
pub(crate) fn run(options: RepairOptions) -> Outcome {
    check_is_data_folder(&options.data_path)?;
    let mut bar = Bar::new(Unit::BytesRead);
    let done = repair(&options.data_path, options.write, &mut |done, total| bar.show(done, total));
    drop(bar);
    let done = done.map_err(|e| format!("--data-path {}: {e}", options.data_path.display()))?;
    print(&if options.json { json_text(&as_json(&done)) } else { text(&done, &options.data_path) });
    Ok(if done.is_needed && !done.is_written { 1 } else { 0 })
}

fn text(repair: &Repair, folder: &Path) -> String {
    let mut lines = vec![damage_text(&repair.damage, repair.tail.as_ref()), String::new()];
    if !repair.is_needed {
        lines.push("nothing to repair".to_owned());
        return lines.join("\n") + "\n";
    }
    let will = |did: &str, would: &str| if repair.is_written { did.to_owned() } else { would.to_owned() };
    let kept = count(repair.kept_messages, "message", "messages");
    lines.push(format!("{} {kept}", will("kept", "would keep")));
    for loss in &repair.losses {
        let ranges: Vec<String> =
            loss.ranges.iter().map(|(first, last)| format!("{first:#x} to {last:#x}")).collect();
        let (name, messages, ranges) = (&loss.name, loss.messages, ranges.join(", "));
        let least = if repair.is_lower_bound { "at least " } else { "" };
        let gone = count(messages, "message is gone", "messages are gone");
        lines.push(format!("topic {name}: {least}{gone}: {ranges}"));
    }
    if repair.is_lower_bound {
        lines.push(
            "more messages may be gone: nothing else says what stood in the missing or unreadable parts of the log named above"
                .to_owned(),
        );
    } else if repair.losses.is_empty() {
        lines.push("no message is known to be gone".to_owned());
    }
    for (number, name) in &repair.renamed {
        lines.push(format!("topic number {number}: its creation is gone, its messages are in topic {name}"));
    }
    for number in &repair.lost_channels {
        lines.push(format!("channel number {number}: its creation is gone; a subscriber makes it anew"));
    }
    let topics = repair.superseded_topics.iter().map(|(number, name)| ("topic", number.0, name));
    let channels = repair.superseded_channels.iter().map(|(number, name)| ("channel", number.0, name));
    for (kind, number, name) in topics.chain(channels) {
        let name = printable(name);
        lines.push(format!(
            "{kind} number {number}, {name}: left out, as a later one of that name shows it was deleted"
        ));
    }
    if repair.is_state_lost {
        let entries = match repair.lost_entries {
            0 => "entries about topics and channels may be gone".to_owned(),
            1 => "1 entry about topics and channels is gone, maybe more".to_owned(),
            lost => format!("{lost} entries about topics and channels are gone, maybe more"),
        };
        lines.push(format!(
            "{entries}: finished messages may be delivered again; what was paused, emptied or deleted may be as before"
        ));
    }
    for name in &repair.replaced {
        lines.push(match repair.is_written {
            true => format!("{name} was replaced; it is {name}.damaged now"),
            false => format!("{name} would be replaced, and be renamed to {name}.damaged"),
        });
    }
    lines.push(match repair.is_written {
        true => {
            "repaired: `mq serve` can use the folder again; remove the .damaged files when nobody needs them"
                .to_owned()
        }
        false => {
            let folder = shell_word(&folder.to_string_lossy());
            format!("nothing was changed; `mq repair --data-path {folder} --write` does it")
        }
    });
    lines.join("\n") + "\n"
}

fn as_json(repair: &Repair) -> Value {
    let losses = repair.losses.iter().map(|loss| {
        let ranges = loss.ranges.iter().map(|(first, last)| json!({ "first": first, "last": last }));
        json!({
            "topic": loss.topic.0, "name": loss.name, "messages": loss.messages, "ranges": ranges.collect::<Vec<_>>(),
        })
    });
    let named = |number: u32, name: &str| json!({ "number": number, "name": name });
    let renamed = repair.renamed.iter().map(|(number, name)| named(number.0, name));
    let topics = repair.superseded_topics.iter().map(|(number, name)| named(number.0, name));
    let channels = repair.superseded_channels.iter().map(|(number, name)| named(number.0, name));
    json!({
        "needed": repair.is_needed,
        "written": repair.is_written,
        "damage": repair.damage.iter().map(damage_json).collect::<Vec<_>>(),
        "tail": repair.tail.as_ref().map(tail_json),
        "kept_messages": repair.kept_messages,
        "losses": losses.collect::<Vec<_>>(),
        "losses_are_lower_bound": repair.is_lower_bound,
        "renamed_topics": renamed.collect::<Vec<_>>(),
        "lost_channels": repair.lost_channels.iter().map(|number| number.0).collect::<Vec<_>>(),
        "left_out": topics.chain(channels).collect::<Vec<_>>(),
        "state_lost": repair.is_state_lost,
        "lost_entries": repair.lost_entries,
        "replaced_files": repair.replaced,
    })
}

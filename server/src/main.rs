//! The libmq server and command line.
//!
//! - [`args`]: Go's flag grammar on top of clap
//! - [`settings`]: the list of what can be set; [`setting`], [`choice`], [`list`], [`units`]: how values are written
//! - [`sources`], [`file`]: where; [`config`]: what `mq serve` runs with
//! - [`serve`]: the broker as a process; [`features`] it offers; [`reload`] at SIGHUP; [`options`] HTTP shows;
//!   [`paste`] what it prints when ready
//! - [`publish`], [`lines`]: `mq pub`; [`tail`], [`printer`]: `mq tail`
//! - [`stat`]: `mq stat`; [`topics`]: `mq topics`; [`http`] both speak
//! - [`telemetry`]: the log; [`repeats`] held back there

mod args;
mod choice;
mod config;
mod features;
mod file;
mod http;
mod lines;
mod list;
mod options;
mod paste;
mod printer;
mod publish;
mod reload;
mod repeats;
mod serve;
mod setting;
mod settings;
mod sources;
mod stat;
mod tail;
mod telemetry;
mod topics;
mod units;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use clap::{Args, Command, FromArgMatches};

use crate::config::Face;

fn main() -> ExitCode {
    let mut arguments: Vec<OsString> = std::env::args_os().collect();
    let face = face(arguments.first());
    if face == Face::Nsqd {
        arguments.insert(1, "serve".into());
    }
    let command = command(face);
    let arguments = args::normalise(&command, arguments);
    let matches = match command.try_get_matches_from(arguments) {
        Ok(matches) => matches,
        Err(error) => {
            // Help and version are answers, on stdout; all else is a complaint. Neither may fail on a closed pipe.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::FAILURE } else { ExitCode::SUCCESS };
        }
    };
    let outcome = match matches.subcommand() {
        Some(("serve", flags)) => serve::run(flags, face),
        Some(("pub", flags)) => parsed(flags).and_then(publish::run),
        Some(("tail", flags)) => parsed(flags).and_then(tail::run),
        Some(("stat", flags)) => parsed(flags).and_then(stat::run),
        Some(("topics", flags)) => parsed(flags).and_then(topics::run),
        _ => Err("a subcommand is needed: `mq --help` lists them".to_owned()),
    };
    match outcome {
        Ok(code) => code,
        Err(message) => {
            match face {
                Face::Mq => eprintln!("mq {}: {message}", matches.subcommand_name().unwrap_or_default()),
                Face::Nsqd => eprintln!("nsqd: {message}"),
            }
            ExitCode::FAILURE
        }
    }
}

/// What every subcommand gives: its exit code, or what went wrong.
type Outcome = Result<ExitCode, String>;

/// Started under the name `nsqd` (a link, say), the program takes nsqd's flags and has its defaults.
fn face(name: Option<&OsString>) -> Face {
    let name = name.and_then(|path| Path::new(path).file_name());
    if name.is_some_and(|name| name == "nsqd") { Face::Nsqd } else { Face::Mq }
}

fn command(face: Face) -> Command {
    let publish = publish::Pub::augment_args(Command::new("pub"));
    let tail = tail::Tail::augment_args(Command::new("tail"));
    let stat = stat::Stat::augment_args(Command::new("stat"));
    let topics = topics::Topics::augment_args(Command::new("topics"));
    let serve = config::augment(Command::new("serve"), face).about("Runs a broker");
    let subcommands = [
        match face {
            Face::Mq => serve.display_name("mq"),
            Face::Nsqd => serve.display_name("nsqd").bin_name("nsqd").override_usage("nsqd [OPTIONS]"),
        },
        publish.about("Publishes each line of stdin as a message"),
        tail.about("Prints the messages of a topic as they come, one a line"),
        stat.about("Prints what a broker's channels do, one line a tick"),
        topics.about("Lists topics and channels; creates, deletes, pauses, unpauses, empties them"),
    ];
    Command::new("mq")
        .version(match face {
            Face::Mq => env!("CARGO_PKG_VERSION"),
            Face::Nsqd => concat!("v", env!("CARGO_PKG_VERSION"), " (libmq)"),
        })
        .propagate_version(true)
        .about("A message broker every language can use, and its tools")
        .subcommand_required(true)
        .arg_required_else_help(true)
        // Go's rule for a flag given twice: the last counts.
        .subcommands(subcommands.map(|command| command.args_override_self(true)))
}

fn parsed<T: FromArgMatches>(flags: &clap::ArgMatches) -> Result<T, String> {
    T::from_arg_matches(flags).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_command_line_is_sound() {
        super::command(super::Face::Mq).debug_assert();
        super::command(super::Face::Nsqd).debug_assert();
    }

    #[test]
    fn the_name_decides() {
        use super::{Face, face};
        for (name, is) in
            [("nsqd", Face::Nsqd), ("/usr/bin/nsqd", Face::Nsqd), ("mq", Face::Mq), ("/nsqd/mq", Face::Mq)]
        {
            assert_eq!(face(Some(&name.into())), is, "{name}");
        }
    }
}

//! The libmq server and command line.
//!
//! - [`args`]: Go's flag grammar on top of clap
//! - [`config`], [`setting`], [`units`]: what `mq serve` runs with, and how values are written
//! - [`serve`]: the broker as a process; [`paste`] what it prints when it is ready
//! - [`publish`], [`lines`]: `mq pub`; [`tail`], [`printer`]: `mq tail`
//! - [`telemetry`]: the log

mod args;
mod config;
mod lines;
mod paste;
mod printer;
mod publish;
mod serve;
mod setting;
mod tail;
mod telemetry;
mod units;

use std::process::ExitCode;

use clap::{Args, Command, FromArgMatches};

fn main() -> ExitCode {
    let command = command();
    let arguments = args::normalise(&command, std::env::args_os());
    let matches = match command.try_get_matches_from(arguments) {
        Ok(matches) => matches,
        Err(error) => {
            // Help and version are answers, on stdout; all else is a complaint. Neither may fail on a closed pipe.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::FAILURE } else { ExitCode::SUCCESS };
        }
    };
    let outcome = match matches.subcommand() {
        Some(("serve", flags)) => serve::run(flags),
        Some(("pub", flags)) => parsed(flags).and_then(publish::run),
        Some(("tail", flags)) => parsed(flags).and_then(tail::run),
        _ => Err("a subcommand is needed: `mq --help` lists them".to_owned()),
    };
    match outcome {
        Ok(code) => code,
        Err(message) => {
            let name = matches.subcommand_name().unwrap_or_default();
            eprintln!("mq {name}: {message}");
            ExitCode::FAILURE
        }
    }
}

/// What every subcommand gives: its exit code, or what went wrong.
type Outcome = Result<ExitCode, String>;

fn command() -> Command {
    let publish = publish::Pub::augment_args(Command::new("pub"));
    let tail = tail::Tail::augment_args(Command::new("tail"));
    let subcommands = [
        config::augment(Command::new("serve")).about("Runs a broker"),
        publish.about("Publishes each line of stdin as a message"),
        tail.about("Prints the messages of a topic as they come, one a line"),
    ];
    Command::new("mq")
        .version(env!("CARGO_PKG_VERSION"))
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
        super::command().debug_assert();
    }
}

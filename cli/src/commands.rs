//! The commands of the program, but for the broker, the lookup server and the admin page: one table.

use clap::{ArgMatches, Args, Command};
use mq_server::config::{self, InvokedAs};

use crate::program::{NSQ_TOOLS, Program};
use crate::{
    Outcome, archive, bench, completions, doctor, drain, forward, inspect, peek, ping, proto, publish,
    repair, settings, stat, status, tail, top, topics, version,
};

/// The version of NSQ whose programs this one stands for.
pub(crate) const NSQ_VERSION: &str = "1.3.0";
/// The version that NSQ's programs print: theirs, in their form, which clients' test harnesses parse.
const NSQ_VERSION_LINE: &str = concat!("v1.3.0 (built w/libmq ", env!("CARGO_PKG_VERSION"), ")");

/// A command: its flags, and what runs it.
struct Entry {
    command: Command,
    run: Box<dyn Fn(&ArgMatches) -> Outcome>,
}

/// A command whose flags are a `T`.
fn entry<T: Args + 'static>(name: &'static str, about: &'static str, run: fn(T) -> Outcome) -> Entry {
    let run =
        move |flags: &ArgMatches| T::from_arg_matches(flags).map_err(|error| error.to_string()).and_then(run);
    Entry { command: T::augment_args(Command::new(name)).about(about), run: Box::new(run) }
}

/// A command with more to say at the end of its help.
fn with_help(help: &'static str, entry: Entry) -> Entry {
    Entry { command: entry.command.after_help(help), ..entry }
}

/// One of NSQ's tools, which its users find under its name.
fn tool<T: Args + 'static>(name: &'static str, about: &'static str, run: fn(T) -> Outcome) -> Entry {
    let entry = entry(name, about, run);
    let command = entry.command.display_name(name).bin_name(name).version(NSQ_VERSION_LINE).hide(true);
    Entry { command: command.override_usage(format!("{name} [OPTIONS]")), ..entry }
}

fn entries() -> Vec<Entry> {
    vec![
        entry("pub", "Publishes messages: arguments, a file, or each line of stdin", publish::run),
        entry("tail", "Prints the messages of a topic as they come, one a line", tail::run),
        entry(
            "archive",
            "Writes the messages of topics to files, and finishes what is on disk",
            archive::run,
        ),
        entry("forward", "Forwards the messages of topics to web servers or other brokers", forward::run),
        entry(
            "topics",
            "Lists topics and channels; creates, deletes, pauses, unpauses, empties them",
            topics::run,
        ),
        with_help(
            settings::HELP,
            entry("settings", "Shows and changes the settings of a topic or a channel", settings::run),
        ),
        entry("peek", "Shows messages of a topic, and moves none", peek::run),
        entry("top", "Shows topics and their rates live in the terminal", top::run),
        entry("stat", "Prints numbers of a broker's topics, a row a topic every two seconds", stat::run),
        with_help(
            status::EXIT_CODES,
            entry("status", "Shows the state of a broker on one page", status::run),
        ),
        with_help(ping::EXIT_CODES, entry("ping", "Asks a broker's ports whether they answer", ping::run)),
        with_help(
            doctor::EXIT_CODES,
            entry("doctor", "Looks for what is wrong with a broker, and says what to do", doctor::run),
        ),
        entry(
            "drain",
            "Drains a broker and stops it: it leaves discovery, refuses publishes, and ends when it is empty",
            drain::run,
        ),
        entry(
            "bench",
            "Loads a broker or an nsqd, and measures its rates, latency, CPU and memory",
            bench::run,
        ),
        with_help(
            inspect::EXIT_CODES,
            entry("inspect", "Shows the contents of a data folder and verifies every checksum", inspect::run),
        ),
        with_help(
            repair::EXIT_CODES,
            entry(
                "repair",
                "Repairs a damaged data folder, keeping every message that is whole",
                repair::run,
            ),
        ),
        entry("proto", "Prints the files of the gRPC API, or writes them to a folder", proto::run),
        entry("completions", "Prints a script that completes commands in a shell", completions::run),
        entry("man", "Prints the manual page of a command, or writes all of them", completions::run_man),
        entry("version", "Prints the version", version::run),
        tool("nsq_tail", "Prints the messages of topics as they come", tail::run_nsq),
        tool("to_nsq", "Publishes the pieces of stdin", publish::run_nsq),
        tool("nsq_stat", "Prints the numbers of a channel", stat::run_nsq),
        tool("nsq_to_file", "Writes the messages of topics to files", archive::run_nsq),
        tool("nsq_to_http", "Sends the messages of a topic to web servers", forward::run_http),
        tool("nsq_to_nsq", "Publishes the messages of topics to other nsqds", forward::run_nsq),
    ]
}

/// The whole command line of the program under that name.
pub(crate) fn command(program: Program) -> Command {
    let invoked_as = program.invoked_as();
    let of_broker = [
        (
            config::augment_serve(Command::new("serve"), invoked_as).about("Runs a broker"),
            InvokedAs::Nsqd,
            "nsqd",
        ),
        (
            config::augment_lookup(Command::new("lookup"), invoked_as).about("Runs a lookup server"),
            InvokedAs::Nsqlookupd,
            "nsqlookupd",
        ),
        (
            config::augment_admin(Command::new("admin"), invoked_as)
                .about("Runs the admin page for brokers and lookup servers"),
            InvokedAs::Nsqadmin,
            "nsqadmin",
        ),
    ]
    .map(|(command, nsqs, name)| match invoked_as == nsqs {
        true => command.display_name(name).bin_name(name).override_usage(format!("{name} [OPTIONS]")),
        false => command.display_name("mq"),
    });
    let others = entries().into_iter().map(|entry| entry.command);
    Command::new("mq")
        .version(match invoked_as {
            InvokedAs::Mq => env!("CARGO_PKG_VERSION"),
            InvokedAs::Nsqd | InvokedAs::Nsqlookupd | InvokedAs::Nsqadmin => NSQ_VERSION_LINE,
        })
        .propagate_version(true)
        .about("A message broker every language can use, and its tools")
        .subcommand_required(true)
        .arg_required_else_help(true)
        // Go's rule for a flag given twice: the last counts.
        .subcommands(of_broker.into_iter().chain(others).map(|command| command.args_override_self(true)))
}

/// Runs a command that is not the broker.
pub(crate) fn run(name: &str, flags: &ArgMatches, program: Program) -> Outcome {
    if name == "lookup" {
        return mq_server::lookup::run(flags, program.invoked_as());
    }
    if name == "admin" {
        return mq_server::admin::run(flags, program.invoked_as());
    }
    let entry = entries().into_iter().find(|entry| entry.command.get_name() == name);
    let entry = entry.ok_or_else(|| format!("there is no command {name}: `mq --help` lists them"))?;
    (entry.run)(flags)
}

/// The exit status of a failure: 2 for those commands whose 1 is an answer; a command line that is wrong is 2
/// to NSQ's tools.
pub(crate) fn failure(subcommand: &str, is_usage: bool) -> u8 {
    let answers = ["doctor", "inspect", "repair"].contains(&subcommand);
    if answers || (is_usage && NSQ_TOOLS.contains(&subcommand)) { 2 } else { 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        for name in ["mq", "nsqd", "nsqlookupd", "nsqadmin", "nsq_tail"] {
            command(Program::named(Some(name.as_ref()))).debug_assert();
        }
    }

    #[test]
    fn every_tool_of_nsq_is_a_command() {
        let names: Vec<_> = entries().iter().map(|entry| entry.command.get_name().to_owned()).collect();
        for tool in NSQ_TOOLS {
            assert!(names.iter().any(|name| name == tool), "{tool}");
        }
    }

    #[test]
    fn a_wrong_command_line_of_a_tool_of_nsq_is_2() {
        assert_eq!((failure("nsq_tail", true), failure("nsq_tail", false)), (2, 1));
        assert_eq!((failure("inspect", false), failure("tail", true)), (2, 1));
    }
}

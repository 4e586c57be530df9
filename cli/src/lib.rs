//! The program `mq` as a function: the broker, the lookup server and the tools beside them.
//!
//! - [`main`]: runs one command line; `args`: Go's flag grammar on top of clap
//! - `serve`, `lookup`, `admin`: mq-server's; `drain`: asks a broker to empty itself and stop
//! - `publish`, `line_batches`: `mq pub`; `tail`, `printer`: `mq tail`
//! - `stat`: `mq stat`; `topics`: `mq topics`
//! - `interrupt`: signals that end a command; `words` for people. Flags that reach a broker are mq-bench's
//! - `inspect`, `repair`: `mq inspect`, `mq repair`; `table`, `progress` for people
//! - `bench`: `mq bench`; `proto`: `mq proto`

mod args;
mod bench;
mod drain;
mod inspect;
mod interrupt;
mod line_batches;
mod printer;
mod progress;
mod proto;
mod publish;
mod repair;
mod stat;
mod table;
mod tail;
mod topics;
mod words;

use std::ffi::OsString;
use std::path::Path;

use clap::{ArgMatches, Args, Command, FromArgMatches};
use mq_server::Ended;
use mq_server::config::{self, InvokedAs};

/// The version that NSQ's programs print: theirs, in their form, which clients' test harnesses parse.
const NSQ_VERSION_LINE: &str = concat!("v1.3.0 (built w/libmq", env!("CARGO_PKG_VERSION"), ")");
/// Exit status of a command that failed.
const FAILURE: u8 = 1;

/// Runs the command line `arguments`, whose first is the program's name, and gives its exit status: 0 is
/// success.
///
/// Never ends the process itself. Started under the name of one of NSQ's programs (a link, say), it takes
/// that one's flags and has its defaults.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> u8 {
    run(arguments).status
}

/// [`main`] for a program that ends when it returns: ports may stay taken until then.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> Ended {
    let mut arguments: Vec<OsString> = arguments.into_iter().collect();
    let invoked_as = invoked_as(arguments.first());
    match invoked_as {
        InvokedAs::Mq => {}
        InvokedAs::Nsqd => arguments.insert(1, "serve".into()),
        InvokedAs::Nsqlookupd => arguments.insert(1, "lookup".into()),
        InvokedAs::Nsqadmin => arguments.insert(1, "admin".into()),
    }
    let command = command(invoked_as);
    let arguments = args::normalise(&command, arguments);
    let failure = failure(arguments.get(1));
    let matches = match command.try_get_matches_from(arguments) {
        Ok(matches) => matches,
        Err(error) => {
            // Help and version are answers, on stdout; all else is a complaint. Neither may fail on a closed
            // pipe.
            let _ = error.print();
            return Ended::with(if error.use_stderr() { failure } else { 0 });
        }
    };
    let outcome = match matches.subcommand() {
        Some(("serve", flags)) => mq_server::serve::run(flags, invoked_as),
        Some((name, flags)) => command_of(name, flags, invoked_as).map(Ended::with),
        None => Err("a subcommand is needed: `mq --help` lists them".to_owned()),
    };
    match outcome {
        Ok(ended) => ended,
        Err(message) => {
            let name = match invoked_as {
                InvokedAs::Mq => format!("mq {}", matches.subcommand_name().unwrap_or_default()),
                InvokedAs::Nsqd => "nsqd".to_owned(),
                InvokedAs::Nsqlookupd => "nsqlookupd".to_owned(),
                InvokedAs::Nsqadmin => "nsqadmin".to_owned(),
            };
            mq_server::log::complain(&format!("{name}: {message}\n"));
            Ended::with(failure)
        }
    }
}

/// Runs a command that is not the broker.
fn command_of(name: &str, flags: &ArgMatches, invoked_as: InvokedAs) -> Outcome {
    match name {
        "lookup" => mq_server::lookup::run(flags, invoked_as),
        "admin" => mq_server::admin::run(flags, invoked_as),
        "pub" => parsed(flags).and_then(publish::run),
        "drain" => parsed(flags).and_then(drain::run),
        "tail" => parsed(flags).and_then(tail::run),
        "stat" => parsed(flags).and_then(stat::run),
        "bench" => parsed(flags).and_then(bench::run),
        "topics" => parsed(flags).and_then(topics::run),
        "inspect" => parsed(flags).and_then(inspect::run),
        "proto" => parsed(flags).and_then(proto::run),
        "repair" => parsed(flags).and_then(repair::run),
        _ => Err(format!("there is no command {name}: `mq --help` lists them")),
    }
}

/// The exit status of a failure: 2 for those commands whose 1 is an answer.
fn failure(subcommand: Option<&OsString>) -> u8 {
    let answers = subcommand.is_some_and(|name| name == "inspect" || name == "repair");
    if answers { 2 } else { FAILURE }
}

/// The exit status of a command, or what went wrong.
type Outcome = Result<u8, String>;

/// The program that the name stands for.
fn invoked_as(name: Option<&OsString>) -> InvokedAs {
    let name = name.and_then(|path| Path::new(path).file_name());
    match name.and_then(|name| name.to_str()) {
        Some("nsqd") => InvokedAs::Nsqd,
        Some("nsqlookupd") => InvokedAs::Nsqlookupd,
        Some("nsqadmin") => InvokedAs::Nsqadmin,
        _ => InvokedAs::Mq,
    }
}

fn command(invoked_as: InvokedAs) -> Command {
    let publish = publish::Pub::augment_args(Command::new("pub"));
    let tail = tail::Tail::augment_args(Command::new("tail"));
    let stat = stat::Stat::augment_args(Command::new("stat"));
    let topics = topics::Topics::augment_args(Command::new("topics"));
    let drain = drain::Drain::augment_args(Command::new("drain"));
    let inspect = inspect::Inspect::augment_args(Command::new("inspect"));
    let proto = proto::Proto::augment_args(Command::new("proto"));
    let repair = repair::RepairOptions::augment_args(Command::new("repair"));
    let bench = mq_bench::Bench::augment_args(Command::new("bench"));
    let serve = config::augment_serve(Command::new("serve"), invoked_as).about("Runs a broker");
    let lookup = config::augment_lookup(Command::new("lookup"), invoked_as).about("Runs a lookup server");
    let admin = config::augment_admin(Command::new("admin"), invoked_as)
        .about("Runs the admin page for brokers and lookup servers");
    let subcommands = [
        match invoked_as {
            InvokedAs::Mq | InvokedAs::Nsqlookupd | InvokedAs::Nsqadmin => serve.display_name("mq"),
            InvokedAs::Nsqd => serve.display_name("nsqd").bin_name("nsqd").override_usage("nsqd [OPTIONS]"),
        },
        match invoked_as {
            InvokedAs::Mq | InvokedAs::Nsqd | InvokedAs::Nsqadmin => lookup.display_name("mq"),
            InvokedAs::Nsqlookupd => {
                let lookup = lookup.display_name("nsqlookupd").bin_name("nsqlookupd");
                lookup.override_usage("nsqlookupd [OPTIONS]")
            }
        },
        match invoked_as {
            InvokedAs::Mq | InvokedAs::Nsqd | InvokedAs::Nsqlookupd => admin.display_name("mq"),
            InvokedAs::Nsqadmin => {
                let admin = admin.display_name("nsqadmin").bin_name("nsqadmin");
                admin.override_usage("nsqadmin [OPTIONS]")
            }
        },
        publish.about("Publishes messages: arguments, a file, or each line of stdin"),
        drain.about(
            "Drains a broker and stops it: it leaves discovery, refuses publishes, and ends when it is empty",
        ),
        tail.about("Prints the messages of a topic as they come, one a line"),
        stat.about("Prints numbers of a broker's topics, a row a topic every two seconds"),
        topics.about("Lists topics and channels; creates, deletes, pauses, unpauses, empties them"),
        bench.about("Loads a broker or an nsqd, and measures its rates, latency, CPU and memory"),
        inspect
            .about("Shows the contents of a data folder and verifies every checksum")
            .after_help(inspect::EXIT_CODES),
        proto.about("Prints the files of the gRPC API, or writes them to a folder"),
        repair
            .about("Repairs a damaged data folder, keeping every message that is whole")
            .after_help(repair::EXIT_CODES),
    ];
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
        .subcommands(subcommands.map(|command| command.args_override_self(true)))
}

fn parsed<T: FromArgMatches>(flags: &ArgMatches) -> Result<T, String> {
    T::from_arg_matches(flags).map_err(|error| error.to_string())
}

/// The runtime of a command.
pub(crate) fn runtime() -> Result<tokio::runtime::Runtime, String> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| format!("cannot start: {e}"))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_command_line_is_sound() {
        super::command(super::InvokedAs::Mq).debug_assert();
        super::command(super::InvokedAs::Nsqd).debug_assert();
        super::command(super::InvokedAs::Nsqlookupd).debug_assert();
        super::command(super::InvokedAs::Nsqadmin).debug_assert();
    }

    #[test]
    fn the_name_decides() {
        use super::{InvokedAs, invoked_as};
        for (name, is) in [
            ("nsqlookupd", InvokedAs::Nsqlookupd),
            ("nsqadmin", InvokedAs::Nsqadmin),
            ("nsqd", InvokedAs::Nsqd),
            ("/usr/bin/nsqd", InvokedAs::Nsqd),
            ("mq", InvokedAs::Mq),
            ("/nsqd/mq", InvokedAs::Mq),
        ] {
            assert_eq!(invoked_as(Some(&name.into())), is, "{name}");
        }
    }
}

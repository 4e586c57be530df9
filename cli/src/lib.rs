//! The program `mq` as a function: the broker, the lookup server and the tools beside them.
//!
//! - [`main`]: runs one command line; `commands`: the table of them; `args`: Go's flag grammar on top of clap
//! - `program`: names it is started under; `go_flags`: values as Go reads them
//! - `serve`, `lookup`, `admin`: mq-server's; `drain`: asks a broker to empty itself and stop
//! - `brokers`: flags and options of the commands on the crate libmq; `archive`: `mq archive`, nsq_to_file;
//!   `forward`: `mq forward`, nsq_to_http, nsq_to_nsq; `log`, `watch`: lines of commands that run on; `hex`
//! - `publish`: `mq pub`, to_nsq; `tail`: `mq tail`, nsq_tail; `json`: messages as objects
//! - `stat`: `mq stat`, nsq_stat; `topics`: `mq topics`; `settings`: `mq settings`
//! - `ping`, `status`, `doctor`, `peek`, `top`, `version`: the commands of their names; `stats`: numbers of a
//!   broker; `fleet`: brokers of those that look at many; `completions`: `mq completions`, `mq man`
//! - `stdout`: standard output, and what could not be printed; `interrupt`: signals that end a command;
//!   `words` for people. Flags that reach a broker are mq-bench's
//! - `inspect`, `repair`: `mq inspect`, `mq repair`; `table`, `progress` for people
//! - `bench`: `mq bench`; `proto`: `mq proto`

mod archive;
mod args;
mod bench;
mod brokers;
mod commands;
mod completions;
mod doctor;
mod drain;
mod fleet;
mod forward;
mod go_flags;
mod hex;
mod inspect;
mod interrupt;
mod json;
mod log;
mod peek;
mod ping;
mod program;
mod progress;
mod proto;
mod publish;
mod repair;
mod settings;
mod stat;
mod stats;
mod status;
mod stdout;
mod table;
mod tail;
mod top;
mod topics;
mod version;
mod watch;
mod words;

use std::ffi::OsString;

use mq_bench::plain_words::without_codes;
use mq_server::Ended;

use program::Program;
pub use stdout::note_closed_stdout;

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
    let program = Program::named(arguments.first().map(OsString::as_os_str));
    if let Some(subcommand) = program.subcommand() {
        arguments.insert(1, subcommand.into());
    }
    let command = commands::command(program);
    let arguments = args::normalise(&command, arguments);
    let subcommand = arguments.get(1).and_then(|name| name.to_str()).unwrap_or_default().to_owned();
    let matches = match command.try_get_matches_from(arguments) {
        Ok(matches) => matches,
        Err(error) => {
            // Help and version are answers, on stdout; all else is a complaint. Neither may fail on a closed
            // pipe.
            let printed = error.print();
            if error.use_stderr() {
                return Ended::with(commands::failure(&subcommand, true));
            }
            let _ = printed.inspect_err(stdout::note_loss);
            return finished(program, &subcommand, Ended::with(0));
        }
    };
    let outcome = match matches.subcommand() {
        Some(("serve", flags)) => mq_server::serve::run(flags, program.invoked_as()),
        Some((name, flags)) => commands::run(name, flags, program).map(Ended::with),
        None => Err("a subcommand is needed: `mq --help` lists them".to_owned()),
    };
    match outcome {
        Ok(ended) => finished(program, &subcommand, ended),
        Err(message) => {
            let name = program.shown(&subcommand);
            match subcommand.as_str() {
                "serve" | "lookup" | "admin" => mq_server::log::complain_of_end(&name, &message),
                _ => mq_server::log::complain(&format!("{name}: {}\n", without_codes(&message))),
            }
            Ended::with(commands::failure(&subcommand, false))
        }
    }
}

/// The end of a command that did what it was asked for: a failure if nobody can read all of it.
fn finished(program: Program, subcommand: &str, mut ended: Ended) -> Ended {
    if let Err(message) = stdout::check_stdout() {
        mq_server::log::complain(&format!("{}: {message}\n", program.shown(subcommand)));
        if ended.status == 0 {
            ended.status = commands::failure(subcommand, false);
        }
    }
    ended
}

/// The exit status of a command, or what went wrong.
type Outcome = Result<u8, String>;

/// The runtime of a command.
pub(crate) fn runtime() -> Result<tokio::runtime::Runtime, String> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| format!("cannot start: {e}"))
}

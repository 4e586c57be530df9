//! The program `mq`, which the package brings along.

use napi_derive::napi;

/// Runs a command line, whose first argument is the program's name, to its end, and returns its exit status.
/// JavaScript waits meanwhile: `bin/mq.js` has nothing else to do.
#[napi(js_name = "main")]
pub fn run_command(arguments: Vec<String>) -> u32 {
    mq_cli::main(arguments.into_iter().map(Into::into)).into()
}

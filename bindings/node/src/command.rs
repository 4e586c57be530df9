//! The program `mq`, which the package brings along.

use napi_derive::napi;

/// Runs a command line, whose first argument is the program's name, to its end, and returns its exit status.
/// JavaScript waits meanwhile: `bin/mq.js` has nothing else to do.
#[cfg_attr(test, allow(dead_code, reason = "nothing is exported to JavaScript from a test"))]
#[napi(js_name = "main")]
pub(crate) fn run_command(arguments: Vec<String>) -> u32 {
    for signal in [libc::SIGINT, libc::SIGTERM] {
        // Node's own handlers raise the signal again for the default to end the process: behind the program's
        // handlers, which call them too, that would never end.
        // SAFETY: the default replaces a handler of the same process, before any of the program's is there.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    mq_cli::run(arguments.into_iter().map(Into::into)).leave_ports_to_exit().into()
}

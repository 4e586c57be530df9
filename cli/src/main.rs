//! The program `mq`: see [`mq_cli::main`].
#![allow(unsafe_code, reason = "a function that runs before main is named in a section of the program")]

use std::process::ExitCode;

/// Runs before Rust's runtime, which opens /dev/null where standard output is closed: what is printed there
/// is lost without an error.
// SAFETY: the section has pointers to functions without arguments, which the loader calls in turn.
#[used]
#[cfg_attr(target_vendor = "apple", unsafe(link_section = "__DATA,__mod_init_func"))]
#[cfg_attr(not(target_vendor = "apple"), unsafe(link_section = ".init_array"))]
static BEFORE_MAIN: extern "C" fn() = look_at_stdout;

extern "C" fn look_at_stdout() {
    if rustix::io::fcntl_getfd(rustix::stdio::stdout()).is_err() {
        mq_cli::note_closed_stdout();
    }
}

fn main() -> ExitCode {
    ExitCode::from(mq_cli::run(std::env::args_os()).leave_ports_to_exit())
}

//! The program `mq`: see [`mq_cli::main`].

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(mq_cli::run(std::env::args_os()).leave_ports_to_exit())
}

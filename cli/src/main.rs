//! The program `mq`: see [`mq_cli::main`].

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(mq_cli::main(std::env::args_os()))
}

//! `mq version`: what this program is.

use std::io::Write;

use serde::Serialize;

use crate::Outcome;
use crate::commands::NSQ_VERSION;
use crate::stdout::stdout;

/// Flags of `mq version`.
#[derive(clap::Args)]
pub(crate) struct ShowVersion {
    /// Print a JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Version {
    version: &'static str,
    /// The version of NSQ whose programs it stands for.
    nsq_version: &'static str,
    os: &'static str,
    arch: &'static str,
}

/// Prints the version.
pub(crate) fn run(options: ShowVersion) -> Outcome {
    let version = Version {
        version: env!("CARGO_PKG_VERSION"),
        nsq_version: NSQ_VERSION,
        os: std::env::consts::OS,
        arch: std::env::consts::ARCH,
    };
    let mut out = stdout();
    let Version { version: own, nsq_version, os, arch } = &version;
    // Who reads it may have seen enough.
    let _ = match options.json {
        true => serde_json::to_writer(&mut out, &version).map_err(Into::into).and_then(|()| writeln!(out)),
        false => writeln!(out, "mq {own} ({os} {arch}, compatible with NSQ {nsq_version})"),
    };
    Ok(0)
}

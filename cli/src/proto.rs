//! `mq proto`: the files of the gRPC API, to generate code from.

use std::io::Write;
use std::path::{Path, PathBuf};

use mq_grpc::PROTOS;

use crate::Outcome;
use crate::stdout::stdout;

/// Flags of `mq proto`.
#[derive(clap::Args)]
pub(crate) struct Proto {
    /// Folder to write the files to, made if absent; without it they are printed
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
}

/// Writes or prints them.
pub(crate) fn run(options: Proto) -> Outcome {
    match &options.out {
        Some(folder) => write(folder)?,
        None => print().map_err(|error| format!("stdout: {error}"))?,
    }
    Ok(0)
}

fn write(folder: &Path) -> Result<(), String> {
    for (name, text) in PROTOS {
        let path = folder.join(name);
        let failed = |error| format!("--out {}: {error}", path.display());
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(failed)?;
        }
        std::fs::write(&path, text).map_err(failed)?;
    }
    Ok(())
}

fn print() -> std::io::Result<()> {
    let mut out = stdout();
    for (name, text) in PROTOS {
        writeln!(out, "// ---- {name}\n{text}")?;
    }
    out.flush()
}

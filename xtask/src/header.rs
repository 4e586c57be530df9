//! `cargo xtask header`: `ffi/include/mq.h`, generated from the crate in `ffi/` and committed.

use std::fs;

use clap::Args;

use crate::run::root;

/// The header, from the root.
const HEADER: &str = "ffi/include/mq.h";

/// Files of the crate that declare something for C, in the order of the header.
const SOURCES: [&str; 11] = [
    "version",
    "status",
    "values",
    "client",
    "pending",
    "subscription",
    "batch",
    "failures",
    "admin",
    "settings",
    "serve",
];

/// Arguments of `cargo xtask header`.
#[derive(Args)]
pub(crate) struct Header {
    /// Compares only, and fails where the file is not what the code says
    #[arg(long)]
    check: bool,
}

impl Header {
    pub(crate) fn run(self) -> Result<(), String> {
        if self.check {
            return check();
        }
        fs::write(root().join(HEADER), generated()?).map_err(|e| format!("{HEADER}: {e}"))
    }
}

/// Compares the committed header with a fresh one.
///
/// # Errors
/// The header is not what the code says.
pub(crate) fn check() -> Result<(), String> {
    let committed = fs::read(root().join(HEADER)).map_err(|e| format!("{HEADER}: {e}"))?;
    if committed == generated()? {
        return Ok(());
    }
    Err(format!("{HEADER} is not what the code says: run `cargo xtask header`"))
}

fn generated() -> Result<Vec<u8>, String> {
    let ffi = root().join("ffi");
    let config = cbindgen::Config::from_file(ffi.join("cbindgen.toml"))?;
    let sources = cbindgen::Builder::new().with_config(config);
    // Each file by itself, in the order of the header; with lib.rs it would be that of the modules' names.
    let files = SOURCES.map(|name| ffi.join("src").join(name).with_extension("rs"));
    let sources = files.into_iter().fold(sources, |sources, file| sources.with_src(file));
    let mut text = Vec::new();
    sources.generate().map_err(|e| e.to_string())?.write(&mut text);
    Ok(text)
}

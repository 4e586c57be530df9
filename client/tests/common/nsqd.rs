//! NSQ's own broker, where it can be had.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

/// A running nsqd.
pub(crate) struct Nsqd {
    pub(crate) address: String,
    process: Child,
    _folder: TempDir,
}

impl Nsqd {
    /// Starts one on a free port. `None` unless `MQ_PEERS` names a folder of NSQ's programs.
    pub(crate) fn start() -> Option<Self> {
        let program = PathBuf::from(std::env::var_os("MQ_PEERS")?).join("nsqd");
        let folder = TempDir::new().unwrap();
        let mut nsqd = Command::new(program);
        nsqd.args(["-tcp-address=127.0.0.1:0", "-http-address=127.0.0.1:0", "-data-path"]).arg(folder.path());
        let mut process = nsqd.stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let address = lines.by_ref().find_map(|line| {
            let line = line.unwrap();
            line.split_once("TCP: listening on ").map(|(_, address)| address.to_owned())
        });
        // Else it would stop at a full pipe.
        std::thread::spawn(move || lines.for_each(drop));
        Some(Self { address: address.expect("nsqd listens"), process, _folder: folder })
    }

    pub(crate) fn url(&self) -> String {
        format!("mq://{}", self.address)
    }
}

impl Drop for Nsqd {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

//! Runs the real `mq` binary: a broker as a process that can be killed, and the commands beside it.
//!
//! Test code: it panics where a test would, with what the processes wrote to stderr.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod broker;
mod cgroup;
mod output;
mod run;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

pub use broker::Broker;
pub use cgroup::Cgroup;
pub use run::{Finished, mq, mq_with_input, mq_with_url, signal, start};

/// Longest wait for a condition before a test fails: generous, since only failures spend it.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until `condition` returns something. The one place where a test polls: for conditions without an
/// event.
///
/// # Panics
/// After [`PATIENCE`], naming `what`.
pub fn until<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    const POLL: Duration = Duration::from_millis(2);
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} for {what}");
        std::thread::sleep(POLL);
    }
}

/// The binary under test: `MQ_BIN` where `cargo xtask test` has built it, else built now.
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        if let Some(path) = std::env::var_os("MQ_BIN") {
            return path.into();
        }
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let built = Command::new(cargo)
            // Names a test so that cargo resolves the tests' features: for others it would build dependencies
            // again.
            .args(["build", "--quiet", "--workspace", "--bins", "--test", "replay"])
            .current_dir(root())
            .status()
            .expect("cargo runs");
        assert!(built.success(), "mq does not build");
        // This test's own program lies in <target>/debug/deps.
        let own = std::env::current_exe().expect("a path of this program");
        own.ancestors().nth(2).expect("a target folder").join("mq")
    })
}

/// The workspace's root, as cargo says at run time: a checkout that was moved takes its `target/` along.
pub fn root() -> PathBuf {
    let own = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    Path::new(&own).parent().expect("a folder above").to_owned()
}

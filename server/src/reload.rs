//! SIGHUP: reads again what can change while the broker runs.

use clap::ArgMatches;
use mq_nsq::server::TlsConfig;

use crate::config::{Config, Face, Loaded};
use crate::telemetry::Log;

/// What SIGHUP changes, and from where.
pub(crate) struct Reload {
    pub(crate) flags: ArgMatches,
    pub(crate) face: Face,
    pub(crate) log: Log,
    pub(crate) loaded: Loaded,
    /// The server's TLS, once it runs with any.
    pub(crate) tls: Option<TlsConfig>,
}

/// Settings that take effect without a restart.
const LIVE: &[&str] = &["log-level"];

impl Reload {
    /// The settings the process was started with, but for those that were changed since.
    pub(crate) fn config(&self) -> &Config {
        &self.loaded.config
    }

    /// Reads all again: settings, and the files of TLS. What is wrong there changes nothing, and is logged.
    pub(crate) fn run(&mut self) {
        self.read_settings();
        if let Some(tls) = &self.tls {
            // It logs both ways itself.
            let _ = tls.reload();
        }
    }

    fn read_settings(&mut self) {
        let new = match Loaded::load(&self.flags, self.face) {
            Ok(new) => new,
            Err(error) => {
                tracing::error!(%error, "SIGHUP: the settings stay as they are");
                return;
            }
        };
        self.log.set_level(new.config.log_level);
        let level = new.config.log_level.0;
        tracing::info!(log_level = %level, "SIGHUP: settings read again");
        let waiting: Vec<_> =
            new.changes(&self.loaded).into_iter().filter(|flag| !LIVE.contains(&flag.as_str())).collect();
        if !waiting.is_empty() {
            tracing::warn!(settings = waiting.join(", "), "changed in the file, and wait for a restart");
        }
        // The rest is compared with what runs, next time too.
        self.loaded.config.log_level = new.config.log_level;
    }
}

//! SIGHUP: reads again what can change while the broker runs.

use std::sync::Arc;

use clap::ArgMatches;
use mq_net::access::HttpTokens;
use mq_net::transport::tls::TlsConfig;

use crate::config::{Config, InvokedAs, Loaded};
use crate::log::Log;
use crate::options::LiveOptions;

/// State that SIGHUP changes, and the sources it is read from.
pub(crate) struct Reload {
    pub(crate) flags: ArgMatches,
    pub(crate) invoked_as: InvokedAs,
    pub(crate) log: Log,
    pub(crate) loaded: Loaded,
    /// The server's TLS, once it runs with any.
    pub(crate) tls: Option<TlsConfig>,
    /// The tokens of its HTTP API, if it asks for one.
    pub(crate) tokens: Option<HttpTokens>,
    /// The values behind `/config`.
    pub(crate) options: Arc<LiveOptions>,
}

/// Settings that take effect without a restart.
const LIVE: &[&str] = &["log-level"];

impl Reload {
    /// The settings the process was started with, but for those that were changed since.
    pub(crate) fn config(&self) -> &Config {
        &self.loaded.config
    }

    /// Reads all again: settings, and the files of TLS and of tokens. What is wrong there changes nothing,
    /// and is logged.
    pub(crate) fn run(&mut self) {
        self.read_settings();
        if let Some(tls) = &self.tls {
            // It logs both ways itself.
            let _ = tls.reload();
        }
        if let Some(tokens) = &self.tokens {
            let _ = tokens.reload();
        }
    }

    fn read_settings(&mut self) {
        let new = match Loaded::load(&self.flags, self.invoked_as) {
            Ok(new) => new,
            Err(error) => {
                tracing::error!(%error, "SIGHUP: the settings stay as they are");
                return;
            }
        };
        self.options.set_log_level(new.config.log_level);
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

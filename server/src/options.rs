//! Values behind `/config`: every setting under its name in the file, and changes of those that can change.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use mq_nsq::server::{OptionError, OptionSource, OptionValue};
use parking_lot::Mutex;

use crate::config::Loaded;
use crate::config::value::{LogLevel, Value};
use crate::discovery::Lookups;
use crate::log::Log;

const LOG_LEVEL: &str = "log_level";
const LOOKUPS: &str = "nsqlookupd_tcp_addresses";

/// The settings of the running process.
pub(crate) struct LiveOptions {
    values: Mutex<BTreeMap<&'static str, OptionValue>>,
    log: Log,
    /// The lookup servers, from the time on that the broker serves.
    lookups: OnceLock<Lookups>,
}

impl LiveOptions {
    /// The loaded settings; `broadcast_address` is the one in force.
    pub(crate) fn new(loaded: &Loaded, broadcast_address: &str, log: Log) -> Self {
        let mut values = loaded.shown();
        values.insert("broadcast_address", OptionValue::Text(broadcast_address.to_owned()));
        Self { values: Mutex::new(values), log, lookups: OnceLock::new() }
    }

    /// Sets the lookup servers that `nsqlookupd_tcp_addresses` changes. Only the first call counts.
    pub(crate) fn set_lookups(&self, lookups: Lookups) {
        let _ = self.lookups.set(lookups);
    }

    /// Registers at other lookup servers: `value` is a JSON array of their addresses.
    fn put_lookups(&self, value: &[u8]) -> Result<OptionValue, OptionError> {
        let addresses: Vec<String> = serde_json::from_slice(value).map_err(|_| OptionError::Value)?;
        let lookups = self.lookups.get().ok_or(OptionError::Option)?;
        lookups.set(&addresses).map_err(|error| {
            tracing::warn!("{LOOKUPS}: {error}");
            OptionError::Value
        })?;
        let shown = OptionValue::Json(serde_json::Value::from(addresses).to_string());
        self.values.lock().insert(LOOKUPS, shown.clone());
        Ok(shown)
    }

    /// The log's level was changed.
    pub(crate) fn set_log_level(&self, level: LogLevel) -> OptionValue {
        self.log.set_level(level);
        self.values.lock().insert(LOG_LEVEL, level.show());
        level.show()
    }
}

impl OptionSource for LiveOptions {
    fn get(&self, name: &str) -> Option<OptionValue> {
        self.values.lock().get(name).cloned()
    }

    fn put(&self, name: &str, value: &[u8]) -> Result<OptionValue, OptionError> {
        match name {
            LOG_LEVEL => {
                let level = std::str::from_utf8(value).ok().and_then(LogLevel::parse);
                Ok(self.set_log_level(level.ok_or(OptionError::Value)?))
            }
            LOOKUPS => self.put_lookups(value),
            _ => Err(OptionError::Option),
        }
    }
}

//! What `/config` shows: every setting under its name in the file; and the one it changes.

use std::collections::BTreeMap;
use std::sync::Arc;

use mq_nsq::server::{OptionError, OptionSource, OptionValue};
use parking_lot::Mutex;

use crate::config::Loaded;
use crate::setting::{LogLevel, Value};
use crate::telemetry::Log;

const LOG_LEVEL: &str = "log_level";

/// The settings of the running process.
pub(crate) struct LiveOptions {
    values: Mutex<BTreeMap<&'static str, OptionValue>>,
    log: Arc<Log>,
}

impl LiveOptions {
    /// What was loaded; `broadcast_address` is the one in force.
    pub(crate) fn new(loaded: &Loaded, broadcast_address: &str, log: Arc<Log>) -> Self {
        let mut values = loaded.shown();
        values.insert("broadcast_address", OptionValue::Text(broadcast_address.to_owned()));
        Self { values: Mutex::new(values), log }
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
        if name != LOG_LEVEL {
            return Err(OptionError::Option);
        }
        let level = std::str::from_utf8(value).ok().and_then(LogLevel::parse).ok_or(OptionError::Value)?;
        Ok(self.set_log_level(level))
    }
}

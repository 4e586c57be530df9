//! The configuration file: TOML, keys as the flags with `_` for `-`, and nsqd's own names where they differ.

use std::path::{Path, PathBuf};

use crate::config::settings::{Schema, Setting};
use crate::config::value::flag;

/// A configuration file whose keys are all known.
pub(crate) struct ConfigFile {
    pub(crate) path: PathBuf,
    /// Each setting's key, and its values.
    values: Vec<(&'static str, Vec<String>)>,
}

impl ConfigFile {
    pub(crate) fn read(path: &Path, schema: &'static Schema) -> Result<Self, String> {
        let text = std::fs::read_to_string(path).map_err(|e| format!("--config {}: {e}", path.display()))?;
        Self::parse(path, &text, schema)
    }

    pub(crate) fn parse(path: &Path, text: &str, schema: &'static Schema) -> Result<Self, String> {
        let shown = path.display();
        let table: toml::Table = text.parse().map_err(|e| format!("{shown}: {e}"))?;
        let mut values: Vec<(&'static str, Vec<String>)> = Vec::with_capacity(table.len());
        for (key, value) in table {
            let mut settings = schema.settings.iter();
            let Some(setting) = settings.find(|setting| setting.key == key || setting.file_key == key) else {
                return Err(match nearest(&key, schema) {
                    Some(right) => format!("{shown}: there is no setting {key:?}: did you mean {right:?}?"),
                    None => format!("{shown}: there is no setting {key:?}: `{}` lists all", schema.help),
                });
            };
            let Some(texts) = texts(setting, &value) else {
                let (kind, flag, form) = (value.type_str(), flag(setting.key), setting.form);
                return Err(format!(
                    "{shown}: {key} (that is --{flag}) is of type {kind}: it must be {form}"
                ));
            };
            if values.iter().any(|(have, _)| *have == setting.key) {
                let (one, other) = (setting.key, setting.file_key);
                return Err(format!("{shown}: {one} and {other} are the same setting: leave one of them"));
            }
            values.push((setting.key, texts));
        }
        Ok(Self { path: path.to_owned(), values })
    }

    pub(crate) fn get(&self, key: &str) -> Option<&[String]> {
        self.values.iter().find(|(have, _)| *have == key).map(|(_, texts)| texts.as_slice())
    }
}

/// A value as it would be written on the command line, `None` if it is of a type that no setting of this kind
/// has.
fn texts(setting: &Setting, value: &toml::Value) -> Option<Vec<String>> {
    match value {
        toml::Value::Array(parts) if setting.list => parts.iter().map(text).collect(),
        single => text(single).map(|text| vec![text]),
    }
}

fn text(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Float(number) => Some(number.to_string()),
        toml::Value::Boolean(switch) => Some(switch.to_string()),
        _ => None,
    }
}

/// The key that was probably meant.
fn nearest(key: &str, schema: &'static Schema) -> Option<&'static str> {
    /// Above this likeness a name is worth suggesting; clap uses the same for flags.
    const ALIKE: f64 = 0.8;
    let key = key.replace('-', "_").to_ascii_lowercase();
    let settings = schema.settings.iter();
    let alike = settings.map(|setting| (strsim::jaro_winkler(&key, setting.file_key), setting.file_key));
    alike.filter(|(likeness, _)| *likeness > ALIKE).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, key)| key)
}

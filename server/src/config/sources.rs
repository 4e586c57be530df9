//! Sources of a setting: the command line, else the environment, else the file, else its default.

use std::ffi::OsString;
use std::fmt::Display;

use clap::ArgMatches;

use crate::config::file::ConfigFile;
use crate::config::redacted::without_password;
use crate::config::settings::{Schema, Setting};
use crate::config::value::{Value, flag};
use crate::invoked_as::InvokedAs;

/// Sources of a setting, strongest first.
pub(crate) struct Sources<'a> {
    pub(crate) schema: &'static Schema,
    pub(crate) flags: &'a ArgMatches,
    pub(crate) env: &'a dyn Fn(&str) -> Option<OsString>,
    pub(crate) file: Option<&'a ConfigFile>,
    pub(crate) invoked_as: InvokedAs,
}

/// Text of a setting, and the place it stands in, as a message names it.
struct Given {
    text: String,
    place: String,
}

impl Sources<'_> {
    pub(crate) fn read<T: Value>(&self, key: &str) -> Result<T, String> {
        let Some(setting) = self.schema.settings.iter().find(|setting| setting.key == key) else {
            return Err(format!("there is no setting {key}"));
        };
        match self.given(setting) {
            Some(given) => parse(&given.text, given.place),
            None => {
                let default = setting.default(self.invoked_as);
                parse(default, format_args!("--{} {default}", flag(key)))
            }
        }
    }

    /// Checks what is written of `setting`, which has no field; gives it if anything is.
    pub(crate) fn check(&self, setting: &Setting) -> Result<Option<String>, String> {
        let Some(given) = self.given(setting) else { return Ok(None) };
        // nsqd's way to switch something off: as good as not given.
        if given.text.is_empty() {
            return Ok(None);
        }
        if (setting.show)(&given.text).is_some() {
            Ok(Some(given.text))
        } else {
            Err(refusal(given.place, setting.form))
        }
    }

    /// Text of `setting`, a list with commas between its parts.
    pub(crate) fn text(&self, setting: &Setting) -> Option<String> {
        self.given(setting).map(|given| given.text)
    }

    /// The setting `key` with its value and the place where it is written, for a message.
    pub(crate) fn place(&self, key: &str) -> String {
        let setting = self.schema.settings.iter().find(|setting| setting.key == key);
        let given = setting.and_then(|setting| self.given(setting)).map(|given| given.place);
        let default = setting.map_or("", |setting| setting.default(self.invoked_as));
        given.unwrap_or_else(|| format!("--{} {default} (its default)", flag(key)))
    }

    fn given(&self, setting: &Setting) -> Option<Given> {
        let (key, flag) = (setting.key, flag(setting.key));
        if let Some(texts) = self.flags.get_many::<String>(key) {
            let text = texts.map(String::as_str).collect::<Vec<_>>().join(",");
            let place = format!("--{flag} {}", without_password(&text));
            return Some(Given { text, place });
        }
        let variable = self.schema.variable(key);
        if let Some(text) = (self.env)(&variable) {
            let text = text.to_string_lossy().into_owned();
            let place = format!("{variable}={} (that is --{flag})", without_password(&text));
            return Some(Given { text, place });
        }
        let file = self.file?;
        let text = file.get(key)?.join(",");
        let (path, shown) = (file.path.display(), without_password(&text));
        let place = format!("{path}: {} = {shown:?} (that is --{flag})", setting.file_key);
        Some(Given { text, place })
    }
}

fn parse<T: Value>(text: &str, place: impl Display) -> Result<T, String> {
    T::parse(text).ok_or_else(|| refusal(place, T::FORM))
}

fn refusal(place: impl Display, form: &str) -> String {
    format!("{place} is not valid: it must be {form}")
}

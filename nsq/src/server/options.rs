//! Options that HTTP shows and changes, which the server's owner has.

use std::fmt;
use std::sync::Arc;

/// The value of an option, as nsqd answers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OptionValue {
    /// Text, shown unchanged.
    Text(String),
    /// A number, a switch or a list: JSON.
    Json(String),
}

/// Reason why an option can't be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OptionError {
    /// The option does not exist, or can't change while the server runs.
    Option,
    /// The value is none of its.
    Value,
}

/// The options of a server, which its owner knows.
pub trait OptionSource: Send + Sync {
    /// The value of the option; `None` if there is none of that name.
    fn get(&self, name: &str) -> Option<OptionValue>;

    /// Changes the option, and gives its new value.
    ///
    /// # Errors
    /// [`OptionError`] says what is wrong.
    fn put(&self, name: &str, value: &[u8]) -> Result<OptionValue, OptionError>;
}

/// Source of a server's options; by default there are none.
#[derive(Clone, Default)]
pub struct Options(pub(super) Option<Arc<dyn OptionSource>>);

impl Options {
    /// The options of `source`.
    pub fn new(source: Arc<dyn OptionSource>) -> Self {
        Self(Some(source))
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Options" } else { "no Options" })
    }
}

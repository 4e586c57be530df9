//! GET and PUT /config/{option}: what the server runs with, under nsqd's names.

use std::fmt;
use std::sync::Arc;

use super::Endpoints;
use super::names::bad_request;
use mq_net::http::{Answer, Request, StatusCode};

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
    /// It does not exist, or can't change while the server runs.
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
pub struct Options(Option<Arc<dyn OptionSource>>);

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

fn show(value: OptionValue) -> Answer {
    match value {
        OptionValue::Text(text) if text.is_empty() => Answer::empty(),
        OptionValue::Text(text) => Answer::text(text),
        OptionValue::Json(json) => Answer::raw_json(json),
    }
}

/// GET /config/{option}
pub(super) async fn get(api: Arc<Endpoints>, request: Request) -> Result<Answer, Answer> {
    let value = api.options.0.as_ref().and_then(|options| options.get(request.tail()));
    value.map(show).ok_or_else(|| bad_request("INVALID_OPTION"))
}

/// PUT /config/{option}
pub(super) async fn put(api: Arc<Endpoints>, request: Request) -> Result<Answer, Answer> {
    api.caller(&request).manage()?;
    let name = request.tail().to_owned();
    let body = request.body(api.limits.max_msg_size.into()).await;
    let body = body.map_err(|error| error.answer("INVALID_VALUE"))?;
    if body.is_empty() {
        return Err(Answer::error(StatusCode::PAYLOAD_TOO_LARGE, "INVALID_VALUE"));
    }
    let options = api.options.0.as_ref().ok_or_else(|| bad_request("INVALID_OPTION"))?;
    match options.put(&name, &body) {
        Ok(value) => {
            tracing::info!(option = name, "changed by HTTP");
            Ok(show(value))
        }
        Err(OptionError::Option) => Err(bad_request("INVALID_OPTION")),
        Err(OptionError::Value) => Err(bad_request("INVALID_VALUE")),
    }
}

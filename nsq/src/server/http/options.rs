//! GET and PUT /config/{option}: what the server runs with, under nsqd's names.

use std::sync::Arc;

use super::Endpoints;
use super::names::bad_request;
use crate::server::options::{OptionError, OptionValue};
use mq_net::http::{Answer, Request, StatusCode};

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

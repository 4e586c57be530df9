//! Answers for the page, one for each of its views.
//!
//! - `overview`, `topics`, `topic`, `nodes`: from a snapshot; `channel`, `history`, `peek`: asked for then
//! - `list`: searching, sorting, paging; `client`: a connection

mod channel;
mod client;
mod history;
mod list;
mod nodes;
mod overview;
mod peek;
mod topic;
mod topics;

pub(crate) use channel::channel;
pub(crate) use history::history;
pub(crate) use nodes::{lookup, node, nodes};
pub(crate) use overview::overview;
pub(crate) use peek::peek;
pub(crate) use topic::topic;
pub(crate) use topics::topics;

use mq_net::http::{Answer, Parameter, StatusCode};
use serde_json::json;

use crate::fleet::Reading;
use crate::snapshot::Snapshot;

/// Parameters that any view has.
pub(crate) const PARAMETERS: &[Parameter] = &[
    Parameter::new("topic", ""),
    Parameter::new("channel", ""),
    Parameter::new("node", ""),
    Parameter::new("search", ""),
    Parameter::new("sort", ""),
    Parameter::new("order", ""),
    Parameter::new("page", ""),
    Parameter::new("per_page", ""),
    Parameter::new("span", ""),
    Parameter::new("from", ""),
    Parameter::new("limit", ""),
    Parameter::new("partial", ""),
];

/// The answer while what it takes is being read.
pub(crate) fn later(snapshot: &Snapshot, reading: Option<Reading>) -> Answer {
    let part = json!({"at": snapshot.at, "warnings": snapshot.warnings, "reading": reading});
    Answer::json(&part).status(StatusCode::ACCEPTED)
}

/// The answer where something is not there.
pub(crate) fn missing(code: &str) -> Answer {
    Answer::error(StatusCode::NOT_FOUND, code)
}

/// The answer to a parameter that is wrong.
pub(crate) fn invalid(detail: &str) -> Answer {
    Answer::error_with(StatusCode::BAD_REQUEST, "INVALID_REQUEST", detail)
}

/// Whether a topic or channel goes with its last consumer.
fn is_ephemeral(name: &str) -> bool {
    name.ends_with("#ephemeral")
}

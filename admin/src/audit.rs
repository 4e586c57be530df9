//! The audit log: one line for each change, each look into messages, each login.

use mq_net::http::StatusCode;

use crate::change::Change;
use crate::viewer::Viewer;

/// Bytes of a value in a line: names have 64 at most, but a request may have anything in their place.
const VALUE_BYTES_MAX: usize = 512;

/// A change, and what became of it; empty: it is done.
pub(crate) fn change(viewer: &Viewer, change: &Change, failure: &str) {
    let settings = change.settings.as_ref().map(ToString::to_string);
    tracing::info!(
        action = change.action.name(),
        topic = shown(change.topic.as_deref()),
        channel = shown(change.channel.as_deref()),
        node = shown(change.node.as_deref()),
        message = shown(change.message.as_deref()),
        settings = shown(settings.as_deref()),
        by = viewer.name(),
        peer = viewer.from(),
        failure,
        "admin: change"
    );
}

/// A look into messages.
pub(crate) fn peek(
    viewer: &Viewer,
    topic: Option<&str>,
    channel: Option<&str>,
    node: Option<&str>,
    outcome: StatusCode,
) {
    tracing::info!(
        topic = shown(topic),
        channel = shown(channel),
        node = shown(node),
        by = viewer.name(),
        peer = viewer.from(),
        status = outcome.as_u16(),
        "admin: peek"
    );
}

/// A token that somebody showed.
pub(crate) fn login(by: &str, peer: &str, is_good: bool) {
    match is_good {
        true => tracing::info!(by, peer, "admin: login"),
        false => tracing::warn!(peer, "admin: login with a token that is not known"),
    }
}

/// A value as far as it is logged; empty if there is none.
fn shown(value: Option<&str>) -> &str {
    let value = value.unwrap_or_default();
    &value[..value.floor_char_boundary(VALUE_BYTES_MAX)]
}

//! The audit log: one line for each change, each look into messages, each login.

use mq_net::http::StatusCode;

use crate::actions;
use crate::viewer::Viewer;

/// A change, and what became of it; empty: it is done.
pub(crate) fn change(viewer: &Viewer, request: &actions::Request, failure: &str) {
    tracing::info!(
        action = request.action,
        topic = request.topic.as_deref().unwrap_or_default(),
        channel = request.channel.as_deref().unwrap_or_default(),
        node = request.node.as_deref().unwrap_or_default(),
        by = viewer.name,
        peer = viewer.call.peer.address,
        failure,
        "admin: change"
    );
}

/// A look into messages.
pub(crate) fn peek(viewer: &Viewer, topic: &str, node: Option<&str>, outcome: StatusCode) {
    tracing::info!(
        topic,
        node = node.unwrap_or_default(),
        by = viewer.name,
        peer = viewer.call.peer.address,
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

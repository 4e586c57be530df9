//! Authorization as nsqd does it: a client's AUTH carries a secret, an auth server says over HTTP what it
//! permits, and for how long.
//!
//! - [`client`]: asks the auth servers; [`endpoint`]: where one is, and in what form it is asked
//! - [`permissions`]: the answer, and what it allows; [`pattern`]: its regular expressions
//! - [`state`]: what one connection may do until when

mod client;
mod endpoint;
mod pattern;
mod permissions;
mod state;

/// Returns whether `json` is an answer that permits to subscribe to `channel` of `topic`. A door for fuzz
/// targets.
#[cfg(feature = "fuzz-doors")]
pub fn answer_permits(json: &[u8], topic: &str, channel: &str) -> bool {
    let grant = Grant::parse(json, &pattern::Patterns::default());
    grant.is_ok_and(|grant| grant.permissions.allow(Permission::Subscribe, topic, channel))
}

pub(super) use client::{AuthClient, Failure};
pub use endpoint::AuthMethod;
pub(super) use permissions::{Grant, Permission, auth_answer};
pub(super) use state::{Access, Verdict};

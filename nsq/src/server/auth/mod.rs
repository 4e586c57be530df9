//! Authorization as nsqd does it: a client's AUTH carries a secret, an auth server says over HTTP what it permits, and
//! for how long.
//!
//! - [`client`]: asks the auth servers; [`endpoint`]: where one is, and in what form it is asked
//! - [`permissions`]: the answer, and what it allows; [`pattern`]: its regular expressions
//! - [`state`]: what one connection may do until when

mod client;
mod endpoint;
mod pattern;
mod permissions;
mod state;

pub(super) use client::{Asker, AuthClient, Failure};
pub use endpoint::AuthMethod;
pub use permissions::Authorized;
pub(super) use permissions::{Grant, Permission, Permissions};
pub(super) use state::{Access, Verdict};

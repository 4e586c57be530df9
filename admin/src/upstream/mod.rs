//! Calls of brokers and lookup servers: their public HTTP APIs, and nothing else.
//!
//! - [`Upstream`]: one of them; [`Caller`]: one request with its token, bounds and timeout
//! - `address`: addresses that may be called; [`answers`]: what they answer

mod address;
pub(crate) mod answers;
mod call;

pub(crate) use address::{is_reachable_for, joined};
pub(crate) use call::{Call, Failure, Room, Upstream, UpstreamLink, escaped, unreadable};

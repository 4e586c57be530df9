//! Pages beside an API, on its port.

use std::sync::Arc;

use super::request::Request;
use super::route::Handling;

/// Pages served beside an API, on its port and under its rules for browsers.
pub trait Site: Send + Sync {
    /// Whether `path` is one of its own.
    fn has(&self, path: &str) -> bool;

    /// Answers a request for a path of its own. No secret was asked for: the site asks itself.
    fn answer(self: Arc<Self>, request: Request) -> Handling;
}

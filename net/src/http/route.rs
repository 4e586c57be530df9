//! An API as a table.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use hyper::{Method, StatusCode};

use super::answer::Answer;
use super::browser::HostNames;
use super::request::Request;
use super::site::Site;

/// An API: its routes, and who may use them.
pub trait Api: Sized + Send + Sync + 'static {
    /// Every route there is.
    const ROUTES: &'static [Route<Self>];

    /// Names by which clients on this machine may reach the server; `None` where it asks for a secret. The
    /// request of a page in a browser on this machine may have any other name.
    fn hosts(&self) -> Option<&HostNames>;

    /// The site that answers a request instead, if it is for one, or the answer that the API's rules for all
    /// requests give.
    ///
    /// # Errors
    /// The answer that refuses the request.
    fn site(&self, _request: &Request) -> Result<Option<Arc<dyn Site>>, Answer> {
        Ok(None)
    }

    /// Whether a request may be answered, or what is answered instead. `route` is `None` where the path or
    /// the method has none. May note in the request's extensions whose it is.
    fn admit(
        &self,
        route: Option<&'static Route<Self>>,
        request: &mut Request,
    ) -> impl Future<Output = Result<(), Answer>> + Send;
}

/// One method of one path. What is answered must be declared here: debug builds check it, and the API's
/// description is tested against it.
pub struct Route<A> {
    /// The method.
    pub method: Method,
    /// The path; a last part in braces stands for any text.
    pub path: &'static str,
    /// Parameters that the query may hold, and headers that mean something.
    pub parameters: &'static [Parameter],
    /// Statuses it answers with, besides those any request may get.
    pub statuses: &'static [StatusCode],
    /// The function that answers.
    pub handler: fn(Arc<A>, Request) -> Handling,
}

/// The future of a handler's answer.
pub type Handling = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// A parameter of a query, or a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// Its name.
    pub name: &'static str,
    /// Its meaning, as the API's description has it.
    pub meaning: &'static str,
    /// Whether the request is refused without it.
    pub required: bool,
    /// Whether it is a header. A name that ends in `*` stands for all that begin so.
    pub is_header: bool,
}

impl Parameter {
    /// A parameter that need not be given.
    pub const fn new(name: &'static str, meaning: &'static str) -> Self {
        Self { name, meaning, required: false, is_header: false }
    }

    /// A header, which need not be given.
    pub const fn header(name: &'static str, meaning: &'static str) -> Self {
        Self { name, meaning, required: false, is_header: true }
    }

    /// A parameter that must be given.
    pub const fn required(name: &'static str, meaning: &'static str) -> Self {
        Self { name, meaning, required: true, is_header: false }
    }
}

impl<A> Route<A> {
    /// The path before its variable part, if it has one.
    fn stem(&self) -> Option<&'static str> {
        self.path.find('{').map(|at| &self.path[..at])
    }

    /// Whether this is the route of `path`; then what stands for its variable part.
    pub(super) fn matches<'p>(&self, path: &'p str) -> Option<&'p str> {
        match self.stem() {
            Some(stem) => path.strip_prefix(stem).filter(|rest| !rest.is_empty() && !rest.contains('/')),
            None => (path == self.path).then_some(""),
        }
    }
}

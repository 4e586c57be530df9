//! A small HTTP/1 server, which the broker's API shares with other daemons'.
//!
//! - [`HttpServer`]: listens, bounds connections, heads and bodies; `connection`: one of them;
//!   `write_timeout`: ends one that takes nothing; `target`: a raw `#` in a request's target; `left`: what a
//!   handler leaves of a body; `memory`: a connection's part of the budget
//! - `browser`: refuses what a browser sends for a page of another site
//! - [`Api`], [`Route`]: an API as a table; `router`: from a request to its route, and what follows from the
//!   table (404, 405, OPTIONS, redirects)
//! - [`Site`]: pages beside an API; [`LocalHttp`]: an API of this process, reached without a socket
//! - [`Request`], [`Query`], [`Answer`]; [`ask`]: the client's end

mod answer;
mod browser;
mod connection;
mod exchange;
mod left;
mod local;
mod memory;
mod query;
mod request;
mod route;
mod router;
mod server;
mod site;
mod target;
mod write_timeout;

pub use answer::Answer;
pub use browser::{ForeignPage, HostNames, check_page, check_site};
pub use exchange::{Link, ask, exchange, send, send_metered};
pub use hyper::header;
pub use hyper::{Method, StatusCode};
pub use local::{LocalApi, LocalHttp};
pub use query::Query;
pub use request::{Body, BodyError, Peer, Request};
pub use route::{Api, Handling, Parameter, Route};
pub use server::{HttpLimits, HttpServer};
pub use site::Site;

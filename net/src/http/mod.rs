//! A small HTTP/1 server, which the broker's API shares with other daemons'.
//!
//! - [`HttpServer`]: listens, bounds connections, heads and bodies; `connection`: one of them; `paced`: ends one that
//!   takes nothing
//! - [`Api`], [`Route`]: an API as a table; `router`: from a request to its route, and what follows from the table
//!   (404, 405, OPTIONS, redirects)
//! - [`Request`], [`Query`], [`Answer`]; [`ask`]: the client's end

mod answer;
mod connection;
mod exchange;
mod paced;
mod query;
mod request;
mod route;
mod router;
mod server;

pub use answer::Answer;
pub use exchange::{ask, exchange, send};
pub use hyper::{Method, StatusCode};
pub use query::Query;
pub use request::{Body, BodyError, Peer, Request};
pub use route::{Api, Handling, Parameter, Route};
pub use server::{HttpLimits, HttpServer};

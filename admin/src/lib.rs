//! The admin page of libmq, and nsqadmin's API: a client of the HTTP APIs of brokers and lookup servers.
//!
//! - [`Admin`]: the page, served by `site` beside an API or, as [`Alone`], on a port of its own;
//!   [`Settings`]: what it shows, and to whom; `page`: its files; `data`: what its script asks for;
//!   `nsqadmin`: NSQ's own API
//! - `viewer`, `sessions`: who looks, by which token; `audit`, `notify`: what is said about it
//! - `upstream`: calls; `fleet`: reads all servers, into a `snapshot`; `trouble`: what is wrong with it, each
//!   a `finding`
//! - `views`: answers; `change`: what somebody asks for; `actions`: doing it; [`assess`]: what the page says
//!   is wrong, for other programs

mod actions;
mod admin;
mod assessment;
mod audit;
mod change;
mod data;
mod finding;
mod fleet;
mod notify;
mod nsqadmin;
mod page;
mod sessions;
mod settings;
mod site;
mod snapshot;
mod trouble;
mod upstream;
mod viewer;
mod views;

pub use admin::Admin;
pub use assessment::{Assessment, assess};
pub use finding::{Finding, Kind, Severity};
pub use settings::{Cidr, Credentials, Graphite, Mode, NsqadminSettings, OptionValue, PageOptions, Settings};
pub use site::Alone;

//! The admin page of libmq, and nsqadmin's API: a client of the HTTP APIs of brokers and lookup servers.
//!
//! - [`Admin`]: the page, beside an API or, as [`Alone`], on a port of its own; [`Settings`]: what it shows,
//!   and to whom; `page`: its files; `data`: what its script asks for; `nsqadmin`: NSQ's own API
//! - `viewer`, `sessions`: who looks, by which token; `audit`, `notify`: what is said about it
//! - `upstream`: calls; `fleet`: all servers at one moment; `trouble`: what is wrong, in words
//! - `views`: answers; `actions`: changes

mod actions;
mod audit;
mod data;
mod fleet;
mod notify;
mod nsqadmin;
mod page;
mod sessions;
mod settings;
mod site;
mod trouble;
mod upstream;
mod viewer;
mod views;

pub use settings::{Cidr, Credentials, Mode, NsqadminSettings, Settings};
pub use site::{Admin, Alone};

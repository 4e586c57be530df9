//! A broker announces itself to lookup servers.
//!
//! - [`Announcer`]: one task that watches the broker; one more for each server, so that a slow one delays
//!   nobody
//! - [`Names`]: what there is to announce, and what has changed; `registration`: that at one server, pure;
//!   `link`: its connection
//! - `channel_import`: new topics ask for their channels; `deleted`: names that stay deleted; [`Address`],
//!   `resolve`: where servers are

mod address;
mod channel_import;
mod channels;
mod deleted;
mod link;
mod names;
mod registration;
mod service;
mod srv;

pub use address::Address;
pub use names::Names;
pub use service::{Announcer, AnnouncerConfig, Status};

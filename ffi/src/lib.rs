//! libmq for C and C++: the functions of `mq.h`, thin over the crate `libmq`. The conventions that each
//! pointer is held to are in `docs/c.md`; the header is generated from here by `cargo xtask header`.
//!
//! - `boundary`: where panics end and pointers are checked; `status`: outcomes and the last error; `fork`
//! - `values`: structs that C programs read and write; `version`
//! - `client`, `pending`, `admin`, `settings`, `serve`: publishing and administration
//! - `subscription`, `batch`, `failures`: consuming
//! - `log`: lines of a client for its callback
//! - `callback`, `prefetch`, `readiness`: the ways to wait; `driver`: a thread that polls futures;
//!   `sync`: what its tests by loom replace

#![allow(unsafe_code, reason = "C has nothing but pointers")]
#![allow(non_camel_case_types, reason = "a type has one name in C and Rust")]
#![allow(clippy::missing_safety_doc, reason = "docs/c.md has the conventions for every pointer")]

mod admin;
mod batch;
mod boundary;
mod callback;
mod client;
mod driver;
mod failures;
mod fork;
mod log;
mod pending;
mod prefetch;
mod readiness;
mod serve;
mod settings;
mod status;
mod subscription;
mod sync;
mod values;
mod version;

pub use admin::*;
pub use batch::*;
pub use client::*;
pub use failures::*;
pub use pending::*;
pub use serve::*;
pub use settings::*;
pub use status::*;
pub use subscription::*;
pub use values::*;
pub use version::*;

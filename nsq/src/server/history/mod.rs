//! A short history of a broker: 10 minutes in steps of 10 seconds, and a day in steps of a minute.
//!
//! - [`History`]: the series of all topics and channels within one bound of memory. Pure
//! - `series`: one of them; `answers`: what `GET /history` gives; [`record`]: the task that feeds it

mod answers;
mod record;
mod series;
mod store;
#[cfg(test)]
mod store_test;

#[cfg(test)]
pub(super) use answers::samples;
pub(super) use answers::{Curve, Overview};
pub(super) use record::record;
pub(super) use series::Span;
pub(super) use store::History;

//! Damaged folders: what is wrong with one, and putting it in order.
//!
//! - `folder`, `survey`: open and read everything there is, and change nothing; `pass`: findings on the way
//!   through all files; `seen`: numbers that were in use
//! - [`damage`]: what they find; `salvage`: what is sound of damaged frames
//! - [`inspect`]: the report on a folder
//! - [`repair()`]: the repair

pub mod damage;
mod folder;
pub mod inspect;
mod pass;
mod repair;
mod salvage;
mod seen;
pub(crate) mod survey;

pub use repair::{Loss, Repair, repair, repair_on};

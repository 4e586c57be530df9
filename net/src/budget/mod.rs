//! The budget of a process for bytes held for its peers, in and out, whatever the protocol: half-read
//! commands and bodies, answers and messages that a socket does not take.
//!
//! Each connection has an [`Account`] and sets it to what it holds once it is known that this stays: after a
//! read that ended in the middle of a command, after a write that the socket did not take. At the limit it
//! takes in nothing larger than [`FREE_BYTES`] and waits. While anybody waits, the accounts that held most
//! for longest are closed.
//!
//! - [`Budget`]: the limit, and what is reserved of it; `ledger`: its figures
//! - [`Account`]: one connection's part; `owners`: the connections, and closing those that hold most
//! - `places`: state of streams and codecs; `beginnings`: what layers hold before anybody sees it

mod account;
mod beginnings;
mod budget;
mod ledger;
mod owners;
mod places;
#[cfg(test)]
mod tests;

pub use account::{Account, Closed};
pub use beginnings::Beginning;
pub use budget::{Budget, Turn};
pub use ledger::{FREE_BYTES, STEP_BYTES};
pub use places::{DEFLATE_BYTES, STREAM_BYTES, StatePlace};

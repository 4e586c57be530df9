//! NSQ's TCP protocol "V2": bytes to enums and back. Pure: no I/O, no clock, no async.
//!
//! - [`command`]: what a client sends; [`mpub`]: the bodies of an MPUB; [`name`]: the naming rule
//! - `parse`: the incremental parser of commands; `arguments`: the words and bodies of each; `words`, `body`:
//!   a line in words, and what follows it; `stop`: reasons why a buffer holds no command
//! - [`frame`]: what a server sends
//! - [`identify`]: the negotiation
//! - [`extension`]: libmq's own commands and frames, agreed on after it; [`tokens`]: what they acknowledge
//! - [`error`]: every code and text, and the one map from the core's errors to them
//! - [`lookup`]: the other protocol, "V1", between brokers and lookup servers
//! - `quote`: names as error texts print them

mod arguments;
mod body;
pub mod command;
pub mod error;
pub mod extension;
pub mod frame;
pub mod identify;
pub mod lookup;
pub mod mpub;
pub mod name;
mod parse;
mod quote;
mod stop;
pub mod tokens;
mod words;

pub use command::{Command, Context, Limits, State, Together};
pub use error::{Code, WireError};
pub use parse::{Parse, Parser};
pub use stop::Stage;

/// First bytes of a client, sent once and not answered.
pub const MAGIC: [u8; 4] = *b"  V2";

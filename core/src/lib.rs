//! The core of libmq: a broker with topics, channels and one log on disk. No sockets, no wire formats.
//!
//! - [`name`]: topic and channel names, parsed once
//! - [`message`]: offsets, ids, attributes
//! - [`channel`]: a channel's pure state machine
//! - [`store`]: the broker log behind a small disk interface
//! - [`clock`], [`error`]: injected time; the one error type

pub mod channel;
pub mod clock;
pub mod error;
pub mod message;
pub mod name;
pub mod store;

pub use clock::{Clock, ManualClock, SystemClock};
pub use error::{Error, ErrorKind, Result};
pub use message::{Attributes, Delivery, MessageId, Offset};
pub use name::{ChannelName, TopicName};

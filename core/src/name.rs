//! Topic and channel names, parsed once at the door and never checked again.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::error::{Error, ErrorKind};

/// Longest name in bytes, the `#ephemeral` suffix included (NSQ's limit).
pub const NAME_BYTES_MAX: usize = 64;

const EPHEMERAL: &str = "#ephemeral";

/// Whether `name` follows NSQ's rule: `^[.a-zA-Z0-9_-]+(#ephemeral)?$`, 1 to 64 bytes in all.
fn is_valid(name: &str) -> bool {
    let stem = name.strip_suffix(EPHEMERAL).unwrap_or(name);
    !stem.is_empty()
        && name.len() <= NAME_BYTES_MAX
        && stem.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident, $noun:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Parses a name.
            ///
            /// # Errors
            /// `InvalidName` if it does not match `[.a-zA-Z0-9_-]+(#ephemeral)?` or is longer than 64 bytes.
            pub fn parse(name: &str) -> Result<Self, Error> {
                if is_valid(name) {
                    return Ok(Self(name.into()));
                }
                Err(Error::new(
                    ErrorKind::InvalidName,
                    format!(
                        concat!($noun, " name {:?} is not valid: 1 to 64 of A-Z a-z 0-9 . _ -, then optionally #ephemeral"),
                        name
                    ),
                ))
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// Whether the name ends in `#ephemeral`: never stored, gone with its last user.
            pub fn is_ephemeral(&self) -> bool {
                self.0.ends_with(EPHEMERAL)
            }
        }

        impl FromStr for $name {
            type Err = Error;

            fn from_str(name: &str) -> Result<Self, Error> {
                Self::parse(name)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }
    };
}

name_type!(
    /// A topic's name.
    ///
    /// ```
    /// # use mq_core::{ErrorKind, TopicName};
    /// let orders: TopicName = "orders".parse()?;
    /// assert_eq!(orders.as_str(), "orders");
    /// assert_eq!("no spaces".parse::<TopicName>().unwrap_err().kind(), ErrorKind::InvalidName);
    /// # Ok::<(), mq_core::Error>(())
    /// ```
    TopicName,
    "topic"
);
name_type!(
    /// A channel's name, unique within its topic.
    ///
    /// ```
    /// # use mq_core::ChannelName;
    /// assert!("tail#ephemeral".parse::<ChannelName>()?.is_ephemeral());
    /// # Ok::<(), mq_core::Error>(())
    /// ```
    ChannelName,
    "channel"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_nsqs_rule() {
        let longest = "x".repeat(64);
        let ephemeral_longest = format!("{}#ephemeral", "x".repeat(54));
        for ok in ["a", "test-with_period.", "test#ephemeral", ".", &longest, &ephemeral_longest] {
            assert!(TopicName::parse(ok).is_ok(), "{ok}");
        }
        let too_long = "x".repeat(65);
        let ephemeral_too_long = format!("{}#ephemeral", "x".repeat(55));
        for bad in [
            "",
            "#ephemeral",
            "test:ephemeral",
            "a b",
            "a#ephemera",
            "ä",
            "a\n",
            &too_long,
            &ephemeral_too_long,
        ] {
            assert_eq!(ChannelName::parse(bad).unwrap_err().kind(), ErrorKind::InvalidName, "{bad}");
        }
    }
}

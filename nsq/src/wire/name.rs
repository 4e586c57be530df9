//! NSQ's naming rule, checked on the bytes of a command without an allocation.

use mq_core::name::NAME_BYTES_MAX;

const EPHEMERAL: &[u8] = b"#ephemeral";

/// A topic or channel name that follows the rule, still in the buffer it was read to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Name<'a>(&'a str);

impl<'a> Name<'a> {
    /// `None` if `bytes` break `^[.a-zA-Z0-9_-]+(#ephemeral)?$` or are more than 64.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let stem = bytes.strip_suffix(EPHEMERAL).unwrap_or(bytes);
        let valid = !stem.is_empty()
            && bytes.len() <= NAME_BYTES_MAX
            && stem.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
        if valid { std::str::from_utf8(bytes).ok().map(Self) } else { None }
    }

    /// The name as text.
    pub fn as_str(self) -> &'a str {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mq_core::TopicName;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_rule_is_the_cores(name in "[.a-zA-Z0-9_:# -]{0,4}([a-z]{50,62})?(#ephemeral)?") {
            prop_assert_eq!(Name::parse(name.as_bytes()).is_some(), TopicName::parse(&name).is_ok());
        }
    }
}

//! Numbers by which the log names topics and channels.

use std::fmt;

/// The number of a topic: frames and entries name it by it. Never used again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicNo(pub u32);

/// The number of a channel, among all channels of the broker. Never used again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChannelNo(pub u32);

impl TopicNo {
    /// No topic's: that of frames which are not a topic's.
    pub const NONE: Self = Self(0);

    /// The number after it.
    pub(crate) fn next(self) -> Self {
        self.plus(1)
    }

    /// The number so many after it; the last there is stays.
    pub(crate) fn plus(self, count: u32) -> Self {
        Self(self.0.saturating_add(count))
    }
}

impl ChannelNo {
    /// No channel's.
    pub const NONE: Self = Self(0);

    /// The number after it.
    pub(crate) fn next(self) -> Self {
        self.plus(1)
    }

    /// The number so many after it; the last there is stays.
    pub(crate) fn plus(self, count: u32) -> Self {
        Self(self.0.saturating_add(count))
    }
}

impl fmt::Display for TopicNo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for ChannelNo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

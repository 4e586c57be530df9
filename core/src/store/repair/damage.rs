//! Damage of a data folder, in words and in kinds.

use std::fmt;

use crate::store::format::numbers::TopicNo;

/// A damaged place of a data folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The file, where it is one.
    pub file: Option<String>,
    /// The byte of the file at which it begins.
    pub at: Option<u64>,
    /// The damaged part.
    pub what: What,
}

/// A part that is damaged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// The manifest: which files count has to be found out from the files.
    Manifest,
    /// The checkpoint: topics, channels and cursors before it.
    Checkpoint,
    /// A file that must be there is not.
    Gone,
    /// A log file's header.
    Header {
        /// Bytes of the file.
        bytes: u64,
        /// Whether frames prove what it said. If not, none can be read.
        is_proven: bool,
    },
    /// A file's index does not show what the file holds. The messages are there.
    Index,
    /// Part of the log is in no file.
    Log {
        /// Position of the first byte.
        from: u64,
        /// Position after the last.
        to: u64,
    },
    /// A frame with messages.
    Messages {
        /// The topic's number.
        topic: TopicNo,
        /// First offset of the frame.
        first: u64,
        /// Last offset of the frame.
        last: u64,
        /// Number of its messages that are sound.
        sound: u64,
    },
    /// A frame with entries about topics and channels.
    Entries {
        /// Number of them.
        count: u32,
        /// Whether the checkpoint does not make them needless.
        is_live: bool,
    },
    /// Bytes of unknown contents.
    Bytes {
        /// Number of them, up to the next whole frame.
        bytes: u64,
    },
    /// Messages that are waited for stand in no file.
    Missing {
        /// The topic's number.
        topic: TopicNo,
        /// Its name.
        name: String,
        /// First offset.
        first: u64,
        /// Last offset.
        last: u64,
    },
}

impl What {
    /// Whether messages may have stood in it of which nothing else shows that they were there.
    pub(crate) fn hides_messages(&self) -> bool {
        match self {
            Self::Manifest | Self::Gone | Self::Log { .. } | Self::Bytes { .. } => true,
            Self::Header { is_proven, .. } => !is_proven,
            Self::Checkpoint
            | Self::Index
            | Self::Messages { .. }
            | Self::Entries { .. }
            | Self::Missing { .. } => false,
        }
    }
}

impl Damage {
    pub(crate) fn at(file: String, at: u64, what: What) -> Self {
        Self { file: Some(file), at: Some(at), what }
    }

    /// One word for programs: `manifest`, `checkpoint`, `gone`, `header`, `index`, `log`, `messages`,
    /// `entries`, `bytes` or `missing`.
    pub fn kind(&self) -> &'static str {
        match self.what {
            What::Manifest => "manifest",
            What::Checkpoint => "checkpoint",
            What::Gone => "gone",
            What::Header { .. } => "header",
            What::Index => "index",
            What::Log { .. } => "log",
            What::Messages { .. } => "messages",
            What::Entries { .. } => "entries",
            What::Bytes { .. } => "bytes",
            What::Missing { .. } => "missing",
        }
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.file {
            write!(f, "{file}")?;
            if let Some(at) = self.at {
                write!(f, " at byte {at}")?;
            }
            f.write_str(": ")?;
        }
        match &self.what {
            What::Manifest => f.write_str("damaged, so which files count is not known"),
            What::Checkpoint => f.write_str("damaged, with the topics, channels and cursors in it"),
            What::Gone => f.write_str("not there"),
            What::Header { is_proven: true, .. } => {
                f.write_str("the header; the frames can be read without it")
            }
            What::Header { bytes, is_proven: false } => {
                write!(f, "no readable header, so none of its {bytes} bytes can be read")
            }
            What::Index => {
                f.write_str("the index does not match what the file holds; the messages are there")
            }
            What::Log { from, to } => write!(f, "the log from position {from} to {to} is in no file"),
            What::Messages { topic, first, last, sound } => write!(
                f,
                "messages {first:#x} to {last:#x} of topic number {topic}, {sound} of {} sound",
                last - first + 1
            ),
            What::Entries { count, is_live: true } => {
                write!(f, "{count} entries about topics and channels")
            }
            What::Entries { count, is_live: false } => {
                write!(f, "{count} entries about topics and channels, which nothing needs any more")
            }
            What::Bytes { bytes } => write!(f, "{bytes} bytes of unknown contents"),
            What::Missing { name, first, last, .. } => {
                write!(f, "messages {first:#x} to {last:#x} of topic {name} stand in no file")
            }
        }
    }
}

/// Place at which a crash cut the log. No damage: nothing from there on was known fsync'd, and a broker drops
/// it when it opens the folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tail {
    /// The file.
    pub file: String,
    /// The byte of the file.
    pub at: u64,
    /// Whole frames that stand after the cut. Usually none; after a power loss there can be some.
    pub frames: u64,
    /// Whole messages in them.
    pub messages: u64,
}

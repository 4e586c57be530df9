//! Commands of a client.
//!
//! ```text
//! command  = word { " " parameter } [ "\r" ] "\n" [ body ]        the line at most 16384 bytes with its end
//! body     = u32 length, bytes                                    IDENTIFY AUTH PUB DPUB
//!          | u32 length, u32 n, n * ( u32 length, bytes )         MPUB
//! ```
//! Integers are big-endian. Numbers in a line are digits only, nothing at all is 0, and they wrap around at
//! 2^64.
//!
//! PEEK is libmq's own: `PEEK <topic> <from> <max>\n` reads a topic that no channel has consumed, and moves
//! nothing. `from` is 16 hex digits, or `0` for the oldest message that no channel has got; `max` is 1 to
//! 1000. The answer is one response frame:
//! ```text
//! {"channels":N,"next":"<16 hex digits>","count":n}\n   n times: u32 length, a message as in a message frame
//! ```
//! After an UPGRADE the messages are as in the frame of a delivery, with the tag 0: they are not in flight.
//! `next` is what to pass as `from` to go on; a topic that does not exist has no channels and no messages.
//! The answer holds about 1 MiB: it ends early rather than grow beyond, but holds at least one message where
//! there is one.
//!
//! The commands that follow an UPGRADE are drawn in [`extension`](super::extension).

use std::time::Duration;

use mq_core::Start;

use super::extension::Records;
use super::mpub::Bodies;
use super::name::Name;
use super::tokens::Tokens;
use mq_net::secret::Secret;

/// Longest command line in bytes, its end included: the size of nsqd's read buffer.
pub const LINE_BYTES_MAX: usize = 16384;

/// Most messages one PEEK may ask for.
pub const PEEK_MAX: u64 = 1000;

/// State of a connection, which decides what it may do. Numbers are those that nsqd's stats show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// Before SUB.
    #[default]
    Init = 0,
    /// After SUB.
    Subscribed = 3,
    /// After CLS.
    Closing = 4,
}

/// Inputs of the checks of a command.
#[derive(Clone, Copy, Debug)]
pub struct Context<'l> {
    /// The server's limits.
    pub limits: &'l Limits,
    /// The connection's state before the command.
    pub state: State,
    /// Whether the connection has heartbeats: without, SUB is refused.
    pub heartbeats: bool,
    /// Whether everything but IDENTIFY has to wait for TLS.
    pub tls_required: bool,
    /// Whether an MPUB has to be allowed before its body is looked at.
    pub check_batches: bool,
    /// Whether the commands of the [`extension`](super::extension) are known: after UPGRADE.
    pub extended: bool,
}

/// The limits a command is held against. The defaults are nsqd's.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Largest message body in bytes: 1 MiB.
    pub max_msg_size: u32,
    /// Largest body of a command in bytes: 5 MiB. All bodies of an MPUB with their lengths count.
    pub max_body_size: u32,
    /// Longest delay of a DPUB, an error beyond: 1 h. A session cuts that of a REQ to it, and refuses that of
    /// a REQUEUE.
    pub max_req_timeout: Duration,
    /// Largest RDY: 2500.
    pub max_rdy_count: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_msg_size: 1024 * 1024,
            max_body_size: 5 * 1024 * 1024,
            max_req_timeout: Duration::from_secs(3600),
            max_rdy_count: 2500,
        }
    }
}

/// A whole command, borrowed from the buffer it was read to. What its state and parameters forbid was refused
/// before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command<'a> {
    /// IDENTIFY and its JSON.
    Identify(&'a [u8]),
    /// AUTH and its secret.
    Auth(Secret<&'a [u8]>),
    /// SUB.
    Subscribe(Name<'a>, Name<'a>),
    /// PUB.
    Publish(Name<'a>, &'a [u8]),
    /// MPUB.
    PublishMany(Name<'a>, Bodies<'a>),
    /// DPUB; the delay is within its limit.
    PublishDeferred(Name<'a>, Duration, &'a [u8]),
    /// RDY; within its limit. While closing it is to be ignored.
    Ready(u32),
    /// FIN. The id is any 16 bytes.
    Finish(&'a [u8; 16]),
    /// REQ; the delay is cut to its limit.
    Requeue(&'a [u8; 16], Duration),
    /// TOUCH.
    Touch(&'a [u8; 16]),
    /// CLS.
    Close,
    /// NOP.
    Nop,
    /// PEEK. `None`: from the oldest that no channel has got.
    Peek(Name<'a>, Option<u64>, u16),
    /// UPGRADE: the nonce, and the features with spaces between them.
    Upgrade(&'a [u8], &'a [u8]),
    /// PUBLISH.
    PublishRecords(Name<'a>, Together, Records<'a>),
    /// SUBSCRIBE: topic, channel, where a new channel begins, and the most bytes of body and headers that a
    /// message may have to be delivered.
    SubscribeAt(Name<'a>, Name<'a>, Start, Option<u32>),
    /// FINISH.
    FinishDeliveries(Tokens<'a>),
    /// REQUEUE; the delay may be above its limit.
    RequeueDeliveries(Tokens<'a>, Duration),
    /// EXTEND.
    ExtendDeliveries(Tokens<'a>),
    /// RELEASE.
    ReleaseDeliveries(Tokens<'a>),
    /// CREDIT: most bytes of bodies in flight; 0: any number. While closing it changes nothing.
    ByteCredit(u64),
    /// CONFIRM.
    Confirm,
}

impl Command<'_> {
    /// Whether it is of a subscription's messages or credit.
    pub(crate) fn is_acknowledgement(&self) -> bool {
        matches!(
            self,
            Self::Ready(_)
                | Self::Finish(_)
                | Self::Requeue(..)
                | Self::Touch(_)
                | Self::FinishDeliveries(_)
                | Self::RequeueDeliveries(..)
                | Self::ExtendDeliveries(_)
                | Self::ReleaseDeliveries(_)
                | Self::ByteCredit(_)
        )
    }
}

/// Whether the messages of a PUBLISH share their fate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Together {
    /// All are stored or none.
    All,
    /// Each has a result of its own.
    Each,
}

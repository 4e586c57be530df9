//! libmq's extension of NSQ's protocol: messages with headers, ids, offsets and delivery tokens.
//!
//! A client that knows it lists its features in IDENTIFY, and a server that has them answers with those and a
//! nonce. They take effect only by UPGRADE, which names the nonce, after TLS, compression and AUTH: so a
//! proxy that passes JSON on but reads commands itself, or an answer that was made up, changes nothing. A
//! client that is refused connects again and speaks V2 alone.
//!
//! ```text
//! IDENTIFY      client {..., "libmq":["messages"]}
//!               server {..., "libmq":{"features":["messages"],"nonce":"<hex>","dedup_window":120000,
//!                                     "max_req_timeout":3600000}}
//! upgrade     = "UPGRADE " nonce { " " feature } "\n"                                  -> OK
//!
//! publish     = "PUBLISH " topic " " ( "all" | "each" ) "\n" u32 length, record*       -> results
//! record      = u32 body length, attributes, body
//! attributes  = u32 length, attribute*
//! attribute   = u8 kind, u32 length, value
//!
//! subscribe   = "SUBSCRIBE " topic " " channel " " start [ " " max message bytes ] "\n"  -> {"created":true}
//! start       = "waiting" | "earliest" | "latest" | "offset:" digits | "time:" digits (ns since 1970)
//! finish      = "FINISH " n "\n" n * token                                 an error for each that failed
//! requeue     = "REQUEUE " n " " milliseconds "\n" n * token
//! extend      = "EXTEND " n "\n" n * token                                             as TOUCH
//! release     = "RELEASE " n "\n" n * token                     as "REQ 0", and the delivery does not count
//! credit      = "CREDIT " bytes "\n"                            -> OK, behind what came by the credit before
//! confirm     = "CONFIRM\n"                       -> OK, once the acknowledgements before it are in the log
//!
//! frame       = u32 size, u32 type, data                   type: 3 delivery, 4 results; others as in V2
//! delivery    = token, u64 offset, i64 timestamp, u16 attempts, attributes, body
//! token       = u64 message id, u64 tag                             names one delivery
//! results     = run*                                      as many messages as were published, in order
//! run         = u8 kind, u32 count, ( u64 first offset              kind: 0 stored, 1 stored before
//!                                   | u16 length, text )                  2 refused, 3 refused for now
//! ```
//!
//! | attribute | value |
//! |---|---|
//! | 1 delay | u64 milliseconds |
//! | 2 id | 1 to 255 bytes: a message whose id the topic remembers is not stored again |
//! | 3 headers | ( u8 length, name, u16 length, value )* |
//! | 4 key, 5 expiry, 6 priority | taken, not used yet: refused |
//! | 0, 7 to 127 | refused: a broker that does not know one must not store the message |
//! | 128 to 255 | ignored |
//!
//! A message has each of 1 to 3 at most once.
//!
//! Messages of "all" are stored together or not at all; of "each" every one has its own result. A refusal
//! ends nothing: the commands behind it are executed. The commands of V2 may be used beside these; SUBSCRIBE
//! has messages come as deliveries, SUB as messages of V2. Numbers are big-endian.

mod attributes;
mod delivered;
mod record;
mod results;
mod start;

pub use attributes::{Attributes, HeaderList, put_attributes};
pub use delivered::{DELIVERED_HEADER_BYTES, Delivered, put_delivered};
pub use record::{Record, Records, put_plain_record, put_record};
pub use results::{Run, Runs, put_run};
pub use start::{StartText, parse_start};

use serde::{Deserialize, Serialize};

/// The one feature there is: all that this module says.
pub const MESSAGES: &str = "messages";

/// Most messages of a PUBLISH of "each": every one of them may have a reason of its own in the answer.
pub const EACH_MAX: u32 = 1024;

/// Most deliveries that one FINISH, REQUEUE, EXTEND or RELEASE names.
pub const TOKENS_MAX: u64 = 512;

/// Bytes of a token.
pub const TOKEN_BYTES: usize = mq_core::DeliveryToken::BYTES;

/// A server's offer in its answer to IDENTIFY.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Offer {
    /// The features it has of those that were asked for.
    pub features: Vec<String>,
    /// The word that UPGRADE has to name.
    pub nonce: String,
    /// Milliseconds for which topics remember the ids of messages, unless they are set otherwise.
    pub dedup_window: u64,
    /// Longest delay of a requeue in milliseconds; 0: not said.
    pub max_req_timeout: u64,
}

impl Offer {
    /// Whether [`MESSAGES`] are offered, with a nonce that a command can name.
    pub fn has_messages(&self) -> bool {
        let is_word =
            (1..=64).contains(&self.nonce.len()) && self.nonce.bytes().all(|b| b.is_ascii_alphanumeric());
        is_word && self.features.iter().any(|feature| feature == MESSAGES)
    }
}

/// Reason why bytes of the extension are not what they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// A length goes beyond what holds it.
    #[error("a length is larger than what is left")]
    Length,
    /// An attribute that this version must not pass over.
    #[error("attribute {0} is not known")]
    Attribute(u8),
    /// An attribute that a message has once.
    #[error("attribute {0} is there twice")]
    Twice(u8),
    /// A delay that is no number of 8 bytes, or an id that is empty or too long.
    #[error("attribute {0} has a value of the wrong length")]
    Value(u8),
    /// A header's name is no UTF-8, or its lengths don't add up.
    #[error("the headers are malformed")]
    Headers,
    /// A run of an unknown kind.
    #[error("result {0} is not known")]
    Result(u8),
}

/// Splits `len` bytes off, where `len` stands before them in `N` bytes.
fn sized<'a, const N: usize>(bytes: &mut &'a [u8]) -> Result<&'a [u8], Malformed> {
    let (length, rest) = bytes.split_first_chunk::<N>().ok_or(Malformed::Length)?;
    let length = length.iter().fold(0_usize, |length, byte| length << 8 | usize::from(*byte));
    let (value, rest) = rest.split_at_checked(length).ok_or(Malformed::Length)?;
    *bytes = rest;
    Ok(value)
}

/// A length of 4 bytes; nothing that is put has more than a frame.
fn put_length(out: &mut Vec<u8>, length: usize) {
    out.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
}

//! Tokens of an acknowledgement.

use mq_core::DeliveryToken;

/// Tokens of a FINISH, REQUEUE, EXTEND or RELEASE. Borrowed from the buffer they were read to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tokens<'a>(&'a [[u8; DeliveryToken::BYTES]]);

impl<'a> Tokens<'a> {
    /// The whole tokens in `bytes`.
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes.as_chunks().0)
    }

    /// Number of tokens.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The tokens, in order.
    pub fn iter(&self) -> impl Iterator<Item = DeliveryToken> + use<'a> {
        self.0.iter().filter_map(|bytes| DeliveryToken::from_bytes(bytes))
    }
}

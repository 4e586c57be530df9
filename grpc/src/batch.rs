//! `mq.v1.MessageBatch`, whose messages a broker encodes straight from its own memory: one copy of each body,
//! and no allocation for a message.
//!
//! ```text
//! batch   = { 0x0a, length, message }
//! message = 0x0a, length, body | 0x11, id | 0x19, offset | 0x21, time | 0x28, attempts |
//!           { 0x32, length, header } | 0x3a, length, token
//! header  = 0x0a, length, name | 0x12, length, value
//! ```

use bytes::{Buf, BufMut, Bytes};
use prost::DecodeError;
use prost::encoding::{DecodeContext, WireType, message, skip_field};

use crate::v1::ReceivedMessage;

/// Number of the field in a batch.
const MESSAGES: u32 = 1;

/// Messages that come together.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MessageBatch {
    /// The messages, in the order the channel gives them out.
    pub messages: Vec<ReceivedMessage>,
    /// Further messages in their encoded form; always empty on the receiving side.
    encoded: Bytes,
}

impl From<Vec<ReceivedMessage>> for MessageBatch {
    fn from(messages: Vec<ReceivedMessage>) -> Self {
        Self { messages, encoded: Bytes::new() }
    }
}

#[cfg(feature = "server")]
impl MessageBatch {
    /// A batch of messages that are encoded already.
    pub(crate) fn encoded(encoded: bytes::BytesMut) -> Self {
        Self { messages: Vec::new(), encoded: encoded.freeze() }
    }

    /// The tokens of a batch that is encoded already.
    pub(crate) fn tokens(&self) -> Vec<mq_core::DeliveryToken> {
        use mq_core::DeliveryToken;
        use prost::Message;
        let decoded = Self::decode(self.encoded.clone()).unwrap_or_default();
        decoded.messages.iter().filter_map(|message| DeliveryToken::from_bytes(&message.token)).collect()
    }
}

impl prost::Message for MessageBatch {
    fn encode_raw(&self, out: &mut impl BufMut) {
        out.put_slice(&self.encoded);
        message::encode_repeated(MESSAGES, &self.messages, out);
    }

    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buf: &mut impl Buf,
        context: DecodeContext,
    ) -> Result<(), DecodeError> {
        match tag {
            MESSAGES => message::merge_repeated(wire_type, &mut self.messages, buf, context),
            _ => skip_field(wire_type, tag, buf, context),
        }
    }

    fn encoded_len(&self) -> usize {
        self.encoded.len() + message::encoded_len_repeated(MESSAGES, &self.messages)
    }

    fn clear(&mut self) {
        *self = Self::default();
    }
}

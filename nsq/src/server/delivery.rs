//! Messages from the channel to the output.

use mq_core::Pulled;

use super::buffers;
use super::output::DELIVERY_BYTES;
use super::session::{End, Session};
use crate::wire::error::{Code, WireError};
use crate::wire::frame::{FRAME_HEADER_BYTES, MESSAGE_HEADER_BYTES, put_message};

impl Session {
    /// Fetches messages while there are any and the output has room; one larger than the room goes alone.
    pub(super) fn deliver(&mut self) {
        let Some(subscription) = &mut self.subscription else {
            return;
        };
        let mut count = 0;
        let mut closed = false;
        let mut damage = None;
        let mut spare = None;
        loop {
            let room = DELIVERY_BYTES.saturating_sub(self.output.unsent());
            if !self.delivering || room == 0 {
                // Others shall have what it would be woken for.
                if !self.resting {
                    subscription.rest();
                    self.resting = true;
                }
                break;
            }
            self.resting = false;
            let out = self.output.buf();
            let pulled = subscription.pull(room, &mut |delivery| {
                buffers::reserve(out, FRAME_HEADER_BYTES + MESSAGE_HEADER_BYTES + delivery.body.len());
                put_message(out, delivery.id, delivery.time, delivery.attempts, delivery.body);
                count += 1;
            });
            match pulled {
                Pulled::More => {}
                Pulled::Wait => {
                    spare = Some(subscription.spare());
                    break;
                }
                Pulled::Closed => {
                    closed = true;
                    break;
                }
                Pulled::Damaged => {
                    damage = subscription.damage();
                    break;
                }
            }
        }
        if count > 0 {
            self.client.count_delivered(count);
            if let Some(spare) = spare.filter(|_| !self.settings.output_buffer_timeout.is_zero()) {
                self.delivered(count, spare);
            }
        }
        if closed {
            self.drain(End::ChannelClosed);
        }
        if let Some(error) = damage {
            self.fail(WireError::refused(Code::SubFailed, "SUB", &error));
        }
    }
}

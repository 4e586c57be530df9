//! Messages from the channel to the output.

use mq_core::{Delivery, Pulled};
use mq_net::budget::{Account, FREE_BYTES};

use super::buffers;
use super::output::DELIVERY_BYTES;
use super::phase::End;
use super::session::Session;
use crate::wire::error::{Code, WireError};
use crate::wire::extension::DELIVERED_HEADER_BYTES;
use crate::wire::frame::{FRAME_HEADER_BYTES, MESSAGE_HEADER_BYTES, put_delivery, put_message};

/// Bytes that messages are added up to: few where the budget is spent, so that small ones go on.
fn delivery_bytes(account: &Account) -> usize {
    if account.budget().is_spent() { FREE_BYTES } else { DELIVERY_BYTES }
}

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
        let mut limit = delivery_bytes(&self.account);
        loop {
            let room = limit.saturating_sub(self.output.unsent());
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
            let delivers = self.extension.delivers;
            let mut sink = |delivery: &Delivery<'_>| {
                let header = FRAME_HEADER_BYTES + MESSAGE_HEADER_BYTES.max(DELIVERED_HEADER_BYTES);
                buffers::reserve(out, header + delivery.body.len());
                match delivery.token.filter(|_| delivers) {
                    Some(token) => put_delivery(out, delivery, token),
                    None => put_message(out, delivery.id, delivery.time.0, delivery.attempts, delivery.body),
                }
                count += 1;
            };
            let pulled = match limit {
                DELIVERY_BYTES => subscription.pull(room, &mut sink),
                // One that is larger waits for memory, or for its turn to do without.
                _ => match subscription.pull_within(room, room, &mut sink) {
                    Some(pulled) => pulled,
                    None if self.output.unsent() == 0 && self.account.may_grow() => {
                        limit = DELIVERY_BYTES;
                        continue;
                    }
                    None => {
                        subscription.rest();
                        self.resting = true;
                        break;
                    }
                },
            };
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

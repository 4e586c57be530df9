//! Answers of a server to a client.

use mq_nsq::client::decoded;
use mq_nsq::wire::frame;
use mq_nsq::wire::identify::Reply;

use crate::parameters;

/// Any bytes as a server's frames, whole and cut in two: decoded or refused, the same either way; and as its
/// answer to IDENTIFY.
///
/// The first two bytes of the input are the place of the cut, the third says whether the extension is on, and
/// the fourth how many bytes behind it are commands that the client has sent.
pub fn answers(input: &[u8]) {
    let Some(([low, high, extended, count], rest)) = parameters(input) else { return };
    let Some((commands, bytes)) = rest.split_at_checked(usize::from(count % 16)) else { return };
    let (first, second) = bytes.split_at(usize::from(u16::from_le_bytes([low, high])) % (bytes.len() + 1));
    let is_extended = extended % 2 == 1;
    let (whole, cut) =
        (decoded(commands, is_extended, &[bytes]), decoded(commands, is_extended, &[first, second]));
    match (whole, cut) {
        (Ok(whole), Ok(cut)) => assert_eq!(whole, cut),
        // What came before a wrong frame may be taken before that is seen.
        (whole, cut) => assert_eq!(whole.is_err(), cut.is_err(), "{whole:?} {cut:?}"),
    }
    if let Ok(Ok((_, consumed))) = frame::decode(bytes) {
        assert!(consumed <= bytes.len());
    }
    let Ok(reply) = serde_json::from_slice::<Reply>(bytes) else { return };
    if let Some(offer) = reply.libmq.filter(|offer| offer.has_messages()) {
        let line = format!("UPGRADE {} messages", offer.nonce);
        assert_eq!(line.split_ascii_whitespace().count(), 3, "{line:?} is another command");
    }
}

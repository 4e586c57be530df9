//! The protocol between brokers and lookup servers.

use mq_nsq::wire::lookup::{
    BODY_BYTES_MAX, BrokerIdentity, Command, Identity, LINE_BYTES_MAX, Parse, answer, parse,
};

use crate::parameters;

/// The commands and the error of a stream, in words. The stream comes in two reads, cut at `cut`.
fn parsed(bytes: &[u8], cut: usize) -> Vec<String> {
    let (mut words, mut at, mut end, mut identified) = (Vec::new(), 0, cut, false);
    loop {
        match parse(&bytes[at..end], identified) {
            Parse::Incomplete(_) if end < bytes.len() => end = bytes.len(),
            Parse::Incomplete(stage) => {
                assert!(end - at < LINE_BYTES_MAX + 4 + BODY_BYTES_MAX);
                words.push(format!("{stage:?}"));
                return words;
            }
            Parse::Command(command, consumed) => {
                if let Command::Identify(body) = command {
                    identified = BrokerIdentity::parse(body).is_ok();
                }
                words.push(format!("{command:?}"));
                at += consumed;
            }
            Parse::Error(error) => {
                words.push(error.to_string());
                return words;
            }
        }
    }
}

/// Any bytes as a stream of the lookup protocol, whole and cut in two: parsed or refused, the same either
/// way. And any bytes as an answer and as what both ends say in IDENTIFY.
///
/// The first two bytes of the input are the place of the cut.
pub fn lookup(input: &[u8]) {
    let Some((cut, bytes)) = parameters(input) else { return };
    let cut = usize::from(u16::from_le_bytes(cut)) % (bytes.len() + 1);
    assert_eq!(parsed(bytes, bytes.len()), parsed(bytes, cut));
    let _ = answer(bytes);
    if let Ok(peer) = BrokerIdentity::parse(bytes) {
        assert_eq!(BrokerIdentity::parse(peer.to_json().as_bytes()).as_ref(), Ok(&peer));
    }
    let _ = Identity::parse(bytes);
}

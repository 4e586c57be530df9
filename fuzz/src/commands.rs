//! NSQ's commands.

use mq_nsq::wire::identify::Request;
use mq_nsq::wire::{Context, Limits, Parse, Parser, State};

use crate::parameters;

/// The commands and the error of a stream, in words. The stream comes in two reads, cut at `cut`.
fn parsed(bytes: &[u8], cut: usize) -> Vec<String> {
    let limits = Limits { max_msg_size: 100, max_body_size: 400, ..Limits::default() };
    let context = Context {
        limits: &limits,
        state: State::Subscribed,
        heartbeats: true,
        tls_required: false,
        check_batches: false,
        extended: true,
    };
    let mut parser = Parser::new();
    let (mut words, mut at, mut end) = (Vec::new(), 0, cut);
    while at < bytes.len() {
        match parser.parse(&bytes[at..end], &context) {
            Parse::Incomplete { .. } if end < bytes.len() => end = bytes.len(),
            Parse::Incomplete { need, stage } => {
                assert!(need > end - at);
                words.push(format!("{stage:?}"));
                break;
            }
            Parse::Command(command, consumed) => {
                words.push(format!("{command:?}"));
                at += consumed;
                end = end.max(at);
                if at == end {
                    end = bytes.len();
                }
            }
            Parse::Error(error) => {
                words.push(error.to_string());
                break;
            }
            Parse::Batch(topic) => words.push(format!("{topic:?}")),
            Parse::LineTooLong => {
                words.push("line too long".into());
                break;
            }
        }
    }
    words
}

/// Any bytes as a stream of commands, whole and cut in two: parsed or refused, the same either way.
///
/// The first two bytes of the input are the place of the cut.
pub fn commands(input: &[u8]) {
    let Some((cut, bytes)) = parameters(input) else { return };
    let cut = usize::from(u16::from_le_bytes(cut)) % (bytes.len() + 1);
    assert_eq!(parsed(bytes, bytes.len()), parsed(bytes, cut));
    let _ = Request::parse(bytes);
}

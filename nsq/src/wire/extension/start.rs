//! The word of a SUBSCRIBE that says where a new channel begins.

use mq_core::clock::Wall;
use std::fmt;

use mq_core::{Offset, Start};

/// A start position as its word.
#[derive(Clone, Copy, Debug)]
pub struct StartText(pub Start);

impl fmt::Display for StartText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Start::Now => f.write_str("waiting"),
            Start::Earliest => f.write_str("earliest"),
            Start::Latest => f.write_str("latest"),
            Start::Offset(offset) => write!(f, "offset:{}", offset.0),
            Start::Time(time) => write!(f, "time:{}", time.0),
        }
    }
}

/// The start position that a word stands for.
pub fn parse_start(word: &[u8]) -> Option<Start> {
    let word = std::str::from_utf8(word).ok()?;
    let number = |digits: &str| digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok())?;
    match word.split_once(':') {
        Some(("offset", digits)) => Some(Start::Offset(Offset(number(digits)?))),
        Some(("time", digits)) => Some(Start::Time(Wall(number(digits)?))),
        Some(_) => None,
        None => match word {
            "waiting" => Some(Start::Now),
            "earliest" => Some(Start::Earliest),
            "latest" => Some(Start::Latest),
            _ => None,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_start_has_one_word() {
        for (start, word) in [
            (Start::Now, "waiting"),
            (Start::Earliest, "earliest"),
            (Start::Latest, "latest"),
            (Start::Offset(Offset(17)), "offset:17"),
            (Start::Time(Wall(u64::MAX)), "time:18446744073709551615"),
        ] {
            assert_eq!(StartText(start).to_string(), word);
            assert_eq!(parse_start(word.as_bytes()), Some(start));
        }
        for wrong in
            ["", "now", "offset", "offset:", "offset:-1", "offset:+1", "time:18446744073709551616", "x:1"]
        {
            assert_eq!(parse_start(wrong.as_bytes()), None, "{wrong}");
        }
    }
}

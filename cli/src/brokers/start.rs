//! `--start`: the place where a channel that is new begins.

use jiff::Timestamp;
use libmq::{Delivery, Start};

/// Forms of `--start`, for messages.
const FORMS: &str =
    "waiting, earliest, latest, an offset as mq tail --json shows it, or a time such as 2026-11-28T14:00:00Z";

/// Reads a place: a word, an offset, or a time as RFC 3339 has it.
pub(crate) fn parse_start(text: &str) -> Result<Start, String> {
    let no_place = |why: &str| format!("{why}: it must be {FORMS}");
    match text {
        "waiting" => return Ok(Start::Waiting),
        "earliest" => return Ok(Start::Earliest),
        "latest" => return Ok(Start::Latest),
        _ => {}
    }
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse().map(Start::Offset).map_err(|_| no_place("this offset is too large"));
    }
    let time: Timestamp = text.parse().map_err(|_| no_place("this is no place in a topic"))?;
    let since_1970 = u64::try_from(time.as_nanosecond()).map_err(|_| no_place("this time is before 1970"))?;
    Ok(Start::Time(since_1970))
}

/// Whether a message that is kept stands at `start` or after it. What is next, only the broker can say.
pub(crate) fn has_begun(start: Start, message: &Delivery) -> bool {
    match start {
        Start::Waiting | Start::Earliest => true,
        Start::Latest => false,
        // Only mq shows what it keeps, and its ids have the offset.
        Start::Offset(first) => message.id().offset().0 >= first,
        Start::Time(first) => message.timestamp() >= first,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_offsets_and_times_are_places_and_nothing_else_is() {
        for (text, start) in [
            ("waiting", Start::Waiting),
            ("earliest", Start::Earliest),
            ("latest", Start::Latest),
            ("0", Start::Offset(0)),
            ("18446744073709551615", Start::Offset(u64::MAX)),
            ("1970-01-01T00:00:01.5Z", Start::Time(1_500_000_000)),
            ("1970-01-01T01:00:00+01:00", Start::Time(0)),
        ] {
            assert_eq!(parse_start(text), Ok(start), "{text}");
        }
        for (text, why) in [
            ("", "no place"),
            ("-1", "no place"),
            ("soon", "no place"),
            ("Latest", "no place"),
            ("2026-11-28", "no place"),
            ("2026-11-28T14:00:00", "no place"),
            ("18446744073709551616", "too large"),
            ("1969-12-31T23:59:59Z", "before 1970"),
        ] {
            let error = parse_start(text).unwrap_err();
            assert!(error.contains(why) && error.contains(FORMS), "{text}: {error}");
        }
    }
}

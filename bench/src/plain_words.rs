//! Errors of brokers and of the system in the words of the flags. Pure.

use mq_server::config::units::show_size;

/// `text` without the system's numbers: `Connection refused (os error 111)` has one too many.
pub fn without_codes(text: &str) -> String {
    const CODE: &str = " (os error ";
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(CODE) {
        plain.push_str(before);
        let digits = after.trim_start_matches('-').trim_start_matches(|digit: char| digit.is_ascii_digit());
        match digits.strip_prefix(')') {
            Some(end) => rest = end,
            None => {
                plain.push_str(CODE);
                rest = after;
            }
        }
    }
    plain + rest
}

/// A broker's refusal with units and with the flag that sets the limit, if `text` is one that is known:
/// `DPUB timeout 18000000 out of range 0-3600000`.
pub fn refusal(text: &str) -> Option<String> {
    let numbers = |from: &str, between: &str| -> Option<(u64, u64)> {
        let (asked, limit) = text.split_once(from)?.1.split_once(between)?;
        let limit: String = limit.chars().take_while(char::is_ascii_digit).collect();
        Some((asked.trim().parse().ok()?, limit.parse().ok()?))
    };
    if let Some((asked, limit)) = numbers("timeout ", " out of range 0-") {
        let (asked, limit) = (time(asked), time(limit));
        return Some(format!("a delay of {asked} is longer than the broker's --max-req-timeout, {limit}"));
    }
    let larger = |what: &str, flag: &str, (asked, limit): (u64, u64)| {
        let limit = show_size(limit);
        format!("a {what} of {asked} bytes is larger than the broker's {flag}, {limit}")
    };
    if let Some(found) = numbers("message too big ", " > ") {
        return Some(larger("message", "--max-msg-size", found));
    }
    let found = numbers("PUB body too big ", " > ").or_else(|| numbers("PUBLISH body too big ", " > "));
    found.map(|found| larger("publish", "--max-body-size", found))
}

/// A time in the form that flags have: `1h`, `90m`, `1500ms`.
fn time(ms: u64) -> String {
    match ms {
        ms if ms == 0 || !ms.is_multiple_of(1000) => format!("{ms}ms"),
        ms if ms.is_multiple_of(3_600_000) => format!("{}h", ms / 3_600_000),
        ms if ms.is_multiple_of(60_000) => format!("{}m", ms / 60_000),
        ms => format!("{}s", ms / 1000),
    }
}

/// An error as a whole: a refusal that is known in words, anything else without the system's numbers.
pub fn plain(text: &str) -> String {
    match refusal(text) {
        Some(refusal) => refusal,
        None => without_codes(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_systems_numbers_are_left_out() {
        for (text, plain) in [
            ("a:1: Connection refused (os error 111)", "a:1: Connection refused"),
            ("x (os error 2): y (os error 13)", "x: y"),
            ("x (os error ", "x (os error "),
            ("x (os error 1 y", "x (os error 1 y"),
        ] {
            assert_eq!(without_codes(text), plain);
        }
    }

    #[test]
    fn a_refusal_names_its_unit_and_its_flag() {
        for (text, words) in [
            (
                "E_INVALID DPUB timeout 18000000 out of range 0-3600000",
                "a delay of 5h is longer than the broker's --max-req-timeout, 1h",
            ),
            (
                "E_BAD_BODY PUBLISH body too big 5242888 > 5242880",
                "a publish of 5242888 bytes is larger than the broker's --max-body-size, 5.0 MiB",
            ),
            (
                "E_BAD_MESSAGE PUB message too big 2000000 > 1048576",
                "a message of 2000000 bytes is larger than the broker's --max-msg-size, 1.0 MiB",
            ),
        ] {
            assert_eq!(refusal(text).as_deref(), Some(words));
        }
        let others =
            ["E_INVALID DPUB timeout x out of range 0-1", "AUTH body too big 2 > 1", "message too big 1"];
        for other in others {
            assert_eq!(refusal(other), None, "{other}");
        }
        assert_eq!(plain("E_FULL disk (os error 28)"), "E_FULL disk");
    }
}

//! Sizes and durations as people write them on a command line.

use std::time::Duration;

/// The right form of a size, for messages.
pub const SIZE_FORM: &str = "a number of bytes, or one with a unit such as 64KiB, 256MiB, 1GiB";
/// The right form of a duration, for messages.
pub const DURATION_FORM: &str = "a duration such as 250ms, 60s, 1m30s, or a whole number of milliseconds";

/// Longest first where one unit ends in another.
const SIZE_UNITS: [(&str, u64); 10] = [
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("K", 1 << 10),
    ("M", 1 << 20),
    ("G", 1 << 30),
    ("B", 1),
];

/// Reads a size: `1048576`, `64KiB`, `1MB`. `None` for anything else and for what overflows.
pub fn parse_size(text: &str) -> Option<u64> {
    let lower = text.to_ascii_lowercase();
    let (digits, unit) = SIZE_UNITS
        .iter()
        .find_map(|(name, unit)| Some((lower.strip_suffix(&name.to_ascii_lowercase())?, *unit)))
        .unwrap_or((&lower, 1));
    parse_digits(digits.trim_end())?.checked_mul(unit)
}

/// Reads a duration as Go writes one (`1m30s`, `1.5h`, `250ms`); a bare whole number is milliseconds, as in
/// nsqd.
pub fn parse_duration(text: &str) -> Option<Duration> {
    if let Some(ms) = parse_digits(text) {
        return Some(Duration::from_millis(ms));
    }
    let mut rest = text;
    let mut nanos = 0_u128;
    while !rest.is_empty() {
        let number_end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(number_end);
        let unit_end = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_end);
        let unit_ns = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return None,
        };
        nanos = nanos.checked_add(scale(number, unit_ns)?)?;
        rest = tail;
    }
    // Go's longest duration; more would not fit in anybody's arithmetic either.
    let nanos = u64::try_from(nanos).ok().filter(|n| i64::try_from(*n).is_ok())?;
    (!text.is_empty()).then(|| Duration::from_nanos(nanos))
}

/// Reads a duration for a command line, where an error says the right form.
///
/// # Errors
/// The right form.
pub fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).ok_or_else(|| format!("it must be {DURATION_FORM}"))
}

/// `number` (digits with at most one point) times `unit`, cut to whole nanoseconds.
fn scale(number: &str, unit: u128) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let mut nanos = if whole.is_empty() { 0 } else { u128::from(parse_digits(whole)?) * unit };
    let mut digit_unit = unit;
    for digit in fraction.bytes() {
        if !digit.is_ascii_digit() {
            return None;
        }
        digit_unit /= 10;
        nanos += u128::from(digit - b'0') * digit_unit;
    }
    Some(nanos)
}

/// Digits only: no sign, no space, as `u64`'s own parser allows a plus.
fn parse_digits(text: &str) -> Option<u64> {
    if text.bytes().all(|b| b.is_ascii_digit()) { text.parse().ok() } else { None }
}

/// A count of bytes for people: `1.2 MiB`.
pub fn show_size(bytes: u64) -> String {
    let (unit, name) = match bytes {
        0..1_024 => return format!("{bytes} B"),
        1_024..1_048_576 => (1_u64 << 10, "KiB"),
        1_048_576..1_073_741_824 => (1 << 20, "MiB"),
        _ => (1 << 30, "GiB"),
    };
    format!("{}.{} {name}", bytes / unit, bytes % unit * 10 / unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_take_units_in_any_case() {
        for (text, bytes) in [
            ("0", 0),
            ("1048576", 1_048_576),
            ("256MiB", 256 << 20),
            ("64kib", 64 << 10),
            ("1MB", 1_000_000),
            ("2g", 2 << 30),
            ("7 KiB", 7 << 10),
            ("12B", 12),
        ] {
            assert_eq!(parse_size(text), Some(bytes), "{text}");
        }
        for bad in ["", "MiB", "-1", "+1", "1.5MiB", "1TiB ", "99999999999GiB", "1 0"] {
            assert_eq!(parse_size(bad), None, "{bad}");
        }
    }

    #[test]
    fn durations_are_gos() {
        for (text, ms) in [
            ("60s", 60_000),
            ("1m30s", 90_000),
            ("250ms", 250),
            ("1.5h", 5_400_000),
            (".5s", 500),
            ("1.s", 1_000),
            ("1500", 1_500),
            ("0", 0),
            ("0s", 0),
        ] {
            assert_eq!(parse_duration(text), Some(Duration::from_millis(ms)), "{text}");
        }
        assert_eq!(parse_duration("1us"), Some(Duration::from_micros(1)));
        for bad in ["", "s", "-1s", "60 s", "1x", ".s", "1..5s", "99999999999999999999h", "300000000h"] {
            assert_eq!(parse_duration(bad), None, "{bad}");
        }
    }

    #[test]
    fn sizes_for_people() {
        assert_eq!(show_size(1023), "1023 B");
        assert_eq!(show_size(1536), "1.5 KiB");
        assert_eq!(show_size(5 << 30), "5.0 GiB");
    }
}

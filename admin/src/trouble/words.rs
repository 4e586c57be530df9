//! Numbers and times for people.

/// `1,234`
pub(super) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `1 message`, `1,234 messages`
pub(super) fn counted(number: u64, one: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {one}{plural}", count(number))
}

/// `0.25`, `3.5`, `1,234`
pub(super) fn rate(per_second: f64) -> String {
    match per_second {
        rate if rate < 1.0 => format!("{rate:.2}"),
        rate if rate < 100.0 => format!("{rate:.1}"),
        rate => count(rate.round() as u64),
    }
}

/// `none are finished`, `3.5 are finished`
pub(super) fn finished(per_second: f64) -> String {
    match per_second {
        rate if rate < 0.005 => "none are finished".to_owned(),
        per_second => format!("{} are finished", rate(per_second)),
    }
}

/// `40 seconds`, `6 minutes`, `3 hours`, `2 days`
pub(super) fn time(seconds: f64) -> String {
    let whole = |unit: f64, name: &str| counted((seconds / unit).round() as u64, name);
    match seconds {
        s if s < 90.0 => whole(1.0, "second"),
        s if s < 90.0 * 60.0 => whole(60.0, "minute"),
        s if s < 36.0 * 3600.0 => whole(3600.0, "hour"),
        _ => whole(86400.0, "day"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_words() {
        assert_eq!([0, 999, 1000, 1234567].map(count), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([counted(1, "message"), counted(0, "message")], ["1 message", "0 messages"]);
        assert_eq!([0.0, 3.46].map(finished), ["none are finished", "3.5 are finished"]);
        assert_eq!([0.25, 3.46, 1234.6].map(rate), ["0.25", "3.5", "1,235"]);
        assert_eq!(
            [40.0, 1.0, 360.0, 10800.0, 172800.0].map(time),
            ["40 seconds", "1 second", "6 minutes", "3 hours", "2 days"]
        );
    }
}

//! Values as Go's `flag` package reads them, for tools under NSQ's names.

use std::time::Duration;

use mq_server::config::units;

/// A switch's value.
pub(crate) fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err("it must be true or false".to_owned()),
    }
}

/// A duration with its unit; only 0 needs none.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let has_unit = text == "0" || text.ends_with(|last: char| last.is_alphabetic());
    let parsed = units::parse_duration(text).filter(|_| has_unit);
    parsed.ok_or_else(|| "it must be a duration with its unit, such as 250ms, 60s or 1m30s".to_owned())
}

/// A duration above 0.
pub(crate) fn positive_duration(text: &str) -> Result<Duration, String> {
    let parsed = duration(text)?;
    if parsed.is_zero() { Err("it should be positive".to_owned()) } else { Ok(parsed) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_those_that_go_takes() {
        assert_eq!((boolean("T"), boolean("0")), (Ok(true), Ok(false)));
        assert!(boolean("yes").is_err());
        assert_eq!(duration("1m30s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("0"), Ok(Duration::ZERO));
        assert!(duration("30").is_err() && positive_duration("0s").is_err());
    }
}

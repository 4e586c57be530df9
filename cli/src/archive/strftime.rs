//! `strftime`: a time by a format, with the conversions that nsq_to_file has.

use jiff::Zoned;

/// Conversions that stand for a part of the time.
const CONVERSIONS: &str = "BbmAadHIMSYypZz";

/// Formats `time`. A `%` before anything but a conversion or another `%` stands for itself.
pub(super) fn strftime(format: &str, time: &Zoned) -> String {
    let mut out = String::with_capacity(format.len() + 8);
    let mut rest = format;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        match rest.chars().next() {
            Some(conversion) if CONVERSIONS.contains(conversion) => {
                out.push_str(&time.strftime(&format!("%{conversion}")).to_string());
                rest = &rest[1..];
            }
            Some('%') => {
                out.push('%');
                rest = &rest[1..];
            }
            _ => out.push('%'),
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_conversion_is_a_part_of_the_time() {
        let time: Zoned = "2026-03-07T15:04:09+01:00[+01:00]".parse().unwrap();
        for (format, want) in [
            ("%Y-%m-%d_%H", "2026-03-07_15"),
            ("%y%m%d%I%M%S%p", "260307030409PM"),
            ("%A %a %B %b", "Saturday Sat March Mar"),
            ("%z", "+0100"),
            ("%Z", "+01"),
            ("100%% %q %", "100% %q %"),
            // Go's layout words are text.
            ("Jan 2006 %Y", "Jan 2006 2026"),
        ] {
            assert_eq!(strftime(format, &time), want, "{format}");
        }
    }
}

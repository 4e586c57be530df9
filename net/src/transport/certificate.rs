//! The little that is read from X.509 certificates: DER, and nothing is trusted.
//!
//! ```text
//! certificate = SEQUENCE { tbs, ... }
//! tbs         = SEQUENCE { [0] version OPTIONAL, serial, algorithm, issuer, validity, subject, key, ... }
//! subject     = SEQUENCE of SET of SEQUENCE { OID, string }
//! validity    = SEQUENCE { begin, end }, each a time of two forms
//! key         = SEQUENCE { SEQUENCE algorithm, BIT STRING }
//! ```

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OID: u8 = 0x06;
const BIT_STRING: u8 = 0x03;
const VERSION: u8 = 0xa0;
const BMP_STRING: u8 = 0x1e;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];

/// The last common name of a certificate's subject, as Go reads it; empty if there is none.
pub(super) fn common_name(certificate: &[u8]) -> String {
    subject(certificate).and_then(last_common_name).unwrap_or_default()
}

/// The algorithm and the bits of a certificate's public key.
pub(super) fn public_key(certificate: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut tbs = tbs(certificate)?;
    fields(&mut tbs, 5)?;
    let mut key = expect(&mut tbs, SEQUENCE)?;
    let algorithm = expect(&mut key, SEQUENCE)?;
    // Its first byte says how many bits of the last do not count: none.
    let bits = expect(&mut key, BIT_STRING)?.strip_prefix(&[0])?;
    Some((algorithm, bits))
}

/// The time from which on a certificate is not valid any more, in seconds since 1970.
pub(super) fn expires(certificate: &[u8]) -> Option<u64> {
    let mut tbs = tbs(certificate)?;
    fields(&mut tbs, 3)?;
    let mut validity = expect(&mut tbs, SEQUENCE)?;
    fields(&mut validity, 1)?;
    let (tag, text) = item(&mut validity)?;
    let digits = text.strip_suffix(b"Z")?;
    let (year, rest) = match tag {
        // Two digits: 1950 to 2049.
        UTC_TIME => {
            let (year, rest) = number(digits, 2)?;
            (if year < 50 { 2000 + year } else { 1900 + year }, rest)
        }
        GENERALIZED_TIME => number(digits, 4)?,
        _ => return None,
    };
    let (month, rest) = number(rest, 2)?;
    let (day, rest) = number(rest, 2)?;
    let (hour, rest) = number(rest, 2)?;
    let (minute, rest) = number(rest, 2)?;
    let (second, _) = number(rest, 2)?;
    let is_date = (1..=12).contains(&month) && (1..=31).contains(&day);
    is_date.then(|| days(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second)
}

/// The number in the first `digits` bytes, and what follows.
fn number(text: &[u8], digits: usize) -> Option<(u64, &[u8])> {
    let (number, rest) = text.split_at_checked(digits)?;
    Some((std::str::from_utf8(number).ok()?.parse().ok()?, rest))
}

/// Days from 1970 to a date; 0 before. Counts years from March on: a leap day is the last of its year.
fn days(year: u64, month: u64, day: u64) -> u64 {
    let year = if month <= 2 { year.saturating_sub(1) } else { year };
    let in_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    (year * 365 + year / 4 - year / 100 + year / 400 + in_year).saturating_sub(719_468)
}

fn subject(certificate: &[u8]) -> Option<&[u8]> {
    let mut tbs = tbs(certificate)?;
    fields(&mut tbs, 4)?;
    expect(&mut tbs, SEQUENCE)
}

/// The fields behind the version.
fn tbs(mut certificate: &[u8]) -> Option<&[u8]> {
    let mut certificate = expect(&mut certificate, SEQUENCE)?;
    let mut tbs = expect(&mut certificate, SEQUENCE)?;
    let mut rest = tbs;
    if item(&mut rest)?.0 == VERSION {
        tbs = rest;
    }
    Some(tbs)
}

/// Passes over `count` items.
fn fields(der: &mut &[u8], count: usize) -> Option<()> {
    for _ in 0..count {
        item(der)?;
    }
    Some(())
}

fn last_common_name(mut subject: &[u8]) -> Option<String> {
    let mut name = None;
    while !subject.is_empty() {
        let mut set = expect(&mut subject, SET)?;
        while !set.is_empty() {
            let mut pair = expect(&mut set, SEQUENCE)?;
            if expect(&mut pair, OID)? == COMMON_NAME {
                name = Some(text(item(&mut pair)?));
            }
        }
    }
    name
}

fn text((tag, bytes): (u8, &[u8])) -> String {
    if tag == BMP_STRING {
        let units: Vec<u16> = bytes.as_chunks::<2>().0.iter().map(|&unit| u16::from_be_bytes(unit)).collect();
        return String::from_utf16_lossy(&units);
    }
    String::from_utf8_lossy(bytes).into_owned()
}

fn expect<'a>(der: &mut &'a [u8], tag: u8) -> Option<&'a [u8]> {
    item(der).filter(|(is, _)| *is == tag).map(|(_, content)| content)
}

/// Takes one item: its tag and content.
fn item<'a>(der: &mut &'a [u8]) -> Option<(u8, &'a [u8])> {
    let (&[tag, first], mut rest) = der.split_first_chunk()?;
    let len = match first {
        ..=0x7f => usize::from(first),
        0x81..=0x83 => {
            let (bytes, after) = rest.split_at_checked(usize::from(first & 0x7f))?;
            rest = after;
            bytes.iter().fold(0, |len, &byte| len << 8 | usize::from(byte))
        }
        _ => return None,
    };
    let (content, after) = rest.split_at_checked(len)?;
    *der = after;
    Some((tag, content))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rcgen::{CertificateParams, DnType, KeyPair, PublicKeyData};

    fn certificate(names: &[&str]) -> (Vec<u8>, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "an organization");
        for name in names {
            params.distinguished_name.push(DnType::CommonName, *name);
        }
        (params.self_signed(&key).unwrap().der().to_vec(), key)
    }

    #[test]
    fn name_and_key_are_found() {
        let (der, key) = certificate(&["w\u{e4}r"]);
        assert_eq!(common_name(&der), "w\u{e4}r");
        assert_eq!(public_key(&der).unwrap().1, key.der_bytes());
        assert_eq!(common_name(&certificate(&[]).0), "");
    }

    #[test]
    fn the_end_of_its_time_is_found_in_both_forms() {
        let ends = |year, month, day| {
            let key = KeyPair::generate().unwrap();
            let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
            params.not_after = rcgen::date_time_ymd(year, month, day);
            expires(params.self_signed(&key).unwrap().der())
        };
        assert_eq!(ends(2026, 11, 28), Some(1_795_824_000));
        assert_eq!(ends(2028, 2, 29), Some(1_835_395_200));
        assert_eq!(ends(1999, 12, 31), Some(946_598_400));
        assert_eq!(ends(2050, 1, 1), Some(2_524_608_000));
        assert_eq!(ends(4096, 1, 1), Some(67_090_118_400));
    }

    #[test]
    fn any_cut_ends_well() {
        let (der, _) = certificate(&["name"]);
        for end in 0..der.len() {
            assert_eq!(common_name(&der[..end]), "");
            assert_eq!(public_key(&der[..end]), None);
            assert_eq!(expires(&der[..end]), None);
        }
    }

    proptest! {
        #[test]
        fn any_change_ends_well(at in 0..300usize, byte in any::<u8>()) {
            let (mut der, _) = certificate(&["name"]);
            let at = at % der.len();
            der[at] = byte;
            let _ = (common_name(&der), public_key(&der), expires(&der));
        }
    }
}

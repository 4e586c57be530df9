//! The little that is read from X.509 certificates: DER, and nothing is trusted.
//!
//! ```text
//! certificate = SEQUENCE { tbs, ... }
//! tbs         = SEQUENCE { [0] version OPTIONAL, serial, algorithm, issuer, validity, subject, key, ... }
//! subject     = SEQUENCE of SET of SEQUENCE { OID, string }
//! key         = SEQUENCE { SEQUENCE algorithm, BIT STRING }
//! ```

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OID: u8 = 0x06;
const BIT_STRING: u8 = 0x03;
const VERSION: u8 = 0xa0;
const BMP_STRING: u8 = 0x1e;

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
    fn any_cut_ends_well() {
        let (der, _) = certificate(&["name"]);
        for end in 0..der.len() {
            assert_eq!(common_name(&der[..end]), "");
            assert_eq!(public_key(&der[..end]), None);
        }
    }

    proptest! {
        #[test]
        fn any_change_ends_well(at in 0..300usize, byte in any::<u8>()) {
            let (mut der, _) = certificate(&["name"]);
            let at = at % der.len();
            der[at] = byte;
            let _ = (common_name(&der), public_key(&der));
        }
    }
}

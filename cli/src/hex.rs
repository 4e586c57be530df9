//! Bytes as hexadecimal digits.

/// Two digits a byte.
pub(crate) fn encode(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from(b"0123456789abcdef"[usize::from(nibble & 15)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(*byte)]).collect()
}

/// Lines of 16 bytes: their place, digits, and what can be printed of them.
pub(crate) fn dump(bytes: &[u8]) -> String {
    let mut out = String::new();
    for (n, line) in bytes.chunks(16).enumerate() {
        let digits: Vec<_> = line.iter().map(|byte| encode(&[*byte])).collect();
        let text: String = line
            .iter()
            .map(|byte| if byte.is_ascii_graphic() || *byte == b' ' { char::from(*byte) } else { '.' })
            .collect();
        out.push_str(&format!("{:08x}  {:<47}  {text}\n", n * 16, digits.join(" ")));
    }
    out
}

#[cfg(test)]
mod tests {
    #[test]
    fn bytes_have_two_digits_each() {
        assert_eq!(super::encode(b"\0\x7f\xff"), "007fff");
        let dump = super::dump(b"0123456789abcdef\x01z");
        assert_eq!(
            dump,
            "00000000  30 31 32 33 34 35 36 37 38 39 61 62 63 64 65 66  0123456789abcdef\n\
             00000010  01 7a                                            .z\n"
        );
    }
}

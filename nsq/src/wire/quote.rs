//! Names as NSQ's error texts print them: in double quotes, escaped as Go's `%q` does.

/// Appends `bytes` in double quotes. What is not UTF-8 becomes `\xNN`, what is not printable `\uNNNN`.
pub(crate) fn quote(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'"');
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            quote_char(out, c);
        }
        for byte in chunk.invalid() {
            out.extend_from_slice(format!("\\x{byte:02x}").as_bytes());
        }
    }
    out.push(b'"');
}

fn quote_char(out: &mut Vec<u8>, c: char) {
    let escaped = match c {
        '"' => "\\\"",
        '\\' => "\\\\",
        '\x07' => "\\a",
        '\x08' => "\\b",
        '\x0c' => "\\f",
        '\n' => "\\n",
        '\r' => "\\r",
        '\t' => "\\t",
        '\x0b' => "\\v",
        c if is_printable(c) => {
            out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            return;
        }
        c => {
            let n = u32::from(c);
            let text = match n {
                0..0x80 => format!("\\x{n:02x}"),
                0x80..0x1_0000 => format!("\\u{n:04x}"),
                _ => format!("\\U{n:08x}"),
            };
            out.extend_from_slice(text.as_bytes());
            return;
        }
    };
    out.extend_from_slice(escaped.as_bytes());
}

/// Whether Go would print `c` as it is: letters, marks, numbers, punctuation, symbols and the plain space.
/// Rust's debug escape draws the same line, but for marks, which it escapes only at the start of a string.
fn is_printable(c: char) -> bool {
    if c == '\'' {
        return true;
    }
    let mut text = [0; 5];
    text[0] = b'a';
    let len = 1 + c.encode_utf8(&mut text[1..]).len();
    std::str::from_utf8(&text[..len]).is_ok_and(|text| text.escape_debug().eq(text.chars()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_as_go_does() {
        let cases: [(&[u8], &str); 12] = [
            (b"", r#""""#),
            (b"test:x", r#""test:x""#),
            (b"a\"b\\c'd", r#""a\"b\\c'd""#),
            (b"\t\r\x07\x08\x0b\x0c", r#""\t\r\a\b\v\f""#),
            (b"\x00\x1f\x7f", r#""\x00\x1f\x7f""#),
            ("\u{e4}\u{4e16}".as_bytes(), "\"\u{e4}\u{4e16}\""),
            (b"\xff\xc3", r#""\xff\xc3""#),
            ("e\u{301}".as_bytes(), "\"e\u{301}\""),
            ("\u{301}".as_bytes(), "\"\u{301}\""),
            ("\u{a0}\u{ad}".as_bytes(), r#""\u00a0\u00ad""#),
            ("\u{10ffff}".as_bytes(), r#""\U0010ffff""#),
            (b"\xf0\x9f\x98", r#""\xf0\x9f\x98""#),
        ];
        for (bytes, want) in cases {
            let mut out = Vec::new();
            quote(&mut out, bytes);
            assert_eq!(String::from_utf8_lossy(&out), want);
        }
    }
}

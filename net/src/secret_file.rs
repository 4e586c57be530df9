//! Files of secrets: the tokens in them, and a warning where everybody on the machine can read or change
//! them.

use std::path::Path;

/// The byte order mark that some editors begin UTF-8 with.
const UTF8_MARK: &[u8] = b"\xef\xbb\xbf";

/// The tokens of a file, one a line. Spaces around them, empty lines and a byte order mark are none of them.
///
/// # Errors
/// The text says what is wrong: the file is UTF-16, or has no token.
pub fn tokens(text: &[u8]) -> Result<Vec<&[u8]>, &'static str> {
    if text.starts_with(b"\xff\xfe") || text.starts_with(b"\xfe\xff") {
        return Err("it is UTF-16; save it as UTF-8");
    }
    let text = text.strip_prefix(UTF8_MARK).unwrap_or(text);
    let lines = text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    let tokens: Vec<_> = lines.filter(|line| !line.is_empty()).collect();
    if tokens.is_empty() { Err("there is no token in it; write one on a line") } else { Ok(tokens) }
}

/// Warns if every user of this machine may read or change what is at `path`. `what`: what it is called in the
/// warning.
pub fn warn_if_exposed(what: &str, path: &Path) {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let Ok(found) = std::fs::metadata(path) else { return };
        let mode = found.permissions().mode();
        let others = exposure(mode);
        if !others.is_empty() {
            let right = if found.is_dir() { "700" } else { "600" };
            tracing::warn!(
                path = %path.display(),
                "{what} can be {others} by every user of this machine (mode {:o}): `chmod {right}` keeps it to its owner",
                mode & 0o7777
            );
        }
    }
    #[cfg(not(unix))]
    let _ = (what, path);
}

/// The rights to a file or folder of this mode that others than owner and group have, in words.
#[cfg(unix)]
fn exposure(mode: u32) -> &'static str {
    match mode & 0o006 {
        0 => "",
        0o004 => "read",
        0o002 => "changed",
        _ => "read and changed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_lines_with_or_without_a_byte_order_mark() {
        let one: &[u8] = b"one";
        for text in
            [&b"one"[..], b"one\r\n", b"\n  one \n\n", b"\xef\xbb\xbfone\n", b"\xef\xbb\xbf\r\none\r\n"]
        {
            assert_eq!(tokens(text), Ok(vec![one]), "{}", text.escape_ascii());
        }
        assert_eq!(tokens(b"\xef\xbb\xbfone\ntwo"), Ok(vec![one, b"two"]));
        for text in [&b""[..], b"\n \r\n", b"\xef\xbb\xbf", b"\xef\xbb\xbf\n"] {
            assert!(tokens(text).unwrap_err().contains("no token"), "{}", text.escape_ascii());
        }
        for text in [&b"\xff\xfeo\0n\0"[..], b"\xfe\xff\0o\0n"] {
            assert!(tokens(text).unwrap_err().contains("UTF-16"));
        }
    }

    #[cfg(unix)]
    #[test]
    fn only_what_every_user_may_do_is_exposed() {
        for (mode, want) in [
            (0o100_600, ""),
            (0o100_660, ""),
            (0o40_771, ""),
            (0o100_644, "read"),
            (0o100_602, "changed"),
            (0o40_777, "read and changed"),
        ] {
            assert_eq!(exposure(mode), want, "{mode:o}");
        }
    }
}

//! Publishing over HTTP: requests written by hand, and as little read of their answers as shows their
//! outcome.

/// Longest head of an answer, in bytes.
const HEAD_BYTES_MAX: usize = 8 << 10;
/// Largest body of an answer, in bytes: it is a word.
const BODY_BYTES_MAX: usize = 64 << 10;

/// The head of a request that publishes to `topic`, with `headers` as lines: its body is one message, or
/// `batch` of them as in MPUB, and `length` bytes long.
pub(crate) fn head(headers: &str, topic: &str, batch: usize, length: usize) -> String {
    let path =
        if batch == 1 { format!("/pub?topic={topic}") } else { format!("/mpub?binary=true&topic={topic}") };
    format!("POST {path} HTTP/1.1\r\n{headers}Content-Length: {length}\r\n\r\n")
}

/// The length of the whole answer that `bytes` begin with; `None` if more of it is to come.
///
/// # Errors
/// The server's complaint, or an answer that is none.
pub(crate) fn answer(bytes: &[u8]) -> Result<Option<usize>, String> {
    let Some(at) = bytes.windows(4).take(HEAD_BYTES_MAX).position(|four| four == b"\r\n\r\n") else {
        return if bytes.len() < HEAD_BYTES_MAX { Ok(None) } else { Err(no_answer(bytes)) };
    };
    let (head, body) = bytes.split_at(at + 4);
    let head = str::from_utf8(head).map_err(|_| no_answer(head))?;
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1.1 "));
    let status = status.ok_or_else(|| no_answer(bytes))?;
    let mut fields = lines.filter_map(|line| line.split_once(':'));
    let length = fields.find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let length = length.and_then(|(_, value)| value.trim().parse::<usize>().ok());
    let length = length
        .filter(|length| *length <= BODY_BYTES_MAX)
        .ok_or_else(|| format!("HTTP {status}, and no Content-Length up to {BODY_BYTES_MAX}"))?;
    let Some(body) = body.get(..length) else { return Ok(None) };
    if status.split(' ').next() != Some("200") {
        return Err(format!("HTTP {status}: {}", String::from_utf8_lossy(body).trim()));
    }
    Ok(Some(head.len() + length))
}

fn no_answer(bytes: &[u8]) -> String {
    let first = bytes.get(..60).unwrap_or(bytes);
    format!("no answer of an HTTP server: {:?}", String::from_utf8_lossy(first))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_ends_where_it_says() {
        let ok = b"HTTP/1.1 200 OK\r\nX: y\r\ncontent-LENGTH: 2\r\n\r\nOK";
        for cut in 0..ok.len() {
            assert_eq!(answer(&ok[..cut]), Ok(None), "{cut}");
        }
        assert_eq!(answer(ok), Ok(Some(ok.len())));
        assert_eq!(answer(&[&ok[..], b"HTTP"].concat()), Ok(Some(ok.len())));
    }

    #[test]
    fn what_is_no_ok_is_told() {
        let complaint_of = |bytes: &[u8]| answer(bytes).unwrap_err();
        let complaint = complaint_of(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 10\r\n\r\nMSG_EMPTY\n");
        assert_eq!(complaint, "HTTP 400 Bad Request: MSG_EMPTY");
        assert!(complaint_of(b"HTTP/1.1 200 OK\r\n\r\n").contains("no Content-Length"));
        assert!(
            complaint_of(b"HTTP/1.1 200 OK\r\nContent-Length: 65537\r\n\r\n")
                .contains("no Content-Length up to 65536")
        );
        assert!(complaint_of(b"\0\0\0\x06\0\0\0\0OK\r\n\r\n").contains("no answer of an HTTP server"));
        assert!(complaint_of(&[b'x'; HEAD_BYTES_MAX]).contains("no answer of an HTTP server"));
    }
}

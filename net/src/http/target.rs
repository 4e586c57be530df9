//! A raw `#` in a request's target, escaped before hyper reads it.
//!
//! nsqd takes it as part of the target. hyper's URI ends there, so that `topic=a#ephemeral` would name topic
//! `a`.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::budget::Beginning;

/// Bytes kept of a header's or a chunk's line: the lines that count are shorter.
const LINE_BYTES_MAX: usize = 128;

/// Bytes counted of a head at most from where it is not known for certain what is head and what is body.
const UNKNOWN_BYTES_MAX: usize = 64 * 1024;

/// A connection's input and output; in the input `#` is `%23` where a request's line has it.
pub(super) struct EscapedTargets<S> {
    inner: S,
    framing: Framing,
    /// Input that was read and did not fit.
    rest: Vec<u8>,
    /// Set once it is not known for certain where the next request begins: then this request must be the
    /// last.
    is_last: Arc<AtomicBool>,
    /// The head that is being read.
    beginning: Beginning,
}

impl<S> EscapedTargets<S> {
    pub(super) fn new(inner: S, beginning: Beginning) -> Self {
        Self { inner, framing: Framing::default(), rest: Vec::new(), is_last: Arc::default(), beginning }
    }

    /// Whether the connection has to end with the current request.
    pub(super) fn is_last(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.is_last)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for EscapedTargets<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.rest.is_empty() {
            let before = buf.filled().len();
            let polled = Pin::new(&mut this.inner).poll_read(cx, buf);
            if polled.is_pending()
                && let Err(closed) = this.beginning.hold(this.framing.head_bytes, cx)
            {
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::OutOfMemory, closed)));
            }
            ready!(polled)?;
            let escaped = this.framing.escape(&buf.filled()[before..]);
            if this.framing.head_bytes == 0 {
                this.beginning.release();
            }
            if this.framing.place == Place::Unknown {
                this.is_last.store(true, Ordering::Relaxed);
            }
            let Some(escaped) = escaped else { return Poll::Ready(Ok(())) };
            buf.set_filled(before);
            this.rest = escaped;
        }
        let fits = this.rest.len().min(buf.remaining());
        buf.put_slice(&this.rest[..fits]);
        this.rest.drain(..fits);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for EscapedTargets<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(cx)
    }
}

/// Follows where requests begin and end. Stricter than hyper: what hyper may read otherwise is
/// [`Place::Unknown`].
#[derive(Default)]
struct Framing {
    place: Place,
    /// The beginning of the current line, of headers and chunks, without its end.
    line: Vec<u8>,
    /// Bytes of the current line without its end.
    line_bytes: usize,
    /// Bytes that have come of the current head, or of the trailer or size of a chunk.
    head_bytes: usize,
    /// The length of the body, if a header gives it.
    length: Option<u64>,
    is_chunked: bool,
}

/// The part of a request that the next byte belongs to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    /// A request's line.
    #[default]
    Request,
    /// A header's line.
    Header,
    /// The body, with the number of bytes left.
    Body(u64),
    /// The line with a chunk's size.
    ChunkSize,
    /// A chunk, with the number of bytes left, and its line end.
    Chunk(u64),
    /// The lines behind the last chunk.
    Trailer,
    /// Nobody knows.
    Unknown,
}

impl Framing {
    /// The bytes with each `#` of a request's line escaped; `None` where there is none.
    fn escape(&mut self, bytes: &[u8]) -> Option<Vec<u8>> {
        let mut escaped: Option<Vec<u8>> = None;
        let mut at = 0;
        while at < bytes.len() {
            let from = at;
            match self.place {
                Place::Body(left) | Place::Chunk(left) => {
                    let taken = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len() - at);
                    at += taken;
                    self.skip(left - taken as u64);
                }
                Place::Unknown => {
                    at = bytes.len();
                    self.head_bytes = (self.head_bytes + at - from).min(UNKNOWN_BYTES_MAX);
                }
                Place::Request => {
                    at += 1;
                    let byte = bytes[from];
                    if byte == b'#' {
                        escaped.get_or_insert_with(|| bytes[..from].to_vec()).extend_from_slice(b"%23");
                        self.line_bytes += 1;
                        self.head_bytes += 1;
                        continue;
                    }
                    self.take(byte);
                }
                Place::Header | Place::ChunkSize | Place::Trailer => {
                    at += 1;
                    self.take(bytes[from]);
                }
            }
            if let Some(escaped) = &mut escaped {
                escaped.extend_from_slice(&bytes[from..at]);
            }
        }
        escaped
    }

    /// `left` bytes are left of the body or the chunk.
    fn skip(&mut self, left: u64) {
        self.place = match (self.place, left) {
            (Place::Body(_), 0) => Place::Request,
            (Place::Body(_), left) => Place::Body(left),
            (_, 0) => Place::ChunkSize,
            (_, left) => Place::Chunk(left),
        };
    }

    /// Takes in a byte of a line.
    fn take(&mut self, byte: u8) {
        self.head_bytes += 1;
        if byte != b'\n' {
            if self.line.len() < LINE_BYTES_MAX && self.place != Place::Request {
                self.line.push(byte);
            }
            self.line_bytes += usize::from(byte != b'\r');
            return;
        }
        let is_empty = std::mem::take(&mut self.line_bytes) == 0;
        self.place = match (self.place, is_empty) {
            // Line ends before a request are passed over.
            (Place::Request, true) => Place::Request,
            (Place::Request, false) => {
                (self.length, self.is_chunked) = (None, false);
                Place::Header
            }
            (Place::Header, false) => self.header(),
            (Place::Header, true) => match (self.length, self.is_chunked) {
                (None | Some(0), false) => Place::Request,
                (Some(length), false) => Place::Body(length),
                (None, true) => Place::ChunkSize,
                (Some(_), true) => Place::Unknown,
            },
            (Place::ChunkSize, _) => self.chunk(),
            (Place::Trailer, false) => Place::Trailer,
            (Place::Trailer, true) => Place::Request,
            (place, _) => place,
        };
        if matches!(self.place, Place::Request | Place::Body(_) | Place::ChunkSize | Place::Chunk(_)) {
            self.head_bytes = 0;
        }
        self.line.clear();
    }

    /// Reads a header's line, and returns the place behind it.
    fn header(&mut self) -> Place {
        let Some(at) = self.line.iter().position(|byte| *byte == b':') else { return Place::Unknown };
        let (name, value) = (&self.line[..at], self.line[at + 1..].trim_ascii());
        let is_cut = self.line.len() == LINE_BYTES_MAX;
        if name.eq_ignore_ascii_case(b"content-length") {
            let digits =
                std::str::from_utf8(value).ok().filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
            let length = digits.and_then(|digits| digits.parse().ok()).filter(|_| !is_cut);
            if self.length.is_some() || length.is_none() {
                return Place::Unknown;
            }
            self.length = length;
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            if self.is_chunked || is_cut || !value.eq_ignore_ascii_case(b"chunked") {
                return Place::Unknown;
            }
            self.is_chunked = true;
        } else if name.is_empty() || name.iter().any(u8::is_ascii_whitespace) {
            return Place::Unknown;
        }
        Place::Header
    }

    /// Reads the line of a chunk's size, and returns the place behind it.
    fn chunk(&self) -> Place {
        let size = self.line.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
        let is_hex = !size.is_empty() && size.iter().all(u8::is_ascii_hexdigit);
        let is_cut = size.len() == LINE_BYTES_MAX;
        let size = std::str::from_utf8(size).ok().filter(|_| is_hex && !is_cut);
        match size.and_then(|size| u64::from_str_radix(size, 16).ok()) {
            Some(0) => Place::Trailer,
            // With the line end behind it.
            Some(size) if size < u64::MAX - 2 => Place::Chunk(size + 2),
            _ => Place::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Reads `bytes` in pieces of `piece`. Returns what hyper would read, and whether the framing was lost.
    fn read(bytes: &[u8], piece: usize) -> (String, bool) {
        let mut framing = Framing::default();
        let parts = bytes.chunks(piece).map(|part| framing.escape(part).unwrap_or_else(|| part.to_vec()));
        let read = parts.collect::<Vec<_>>().concat();
        (String::from_utf8(read).unwrap(), framing.place == Place::Unknown)
    }

    #[test]
    fn only_targets_are_escaped() {
        let chunked = "POST /p?t=d#ephemeral HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
        let sent = [
            "GET /p?t=a#ephemeral&c=b# HTTP/1.1\r\nX: #\r\n\r\n",
            "\r\nPOST /p?t=b#ephemeral HTTP/1.1\r\ncontent-length:5\r\n\r\n#\r\n\r#",
            "POST /p?t=c#ephemeral HTTP/1.1\nContent-Length: 0\n\n",
            chunked,
            "5;x=#\r\n#\r\n\r#\r\n00a\r\n##########\r\n0\r\nTrailer: #\r\n\r\n",
            chunked,
            "0\r\n\r\nGET /# HTTP/1.1\r\n\r\n",
        ]
        .concat();
        let mut want = sent.clone();
        for target in ["t=a", "t=b", "t=c", "t=d"] {
            want = want.replace(&format!("{target}#"), &format!("{target}%23"));
        }
        want = want.replace("c=b#", "c=b%23").replace("GET /#", "GET /%23");
        for piece in [1, 2, 3, 7, 10_000] {
            assert_eq!(read(sent.as_bytes(), piece), (want.clone(), false), "pieces of {piece}");
        }
    }

    #[test]
    fn what_may_be_read_in_two_ways_ends_the_connection() {
        for headers in [
            "Content-Length: 1\r\nContent-Length: 1",
            "Content-Length: 1\r\nTransfer-Encoding: chunked",
            "Content-Length: +1",
            "Content-Length: 1, 1",
            "Content-Length: 99999999999999999999",
            "Content-Length:",
            "Transfer-Encoding: gzip, chunked",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
            "Content-Length : 1",
            "X: 1\r\n Content-Length: 1",
            "no colon",
            "Transfer-Encoding: chunked\r\n\r\nx",
            "Transfer-Encoding: chunked\r\n\r\n",
            "Transfer-Encoding: chunked\r\n\r\n1ffffffffffffffff",
            "Transfer-Encoding: chunked\r\n\r\nfffffffffffffffe",
            &format!("Transfer-Encoding: chunked\r\n\r\n{}5", "0".repeat(LINE_BYTES_MAX)),
            &format!("Content-Length: {}5", "0".repeat(LINE_BYTES_MAX)),
        ] {
            let sent = format!("POST /p HTTP/1.1\r\n{headers}\r\n\r\nGET /#\r\n\r\n");
            assert_eq!(read(sent.as_bytes(), 10_000), (sent.clone(), true), "{headers}");
        }
    }

    #[test]
    fn bytes_of_a_head_count_until_it_is_whole() {
        let long = "x".repeat(1000);
        for (sent, bytes) in [
            (format!("GET /{long}"), 1005),
            (format!("GET / HTTP/1.1\r\nX: {long}\r\n"), 1021),
            (format!("GET / HTTP/1.1\r\nX: {long}\r\n\r\n"), 0),
            (format!("GET / HTTP/1.1\r\n\r\n\r\nGET /{long}"), 1005),
            (format!("POST / HTTP/1.1\r\nContent-Length: 2000\r\n\r\n{long}"), 0),
            (format!("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n800\r\n{long}"), 0),
            (format!("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: {long}"), 1006),
            (format!("GET / HTTP/1.1\r\nno colon\r\n{long}"), 1026),
            (format!("GET / HTTP/1.1\r\nno colon\r\n{}", long.repeat(100)), UNKNOWN_BYTES_MAX),
        ] {
            let mut framing = Framing::default();
            framing.escape(sent.as_bytes());
            assert_eq!(framing.head_bytes, bytes, "{sent:.60}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_in_any_pieces_lose_nothing(bytes in "[#a\r\n:0-9 ]{0,200}", piece in 1..50_usize) {
            let (read, _) = read(bytes.as_bytes(), piece);
            prop_assert_eq!(read.replace("%23", "#"), bytes);
        }
    }
}

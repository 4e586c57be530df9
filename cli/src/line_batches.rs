//! Cuts an endless input into batches of lines, in bounded memory.

use std::fmt;
use std::io::{self, Read};

use bytes::{Bytes, BytesMut};

/// Bytes asked of the input at a time, and so about the size of a batch: a pipe holds as much.
const READ_BYTES: usize = 64 << 10;

/// Batches of lines. A batch is what one read brought, so that lines never wait for more input to come.
pub(crate) struct LineBatches<R> {
    input: R,
    /// What was read and not handed on; after a batch, the beginning of a line.
    pending: BytesMut,
    /// Most bytes of a line, its end not counted.
    line_bytes_max: usize,
    lines_read: u64,
    ended: bool,
}

/// Why no more lines can be had.
#[derive(Debug)]
pub(crate) enum LineError {
    /// A line is longer than allowed.
    TooLong {
        /// Its number, from 1.
        line: u64,
        /// The limit.
        bytes_max: usize,
    },
    /// The input failed.
    Io(io::Error),
}

impl fmt::Display for LineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong { line, bytes_max } => {
                write!(f, "line {line} is longer than a message may be ({bytes_max} bytes)")
            }
            Self::Io(error) => write!(f, "stdin: {error}"),
        }
    }
}

impl<R: Read> LineBatches<R> {
    pub(crate) fn new(input: R, line_bytes_max: usize) -> Self {
        Self { input, pending: BytesMut::new(), line_bytes_max, lines_read: 0, ended: false }
    }

    /// The next lines, without their newlines and without empty ones; none at the end of the input. A last line needs
    /// no newline.
    ///
    /// # Errors
    /// The lines before the one that is too long come first.
    pub(crate) fn next_batch(&mut self) -> Result<Vec<Bytes>, LineError> {
        while !self.ended {
            let read_from = self.pending.len();
            self.read()?;
            let fresh = self.pending.get(read_from..).unwrap_or_default();
            let whole = match fresh.iter().rposition(|byte| *byte == b'\n') {
                Some(newline) => self.pending.split_to(read_from + newline + 1),
                None if self.ended => self.pending.split(),
                None if self.pending.len() > self.line_bytes_max => return Err(self.too_long()),
                None => continue,
            };
            let lines = self.cut(whole.freeze())?;
            if !lines.is_empty() {
                return Ok(lines);
            }
        }
        // The end, and what an error kept back.
        if self.pending.is_empty() { Ok(Vec::new()) } else { Err(self.too_long()) }
    }

    fn read(&mut self) -> Result<(), LineError> {
        let filled = self.pending.len();
        self.pending.resize(filled + READ_BYTES, 0);
        let read = loop {
            match self.input.read(self.pending.get_mut(filled..).unwrap_or_default()) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other,
            }
        };
        self.pending.truncate(filled + *read.as_ref().unwrap_or(&0));
        self.ended = read.map_err(LineError::Io)? == 0;
        Ok(())
    }

    fn cut(&mut self, whole: Bytes) -> Result<Vec<Bytes>, LineError> {
        let mut lines = Vec::new();
        let mut start = 0;
        for line in whole.split_inclusive(|byte| *byte == b'\n') {
            let body = line.strip_suffix(b"\n").unwrap_or(line);
            if body.len() > self.line_bytes_max {
                if lines.is_empty() {
                    return Err(self.too_long());
                }
                // Told by the next call, which finds something pending at the end.
                self.ended = true;
                self.pending = BytesMut::from(body);
                break;
            }
            self.lines_read += 1;
            if !body.is_empty() {
                lines.push(whole.slice(start..start + body.len()));
            }
            start += line.len();
        }
        Ok(lines)
    }

    fn too_long(&self) -> LineError {
        LineError::TooLong { line: self.lines_read + 1, bytes_max: self.line_bytes_max }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives its pieces one a read.
    struct Pieces(Vec<&'static [u8]>);

    impl Read for Pieces {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            let piece = if self.0.is_empty() { &[] } else { self.0.remove(0) };
            buf[..piece.len()].copy_from_slice(piece);
            Ok(piece.len())
        }
    }

    fn batches(pieces: &[&'static [u8]], max: usize) -> Result<Vec<Vec<Bytes>>, String> {
        let mut lines = LineBatches::new(Pieces(pieces.to_vec()), max);
        let mut batches = Vec::new();
        loop {
            match lines.next_batch().map_err(|e| format!("{batches:?} {e}"))? {
                batch if batch.is_empty() => return Ok(batches),
                batch => batches.push(batch),
            }
        }
    }

    #[test]
    fn a_read_is_a_batch_and_a_line_may_span_reads() {
        assert_eq!(
            batches(&[b"a\nb\nc", b"d\n", b"e\r\n"], 10).unwrap(),
            [vec!["a", "b"], vec!["cd"], vec!["e\r"]]
        );
    }

    #[test]
    fn empty_lines_are_skipped_and_the_last_needs_no_newline() {
        assert_eq!(batches(&[b"\n\na\n\n", b"\n", b"b"], 10).unwrap(), [vec!["a"], vec!["b"]]);
        assert!(batches(&[], 10).unwrap().is_empty());
        assert!(batches(&[b"\n\n"], 10).unwrap().is_empty());
    }

    #[test]
    fn a_line_over_the_limit_is_named_after_those_before_it() {
        assert_eq!(batches(&[b"abc\nabcd"], 4).unwrap(), [vec!["abc"], vec!["abcd"]]);
        for pieces in [&[&b"ok\n\nabcde\nx\n"[..]][..], &[b"ok\n\nab", b"cde"], &[b"ok\n\nabcd", b"e\n"]] {
            let error = batches(pieces, 4).unwrap_err();
            assert!(error.contains("ok") && error.contains("line 3 is longer"), "{error}");
        }
    }
}

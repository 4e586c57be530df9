//! Cuts an endless input into batches of lines, in bounded memory.

use std::io::{self, Read};

use bytes::{Bytes, BytesMut};

/// Bytes asked of the input at a time, and so about the size of a batch: a pipe holds as much.
const READ_BYTES: usize = 64 << 10;

/// Batches of lines. A batch is what one read brought, so that lines never wait for more input to come.
pub(crate) struct LineBatches<R> {
    input: R,
    /// The byte that ends a line.
    delimiter: u8,
    /// Bytes read and not handed on; after a batch, the beginning of a line.
    pending: BytesMut,
    /// Most bytes of a line, its end not counted.
    line_bytes_max: usize,
    lines_read: u64,
    /// Whether the input is in the middle of a line that is too long.
    is_skipping: bool,
    ended: bool,
}

/// Lines of the input that came together.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct LineBatch {
    /// The lines, without their newlines and without empty ones.
    pub(crate) lines: Vec<Bytes>,
    /// Numbers, from 1, of the lines that are longer than allowed, and left out.
    pub(crate) too_long: Vec<u64>,
    /// Empty lines, which are left out: a message has at least one byte.
    pub(crate) empty: u64,
}

impl<R: Read> LineBatches<R> {
    /// Lines that end with `delimiter`.
    pub(crate) fn new(input: R, delimiter: u8, line_bytes_max: usize) -> Self {
        let pending = BytesMut::new();
        Self { input, delimiter, pending, line_bytes_max, lines_read: 0, is_skipping: false, ended: false }
    }

    /// The next lines; `None` at the end of the input. A last line needs no newline.
    ///
    /// # Errors
    /// Errors of the input.
    pub(crate) fn next_batch(&mut self) -> io::Result<Option<LineBatch>> {
        let mut batch = LineBatch::default();
        while !self.ended && batch == LineBatch::default() {
            let read_from = self.pending.len();
            self.read()?;
            let fresh = self.pending.get(read_from..).unwrap_or_default();
            let whole = match fresh.iter().rposition(|byte| *byte == self.delimiter) {
                Some(newline) => self.pending.split_to(read_from + newline + 1),
                None if self.ended => self.pending.split(),
                None => BytesMut::new(),
            };
            self.cut(&whole.freeze(), &mut batch);
            // What is left begins a line.
            if self.is_skipping || self.pending.len() > self.line_bytes_max {
                self.pending.clear();
                self.skip(&mut batch);
            }
        }
        Ok((batch != LineBatch::default()).then_some(batch))
    }

    fn read(&mut self) -> io::Result<()> {
        let filled = self.pending.len();
        self.pending.resize(filled + READ_BYTES, 0);
        let read = loop {
            match self.input.read(self.pending.get_mut(filled..).unwrap_or_default()) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other,
            }
        };
        self.pending.truncate(filled + *read.as_ref().unwrap_or(&0));
        self.ended = read? == 0;
        Ok(())
    }

    /// Takes the lines of `whole`, all of which end in it.
    fn cut(&mut self, whole: &Bytes, batch: &mut LineBatch) {
        let mut start = 0;
        let delimiter = self.delimiter;
        for line in whole.split_inclusive(|byte| *byte == delimiter) {
            let body = line.strip_suffix(&[delimiter]).unwrap_or(line);
            if std::mem::take(&mut self.is_skipping) {
                // The end of a line that was counted when it became too long.
            } else if body.len() > self.line_bytes_max {
                self.skip(batch);
                self.is_skipping = false;
            } else {
                self.lines_read += 1;
                match body.is_empty() {
                    true => batch.empty += 1,
                    false => batch.lines.push(whole.slice(start..start + body.len())),
                }
            }
            start += line.len();
        }
    }

    /// Counts the line that is too long, once, and leaves out what is still to come of it.
    fn skip(&mut self, batch: &mut LineBatch) {
        if !std::mem::replace(&mut self.is_skipping, true) {
            self.lines_read += 1;
            batch.too_long.push(self.lines_read);
        }
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

    fn batches(pieces: &[&'static [u8]], max: usize) -> Vec<LineBatch> {
        let mut lines = LineBatches::new(Pieces(pieces.to_vec()), b'\n', max);
        std::iter::from_fn(|| lines.next_batch().unwrap()).collect()
    }

    fn lines(pieces: &[&'static [u8]], max: usize) -> Vec<Vec<Bytes>> {
        let batches = batches(pieces, max);
        assert!(batches.iter().all(|batch| batch.too_long.is_empty()), "{batches:?}");
        batches.into_iter().map(|batch| batch.lines).collect()
    }

    #[test]
    fn a_read_is_a_batch_and_a_line_may_span_reads() {
        assert_eq!(lines(&[b"a\nb\nc", b"d\n", b"e\r\n"], 10), [vec!["a", "b"], vec!["cd"], vec!["e\r"]]);
    }

    #[test]
    fn another_byte_may_end_a_line() {
        let mut lines = LineBatches::new(Pieces(vec![b"a\nb,,c,d"]), b',', 10);
        assert_eq!(lines.next_batch().unwrap().unwrap().lines, ["a\nb", "c"]);
        assert_eq!(lines.next_batch().unwrap().unwrap().lines, ["d"]);
    }

    #[test]
    fn empty_lines_are_skipped_and_counted_and_the_last_needs_no_newline() {
        let of = |pieces: &[&'static [u8]]| {
            let batches = batches(pieces, 10).into_iter();
            batches.map(|batch| (batch.lines, batch.empty)).collect::<Vec<_>>()
        };
        assert_eq!(
            of(&[b"\n\na\n\n", b"\n", b"b"]),
            [(vec!["a".into()], 3), (Vec::new(), 1), (vec!["b".into()], 0)]
        );
        assert_eq!(of(&[]), []);
        assert_eq!(of(&[b"\n\n"]), [(Vec::new(), 2)]);
    }

    #[test]
    fn a_line_over_the_limit_is_left_out_and_numbered_and_those_around_it_come() {
        assert_eq!(lines(&[b"abc\nabcd"], 4), [vec!["abc"], vec!["abcd"]]);
        let cases: [&[&'static [u8]]; 6] = [
            &[b"ok\n\nabcde\nx\n"],
            &[b"ok\n\nab", b"cde\nx\n"],
            &[b"ok\n\nabcd", b"e\nx"],
            &[b"ok\n\nabcde", b"abcde", b"abcde", b"\nx"],
            &[b"ok\n\nabcdefgh", b"\n", b"x"],
            &[b"ok\n\nabcde", b"f\nx\n"],
        ];
        for pieces in cases {
            let batches = batches(pieces, 4);
            let lines: Vec<_> = batches.iter().flat_map(|batch| &batch.lines).cloned().collect();
            let too_long: Vec<_> = batches.iter().flat_map(|batch| &batch.too_long).copied().collect();
            assert_eq!(lines, ["ok", "x"], "{pieces:?}");
            assert_eq!(too_long, [3], "{pieces:?}");
        }
    }

    #[test]
    fn a_last_line_over_the_limit_is_numbered_once() {
        for pieces in [&[&b"abcde"[..]][..], &[b"abcd", b"e"], &[b"abcde", b"fghij"]] {
            let too_long: Vec<_> = batches(pieces, 4).into_iter().flat_map(|batch| batch.too_long).collect();
            assert_eq!(too_long, [1], "{pieces:?}");
        }
    }

    #[test]
    fn an_endless_line_takes_no_memory() {
        struct Endless(usize);

        impl Read for Endless {
            fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
                if self.0 == 0 {
                    return Ok(0);
                }
                self.0 -= 1;
                buf.fill(b'x');
                Ok(buf.len())
            }
        }

        let mut lines = LineBatches::new(Endless(1000), b'\n', 4);
        assert_eq!(lines.next_batch().unwrap().unwrap().too_long, [1]);
        assert_eq!(lines.next_batch().unwrap(), None);
        assert!(lines.pending.capacity() <= 4 * READ_BYTES, "{}", lines.pending.capacity());
    }
}

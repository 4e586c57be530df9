//! Bytes of HTTP/2 frames that its implementation holds until they are whole.

/// Bytes of a frame's head: length, type, flags, stream.
const HEAD_BYTES: usize = 9;
const HEADERS: u8 = 1;
const PUSH_PROMISE: u8 = 5;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 4;

/// Counts the unfinished frames in a connection's input behind the preface.
#[derive(Debug, Default)]
pub(crate) struct FrameMeter {
    head: [u8; HEAD_BYTES],
    /// Bytes of the head that have come.
    head_bytes: usize,
    /// Bytes of the payload that have not.
    missing: usize,
    /// Bytes of the frame that have come.
    frame: usize,
    /// Bytes of the frames of a header block that has not ended.
    block: usize,
}

impl FrameMeter {
    /// Bytes of the frame, and of the block of headers, that have come and are not whole.
    pub(crate) fn held(&self) -> usize {
        self.frame + self.block
    }

    /// Counts the next bytes of the input.
    pub(crate) fn take(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.head_bytes < HEAD_BYTES {
                let (head, rest) = bytes.split_at(bytes.len().min(HEAD_BYTES - self.head_bytes));
                self.head[self.head_bytes..self.head_bytes + head.len()].copy_from_slice(head);
                self.head_bytes += head.len();
                self.frame += head.len();
                bytes = rest;
                if self.head_bytes < HEAD_BYTES {
                    return;
                }
                let [a, b, c, ..] = self.head;
                self.missing = u32::from_be_bytes([0, a, b, c]) as usize;
            }
            let (payload, rest) = bytes.split_at(bytes.len().min(self.missing));
            self.missing -= payload.len();
            self.frame += payload.len();
            bytes = rest;
            if self.missing == 0 {
                self.end();
            }
        }
    }

    /// The frame is whole.
    fn end(&mut self) {
        let (kind, flags) = (self.head[3], self.head[4]);
        self.block = match kind {
            HEADERS | PUSH_PROMISE | CONTINUATION if flags & END_HEADERS == 0 => self.block + self.frame,
            _ => 0,
        };
        (self.head_bytes, self.frame) = (0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, payload: usize) -> Vec<u8> {
        let [_, a, b, c] = (payload as u32).to_be_bytes();
        [&[a, b, c, kind, flags, 0, 0, 0, 1][..], &vec![0; payload]].concat()
    }

    #[test]
    fn incomplete_frames_and_blocks_are_held_whatever_the_pieces() {
        const DATA: u8 = 0;
        let cases: [(Vec<u8>, usize); 7] = [
            (frame(DATA, 0, 1000), 0),
            ([frame(DATA, 0, 1000), frame(DATA, 0, 500)[..200].to_vec()].concat(), 200),
            (frame(DATA, 0, 1000)[..5].to_vec(), 5),
            (frame(4, 0, 0), 0),
            (frame(HEADERS, 0, 300), 309),
            ([frame(HEADERS, 0, 300), frame(CONTINUATION, 0, 100)].concat(), 418),
            ([frame(HEADERS, 0, 300), frame(CONTINUATION, END_HEADERS, 100)].concat(), 0),
        ];
        for (bytes, held) in cases {
            for piece in [1, 2, 8, 10, 5000] {
                let mut meter = FrameMeter::default();
                bytes.chunks(piece).for_each(|piece| meter.take(piece));
                assert_eq!(meter.held(), held, "pieces of {piece}");
            }
        }
    }
}

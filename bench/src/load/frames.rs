//! The frames a server sends, or its answers over HTTP, scanned where they were read to.

use std::io::{self, Read};

use mq_nsq::wire::frame::{self, Frame, HEARTBEAT, OK, OK_FRAME};

use super::http;

/// Bytes that were read and not yet looked at.
pub(crate) struct Frames {
    /// A buffer as long as its capacity; `start..end` is filled.
    buf: Vec<u8>,
    start: usize,
    end: usize,
}

/// Counts of the answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Answers {
    pub(crate) oks: u64,
    pub(crate) heartbeats: u64,
}

impl Frames {
    pub(crate) fn new(bytes: usize) -> Self {
        Self { buf: vec![0; bytes], start: 0, end: 0 }
    }

    /// Makes room for `bytes` at once.
    pub(crate) fn reserve(&mut self, bytes: usize) {
        self.buf.resize(self.buf.len().max(bytes), 0);
    }

    /// Reads once; the buffer grows where a frame is larger.
    pub(crate) fn fill(&mut self, source: &mut impl Read) -> io::Result<usize> {
        if self.start > 0 {
            self.buf.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if self.end == self.buf.len() {
            let bytes = (self.buf.len() * 2).min(2 * frame::FRAME_BYTES_MAX);
            self.buf.resize(bytes, 0);
        }
        let read = source.read(self.buf.get_mut(self.end..).unwrap_or_default())?;
        self.end += read;
        Ok(read)
    }

    /// Takes the bytes that were read and not decoded: from here on they belong to another layer.
    pub(crate) fn take_rest(&mut self) -> Vec<u8> {
        let rest = self.buf.get(self.start..self.end).unwrap_or_default().to_vec();
        (self.start, self.end) = (0, 0);
        rest
    }

    /// Takes all whole answers to requests over HTTP: how many.
    ///
    /// # Errors
    /// The server's complaint, or an answer that is none.
    pub(crate) fn http_answers(&mut self) -> Result<u64, String> {
        let mut answers = 0;
        while let Some(bytes) = http::answer(self.buf.get(self.start..self.end).unwrap_or_default())? {
            self.start += bytes;
            answers += 1;
        }
        Ok(answers)
    }

    /// The next whole frame.
    pub(crate) fn next_frame(&mut self) -> Result<Option<Frame<'_>>, String> {
        match frame::decode(self.buf.get(self.start..self.end).unwrap_or_default()) {
            Ok(Ok((frame, bytes))) => {
                self.start += bytes;
                Ok(Some(frame))
            }
            Ok(Err(_)) => Ok(None),
            Err(error) => Err(format!("the server's answer is no frame: {error}")),
        }
    }

    /// Takes all whole frames of one who only publishes.
    ///
    /// # Errors
    /// The text of an error frame, or what is no answer.
    pub(crate) fn answers(&mut self) -> Result<Answers, String> {
        let mut answers = Answers::default();
        loop {
            let filled = self.buf.get(self.start..self.end).unwrap_or_default();
            let oks = filled.chunks_exact(OK_FRAME.len()).take_while(|chunk| **chunk == OK_FRAME).count();
            answers.oks += oks as u64;
            self.start += oks * OK_FRAME.len();
            match self.next_frame()? {
                None => return Ok(answers),
                Some(Frame::Response(OK)) => answers.oks += 1,
                Some(Frame::Response(HEARTBEAT)) => answers.heartbeats += 1,
                Some(Frame::Response(other)) => {
                    return Err(format!("unexpected answer {:?}", String::from_utf8_lossy(other)));
                }
                Some(Frame::Error(text)) => return Err(String::from_utf8_lossy(text).into_owned()),
                Some(Frame::Message(_)) => return Err("a message nobody asked for".to_owned()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use mq_nsq::wire::frame::put_response;

    use super::*;

    #[test]
    fn answers_are_counted_wherever_reads_cut_them() {
        let mut bytes = OK_FRAME.repeat(3);
        put_response(&mut bytes, HEARTBEAT);
        bytes.extend(OK_FRAME.repeat(2));
        for cut in 0..bytes.len() {
            let mut frames = Frames::new(4);
            let mut sum = Answers::default();
            for mut part in [&bytes[..cut], &bytes[cut..]] {
                while !part.is_empty() {
                    frames.fill(&mut part).unwrap();
                    let answers = frames.answers().unwrap();
                    sum.oks += answers.oks;
                    sum.heartbeats += answers.heartbeats;
                }
            }
            assert_eq!(sum, Answers { oks: 5, heartbeats: 1 }, "{cut}");
        }
    }

    #[test]
    fn an_error_is_told_in_the_servers_words() {
        let mut bytes = Vec::new();
        let error = mq_nsq::wire::WireError::new(mq_nsq::wire::Code::BadTopic, "no");
        frame::put_error(&mut bytes, &error);
        let mut frames = Frames::new(64);
        frames.fill(&mut &bytes[..]).unwrap();
        assert_eq!(frames.answers().unwrap_err(), "E_BAD_TOPIC no");
    }
}

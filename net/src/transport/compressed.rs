//! A compressed stream over another one.

use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::BufMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::task::coop::poll_proceed;

use super::{deflate, snappy};

/// Compressed bytes that one read takes in.
const READ_BYTES: usize = 16 * 1024;

/// Bytes decompressed at a time. A reader's room is zeroed before the decoder gets it: all the room of a
/// message of 45 MB, once for each read, would be 60 GB.
const DECODE_BYTES: usize = 32 * 1024;

/// Reads that hold nothing, as deflate's empty blocks do, before others get their turn: a millisecond's work.
const EMPTY_READS_MAX: usize = 4;

/// Bytes compressed at a time; with half as much not written, no more is taken.
const WRITE_BYTES: usize = 64 * 1024;

/// Compression of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Snappy's framing format.
    Snappy,
    /// Raw DEFLATE of this level, 1 to 9.
    Deflate(u8),
}

/// Compresses what is written, decompresses what is read. What was written goes out with the next flush.
///
/// It is decompressed only into the room that a reader has, so that no input becomes more memory than that.
#[derive(Debug)]
pub struct Compressed<S> {
    inner: S,
    codec: Codec,
    /// Read and not decompressed.
    raw: Vec<u8>,
    raw_at: usize,
    /// Whether the decoder may have more without further input.
    more: bool,
    /// Compressed and not written.
    out: Vec<u8>,
    out_at: usize,
}

#[derive(Debug)]
enum Codec {
    Snappy(snappy::Encoder, snappy::Decoder),
    Deflate(Box<(deflate::Encoder, deflate::Decoder)>),
}

impl Codec {
    fn encode(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
        match self {
            Self::Snappy(encoder, _) => encoder.encode(bytes, out),
            Self::Deflate(codec) => codec.0.encode(bytes, out).map_err(io::Error::other)?,
        }
        Ok(())
    }

    fn flush(&mut self, out: &mut Vec<u8>) -> io::Result<()> {
        match self {
            Self::Snappy(..) => Ok(()),
            Self::Deflate(codec) => codec.0.flush(out).map_err(io::Error::other),
        }
    }

    /// Ends the stream; once more changes nothing.
    fn finish(&mut self, out: &mut Vec<u8>) -> io::Result<()> {
        match self {
            Self::Snappy(..) => Ok(()),
            Self::Deflate(codec) => codec.0.finish(out).map_err(io::Error::other),
        }
    }

    fn decode(&mut self, input: &[u8], output: &mut [u8]) -> io::Result<(usize, usize)> {
        match self {
            Self::Snappy(_, decoder) => decoder.decode(input, output).map_err(invalid),
            Self::Deflate(codec) => codec.1.decode(input, output).map_err(invalid),
        }
    }

    fn ended(&self) -> bool {
        matches!(self, Self::Deflate(codec) if codec.1.ended())
    }
}

fn invalid(error: impl std::error::Error + Send + Sync + 'static) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

impl<S> Compressed<S> {
    /// `raw` is what was read of the compressed stream already.
    pub(crate) fn new(inner: S, compression: Compression, raw: Vec<u8>) -> Self {
        let codec = match compression {
            Compression::Snappy => Codec::Snappy(snappy::Encoder::default(), snappy::Decoder::default()),
            Compression::Deflate(level) => {
                Codec::Deflate(Box::new((deflate::Encoder::new(level), deflate::Decoder::default())))
            }
        };
        Self { inner, codec, raw, raw_at: 0, more: false, out: Vec::new(), out_at: 0 }
    }
}

impl<S> Compressed<S> {
    /// The stream below.
    pub(crate) fn inner(&self) -> &S {
        &self.inner
    }

    /// Bytes held in and out, beside what the codec always takes.
    pub(crate) fn held(&self) -> usize {
        let decoding = match &self.codec {
            Codec::Snappy(_, decoder) => decoder.held(),
            Codec::Deflate(_) => 0,
        };
        self.raw.capacity() + self.out.capacity() + decoding
    }
}

impl<S: AsyncWrite + Unpin> Compressed<S> {
    /// Writes what is compressed.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.out_at < self.out.len() {
            match ready!(Pin::new(&mut self.inner).poll_write(cx, &self.out[self.out_at..]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                n => self.out_at += n,
            }
        }
        // An idle connection holds no buffer.
        self.out = Vec::new();
        self.out_at = 0;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Compressed<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let mut empty_reads = 0;
        loop {
            if this.codec.ended() || buf.remaining() == 0 {
                return Poll::Ready(Ok(()));
            }
            if this.more || this.raw_at < this.raw.len() {
                // A little input may hold a lot: others of this thread get their turn all the same.
                let turn = ready!(poll_proceed(cx));
                let room = buf.initialize_unfilled_to(buf.remaining().min(DECODE_BYTES));
                let (used, written) = this.codec.decode(&this.raw[this.raw_at..], room)?;
                turn.made_progress();
                this.more = written == room.len();
                this.raw_at += used;
                buf.advance(written);
                if written > 0 {
                    return Poll::Ready(Ok(()));
                }
                if used > 0 {
                    empty_reads += 1;
                    if empty_reads == EMPTY_READS_MAX {
                        cx.waker().wake_by_ref();
                        return Poll::Pending;
                    }
                    continue;
                }
            }
            this.raw.clear();
            this.raw_at = 0;
            let mut raw = (&mut this.raw).limit(READ_BYTES);
            if raw.get_ref().capacity() == 0 {
                raw.get_mut().reserve(READ_BYTES);
            }
            match pin!(this.inner.read_buf(&mut raw)).poll(cx)? {
                Poll::Ready(0) => return Poll::Ready(Ok(())),
                Poll::Ready(_) => {}
                Poll::Pending => {
                    this.raw = Vec::new();
                    return Poll::Pending;
                }
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Compressed<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.out.len() - this.out_at >= WRITE_BYTES / 2 {
            ready!(this.poll_drain(cx))?;
        }
        let n = buf.len().min(WRITE_BYTES);
        this.codec.encode(&buf[..n], &mut this.out)?;
        Poll::Ready(Ok(n))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.codec.flush(&mut this.out)?;
        ready!(this.poll_drain(cx))?;
        Pin::new(&mut this.inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        // There are clients that crash where a stream just stops.
        this.codec.finish(&mut this.out)?;
        ready!(this.poll_drain(cx))?;
        Pin::new(&mut this.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncWriteExt, duplex};

    const BOTH: [Compression; 2] = [Compression::Snappy, Compression::Deflate(9)];

    #[tokio::test]
    async fn what_is_written_is_read_through_a_narrow_pipe_and_idle_holds_nothing() {
        for compression in BOTH {
            let (near, far) = duplex(777);
            let mut near = Compressed::new(near, compression, Vec::new());
            let mut far = Compressed::new(far, compression, Vec::new());
            let bytes: Vec<u8> = (0..300_000_u32).flat_map(|i| i.wrapping_mul(i).to_le_bytes()).collect();
            let mut read = vec![0; bytes.len()];
            let write = async {
                for piece in bytes.chunks(99_999) {
                    near.write_all(piece).await.unwrap();
                    near.flush().await.unwrap();
                }
            };
            let (_, count) = tokio::join!(write, far.read_exact(&mut read));
            count.unwrap();
            assert!(read == bytes);
            assert_eq!((near.out.capacity(), far.raw_at), (0, far.raw.len()));

            near.write_all(b"the last").await.unwrap();
            near.shutdown().await.unwrap();
            assert_eq!(far.read(&mut read).await.unwrap(), 8);
            assert_eq!(far.read(&mut read).await.unwrap(), 0);
            assert_eq!(far.codec.ended(), compression != Compression::Snappy);
        }
    }

    #[tokio::test]
    async fn what_a_little_input_holds_comes_only_as_far_as_there_is_room() {
        for compression in BOTH {
            let (near, far) = duplex(1024 * 1024);
            let mut near = Compressed::new(near, compression, Vec::new());
            near.write_all(&vec![b'x'; 10_000_000]).await.unwrap();
            near.flush().await.unwrap();
            let mut far = Compressed::new(far, compression, Vec::new());
            let mut piece = [0; 100];
            for _ in 0..1000 {
                let n = far.read(&mut piece).await.unwrap();
                assert_eq!(piece[..n], [b'x'; 100][..n]);
                assert!(far.raw.capacity() <= 2 * READ_BYTES, "{}", far.raw.capacity());
            }
        }
    }

    #[tokio::test]
    async fn a_read_touches_little_more_of_a_large_room_than_it_fills() {
        for compression in BOTH {
            let (near, far) = duplex(1024 * 1024);
            let mut near = Compressed::new(near, compression, Vec::new());
            let bytes: Vec<u8> = (0..200_000_u32).flat_map(|i| i.wrapping_mul(i).to_le_bytes()).collect();
            near.write_all(&bytes).await.unwrap();
            near.flush().await.unwrap();
            let mut far = Compressed::new(far, compression, Vec::new());
            let (mut read, mut touched) = (0, 0);
            while read < bytes.len() {
                let mut room = vec![std::mem::MaybeUninit::uninit(); 10_000_000];
                let mut room = ReadBuf::uninit(&mut room);
                std::future::poll_fn(|cx| Pin::new(&mut far).poll_read(cx, &mut room)).await.unwrap();
                assert_eq!(room.filled(), &bytes[read..read + room.filled().len()]);
                (read, touched) = (read + room.filled().len(), touched + room.initialized().len());
            }
            assert!(touched < 8 * read, "{touched} bytes for {read}");
        }
    }

    #[tokio::test]
    async fn input_that_holds_nothing_leaves_others_their_turn() {
        // Stored blocks of no bytes.
        let blocks = [0, 0, 0, 0xff, 0xff].repeat(100 * READ_BYTES / 5);
        let mut reader = Compressed::new(&blocks[..], Compression::Deflate(6), Vec::new());
        let mut room = [0; 100];
        let mut room = ReadBuf::new(&mut room);
        // tokio's own budget would let it go on.
        let read = std::future::poll_fn(|cx| Poll::Ready(Pin::new(&mut reader).poll_read(cx, &mut room)));
        assert!(tokio::task::unconstrained(read).await.is_pending());
        let taken = blocks.len() - reader.inner.len();
        assert!((1..=EMPTY_READS_MAX * READ_BYTES).contains(&taken), "{taken} bytes in one turn");
    }

    #[tokio::test]
    async fn what_is_half_read_or_not_taken_is_held() {
        for compression in BOTH {
            let (near, far) = duplex(64 * 1024);
            let mut near = Compressed::new(near, compression, Vec::new());
            let bytes: Vec<u8> = (0..50_000_u32).flat_map(|i| i.wrapping_mul(i).to_le_bytes()).collect();
            let mut cx = Context::from_waker(std::task::Waker::noop());
            while pin!(near.write_all(&bytes)).poll(&mut cx).is_ready() {}
            assert!(near.held() >= WRITE_BYTES / 2, "{} bytes not taken", near.held());
            let mut far = Compressed::new(far, compression, Vec::new());
            assert_eq!(far.held(), 0);
            let mut piece = [0; 10];
            // Snappy's chunk is not whole: nothing comes of it yet.
            let _ = pin!(far.read(&mut piece)).poll(&mut cx);
            assert!(far.held() >= READ_BYTES / 2, "{} bytes half read", far.held());
        }
    }

    #[tokio::test]
    async fn an_idle_reader_holds_nothing() {
        for compression in BOTH {
            let (near, far) = duplex(1024);
            let mut near = Compressed::new(near, compression, Vec::new());
            let mut far = Compressed::new(far, compression, Vec::new());
            near.write_all(b"x").await.unwrap();
            near.flush().await.unwrap();
            let mut buf = [0; 10];
            assert_eq!(far.read(&mut buf).await.unwrap(), 1);
            let more = pin!(far.read(&mut buf)).poll(&mut Context::from_waker(std::task::Waker::noop()));
            assert!(more.is_pending());
            assert_eq!(far.raw.capacity(), 0);
        }
    }
}

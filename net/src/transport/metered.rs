//! A socket that counts what a layer above takes of it and nothing comes of yet.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::Socket;
use crate::budget::Beginning;

/// A socket below TLS.
#[derive(Debug)]
pub struct Metered {
    socket: Socket,
    /// Bytes that TLS took since it last gave any: of a handshake, or of a record that is not whole.
    taken: usize,
    /// `None` on a client's side.
    beginning: Option<Beginning>,
}

impl Metered {
    pub(super) fn new(socket: Socket, beginning: Option<Beginning>) -> Self {
        Self { socket, taken: 0, beginning }
    }

    pub(super) fn socket(&self) -> &Socket {
        &self.socket
    }

    pub(super) fn into_socket(self) -> Socket {
        self.socket
    }

    /// TLS gave what it had.
    pub(super) fn given(&mut self) {
        self.taken = 0;
        if let Some(beginning) = &mut self.beginning {
            beginning.release();
        }
    }
}

impl AsyncRead for Metered {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let polled = Pin::new(&mut this.socket).poll_read(cx, buf);
        this.taken += buf.filled().len() - before;
        if let (Poll::Pending, Some(beginning)) = (&polled, &mut this.beginning)
            && let Err(closed) = beginning.hold(this.taken, cx)
        {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::OutOfMemory, closed)));
        }
        polled
    }
}

impl AsyncWrite for Metered {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().socket).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().socket).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_shutdown(cx)
    }
}

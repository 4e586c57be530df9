//! What carries the protocol: TCP or a unix socket. Later TLS, snappy and deflate become further variants: whatever
//! reads and writes here needs only [`AsyncRead`] and [`AsyncWrite`].

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

/// Where a listener listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// An IP address and port.
    Tcp(SocketAddr),
    /// The path of a unix socket.
    Unix(PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => path.display().fmt(f),
        }
    }
}

/// Whether `address` is the path of a unix socket: it has a slash, or not the form `host:port`.
fn is_path(address: &str) -> bool {
    address.contains('/') || !address.contains(':')
}

/// A listening socket.
#[derive(Debug)]
pub(crate) enum Listener {
    Tcp(TcpListener),
    /// The path is removed when the listener is dropped.
    Unix(UnixListener, PathBuf),
}

impl Listener {
    /// Listens on `host:port` (no host: on all interfaces) or on the path of a unix socket, taking over one that
    /// nobody listens on any more.
    pub(crate) async fn bind(address: &str) -> io::Result<Self> {
        if is_path(address) {
            return Self::bind_path(Path::new(address)).await;
        }
        match address.strip_prefix(':') {
            Some(port) => match TcpListener::bind(format!("[::]:{port}")).await {
                Ok(listener) => Ok(Self::Tcp(listener)),
                Err(_) => Ok(Self::Tcp(TcpListener::bind(format!("0.0.0.0:{port}")).await?)),
            },
            None => Ok(Self::Tcp(TcpListener::bind(address).await?)),
        }
    }

    async fn bind_path(path: &Path) -> io::Result<Self> {
        let listener = match UnixListener::bind(path) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                match UnixStream::connect(path).await {
                    Err(refused) if refused.kind() == io::ErrorKind::ConnectionRefused => {
                        std::fs::remove_file(path)?;
                    }
                    _ => return Err(error),
                }
                UnixListener::bind(path)?
            }
            listener => listener?,
        };
        Ok(Self::Unix(listener, path.to_owned()))
    }

    pub(crate) fn local_addr(&self) -> io::Result<Address> {
        match self {
            Self::Tcp(listener) => listener.local_addr().map(Address::Tcp),
            Self::Unix(_, path) => Ok(Address::Unix(path.clone())),
        }
    }

    /// The next connection, and what to call its other end.
    pub(crate) async fn accept(&self) -> io::Result<(Transport, String)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                Ok((Transport::tcp(stream)?, peer.to_string()))
            }
            Self::Unix(listener, path) => {
                let (stream, _) = listener.accept().await?;
                Ok((Transport::Unix(stream), path.display().to_string()))
            }
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Self::Unix(_, path) = self {
            // It may be gone already; then there is nothing left to do.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// A connection.
#[derive(Debug)]
pub(crate) enum Transport {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Transport {
    /// Connects to `host:port` or the path of a unix socket.
    pub(crate) async fn connect(address: &str) -> io::Result<Self> {
        if is_path(address) {
            return Ok(Self::Unix(UnixStream::connect(address).await?));
        }
        let stream = match address.strip_prefix(':') {
            Some(port) => TcpStream::connect(format!("127.0.0.1:{port}")).await?,
            None => TcpStream::connect(address).await?,
        };
        Self::tcp(stream)
    }

    fn tcp(stream: TcpStream) -> io::Result<Self> {
        // Whole bursts are written at once: waiting for more to send gains nothing.
        stream.set_nodelay(true)?;
        Ok(Self::Tcp(stream))
    }
}

impl AsyncRead for Transport {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Transport {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Self::Unix(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_told_from_host_and_port() {
        for path in ["/tmp/mq.sock", "mq.sock", "./a:1", ""] {
            assert!(is_path(path), "{path}");
        }
        for address in ["127.0.0.1:0", ":4150", "[::1]:4150", "host:4150"] {
            assert!(!is_path(address), "{address}");
        }
    }
}

//! The bytes below a protocol: TCP or a unix socket, in it TLS if the client asks for it, in that snappy or
//! deflate.
//!
//! - [`tls`]: certificates, keys and policies of a server, and what a client trusts; `certificate`: the
//!   little that is read from certificates
//! - `metered`: what TLS holds of records that are not whole
//! - [`snappy`], [`deflate`]: bytes to bytes; [`Compression`]: a stream of them

mod certificate;
mod compressed;
pub mod deflate;
mod metered;
pub mod snappy;
pub mod tls;

pub use compressed::Compression;

use std::fmt;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UnixListener, UnixSocket, UnixStream, lookup_host};
use tokio_rustls::TlsStream;

use compressed::Compressed;
use metered::Metered;

/// Address of a listener.
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

/// Connections that may wait to be accepted; one more is tried again by its system only after a second. All
/// clients of a broker come back at once when it was restarted.
const BACKLOG: u32 = 4096;

/// A listening socket.
#[derive(Debug)]
pub enum Listener {
    /// A listener for TCP.
    Tcp(TcpListener),
    /// The socket's file is removed when the listener is dropped.
    Unix(UnixListener, SocketFile),
}

impl Listener {
    /// Listens on `host:port` (no host: on all interfaces) or on the path of a unix socket, taking over one
    /// that nobody listens on any more.
    ///
    /// # Errors
    /// If the address is none, or taken.
    pub async fn bind(address: &str) -> io::Result<Self> {
        if is_path(address) {
            return Self::bind_path(Path::new(address)).await;
        }
        let listener = match address.strip_prefix(':') {
            Some(port) => match listen(&format!("[::]:{port}")).await {
                Err(_) => listen(&format!("0.0.0.0:{port}")).await?,
                listener => listener?,
            },
            None => listen(address).await?,
        };
        Ok(Self::Tcp(listener))
    }

    async fn bind_path(path: &Path) -> io::Result<Self> {
        let bind = || {
            let socket = UnixSocket::new_stream()?;
            socket.bind(path)?;
            socket.listen(BACKLOG)
        };
        let listener = match bind() {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                // Connecting to a file is refused too, and a link is followed: only a socket may be replaced.
                let found = SocketFile::at(path)?;
                match UnixStream::connect(path).await {
                    Err(refused) if refused.kind() == io::ErrorKind::ConnectionRefused => found.remove()?,
                    _ => return Err(error),
                }
                bind()?
            }
            listener => listener?,
        };
        Ok(Self::Unix(listener, SocketFile::at(path)?))
    }

    /// The address it listens at.
    ///
    /// # Errors
    /// If the system does not say.
    pub fn local_addr(&self) -> io::Result<Address> {
        match self {
            Self::Tcp(listener) => listener.local_addr().map(Address::Tcp),
            Self::Unix(_, file) => Ok(Address::Unix(file.path.clone())),
        }
    }

    /// Removes the file of a unix socket. Connections that wait to be accepted go on waiting.
    pub fn unlink(&self) {
        if let Self::Unix(_, file) = self {
            // It may be gone already; then there is nothing left to do.
            let _ = file.remove();
        }
    }

    /// The next connection, and what to call its other end.
    ///
    /// # Errors
    /// Most often the process is out of file descriptors.
    pub async fn accept(&self) -> io::Result<(Transport, String)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                Ok((Transport::Plain(Socket::tcp(stream)?), peer.to_string()))
            }
            Self::Unix(listener, file) => {
                let (stream, _) = listener.accept().await?;
                Ok((Transport::Plain(Socket::Unix(stream)), file.path.display().to_string()))
            }
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.unlink();
    }
}

/// A socket in the file system: a path and which file stood there, so that no other is ever removed.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl SocketFile {
    /// The socket at `path`.
    ///
    /// # Errors
    /// If there is none, or anything else: a file, a folder, or a link, also one to a socket.
    fn at(path: &Path) -> io::Result<Self> {
        let found = path.symlink_metadata()?;
        if !found.file_type().is_socket() {
            let kind = match found.file_type() {
                kind if kind.is_symlink() => "a symbolic link",
                kind if kind.is_dir() => "a folder",
                _ => "a file",
            };
            let text = format!("{kind} is there, not a socket: it is left as it is, choose another path");
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, text));
        }
        Ok(Self { path: path.to_owned(), device: found.dev(), inode: found.ino() })
    }

    /// Removes it, if it is still what stands at its path.
    fn remove(&self) -> io::Result<()> {
        let found = Self::at(&self.path)?;
        if (found.device, found.inode) == (self.device, self.inode) {
            std::fs::remove_file(&self.path)?;
        }
        Ok(())
    }
}

/// Listens on the first address of `host:port` that can be listened on.
async fn listen(address: &str) -> io::Result<TcpListener> {
    let mut failed = io::Error::new(io::ErrorKind::InvalidInput, "the host has no address");
    for address in lookup_host(address).await? {
        let listening = || {
            let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
            // Connections of a process that ran before may still hold the port.
            socket.set_reuseaddr(cfg!(unix))?;
            socket.bind(address)?;
            socket.listen(BACKLOG)
        };
        match listening() {
            Ok(listener) => return Ok(listener),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

/// Most bytes that TLS takes to be sent before the socket has taken any: rustls's own limit.
const TLS_UNSENT_BYTES: usize = 64 * 1024;

/// A socket.
#[derive(Debug)]
pub enum Socket {
    /// A connection by TCP.
    Tcp(TcpStream),
    /// A connection by a unix socket.
    Unix(UnixStream),
}

impl Socket {
    fn tcp(stream: TcpStream) -> io::Result<Self> {
        // Whole bursts are written at once: waiting for more to send gains nothing.
        stream.set_nodelay(true)?;
        Ok(Self::Tcp(stream))
    }
}

/// A connection: a socket and what is stacked on it.
#[derive(Debug)]
pub enum Transport {
    /// The socket itself, with no layer on it.
    Plain(Socket),
    /// TLS.
    Tls(Box<TlsStream<Metered>>),
    /// Compression.
    Compressed(Box<Compressed<Self>>),
    /// No stream: another layer is being put on, or that failed.
    Gone,
}

impl Transport {
    /// The time at which the certificate of the other end expires, or one that came with it, in seconds since
    /// 1970; `None` without TLS or a certificate.
    pub fn peer_certificate_expires(&self) -> Option<u64> {
        let Self::Tls(stream) = self else { return None };
        let chain = stream.get_ref().1.peer_certificates()?;
        chain.iter().filter_map(|der| certificate::expires(der)).min()
    }

    /// Connects to `host:port` or the path of a unix socket.
    ///
    /// # Errors
    /// If nobody answers there.
    pub async fn connect(address: &str) -> io::Result<Self> {
        Self::connect_from(None, address).await
    }

    /// The same from an address of this machine, which a unix socket has not.
    ///
    /// # Errors
    /// If nobody answers there, or `local` is no address of this machine or of another family.
    pub async fn connect_from(local: Option<SocketAddr>, address: &str) -> io::Result<Self> {
        if is_path(address) {
            return Ok(Self::Plain(Socket::Unix(UnixStream::connect(address).await?)));
        }
        let of_this_machine = address.strip_prefix(':').map(|port| format!("127.0.0.1:{port}"));
        let address = of_this_machine.as_deref().unwrap_or(address);
        let stream = match local {
            Some(local) => connect_bound(local, address).await?,
            None => TcpStream::connect(address).await?,
        };
        Ok(Self::Plain(Socket::tcp(stream)?))
    }

    /// Takes the transport and leaves [`Transport::Gone`].
    pub fn take(&mut self) -> Self {
        std::mem::replace(self, Self::Gone)
    }

    /// Compresses from here on; `read` is what was read of it already.
    pub fn compress(&mut self, compression: Compression, read: Vec<u8>) {
        *self = Self::Compressed(Box::new(Compressed::new(self.take(), compression, read)));
    }

    /// Whether the other end connected to a loopback address of this machine.
    pub fn is_on_loopback(&self) -> bool {
        let socket = match self {
            Self::Plain(socket) => socket,
            Self::Tls(stream) => stream.get_ref().0.socket(),
            Self::Compressed(_) | Self::Gone => return false,
        };
        match socket {
            Socket::Tcp(stream) => {
                stream.local_addr().is_ok_and(|address| address.ip().to_canonical().is_loopback())
            }
            Socket::Unix(_) => false,
        }
    }

    /// Bytes of the client's that layers hold, at most. The codec itself is not among them, nor what counts
    /// as a [`Beginning`](crate::budget::Beginning).
    pub fn held(&self) -> usize {
        match self {
            Self::Compressed(stream) => stream.held() + stream.inner().held(),
            Self::Tls(stream) if stream.get_ref().1.wants_write() => TLS_UNSENT_BYTES,
            Self::Plain(_) | Self::Tls(_) | Self::Gone => 0,
        }
    }

    /// Whether nothing is stacked on the socket.
    pub fn is_plain(&self) -> bool {
        matches!(self, Self::Plain(_))
    }

    /// Whether a layer compresses.
    pub fn is_compressed(&self) -> bool {
        matches!(self, Self::Compressed(_))
    }
}

fn gone() -> io::Error {
    io::ErrorKind::NotConnected.into()
}

impl AsyncRead for Transport {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_read(cx, buf),
            Self::Tls(stream) => match Pin::new(&mut *stream).poll_read(cx, buf) {
                // Most clients just close. Commands have lengths, so a cut can't be taken for an end.
                Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    Poll::Ready(Ok(()))
                }
                polled => {
                    if polled.is_ready() {
                        stream.get_mut().0.given();
                    }
                    polled
                }
            },
            Self::Compressed(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Gone => Poll::Ready(Err(gone())),
        }
    }
}

impl AsyncWrite for Transport {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_write(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Compressed(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Gone => Poll::Ready(Err(gone())),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_write_vectored(cx, bufs),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Self::Compressed(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Self::Gone => Poll::Ready(Err(gone())),
        }
    }

    fn is_write_vectored(&self) -> bool {
        matches!(self, Self::Plain(_) | Self::Tls(_))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(_) => Poll::Ready(Ok(())),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
            Self::Compressed(stream) => Pin::new(stream).poll_flush(cx),
            Self::Gone => Poll::Ready(Err(gone())),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Compressed(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Gone => Poll::Ready(Err(gone())),
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Self::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The system has what was written.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

/// Connects from `local` to the first address of `address` that answers.
async fn connect_bound(local: SocketAddr, address: &str) -> io::Result<TcpStream> {
    let mut failed = io::Error::other(format!("{address} has no address of the family of {local}"));
    for remote in lookup_host(address).await? {
        if remote.is_ipv4() != local.is_ipv4() {
            continue;
        }
        let socket = if local.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.bind(local)?;
        match socket.connect(remote).await {
            Ok(stream) => return Ok(stream),
            Err(error) => failed = error,
        }
    }
    Err(failed)
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

    #[tokio::test]
    async fn what_is_no_socket_is_never_replaced() {
        use std::os::unix::fs::symlink;
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("accounts.db"), "precious").unwrap();
        symlink(at("accounts.db"), at("link.db")).unwrap();
        symlink(at("nowhere"), at("dangling")).unwrap();
        std::fs::create_dir(at("folder")).unwrap();
        drop(std::os::unix::net::UnixListener::bind(at("stale")).unwrap());
        symlink(at("stale"), at("link.sock")).unwrap();
        for (name, kind) in [
            ("accounts.db", "a file"),
            ("link.db", "a symbolic link"),
            ("dangling", "a symbolic link"),
            ("link.sock", "a symbolic link"),
            ("folder", "a folder"),
        ] {
            let error = Listener::bind(at(name).to_str().unwrap()).await.unwrap_err();
            assert!(error.to_string().contains(kind), "{name}: {error}");
            assert!(at(name).symlink_metadata().is_ok(), "{name} is gone");
        }
        assert_eq!(std::fs::read_to_string(at("accounts.db")).unwrap(), "precious");
        assert!(at("stale").exists() && !at("nowhere").exists());
    }

    #[tokio::test]
    async fn a_socket_is_replaced_only_if_nobody_listens_and_removed_only_by_who_made_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mq.sock");
        let address = path.to_str().unwrap();
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let listener = Listener::bind(address).await.unwrap();
        let taken = Listener::bind(address).await.unwrap_err();
        assert_eq!(taken.kind(), io::ErrorKind::AddrInUse);
        drop(listener);
        assert!(!path.exists());
        // Somebody puts something else there while it listens.
        for other in ["file", "socket"] {
            let listener = Listener::bind(address).await.unwrap();
            std::fs::remove_file(&path).unwrap();
            let _socket = match other {
                "file" => std::fs::write(&path, "precious").map(|()| None).unwrap(),
                _ => Some(std::os::unix::net::UnixListener::bind(&path).unwrap()),
            };
            drop(listener);
            assert!(path.exists(), "the other {other} is gone");
            std::fs::remove_file(&path).unwrap();
        }
    }
}

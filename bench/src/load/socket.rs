//! The bytes to and from a server: a blocking socket, in it TLS, in that snappy.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use mq_net::transport::snappy::{CHUNK_BYTES, Decoder, Encoder, SnappyError};
use rustix::net::{RecvFlags, recv};
use rustls::ClientConnection;

use super::connection::{LOOK_EVERY, PATIENCE};

/// Compressed bytes read at a time.
const READ_BYTES: usize = 64 << 10;

/// A socket and what is stacked on it.
pub(crate) struct Socket {
    wire: Wire,
    tls: Option<Box<ClientConnection>>,
    snappy: Option<Box<Snappy>>,
}

enum Wire {
    Tcp(TcpStream),
    Unix(UnixStream),
}

struct Snappy {
    encoder: Encoder,
    encoded: Vec<u8>,
    decoder: Decoder,
    /// Bytes read, from `at` on not yet decoded.
    input: Vec<u8>,
    at: usize,
}

impl Socket {
    /// Connects to host:port, or to the path of a unix socket.
    pub(crate) fn connect(address: &str) -> io::Result<Self> {
        let wire = if address.contains('/') {
            let socket = UnixStream::connect(address)?;
            socket.set_read_timeout(Some(LOOK_EVERY))?;
            socket.set_write_timeout(Some(PATIENCE))?;
            Wire::Unix(socket)
        } else {
            let socket = TcpStream::connect(address)?;
            socket.set_nodelay(true)?;
            socket.set_read_timeout(Some(LOOK_EVERY))?;
            socket.set_write_timeout(Some(PATIENCE))?;
            Wire::Tcp(socket)
        };
        Ok(Self { wire, tls: None, snappy: None })
    }

    /// Encrypts from here on; hands are shaken by the first read.
    pub(crate) fn start_tls(&mut self, session: ClientConnection) {
        self.tls = Some(Box::new(session));
    }

    /// Compresses from here on; `read` is what was read of it already.
    pub(crate) fn start_snappy(&mut self, read: Vec<u8>) {
        let (encoder, decoder) = (Encoder::default(), Decoder::default());
        self.snappy = Some(Box::new(Snappy { encoder, encoded: Vec::new(), decoder, input: read, at: 0 }));
    }

    /// Reads what comes within [`LOOK_EVERY`].
    pub(crate) fn soon(&mut self) -> impl Read {
        Reading { socket: self, waits: true }
    }

    /// Reads only what is there.
    pub(crate) fn now(&mut self) -> impl Read {
        Reading { socket: self, waits: false }
    }

    pub(crate) fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Self { wire, tls, snappy } = self;
        let Some(snappy) = snappy else { return write(wire, tls.as_deref_mut(), bytes) };
        for part in bytes.chunks(CHUNK_BYTES) {
            snappy.encoded.clear();
            snappy.encoder.encode(part, &mut snappy.encoded);
            write(wire, tls.as_deref_mut(), &snappy.encoded)?;
        }
        Ok(())
    }
}

fn write(wire: &mut Wire, tls: Option<&mut ClientConnection>, mut bytes: &[u8]) -> io::Result<()> {
    let Some(session) = tls else { return wire.write_all(bytes) };
    while !bytes.is_empty() {
        // It takes as much as it has room for.
        let taken = session.writer().write(bytes)?;
        bytes = bytes.get(taken..).unwrap_or_default();
        write_tls(wire, session)?;
    }
    Ok(())
}

/// Writes all that is encrypted.
fn write_tls(wire: &mut Wire, session: &mut ClientConnection) -> io::Result<()> {
    while session.wants_write() {
        session.write_tls(wire)?;
    }
    Ok(())
}

/// A way of reading.
struct Reading<'a> {
    socket: &'a mut Socket,
    waits: bool,
}

impl Read for Reading<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let Socket { wire, tls, snappy } = &mut *self.socket;
        let mut decrypted =
            Decrypted { wire: WireReading { wire, waits: self.waits }, tls: tls.as_deref_mut() };
        match snappy {
            None => decrypted.read(buf),
            Some(snappy) => snappy.read(&mut decrypted, buf),
        }
    }
}

impl Snappy {
    fn read(&mut self, source: &mut impl Read, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            let encoded = self.input.get(self.at..).unwrap_or_default();
            let bad = |error: SnappyError| io::Error::new(io::ErrorKind::InvalidData, error);
            let (used, written) = self.decoder.decode(encoded, buf).map_err(bad)?;
            self.at += used;
            if written > 0 || buf.is_empty() {
                return Ok(written);
            }
            // All was used, or there would be something.
            self.input.resize(READ_BYTES, 0);
            let read = source.read(&mut self.input);
            self.input.truncate(*read.as_ref().unwrap_or(&0));
            self.at = 0;
            if read? == 0 {
                return Ok(0);
            }
        }
    }
}

/// A reader of the wire that takes off TLS, if there is any.
struct Decrypted<'a> {
    wire: WireReading<'a>,
    tls: Option<&'a mut ClientConnection>,
}

impl Read for Decrypted<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let Some(session) = &mut self.tls else { return self.wire.read(buf) };
        loop {
            match session.reader().read(buf) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return read,
            }
            write_tls(self.wire.wire, session)?;
            session.read_tls(&mut self.wire)?;
            if let Err(error) = session.process_new_packets() {
                // Sends the alert to the other end, if it still listens.
                let _ = write_tls(self.wire.wire, session);
                return Err(io::Error::new(io::ErrorKind::InvalidData, error));
            }
        }
    }
}

struct WireReading<'a> {
    wire: &'a mut Wire,
    waits: bool,
}

impl Read for WireReading<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let wire: &Wire = self.wire;
        let fd = match wire {
            Wire::Tcp(socket) if self.waits => return (&*socket).read(buf),
            Wire::Unix(socket) if self.waits => return (&*socket).read(buf),
            Wire::Tcp(socket) => socket.as_fd(),
            Wire::Unix(socket) => socket.as_fd(),
        };
        let (read, _) = recv(fd, buf, RecvFlags::DONTWAIT)?;
        Ok(read)
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(socket) => socket.write(bytes),
            Self::Unix(socket) => socket.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

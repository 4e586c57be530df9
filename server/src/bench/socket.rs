//! A blocking connection to a server: the load is cheapest with one thread each and no runtime.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use mq_nsq::wire::MAGIC;
use mq_nsq::wire::frame::{Frame, HEARTBEAT, OK};
use rustix::net::{RecvFlags, recv};

use super::frames::Frames;

/// How long a server may be silent while an answer is due.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// How often a thread that waits for bytes looks whether the others are done.
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Bytes read at a time by those who only get answers.
const READ_BYTES: usize = 4 << 10;

/// Where the server is, and what a connection asks of it.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// host:port, or the path of a unix socket.
    pub(crate) address: String,
    /// Bytes the server may hold back: 0 is its default, -1 nothing.
    pub(crate) output_buffer_size: i64,
    /// Milliseconds it may hold them: 0 is its default, -1 not at all.
    pub(crate) output_buffer_timeout: i64,
}

/// The bytes to and from a server.
pub(crate) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// A connection that has introduced itself.
pub(crate) struct Connection {
    pub(crate) socket: Socket,
    pub(crate) frames: Frames,
}

impl Target {
    /// Connects and negotiates.
    pub(crate) fn connect(&self) -> Result<Connection, String> {
        let named = |error: String| format!("{}: {error}", self.address);
        let socket = Socket::connect(&self.address).map_err(|e| {
            format!("{}: {e}: is a broker running there? `mq serve` starts one", self.address)
        })?;
        let mut connection = Connection { socket, frames: Frames::new(READ_BYTES) };
        let identify = serde_json::json!({
            "client_id": "mq-bench",
            "user_agent": concat!("mq-bench/", env!("CARGO_PKG_VERSION")),
            "feature_negotiation": true,
            "output_buffer_size": self.output_buffer_size,
            "output_buffer_timeout": self.output_buffer_timeout,
        })
        .to_string();
        let mut hello = [&MAGIC[..], b"IDENTIFY\n"].concat();
        hello.extend_from_slice(&u32::try_from(identify.len()).unwrap_or(u32::MAX).to_be_bytes());
        hello.extend_from_slice(identify.as_bytes());
        connection.send(&hello).map_err(named)?;
        connection.response().map_err(named)?;
        Ok(connection)
    }

    /// Connects and subscribes, without credit.
    pub(crate) fn subscribe(&self, topic: &str, channel: &str) -> Result<Connection, String> {
        let mut connection = self.connect()?;
        connection.send(format!("SUB {topic} {channel}\n").as_bytes())?;
        match connection.response()?.as_slice() {
            OK => Ok(connection),
            other => Err(format!("SUB {topic} {channel}: {}", String::from_utf8_lossy(other))),
        }
    }
}

impl Connection {
    pub(crate) fn send(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.socket.write_all(bytes).map_err(|error| lost(&error))
    }

    /// Waits for more bytes, at most [`LOOK_EVERY`]: false if none came.
    pub(crate) fn wait(&mut self) -> Result<bool, String> {
        match self.frames.fill(&mut self.socket) {
            Ok(0) => Err("the server closed the connection".to_owned()),
            Ok(_) => Ok(true),
            Err(error) if is_timeout(&error) => Ok(false),
            Err(error) => Err(lost(&error)),
        }
    }

    /// Takes in what has come, without waiting.
    pub(crate) fn poll(&mut self) -> Result<(), String> {
        let socket = &self.socket;
        let read = self.frames.fill(&mut Now(socket));
        match read {
            Ok(0) => Err("the server closed the connection".to_owned()),
            Ok(_) => Ok(()),
            Err(error) if is_timeout(&error) => Ok(()),
            Err(error) => Err(lost(&error)),
        }
    }

    /// Answers the heartbeats that have come.
    pub(crate) fn answer_heartbeats(&mut self) -> Result<(), String> {
        self.poll()?;
        if self.frames.answers()?.heartbeats > 0 {
            self.send(b"NOP\n")?;
        }
        Ok(())
    }

    /// Waits for a response; heartbeats are none.
    fn response(&mut self) -> Result<Vec<u8>, String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.frames.next_frame()? {
                Some(Frame::Response(data)) if data == HEARTBEAT => self.send(b"NOP\n")?,
                Some(Frame::Response(data)) => return Ok(data.to_vec()),
                Some(Frame::Error(text)) => return Err(String::from_utf8_lossy(text).into_owned()),
                Some(Frame::Message(_)) => return Err("a message before its time".to_owned()),
                None if Instant::now() > deadline => return Err(format!("no answer for {PATIENCE:?}")),
                None => {
                    self.wait()?;
                }
            }
        }
    }
}

fn lost(error: &io::Error) -> String {
    format!("connection lost: {error}")
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted)
}

impl Socket {
    /// A read waits at most [`LOOK_EVERY`].
    fn connect(address: &str) -> io::Result<Self> {
        if address.contains('/') {
            let socket = UnixStream::connect(address)?;
            socket.set_read_timeout(Some(LOOK_EVERY))?;
            socket.set_write_timeout(Some(PATIENCE))?;
            Ok(Self::Unix(socket))
        } else {
            let socket = TcpStream::connect(address)?;
            socket.set_nodelay(true)?;
            socket.set_read_timeout(Some(LOOK_EVERY))?;
            socket.set_write_timeout(Some(PATIENCE))?;
            Ok(Self::Tcp(socket))
        }
    }

    fn fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(socket) => socket.as_fd(),
            Self::Unix(socket) => socket.as_fd(),
        }
    }
}

impl Read for Socket {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(socket) => socket.read(buf),
            Self::Unix(socket) => socket.read(buf),
        }
    }
}

impl Write for Socket {
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

/// Reads only what is there.
struct Now<'a>(&'a Socket);

impl Read for Now<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let (read, _) = recv(self.0.fd(), buf, RecvFlags::DONTWAIT)?;
        Ok(read)
    }
}

//! A connection to a server: the load is cheapest with a thread for each, that blocks, and no runtime. It
//! writes prebuilt frames and scans answers, and is not the crate libmq: what a server takes is measured
//! here, and a client that encodes, matches answers and keeps credit would be the bound of every figure.

use std::io;
use std::time::{Duration, Instant};

use mq_net::secret::Secret;
use mq_net::transport::tls::ClientTls;
use mq_nsq::wire::MAGIC;
use mq_nsq::wire::frame::{Frame, HEARTBEAT, OK};
use serde_json::Value;

use super::frames::Frames;
use super::socket::Socket;

/// Longest silence of a server while an answer is due.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// Interval at which a thread that waits for bytes checks whether the others are done.
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Bytes read at a time by those who only get answers.
const READ_BYTES: usize = 4 << 10;

/// Address of the server, and the settings of connections to it.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// host:port, or the path of a unix socket.
    pub(crate) address: String,
    /// Bytes the server may hold back: 0 is its default, -1 nothing.
    pub(crate) output_buffer_size: i64,
    /// Milliseconds it may hold them: 0 is its default, -1 not at all.
    pub(crate) output_buffer_timeout: i64,
    /// Encrypts.
    pub(crate) tls: Option<ClientTls>,
    /// AUTH's secret, if the server asks for one.
    pub(crate) auth_secret: Option<Secret<Box<[u8]>>>,
    /// Compresses.
    pub(crate) snappy: bool,
    /// The address is one of HTTP, and nothing is asked of a connection.
    pub(crate) http: bool,
}

/// A connection that has introduced itself.
pub(crate) struct Connection {
    socket: Socket,
    pub(crate) frames: Frames,
    http: bool,
}

impl Target {
    /// Connects and negotiates.
    pub(crate) fn connect(&self) -> Result<Connection, String> {
        let named = |error: String| format!("{}: {error}", self.address);
        let socket = Socket::connect(&self.address).map_err(|e| {
            format!("{}: {e}: is a broker running there? `mq serve` starts one", self.address)
        })?;
        let mut connection = Connection { socket, frames: Frames::new(READ_BYTES), http: self.http };
        if self.http {
            if let Some(tls) = &self.tls {
                let session = tls.session(&self.address).map_err(|error| named(error.to_string()))?;
                connection.socket.start_tls(session);
            }
            return Ok(connection);
        }
        let identify = serde_json::json!({
            "client_id": "mq-bench",
            "user_agent": concat!("mq-bench/", env!("CARGO_PKG_VERSION")),
            "feature_negotiation": true,
            "output_buffer_size": self.output_buffer_size,
            "output_buffer_timeout": self.output_buffer_timeout,
            "tls_v1": self.tls.is_some(),
            "snappy": self.snappy,
        })
        .to_string();
        let mut hello = [&MAGIC[..], b"IDENTIFY\n"].concat();
        hello.extend_from_slice(&u32::try_from(identify.len()).unwrap_or(u32::MAX).to_be_bytes());
        hello.extend_from_slice(identify.as_bytes());
        connection.send(&hello).map_err(named)?;
        let reply = connection.response().map_err(named)?;
        self.upgrade(&mut connection, &reply).map_err(named)?;
        Ok(connection)
    }

    /// The header lines of a request.
    pub(crate) fn headers(&self) -> String {
        let token = self.auth_secret.as_ref().map(|secret| String::from_utf8_lossy(secret.expose()));
        let token = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
        format!("Host: {}\r\n{token}", self.address)
    }

    /// Switches on what was asked for, if the server's reply to IDENTIFY agrees.
    fn upgrade(&self, connection: &mut Connection, reply: &[u8]) -> Result<(), String> {
        let reply: Value = serde_json::from_slice(reply).unwrap_or_default();
        if let Some(tls) = &self.tls {
            if reply["tls_v1"] != true {
                return Err(
                    "the server has no TLS: `mq serve` has it with --tls-cert and --tls-key".to_owned()
                );
            }
            connection.socket.start_tls(tls.session(&self.address).map_err(|error| error.to_string())?);
            connection.ok("TLS")?;
        }
        if self.snappy {
            if reply["snappy"] != true {
                return Err("the server does not speak snappy".to_owned());
            }
            connection.socket.start_snappy(connection.frames.take_rest());
            connection.ok("snappy")?;
        }
        if let (Some(secret), true) = (&self.auth_secret, reply["auth_required"] == true) {
            let secret = secret.expose();
            let mut auth = b"AUTH\n".to_vec();
            auth.extend_from_slice(&u32::try_from(secret.len()).unwrap_or(u32::MAX).to_be_bytes());
            auth.extend_from_slice(secret);
            connection.send(&auth)?;
            // Who the client is taken for.
            connection.response()?;
        }
        Ok(())
    }

    /// Connects and subscribes, without credit.
    pub(crate) fn subscribe(&self, topic: &str, channel: &str) -> Result<Connection, String> {
        let mut connection = self.connect()?;
        connection.send(format!("SUB {topic} {channel}\n").as_bytes())?;
        connection.ok(&format!("SUB {topic} {channel}"))?;
        Ok(connection)
    }
}

impl Connection {
    pub(crate) fn send(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.socket.write_all(bytes).map_err(|error| lost(&error))
    }

    /// Waits for more bytes, at most [`LOOK_EVERY`]: false if none came.
    pub(crate) fn wait(&mut self) -> Result<bool, String> {
        match self.frames.fill(&mut self.socket.soon()) {
            Ok(0) => Err("the server closed the connection".to_owned()),
            Ok(_) => Ok(true),
            Err(error) if is_timeout(&error) => Ok(false),
            Err(error) => Err(lost(&error)),
        }
    }

    /// Takes in what has come, without waiting.
    pub(crate) fn poll(&mut self) -> Result<(), String> {
        match self.frames.fill(&mut self.socket.now()) {
            Ok(0) => Err("the server closed the connection".to_owned()),
            Ok(_) => Ok(()),
            Err(error) if is_timeout(&error) => Ok(()),
            Err(error) => Err(lost(&error)),
        }
    }

    /// Takes the answers that have come: how many publications they are for.
    ///
    /// # Errors
    /// The server's complaint.
    pub(crate) fn answers(&mut self) -> Result<u64, String> {
        if self.http {
            return self.frames.http_answers();
        }
        let answers = self.frames.answers()?;
        if answers.heartbeats > 0 {
            self.send(b"NOP\n")?;
        }
        Ok(answers.oks)
    }

    /// Answers the heartbeats that have come.
    pub(crate) fn answer_heartbeats(&mut self) -> Result<(), String> {
        self.poll()?;
        if self.frames.answers()?.heartbeats > 0 {
            self.send(b"NOP\n")?;
        }
        Ok(())
    }

    /// Waits for the OK to what was asked for.
    fn ok(&mut self, asked: &str) -> Result<(), String> {
        match self.response()?.as_slice() {
            OK => Ok(()),
            other => Err(format!("{asked}: {}", String::from_utf8_lossy(other))),
        }
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

//! The floor of a workload's cost: a server that keeps nothing, and one fdatasync for each record.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::time::Instant;

use clap::Parser;

/// Bytes of a read.
const READ_BYTES: usize = 256 << 10;
/// Messages encoded ahead.
const AHEAD: usize = 256;
/// Longer commands are refused.
const COMMAND_BYTES_MAX: usize = 256 << 20;

#[derive(Parser)]
#[command(name = "floor", about = "What a workload costs at least")]
enum Floor {
    /// A server of NSQ's protocol that parses and acknowledges, keeps nothing, and sends whoever subscribes
    /// as much as it has credit for; a thread for each connection
    Null {
        /// Bytes of the messages it sends
        #[arg(long, default_value_t = 200)]
        size: usize,
    },
    /// Writes records to a file, with an fdatasync after each, and prints how many a second
    Fdatasync {
        /// The file; overwritten
        file: PathBuf,
        /// Number of records
        #[arg(long, default_value_t = 10_000)]
        records: u64,
        /// Bytes of one
        #[arg(long, default_value_t = 200)]
        size: usize,
    },
}

fn main() -> io::Result<()> {
    match Floor::parse() {
        Floor::Null { size } => serve(size),
        Floor::Fdatasync { file, records, size } => {
            let mut file = File::create(file)?;
            let record = vec![b'x'; size];
            let began = Instant::now();
            for _ in 0..records {
                file.write_all(&record)?;
                file.sync_data()?;
            }
            println!("{}", records as f64 / began.elapsed().as_secs_f64());
            Ok(())
        }
    }
}

fn serve(size: usize) -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("tcp {}", listener.local_addr()?);
    for socket in listener.incoming() {
        let mut session = Session::new(socket?, size)?;
        std::thread::Builder::new().stack_size(128 << 10).spawn(move || {
            // A client that leaves is no matter.
            let _ = session.run();
        })?;
    }
    Ok(())
}

struct Session {
    socket: TcpStream,
    input: Vec<u8>,
    filled: usize,
    output: Vec<u8>,
    /// Message frames, one after the other.
    messages: Vec<u8>,
    message_bytes: usize,
    credit: u64,
    in_flight: u64,
}

impl Session {
    fn new(socket: TcpStream, size: usize) -> io::Result<Self> {
        socket.set_nodelay(true)?;
        let mut frame = Vec::new();
        frame.extend_from_slice(&u32::try_from(4 + 26 + size).unwrap_or(u32::MAX).to_be_bytes());
        frame.extend_from_slice(&2_u32.to_be_bytes());
        frame.extend_from_slice(&[0; 8]);
        frame.extend_from_slice(&1_u16.to_be_bytes());
        frame.extend_from_slice(b"0123456789abcdef");
        frame.resize(frame.len() + size, b'x');
        Ok(Self {
            socket,
            input: vec![0; READ_BYTES],
            filled: 0,
            output: Vec::new(),
            message_bytes: frame.len(),
            messages: frame.repeat(AHEAD),
            credit: 0,
            in_flight: 0,
        })
    }

    fn run(&mut self) -> io::Result<()> {
        let mut magic = [0; 4];
        self.socket.read_exact(&mut magic)?;
        loop {
            if self.filled == self.input.len() {
                if self.filled >= COMMAND_BYTES_MAX {
                    return Err(io::ErrorKind::InvalidData.into());
                }
                self.input.resize(self.filled * 2, 0);
            }
            let read = self.socket.read(&mut self.input[self.filled..])?;
            if read == 0 {
                return Ok(());
            }
            self.filled += read;
            let mut at = 0;
            while let Some(bytes) = self.command(at)? {
                at += bytes;
            }
            self.input.copy_within(at..self.filled, 0);
            self.filled -= at;
            self.deliver();
            if !self.output.is_empty() {
                self.socket.write_all(&self.output)?;
                self.output.clear();
            }
        }
    }

    /// Takes the command at `at` if it is whole: how long it was.
    fn command(&mut self, at: usize) -> io::Result<Option<usize>> {
        let input = &self.input[at..self.filled];
        // The commonest first: its length is known.
        if input.starts_with(b"FIN ") {
            if input.len() < 21 {
                return Ok(None);
            }
            self.in_flight = self.in_flight.saturating_sub(1);
            return Ok(Some(21));
        }
        let Some(end) = input.iter().position(|byte| *byte == b'\n') else { return Ok(None) };
        let (line, rest) = (&input[..end], &input[end + 1..]);
        let word = line.split(|byte| *byte == b' ').next().unwrap_or_default();
        let answer: &[u8] = match word {
            b"PUB" | b"MPUB" | b"IDENTIFY" => {
                let Some((size, body)) = rest.split_first_chunk() else { return Ok(None) };
                let size = u32::from_be_bytes(*size) as usize;
                let Some(body) = body.get(..size) else { return Ok(None) };
                if word == b"MPUB" {
                    walk(body)?;
                }
                put(&mut self.output, b"OK");
                return Ok(Some(end + 1 + 4 + size));
            }
            b"SUB" => b"OK",
            b"CLS" => {
                self.credit = 0;
                b"CLOSE_WAIT"
            }
            b"RDY" => {
                let digits = line.get(4..).and_then(|digits| std::str::from_utf8(digits).ok());
                self.credit = digits.and_then(|digits| digits.parse().ok()).unwrap_or(0);
                b""
            }
            b"NOP" => b"",
            _ => return Err(io::ErrorKind::InvalidData.into()),
        };
        if !answer.is_empty() {
            put(&mut self.output, answer);
        }
        Ok(Some(end + 1))
    }

    /// Sends as much as there is credit for.
    fn deliver(&mut self) {
        while self.in_flight < self.credit {
            let count = (self.credit - self.in_flight).min(AHEAD as u64);
            self.output.extend_from_slice(&self.messages[..count as usize * self.message_bytes]);
            self.in_flight += count;
        }
    }
}

/// Looks at each message of an MPUB.
fn walk(body: &[u8]) -> io::Result<()> {
    let bad = || io::Error::from(io::ErrorKind::InvalidData);
    let (count, mut rest) = body.split_first_chunk().ok_or_else(bad)?;
    for _ in 0..u32::from_be_bytes(*count) {
        let (size, messages) = rest.split_first_chunk().ok_or_else(bad)?;
        rest = messages.get(u32::from_be_bytes(*size) as usize..).ok_or_else(bad)?;
    }
    Ok(())
}

fn put(out: &mut Vec<u8>, answer: &[u8]) {
    out.extend_from_slice(&u32::try_from(4 + answer.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend_from_slice(&0_u32.to_be_bytes());
    out.extend_from_slice(answer);
}

//! The servers that are compared, each a fresh process on an empty folder.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// Longest wait for a server's address: a backlog may have to be read.
const START: Duration = Duration::from_secs(120);

/// A server of the comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Nsqd,
    Null,
    Memory,
    Flush,
    Sync,
}

/// Paths of the programs.
pub(super) struct Programs {
    pub(super) mq: PathBuf,
    pub(super) floor: PathBuf,
    pub(super) nsqd: Option<PathBuf>,
    /// The load by go-nsq.
    pub(super) go_load: Option<PathBuf>,
}

/// Options that a workload wants of its server.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ServerOptions {
    /// Messages that nsqd keeps in memory for a topic or channel; `None` is its own default.
    pub(super) mem_queue_size: Option<u64>,
    /// Memory of ours, as a size.
    pub(super) memory_limit: Option<&'static str>,
    /// Bytes of the messages that the null server sends.
    pub(super) message_bytes: Option<u64>,
    /// Has a certificate.
    pub(super) tls: bool,
}

/// A running server; killed when dropped.
pub(super) struct Server {
    process: Child,
    pub(super) address: String,
    pub(super) http: String,
    /// From its start until it said where it listens.
    pub(super) opened: Duration,
    /// The command that started it, without its folder.
    pub(super) command: String,
}

impl Kind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Nsqd => "nsqd",
            Self::Null => "null",
            Self::Memory => "memory",
            Self::Flush => "flush",
            Self::Sync => "sync",
        }
    }
}

impl Server {
    /// Starts it on `folder`, which exists, and waits until it listens. `None` where there is no such
    /// program.
    pub(super) fn start(
        programs: &Programs,
        kind: Kind,
        options: ServerOptions,
        folder: &Path,
    ) -> Result<Option<Self>, String> {
        let mut words = Vec::new();
        let program = match kind {
            Kind::Nsqd => {
                let Some(nsqd) = &programs.nsqd else { return Ok(None) };
                words.extend(["-tcp-address=127.0.0.1:0", "-http-address=127.0.0.1:0"].map(str::to_owned));
                words.push("-https-address=".to_owned());
                words.push("-broadcast-address=127.0.0.1".to_owned());
                words.extend(options.mem_queue_size.map(|size| format!("-mem-queue-size={size}")));
                nsqd
            }
            Kind::Null => {
                words.push("null".to_owned());
                words.extend(options.message_bytes.map(|bytes| format!("--size={bytes}")));
                &programs.floor
            }
            Kind::Memory | Kind::Flush | Kind::Sync => {
                words.push("serve".to_owned());
                words.extend(["--tcp-address=127.0.0.1:0", "--http-address=127.0.0.1:0"].map(str::to_owned));
                words.extend(["--https-address=", "--grpc-address="].map(str::to_owned));
                words.push(format!("--durability={}", kind.name()));
                words.extend(options.memory_limit.map(|size| format!("--memory-limit={size}")));
                &programs.mq
            }
        };
        let mut command = Command::new(program);
        if options.tls {
            words.extend(["--tls-cert=cert.pem", "--tls-key=key.pem"].map(str::to_owned));
            command.current_dir(certify(folder)?);
        }
        command.args(&words);
        if kind != Kind::Null {
            command.arg(format!("--data-path={}", folder.display()));
        }
        let name = program.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let began = Instant::now();
        let mut process = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("{}: {error}", program.display()))?;
        let (sender, receiver) = mpsc::channel();
        if let Some(stdout) = process.stdout.take() {
            listen(stdout, sender.clone());
        }
        if let Some(stderr) = process.stderr.take() {
            listen(stderr, sender);
        }
        let mut server = Self {
            process,
            address: String::new(),
            http: String::new(),
            opened: Duration::ZERO,
            command: format!("{name} {}", words.join(" ")),
        };
        let mut said = Vec::new();
        while server.address.is_empty() || (server.http.is_empty() && kind != Kind::Null) {
            let Ok(line) = receiver.recv_timeout(START) else {
                return Err(format!("{} does not start: {}", server.command, said.join("\n")));
            };
            let after = |mark: &str| line.split_once(mark).map(|(_, address)| address.to_owned());
            if let Some(address) =
                line.strip_prefix("tcp ").map(str::to_owned).or_else(|| after("TCP: listening on "))
            {
                (server.address, server.opened) = (address, began.elapsed());
            } else if let Some(address) =
                line.strip_prefix("http ").map(str::to_owned).or_else(|| after("HTTP: listening on "))
            {
                server.http = address;
            }
            said.push(line);
        }
        Ok(Some(server))
    }

    pub(super) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// `kill -9`, and waits until it is gone.
    pub(super) fn kill(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Sends on each line as it comes, to the end of the pipe: a process would stop at a full one.
fn listen(pipe: impl Read + Send + 'static, sender: mpsc::Sender<String>) {
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            let _ = sender.send(line);
        }
    });
}

/// Makes a certificate and its key in files beside `folder`: where they are.
fn certify(folder: &Path) -> Result<&Path, String> {
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()])
        .map_err(|error| format!("certificate: {error}"))?;
    let beside = folder.parent().unwrap_or(folder);
    for (name, pem) in [("cert.pem", made.cert.pem()), ("key.pem", made.signing_key.serialize_pem())] {
        fs::write(beside.join(name), pem).map_err(|error| format!("{name}: {error}"))?;
    }
    Ok(beside)
}

/// An empty folder of that path.
pub(super) fn empty(folder: &Path) -> Result<(), String> {
    let named = |error| format!("{}: {error}", folder.display());
    if folder.exists() {
        fs::remove_dir_all(folder).map_err(named)?;
    }
    fs::create_dir_all(folder).map_err(named)
}

//! Lines that a ready server prints on stdout: its addresses, its folder, and two lines to paste.

use std::path::{Path, PathBuf};
use std::time::Duration;

use mq_nsq::lookupd::Lookupd;

use crate::VERSION;
use crate::config::InvokedAs;
use crate::log::detached_writer::DetachedWriter;

/// Address `mq pub` and `mq tail` use unless another is given.
pub const DEFAULT_ADDRESS: &str = "127.0.0.1:4150";

/// Longest wait for the lines to be printed before the process ends.
const LAST_LINES: Duration = Duration::from_millis(200);

/// Addresses a broker listens on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// NSQ's protocol over TCP: `host:port`, or the path of a unix socket.
    pub tcp: String,
    /// HTTP.
    pub http: Option<String>,
    /// HTTP over TLS.
    pub https: Option<String>,
    /// gRPC.
    pub grpc: Option<String>,
    /// The admin page's own port.
    pub admin: Option<String>,
}

/// The lines on stdout. Nobody may read there: that delays nothing, and a server serves all the same.
pub(crate) struct Banner(DetachedWriter);

impl Banner {
    pub(crate) fn start() -> Self {
        Self(DetachedWriter::start(std::io::stdout(), |_| {}))
    }

    /// Prints the lines of a broker. `tcp `, `http `, `https ` and `grpc ` stand before the addresses, also
    /// for programs that started the broker on port 0 and wait for it; `ready ` comes when all of them were
    /// written.
    pub(crate) fn broker(&self, addresses: &Addresses, data_path: &Path) {
        let data_path = data_path.canonicalize().unwrap_or_else(|_| data_path.to_owned());
        self.0.write(broker_lines(addresses, &data_path).as_bytes());
    }

    /// Prints the addresses of a lookup server, each line beginning with `prefix`.
    pub(crate) fn lookup(&self, server: &Lookupd, prefix: &str) {
        let (tcp, http) = (server.tcp_address(), server.http_address());
        self.0.write(format!("{prefix}tcp {tcp}\n{prefix}http {http}\n").as_bytes());
    }

    /// Prints the address of a lookup server's gRPC.
    pub(crate) fn lookup_grpc(&self, server: &mq_grpc::Server) {
        self.0.write(format!("grpc {}\n", server.local_addr()).as_bytes());
    }

    /// Prints the address of an admin page's own port.
    pub(crate) fn admin_port(&self, address: &str) {
        self.0.write(format!("admin {address}\n").as_bytes());
    }

    /// Prints the lines of an admin page that is a process of its own.
    pub(crate) fn admin(&self, http: &str) {
        self.0.write(format!("http {http}\nready mq {VERSION}\n").as_bytes());
    }

    /// Prints that a lookup server is ready.
    pub(crate) fn lookup_ready(&self) {
        self.0.write(format!("ready mq {VERSION}\n").as_bytes());
    }
}

impl Drop for Banner {
    fn drop(&mut self) {
        self.0.flush(LAST_LINES);
    }
}

impl Addresses {
    /// Writes the log's line of a start that is over; under nsqd's name, nsqd's lines, which its clients'
    /// tests wait for.
    pub(crate) fn log(&self, invoked_as: InvokedAs) {
        if invoked_as == InvokedAs::Nsqd {
            let named =
                [("TCP", Some(&self.tcp)), ("HTTP", self.http.as_ref()), ("HTTPS", self.https.as_ref())];
            for (name, address) in named {
                if let Some(address) = address {
                    tracing::info!("{name}: listening on {address}");
                }
            }
        }
        let or_none = |address: &Option<String>| address.clone().unwrap_or_else(|| "none".to_owned());
        tracing::info!(
            tcp = self.tcp,
            http = or_none(&self.http),
            https = or_none(&self.https),
            grpc = or_none(&self.grpc),
            "ready"
        );
    }
}

fn broker_lines(addresses: &Addresses, data_path: &Path) -> String {
    let address = &addresses.tcp;
    let mq = command_name();
    let reachable = reachable(address);
    let to = if reachable == DEFAULT_ADDRESS {
        String::new()
    } else {
        format!(" --tcp-address {}", shell_word(&reachable))
    };
    let mut lines = vec![format!("tcp {address}")];
    let named = [
        ("http", &addresses.http),
        ("https", &addresses.https),
        ("grpc", &addresses.grpc),
        ("admin", &addresses.admin),
    ];
    for (name, address) in named {
        lines.extend(address.as_ref().map(|address| format!("{name} {address}")));
    }
    lines.push(format!("data {}", data_path.display()));
    lines.push(format!("ready mq {VERSION}"));
    lines.push(format!("echo hello | {mq} pub --topic greetings{to}"));
    lines.push(format!("{mq} tail --topic greetings{to}\n"));
    lines.join("\n")
}

/// The word by which a shell in the current folder calls this program.
fn command_name() -> String {
    let Ok(exe) = std::env::current_exe() else { return "mq".to_owned() };
    // Inside another program: Python's, Node's.
    let is_ours =
        |name: &std::ffi::OsStr| ["mq", "nsqd", "nsqlookupd", "nsqadmin"].iter().any(|ours| name == *ours);
    if !exe.file_name().is_some_and(is_ours) {
        return "mq".to_owned();
    }
    let found = std::env::var_os("PATH").and_then(|path| {
        let name = exe.file_name()?;
        let first =
            std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file())?;
        (first.canonicalize().ok()? == exe.canonicalize().ok()?).then(|| PathBuf::from(name))
    });
    let relative = || {
        let here = std::env::current_dir().ok()?;
        let below = exe.strip_prefix(here).ok()?;
        // A bare file name would be looked up in PATH.
        Some(if below.components().count() > 1 { below.to_owned() } else { Path::new(".").join(below) })
    };
    let path = found.or_else(relative).unwrap_or(exe);
    shell_word(&path.to_string_lossy())
}

/// The address as a client on this machine reaches it: not the wildcard.
fn reachable(address: &str) -> String {
    match address.parse::<std::net::SocketAddr>() {
        Ok(socket) if socket.ip().is_unspecified() => {
            let host = if socket.is_ipv4() { "127.0.0.1" } else { "[::1]" };
            format!("{host}:{}", socket.port())
        }
        _ => address.to_owned(),
    }
}

/// `text` as one word of a shell.
pub fn shell_word(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"_-./:@%+=,".contains(&b);
    if !text.is_empty() && text.bytes().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wildcard_is_reached_on_loopback() {
        assert_eq!(reachable("0.0.0.0:4150"), "127.0.0.1:4150");
        assert_eq!(reachable("[::]:1"), "[::1]:1");
        assert_eq!(reachable("10.0.0.1:1"), "10.0.0.1:1");
        assert_eq!(reachable("/run/mq.sock"), "/run/mq.sock");
    }

    #[test]
    fn words_are_quoted_when_a_shell_would_read_more_into_them() {
        assert_eq!(shell_word("target/release/mq"), "target/release/mq");
        assert_eq!(shell_word("my mq"), "'my mq'");
        assert_eq!(shell_word("it's"), r"'it'\''s'");
        assert_eq!(shell_word("[::1]:4150"), "'[::1]:4150'");
    }

    #[test]
    fn the_default_address_needs_no_flag() {
        let tcp =
            |tcp: &str| Addresses { tcp: tcp.to_owned(), http: None, https: None, grpc: None, admin: None };
        let text = broker_lines(&tcp(DEFAULT_ADDRESS), Path::new("mq-data"));
        let lines: Vec<_> = text.lines().collect();
        let ready = concat!("ready mq ", env!("CARGO_PKG_VERSION"));
        assert_eq!(lines[..3], ["tcp 127.0.0.1:4150", "data mq-data", ready]);
        assert!(lines[3].starts_with("echo hello | ") && lines[3].ends_with(" pub --topic greetings"));
        assert!(lines[4].ends_with(" tail --topic greetings"));
        let http = Some("127.0.0.1:4151".to_owned());
        let text = broker_lines(&Addresses { http, ..tcp("0.0.0.0:9") }, Path::new("mq-data"));
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[..4], ["tcp 0.0.0.0:9", "http 127.0.0.1:4151", "data mq-data", ready]);
        assert!(lines[5].ends_with(" tail --topic greetings --tcp-address 127.0.0.1:9"));
    }
}

//! What a ready broker prints: its addresses, its folder, and two lines to paste.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Address `mq pub` and `mq tail` use unless told otherwise.
pub const DEFAULT_ADDRESS: &str = "127.0.0.1:4150";

/// Where a broker listens.
pub(crate) struct Addresses {
    pub(crate) tcp: String,
    pub(crate) http: Option<String>,
    pub(crate) https: Option<String>,
    pub(crate) grpc: Option<String>,
}

/// Writes the lines of a broker. `tcp `, `http `, `https ` and `grpc ` stand before the addresses, also for programs that started
/// the broker on port 0 and wait for it; `data ` comes when all of them were written.
pub(crate) fn announce(out: &mut impl Write, addresses: &Addresses, data_path: &Path) -> io::Result<()> {
    let address = &addresses.tcp;
    let mq = command_name();
    let reachable = reachable(address);
    let to = if reachable == DEFAULT_ADDRESS {
        String::new()
    } else {
        format!(" --tcp-address {}", quote(&reachable))
    };
    writeln!(out, "tcp {address}")?;
    for (name, address) in [("http", &addresses.http), ("https", &addresses.https), ("grpc", &addresses.grpc)]
    {
        if let Some(address) = address {
            writeln!(out, "{name} {address}")?;
        }
    }
    writeln!(out, "data {}", data_path.display())?;
    writeln!(out, "echo hello | {mq} pub --topic greetings{to}")?;
    writeln!(out, "{mq} tail --topic greetings{to}")?;
    out.flush()
}

/// How a shell in the current folder can call this program.
fn command_name() -> String {
    let Ok(exe) = std::env::current_exe() else { return "mq".to_owned() };
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
    quote(&path.to_string_lossy())
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
fn quote(text: &str) -> String {
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
        assert_eq!(quote("target/release/mq"), "target/release/mq");
        assert_eq!(quote("my mq"), "'my mq'");
        assert_eq!(quote("it's"), r"'it'\''s'");
        assert_eq!(quote("[::1]:4150"), "'[::1]:4150'");
    }

    #[test]
    fn the_default_address_needs_no_flag() {
        let mut out = Vec::new();
        let tcp = |tcp: &str| Addresses { tcp: tcp.to_owned(), http: None, https: None, grpc: None };
        announce(&mut out, &tcp(DEFAULT_ADDRESS), Path::new("mq-data")).unwrap();
        let http = Some("127.0.0.1:4151".to_owned());
        announce(&mut out, &Addresses { http, ..tcp("0.0.0.0:9") }, Path::new("mq-data")).unwrap();
        let lines: Vec<_> = std::str::from_utf8(&out).unwrap().lines().collect();
        assert_eq!(lines[..2], ["tcp 127.0.0.1:4150", "data mq-data"]);
        assert!(lines[2].starts_with("echo hello | ") && lines[2].ends_with(" pub --topic greetings"));
        assert!(lines[3].ends_with(" tail --topic greetings"));
        assert_eq!(lines[4..7], ["tcp 0.0.0.0:9", "http 127.0.0.1:4151", "data mq-data"]);
        assert!(lines[8].ends_with(" tail --topic greetings --tcp-address 127.0.0.1:9"));
    }
}

//! A real nsqlookupd, where `MQ_PEERS` names a folder that has one.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// Ends when it is dropped.
pub(crate) struct Peer {
    process: Child,
    pub(crate) tcp: String,
    pub(crate) http: String,
}

impl Peer {
    /// `None`, and a line that says so, where there is none.
    pub(crate) fn nsqlookupd() -> Option<Self> {
        let Some(folder) = std::env::var_os("MQ_PEERS").map(PathBuf::from) else {
            println!("skipped: MQ_PEERS names no folder with a real nsqlookupd");
            return None;
        };
        let mut process = Command::new(folder.join("nsqlookupd"))
            .args(["-tcp-address", "127.0.0.1:0", "-http-address", "127.0.0.1:0"])
            .args(["-broadcast-address", "127.0.0.1"])
            .stderr(Stdio::piped())
            .spawn()
            .expect("nsqlookupd starts");
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let (mut tcp, mut http) = (None, None);
        while tcp.is_none() || http.is_none() {
            let line = lines.next().expect("its addresses").unwrap();
            if let Some((_, address)) = line.split_once("TCP: listening on ") {
                tcp = Some(address.to_owned());
            }
            if let Some((_, address)) = line.split_once("HTTP: listening on ") {
                http = Some(address.to_owned());
            }
        }
        // Its log goes on; it must not wait for us.
        std::thread::spawn(move || lines.for_each(drop));
        Some(Self { process, tcp: tcp?, http: http? })
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

//! `mq lookup` as a process: who may use its gRPC port.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Child;

use mq_grpc::v1::LookupRequest;
use mq_grpc::v1::discovery_service_client::DiscoveryServiceClient;
use mq_tests::start;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustix::process::{Pid, Signal, kill_process};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Code, Request};

/// Killed when it is dropped.
struct Lookup {
    process: Child,
    grpc: String,
    stderr: BufReader<std::process::ChildStderr>,
}

impl Lookup {
    fn start(flags: &[&str]) -> Self {
        let any = "127.0.0.1:0";
        let addresses = ["lookup", "--tcp-address", any, "--http-address", any, "--grpc-address", any];
        let mut process = start(&[&addresses[..], flags].concat());
        let stderr = BufReader::new(process.stderr.take().unwrap());
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let grpc = lines.find_map(|line| Some(line.unwrap().strip_prefix("grpc ")?.to_owned()));
        Self { process, grpc: grpc.expect("its addresses"), stderr }
    }

    /// The first line of its log, from here on, that has `part`.
    fn log(&mut self, part: &str) -> String {
        let mut line = String::new();
        while !line.contains(part) {
            line.clear();
            assert!(self.stderr.read_line(&mut line).unwrap() > 0, "its log ends without {part}");
        }
        line
    }

    fn hang_up(&self) {
        kill_process(Pid::from_child(&self.process), Signal::HUP).unwrap();
    }
}

impl Drop for Lookup {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The code of the answer to a lookup that shows `secret`: a topic that nobody has is not found.
async fn look_up(channel: Channel, secret: Option<&str>) -> Code {
    let mut request = Request::new(LookupRequest { topic: "t".to_owned() });
    if let Some(secret) = secret {
        request.metadata_mut().insert("authorization", format!("Bearer {secret}").parse().unwrap());
    }
    DiscoveryServiceClient::new(channel).lookup(request).await.unwrap_err().code()
}

fn write(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
}

#[tokio::test]
async fn its_grpc_port_asks_for_a_token_that_a_hang_up_reads_again() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tokens");
    write(&file, "\u{feff}first\nsecond\n");
    let mut lookup = Lookup::start(&["--grpc-auth-token-file", file.to_str().unwrap()]);
    let warning = lookup.log("the file of tokens can be read by every user");
    assert!(warning.contains("chmod 600"), "{warning}");
    let channel = Endpoint::new(format!("http://{}", lookup.grpc)).unwrap().connect().await.unwrap();
    let codes = async || {
        let mut codes = Vec::new();
        for secret in [None, Some("first"), Some("second"), Some("third")] {
            codes.push(look_up(channel.clone(), secret).await);
        }
        codes
    };
    let (no, yes) = (Code::Unauthenticated, Code::NotFound);
    assert_eq!(codes().await, [no, yes, yes, no]);
    write(&file, "");
    lookup.hang_up();
    lookup.log("no token is valid any more");
    assert_eq!(codes().await, [no; 4]);
    write(&file, "third\n");
    lookup.hang_up();
    lookup.log("tokens read again");
    assert_eq!(codes().await, [no, no, no, yes]);
}

#[tokio::test]
async fn its_grpc_port_speaks_tls_with_a_certificate() {
    let folder = tempfile::tempdir().unwrap();
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (cert_file, key_file) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    write(&cert_file, &cert.pem());
    write(&key_file, &signing_key.serialize_pem());
    let flags = ["--tls-cert", cert_file.to_str().unwrap(), "--tls-key", key_file.to_str().unwrap()];
    let lookup = Lookup::start(&flags);
    let plain = Endpoint::new(format!("http://{}", lookup.grpc)).unwrap().connect_lazy();
    assert_ne!(look_up(plain, None).await, Code::NotFound, "nothing but TLS is spoken");
    let port = lookup.grpc.rsplit_once(':').unwrap().1;
    let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(cert.pem()));
    let endpoint = Endpoint::new(format!("https://localhost:{port}")).unwrap().tls_config(tls).unwrap();
    assert_eq!(look_up(endpoint.connect().await.unwrap(), None).await, Code::NotFound);
}

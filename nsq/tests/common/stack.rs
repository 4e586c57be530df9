//! Layers that a client stacks on its socket: TLS of certificates made for the test, snappy, deflate.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use flate2::write::{DeflateDecoder, DeflateEncoder};
use mq_net::transport::snappy;
use mq_nsq::client::ClientTlsOptions;
use mq_nsq::server::TlsOptions;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex, split};
use tokio_rustls::TlsConnector;

use super::{Peer, Socket, with_body};

/// The layers between the protocol and the socket.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stack {
    pub tls: bool,
    pub compression: Option<Compression>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    Snappy,
    /// Snappy with the stream's identifier before every write.
    SnappyRepeated,
    Deflate(u8),
}

pub const STACKS: [Stack; 6] = [
    Stack { tls: true, compression: None },
    Stack { tls: false, compression: Some(Compression::Snappy) },
    Stack { tls: false, compression: Some(Compression::Deflate(6)) },
    Stack { tls: true, compression: Some(Compression::Snappy) },
    Stack { tls: true, compression: Some(Compression::Deflate(1)) },
    Stack { tls: false, compression: Some(Compression::SnappyRepeated) },
];

/// A root, and certificates for "localhost" in files, all made for one test.
pub struct Certificates {
    pub folder: TempDir,
    root: CertifiedIssuer<'static, KeyPair>,
}

impl Certificates {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "the root");
        let root = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let made = Self { folder: TempDir::new().unwrap(), root };
        std::fs::write(made.path("root.pem"), made.root.pem()).unwrap();
        made.write("server", true, |_| {});
        made
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes `name.pem` and `name.key`: signed by the root, or by itself.
    pub fn write(&self, name: &str, rooted: bool, change: impl FnOnce(&mut CertificateParams)) {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate =
            if rooted { params.signed_by(&key, &self.root) } else { params.self_signed(&key) }.unwrap();
        std::fs::write(self.path(&format!("{name}.pem")), certificate.pem()).unwrap();
        std::fs::write(self.path(&format!("{name}.key")), key.serialize_pem()).unwrap();
    }

    /// Settings of the server.
    pub fn options(&self) -> TlsOptions {
        TlsOptions {
            cert: self.path("server.pem"),
            key: self.path("server.key"),
            root_ca_file: Some(self.path("root.pem")),
            ..TlsOptions::default()
        }
    }

    /// Settings of our own client.
    pub fn client_options(&self) -> ClientTlsOptions {
        ClientTlsOptions {
            root_ca_file: Some(self.path("root.pem")),
            server_name: Some("localhost".to_owned()),
            ..ClientTlsOptions::default()
        }
    }

    /// A client that trusts the root, and shows what `name.pem` has.
    pub fn connector(
        &self,
        name: Option<&str>,
        versions: &[&'static SupportedProtocolVersion],
    ) -> TlsConnector {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(self.path("root.pem")).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots);
        let config = match name {
            None => builder.with_no_client_auth(),
            Some(name) => {
                let chain = vec![CertificateDer::from_pem_file(self.path(&format!("{name}.pem"))).unwrap()];
                let key = PrivateKeyDer::from_pem_file(self.path(&format!("{name}.key"))).unwrap();
                builder.with_client_auth_cert(chain, key).unwrap()
            }
        };
        TlsConnector::from(Arc::new(config))
    }

    pub fn plain_connector(&self) -> TlsConnector {
        self.connector(None, rustls::ALL_VERSIONS)
    }
}

impl Peer {
    /// Asks for a stack, and puts it on.
    pub async fn stack(&mut self, stack: Stack, certificates: &Certificates) {
        self.stack_behind(b"", 0, stack, certificates).await;
    }

    /// Asks for a stack right behind other commands, and puts it on when those have their `OK`s.
    pub async fn stack_behind(
        &mut self,
        commands: &[u8],
        oks: usize,
        stack: Stack,
        certificates: &Certificates,
    ) {
        let json = match stack.compression {
            None => r#"{"feature_negotiation":true,"tls_v1":TLS}"#.to_owned(),
            Some(Compression::Snappy | Compression::SnappyRepeated) => {
                r#"{"feature_negotiation":true,"tls_v1":TLS,"snappy":true}"#.to_owned()
            }
            Some(Compression::Deflate(level)) => {
                let json = r#"{"feature_negotiation":true,"tls_v1":TLS,"deflate":true,"deflate_level":"#;
                format!("{json}{level}}}")
            }
        };
        let identify = with_body("IDENTIFY", json.replace("TLS", &stack.tls.to_string()).as_bytes());
        self.send(&[commands, &identify].concat()).await;
        for _ in 0..oks {
            self.expect("OK").await;
        }
        let reply = self.frame().await.unwrap();
        let reply: serde_json::Value = serde_json::from_slice(&reply.data).unwrap();
        let snappy = matches!(stack.compression, Some(Compression::Snappy | Compression::SnappyRepeated));
        assert_eq!(reply["tls_v1"], stack.tls);
        assert_eq!(reply["snappy"], snappy);
        assert_eq!(reply["deflate"], matches!(stack.compression, Some(Compression::Deflate(_))));
        if let Some(Compression::Deflate(level)) = stack.compression {
            assert_eq!(reply["deflate_level"], level);
        }
        if stack.tls {
            self.start_tls(&certificates.plain_connector()).await.unwrap();
            self.expect("OK").await;
        }
        if let Some(compression) = stack.compression {
            self.compress(compression);
            self.expect("OK").await;
        }
    }

    fn take_socket(&mut self) -> Box<dyn Socket> {
        std::mem::replace(&mut self.socket, Box::new(duplex(1).0))
    }

    pub async fn start_tls(&mut self, connector: &TlsConnector) -> std::io::Result<()> {
        let name = "localhost".try_into().unwrap();
        self.socket = Box::new(connector.connect(name, self.take_socket()).await?);
        Ok(())
    }

    /// Compresses from here on, with codecs that are not ours where there are any.
    pub fn compress(&mut self, compression: Compression) {
        let (mut from_server, mut to_server) = split(self.take_socket());
        let (near, far) = duplex(256 * 1024);
        let (mut from_peer, mut to_peer) = split(far);
        tokio::spawn(async move {
            let mut buf = vec![0; 100_000];
            let mut deflate = DeflateEncoder::new(Vec::new(), flate2::Compression::default());
            let mut snappy = snap::write::FrameEncoder::new(Vec::new());
            while let Ok(n @ 1..) = from_peer.read(&mut buf).await {
                let out = match compression {
                    Compression::Deflate(_) => {
                        deflate.write_all(&buf[..n]).unwrap();
                        deflate.flush().unwrap();
                        std::mem::take(deflate.get_mut())
                    }
                    Compression::Snappy => {
                        snappy.write_all(&buf[..n]).unwrap();
                        snappy.flush().unwrap();
                        std::mem::take(snappy.get_mut())
                    }
                    Compression::SnappyRepeated => {
                        let mut snappy = snap::write::FrameEncoder::new(Vec::new());
                        snappy.write_all(&buf[..n]).unwrap();
                        snappy.into_inner().unwrap()
                    }
                };
                // The server may have closed.
                if to_server.write_all(&out).await.is_err() || to_server.flush().await.is_err() {
                    break;
                }
            }
            let _ = to_server.shutdown().await;
        });
        tokio::spawn(async move {
            let mut buf = vec![0; 100_000];
            let mut room = vec![0; 100_000];
            let mut inflate = DeflateDecoder::new(Vec::new());
            let mut snappy = snappy::Decoder::default();
            while let Ok(n @ 1..) = from_server.read(&mut buf).await {
                if let Compression::Deflate(_) = compression {
                    inflate.write_all(&buf[..n]).unwrap();
                    inflate.flush().unwrap();
                    if to_peer.write_all(&std::mem::take(inflate.get_mut())).await.is_err() {
                        break;
                    }
                    continue;
                }
                let mut rest = &buf[..n];
                loop {
                    let (used, written) = snappy.decode(rest, &mut room).unwrap();
                    rest = &rest[used..];
                    if to_peer.write_all(&room[..written]).await.is_err() {
                        return;
                    }
                    if written < room.len() {
                        break;
                    }
                }
            }
            let _ = to_peer.shutdown().await;
        });
        self.socket = Box::new(near);
    }
}

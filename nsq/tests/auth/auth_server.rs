//! An auth server that gives set answers, and keeps the requests it got.

use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, SupportedProtocolVersion};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;

/// Permits everything for an hour.
pub const ALL: &str = r#"{"ttl":3600,"authorizations":[{"topic":".*","channels":[".*"],"permissions":["subscribe","publish"]}]}"#;

#[derive(Clone)]
pub struct AuthServer {
    pub address: String,
    answer: Arc<Mutex<Vec<u8>>>,
    requests: Arc<Mutex<Vec<String>>>,
    /// A permit for each answer, while answers are held back.
    held: Arc<Mutex<Option<Arc<Semaphore>>>>,
}

impl AuthServer {
    pub async fn start(json: &str) -> Self {
        Self::listen(json, None).await
    }

    /// Speaks TLS; its certificate is in the file that is returned too.
    pub async fn start_tls(
        json: &str,
        folder: &TempDir,
        versions: &[&'static SupportedProtocolVersion],
    ) -> (Self, PathBuf) {
        let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let path = folder.path().join("root.pem");
        std::fs::write(&path, certified.cert.pem()).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(certified.signing_key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certified.cert.der().clone()], key)
            .unwrap();
        (Self::listen(json, Some(TlsAcceptor::from(Arc::new(config)))).await, path)
    }

    async fn listen(json: &str, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Self {
            address: listener.local_addr().unwrap().to_string(),
            answer: Arc::default(),
            requests: Arc::default(),
            held: Arc::default(),
        };
        server.answer(json);
        let this = server.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (this, tls) = (this.clone(), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => this.serve(stream).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                this.serve(stream).await;
                            }
                        }
                    }
                });
            }
        });
        server
    }

    pub fn port(&self) -> &str {
        self.address.rsplit_once(':').unwrap().1
    }

    /// Answers with this JSON from now on.
    pub fn answer(&self, json: &str) {
        self.answer_raw(&format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{json}", json.len()));
    }

    /// Answers with these bytes from now on, then closes.
    pub fn answer_raw(&self, bytes: &str) {
        *self.answer.lock() = bytes.as_bytes().to_vec();
    }

    /// Holds answers back until [`AuthServer::release`].
    pub fn hold(&self) {
        *self.held.lock() = Some(Arc::new(Semaphore::new(0)));
    }

    pub fn release(&self) {
        self.held.lock().take().unwrap().add_permits(1000);
    }

    /// The requests so far.
    pub fn requests(&self) -> Vec<String> {
        self.requests.lock().clone()
    }

    async fn serve<S: AsyncRead + AsyncWrite + Unpin>(&self, mut stream: S) {
        let mut request = Vec::new();
        let length = loop {
            if stream.read_buf(&mut request).await.unwrap_or(0) == 0 {
                return;
            }
            let text = String::from_utf8_lossy(&request);
            if let Some((head, _)) = text.split_once("\r\n\r\n") {
                let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
                break head.len() + 4 + length.map_or(0, |n| n.parse().unwrap());
            }
        };
        while request.len() < length {
            if stream.read_buf(&mut request).await.unwrap_or(0) == 0 {
                return;
            }
        }
        self.requests.lock().push(String::from_utf8(request).unwrap());
        let held = self.held.lock().clone();
        if let Some(held) = held {
            let _ = held.acquire().await;
        }
        let answer = self.answer.lock().clone();
        // Who asked may have gone.
        let _ = stream.write_all(&answer).await;
        let _ = stream.shutdown().await;
    }
}

//! TLS: what a server shows and asks for, read from files and read again; what a client trusts.
//!
//! - `options`: a server's settings; `client`: a client's; `verify`: what stands for no verification

mod client;
mod options;
mod verify;

pub use client::{ClientTls, ClientTlsOptions, http_connector};
pub use options::{BadValue, ClientAuthPolicy, TlsOptions, TlsRequired, TlsVersion};

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::RwLock;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{CommonState, Error, InconsistentKeys, RootCertStore, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsStream};

use super::metered::Metered;
use super::{Transport, certificate};
use crate::budget::Budget;
use crate::secret_file;
use verify::AnyClient;

/// Files that do not make TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file can't be read, or does not hold what it should.
    #[error("{file}: {reason}", file = file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// Its fault.
        reason: String,
    },
    /// Certificate and key are no pair.
    #[error("the key in {key} is not that of the certificate in {cert}", key = key.display(), cert = cert.display())]
    Mismatch {
        /// The certificate's file.
        cert: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
    /// The system has no root certificates.
    #[error("no root certificates on this system: {0}")]
    NoRoots(String),
    /// Any other error of the TLS library.
    #[error(transparent)]
    Tls(#[from] Error),
}

impl From<TlsError> for io::Error {
    fn from(error: TlsError) -> Self {
        Self::new(io::ErrorKind::InvalidInput, error)
    }
}

fn file_error(file: &Path, reason: impl fmt::Display) -> TlsError {
    TlsError::File { file: shown(file), reason: reason.to_string() }
}

/// A server's TLS. Clones share it: what one reads again, all have.
#[derive(Clone, Debug)]
pub struct TlsConfig(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    options: TlsOptions,
    current: RwLock<Current>,
}

/// The files as they were read last.
#[derive(Clone, Debug)]
struct Current {
    config: Arc<ServerConfig>,
    /// The time at which the first certificate of the chain expires, in seconds since 1970.
    expires: Option<u64>,
}

impl TlsConfig {
    /// Reads the files. Blocks on the disk.
    ///
    /// # Errors
    /// If a file can't be read, or they do not fit together.
    pub fn load(options: TlsOptions) -> Result<Self, TlsError> {
        let current = RwLock::new(server_config(&options)?);
        secret_file::warn_if_exposed("the key of TLS", &options.key);
        Ok(Self(Arc::new(Shared { options, current })))
    }

    /// Reads the files again, for new connections. Blocks on the disk.
    ///
    /// # Errors
    /// As [`TlsConfig::load`]; then what was read last stays in use.
    pub fn reload(&self) -> Result<(), TlsError> {
        let new = server_config(&self.0.options).inspect_err(|error| {
            tracing::error!(%error, "TLS files not read again: the old certificate stays in use");
        })?;
        *self.0.current.write() = new;
        tracing::info!(cert = %self.0.options.cert.display(), "TLS files read again");
        Ok(())
    }

    /// Settings of new connections. For HTTPS.
    pub fn current(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.0.current.read().config)
    }

    /// The time at which the certificate expires, or one between it and a root, in seconds since 1970.
    pub fn expires(&self) -> Option<u64> {
        self.0.current.read().expires
    }

    /// The options it was made from.
    pub fn options(&self) -> &TlsOptions {
        &self.0.options
    }

    /// Shakes hands as the server of HTTP/2. What the client sends of a handshake or a record counts in
    /// `budget`.
    ///
    /// # Errors
    /// If the client does not speak TLS, or either end does not trust the other.
    pub async fn accept_http(&self, transport: Transport, budget: &Budget) -> io::Result<Transport> {
        let Transport::Plain(socket) = transport else { return Err(io::ErrorKind::Unsupported.into()) };
        let mut config = ServerConfig::clone(&self.current());
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let stream = TlsAcceptor::from(Arc::new(config))
            .accept(Metered::new(socket, Some(budget.beginning())))
            .await?;
        Ok(Transport::Tls(Box::new(TlsStream::Server(stream))))
    }

    /// Shakes hands as the server. A plaintext transport comes back with the error. What the client sends of
    /// a handshake or a record counts in `budget`.
    ///
    /// # Errors
    /// If the client does not speak TLS, or either end does not trust the other.
    pub async fn accept(
        &self,
        transport: Transport,
        budget: &Budget,
    ) -> Result<Transport, (io::Error, Transport)> {
        let Transport::Plain(socket) = transport else {
            return Err((io::ErrorKind::Unsupported.into(), transport));
        };
        let socket = Metered::new(socket, Some(budget.beginning()));
        match TlsAcceptor::from(self.current()).accept(socket).into_fallible().await {
            Ok(stream) => Ok(Transport::Tls(Box::new(TlsStream::Server(stream)))),
            Err((error, socket)) => Err((error, Transport::Plain(socket.into_socket()))),
        }
    }
}

/// Outcome of a handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsPeer {
    /// `TLS1.2` or `TLS1.3`.
    pub version: &'static str,
    /// IANA's name of the cipher suite, such as `TLS_AES_128_GCM_SHA256`.
    pub cipher_suite: String,
    /// The common name in the client's certificate; empty if it has none. Verified only under
    /// [`ClientAuthPolicy::RequireVerify`].
    pub common_name: String,
}

impl TlsPeer {
    fn of(state: &CommonState) -> Self {
        let version = match state.protocol_version() {
            Some(rustls::ProtocolVersion::TLSv1_2) => "TLS1.2",
            Some(rustls::ProtocolVersion::TLSv1_3) => "TLS1.3",
            _ => "",
        };
        let suite = state.negotiated_cipher_suite().and_then(|suite| suite.suite().as_str());
        let certificate = state.peer_certificates().and_then(<[_]>::first);
        Self {
            version,
            cipher_suite: suite.unwrap_or_default().replacen("TLS13_", "TLS_", 1),
            common_name: certificate.map(|der| certificate::common_name(der)).unwrap_or_default(),
        }
    }
}

impl Transport {
    /// Outcome of the handshake, right after it.
    pub fn tls_peer(&self) -> Option<TlsPeer> {
        match self {
            Self::Tls(stream) => Some(TlsPeer::of(stream.get_ref().1)),
            _ => None,
        }
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn server_config(options: &TlsOptions) -> Result<Current, TlsError> {
    let provider = provider();
    let key = certified_key(&provider, &options.cert, &options.key)?;
    let expires = key.cert.iter().filter_map(|der| certificate::expires(der)).min();
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(options.min_version.versions())?;
    let builder = match options.client_auth_policy {
        ClientAuthPolicy::None => builder.with_no_client_auth(),
        ClientAuthPolicy::Require => builder.with_client_cert_verifier(Arc::new(AnyClient)),
        ClientAuthPolicy::RequireVerify => {
            let roots = Arc::new(roots(options.root_ca_file.as_deref())?);
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider).build();
            builder.with_client_cert_verifier(verifier.map_err(|error| Error::General(error.to_string()))?)
        }
    };
    // One that is not used must be good all the same, as in nsqd.
    if let (Some(file), false) =
        (&options.root_ca_file, options.client_auth_policy == ClientAuthPolicy::RequireVerify)
    {
        roots(Some(file))?;
    }
    let config = Arc::new(builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(key))));
    Ok(Current { config, expires })
}

/// Reads a certificate with its key. Nothing is asked of it but that they fit: clients judge it.
fn certified_key(provider: &CryptoProvider, cert: &Path, key: &Path) -> Result<CertifiedKey, TlsError> {
    let chain = certificates(cert)?;
    let der = PrivateKeyDer::from_pem_slice(&pem(key)?)
        .map_err(|error| file_error(key, pem_reason(&error, "key")))?;
    let signing = provider.key_provider.load_private_key(der);
    let certified = CertifiedKey::new(chain, signing.map_err(|error| file_error(key, error))?);
    match certified.keys_match() {
        Err(Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => {
            Err(TlsError::Mismatch { cert: shown(cert), key: shown(key) })
        }
        // It can't be checked for certificates of old forms.
        _ => Ok(certified),
    }
}

/// The bytes of a PEM file. In its place the text of one may be given.
fn pem(file: &Path) -> Result<Vec<u8>, TlsError> {
    match pem_text(file) {
        Some(text) => Ok(text.as_bytes().to_owned()),
        None => std::fs::read(file).map_err(|error| file_error(file, error)),
    }
}

/// The text that was given in place of a file.
fn pem_text(file: &Path) -> Option<&str> {
    file.to_str().filter(|text| text.starts_with("-----BEGIN "))
}

/// A file as errors name it: a text may be a key.
pub fn shown(file: &Path) -> PathBuf {
    if pem_text(file).is_some() { "the PEM text".into() } else { file.to_owned() }
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let reason = |error| file_error(file, pem_reason(&error, "certificate"));
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem(file)?).collect();
    match chain.map_err(reason)? {
        chain if chain.is_empty() => Err(file_error(file, "no certificate in it")),
        chain => Ok(chain),
    }
}

fn pem_reason(error: &rustls::pki_types::pem::Error, what: &str) -> String {
    use rustls::pki_types::pem::Error as Pem;
    match error {
        Pem::Io(error) => error.to_string(),
        Pem::NoItemsFound => format!("no {what} in it"),
        other => other.to_string(),
    }
}

/// The certificates in `file`, or the system's.
fn roots(file: Option<&Path>) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    if let Some(file) = file {
        for certificate in certificates(file)? {
            roots.add(certificate).map_err(|error| file_error(file, error))?;
        }
        return Ok(roots);
    }
    let system = rustls_native_certs::load_native_certs();
    if roots.add_parsable_certificates(system.certs).0 == 0 {
        let errors: Vec<String> = system.errors.iter().map(ToString::to_string).collect();
        return Err(TlsError::NoRoots(errors.join("; ")));
    }
    Ok(roots)
}

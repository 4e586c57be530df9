//! TLS: what a server shows and asks for, read from files and read again; what a client trusts.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use parking_lot::RwLock;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::{TLS12, TLS13};
use rustls::{
    CertificateError, ClientConfig, CommonState, DigitallySignedStruct, DistinguishedName, Error,
    InconsistentKeys, RootCertStore, ServerConfig, SignatureScheme, SupportedProtocolVersion,
};
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

use super::certificate;
use super::{Socket, Transport};

/// TLS of a server, as nsqd's flags `tls-...` say it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsOptions {
    /// `tls-cert`: a PEM file with the certificate and what lies between it and a root.
    pub cert: PathBuf,
    /// `tls-key`: a PEM file with its key: PKCS#1, PKCS#8 or SEC1.
    pub key: PathBuf,
    /// `tls-root-ca-file`: a PEM file with what client certificates must chain to. `None`: the system's roots.
    pub root_ca_file: Option<PathBuf>,
    /// `tls-client-auth-policy`.
    pub client_auth_policy: ClientAuthPolicy,
    /// `tls-required`, as given: see [`TlsOptions::effective_required`].
    pub required: TlsRequired,
    /// `tls-min-version`.
    pub min_version: TlsVersion,
}

impl TlsOptions {
    /// Who has to use TLS: a policy for client certificates makes everybody.
    pub fn effective_required(&self) -> TlsRequired {
        match (self.required, self.client_auth_policy) {
            (TlsRequired::False, ClientAuthPolicy::Require | ClientAuthPolicy::RequireVerify) => {
                TlsRequired::True
            }
            (required, _) => required,
        }
    }
}

/// What is asked of clients' certificates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientAuthPolicy {
    /// Nothing.
    #[default]
    None,
    /// `require`: there must be one, whoever signed it and however old it is.
    Require,
    /// `require-verify`: it must be valid, and chain to a root.
    RequireVerify,
}

/// Who has to use TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TlsRequired {
    /// Nobody.
    #[default]
    False,
    /// `tcp-https`: on TCP everybody; plain HTTP stays open.
    TcpHttps,
    /// `true`: everybody; plain HTTP is refused.
    True,
}

/// The lowest version of TLS. libmq has 1.2 and 1.3 only: the older ones are broken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TlsVersion {
    /// `tls1.0`: as 1.2.
    Tls10,
    /// `tls1.1`: as 1.2.
    Tls11,
    /// `tls1.2`. nsqd's default, 1.0, comes to the same, but for a warning.
    #[default]
    Tls12,
    /// `tls1.3`.
    Tls13,
}

impl TlsVersion {
    /// Whether versions that it lets pass are not served.
    fn is_outdated(self) -> bool {
        matches!(self, Self::Tls10 | Self::Tls11)
    }

    fn versions(self) -> &'static [&'static SupportedProtocolVersion] {
        static ALL: &[&SupportedProtocolVersion] = &[&TLS13, &TLS12];
        if self == Self::Tls13 { &ALL[..1] } else { ALL }
    }
}

/// A setting has a value that is none; says which ones are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be one of {0}")]
pub struct BadValue(&'static str);

impl FromStr for ClientAuthPolicy {
    type Err = BadValue;

    fn from_str(text: &str) -> Result<Self, BadValue> {
        match text {
            "" => Ok(Self::None),
            "require" => Ok(Self::Require),
            "require-verify" => Ok(Self::RequireVerify),
            _ => Err(BadValue("require, require-verify, or nothing")),
        }
    }
}

impl FromStr for TlsRequired {
    type Err = BadValue;

    fn from_str(text: &str) -> Result<Self, BadValue> {
        match text.to_ascii_lowercase().as_str() {
            "tcp-https" => Ok(Self::TcpHttps),
            // What Go takes for a boolean; the flag alone means true.
            "" | "true" | "t" | "1" => Ok(Self::True),
            "false" | "f" | "0" => Ok(Self::False),
            _ => Err(BadValue("true, false, tcp-https")),
        }
    }
}

impl FromStr for TlsVersion {
    type Err = BadValue;

    fn from_str(text: &str) -> Result<Self, BadValue> {
        match text.to_ascii_lowercase().as_str() {
            "tls1.0" => Ok(Self::Tls10),
            "tls1.1" => Ok(Self::Tls11),
            "tls1.2" => Ok(Self::Tls12),
            "tls1.3" => Ok(Self::Tls13),
            _ => Err(BadValue("tls1.0, tls1.1, tls1.2, tls1.3")),
        }
    }
}

/// Files that do not make TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file can't be read, or does not hold what it should.
    #[error("{file}: {reason}", file = file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
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
    /// Anything else.
    #[error(transparent)]
    Tls(#[from] Error),
}

impl From<TlsError> for io::Error {
    fn from(error: TlsError) -> Self {
        Self::new(io::ErrorKind::InvalidInput, error)
    }
}

fn file_error(file: &Path, reason: impl fmt::Display) -> TlsError {
    TlsError::File { file: file.to_owned(), reason: reason.to_string() }
}

/// A server's TLS. Clones share it: what one reads again, all have.
#[derive(Clone, Debug)]
pub struct TlsConfig(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    options: TlsOptions,
    current: RwLock<Arc<ServerConfig>>,
}

impl TlsConfig {
    /// Reads the files. Blocks on the disk.
    ///
    /// # Errors
    /// If a file can't be read, or they do not fit together.
    pub fn load(options: TlsOptions) -> Result<Self, TlsError> {
        if options.min_version.is_outdated() {
            tracing::warn!(
                "TLS 1.0 and 1.1 are not served whatever the lowest version: clients need TLS 1.2 or 1.3"
            );
        }
        let current = RwLock::new(server_config(&options)?);
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

    /// What new connections get. For HTTPS.
    pub fn current(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.0.current.read())
    }

    /// Where it comes from.
    pub fn options(&self) -> &TlsOptions {
        &self.0.options
    }

    /// Shakes hands as the server. A plaintext transport comes back with the error.
    pub(crate) async fn accept(&self, transport: Transport) -> Result<Transport, (io::Error, Transport)> {
        let Transport::Plain(socket) = transport else {
            return Err((io::ErrorKind::Unsupported.into(), transport));
        };
        match TlsAcceptor::from(self.current()).accept(socket).into_fallible().await {
            Ok(stream) => Ok(Transport::Tls(Box::new(TlsStream::Server(stream)))),
            Err((error, socket)) => Err((error, Transport::Plain(socket))),
        }
    }
}

/// What a handshake agreed on.
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
    /// What the handshake agreed on, right after it.
    pub(crate) fn tls_peer(&self) -> Option<TlsPeer> {
        match self {
            Self::Tls(stream) => Some(TlsPeer::of(stream.get_ref().1)),
            _ => None,
        }
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn algorithms() -> WebPkiSupportedAlgorithms {
    ring::default_provider().signature_verification_algorithms
}

fn server_config(options: &TlsOptions) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = provider();
    let key = certified_key(&provider, &options.cert, &options.key)?;
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
    Ok(Arc::new(builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(key)))))
}

/// Reads a certificate with its key. Nothing is asked of it but that they fit: clients judge it.
fn certified_key(provider: &CryptoProvider, cert: &Path, key: &Path) -> Result<CertifiedKey, TlsError> {
    let chain = certificates(cert)?;
    let der =
        PrivateKeyDer::from_pem_file(key).map_err(|error| file_error(key, pem_reason(&error, "key")))?;
    let signing = provider.key_provider.load_private_key(der);
    let certified = CertifiedKey::new(chain, signing.map_err(|error| file_error(key, error))?);
    match certified.keys_match() {
        Err(Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => {
            Err(TlsError::Mismatch { cert: cert.to_owned(), key: key.to_owned() })
        }
        // It can't tell for certificates of old forms.
        _ => Ok(certified),
    }
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let reason = |error| file_error(file, pem_reason(&error, "certificate"));
    let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(file).map_err(reason)?.collect();
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

/// Whether `signed` holds the signature of `certificate`'s key over `message`.
fn verify_signature(
    message: &[u8],
    certificate: &CertificateDer<'_>,
    signed: &DigitallySignedStruct,
    tls13: bool,
) -> Result<HandshakeSignatureValid, Error> {
    let algorithms = algorithms();
    let verified = if tls13 {
        rustls::crypto::verify_tls13_signature(message, certificate, signed, &algorithms)
    } else {
        rustls::crypto::verify_tls12_signature(message, certificate, signed, &algorithms)
    };
    match verified {
        // A certificate that is refused for its form, such as version 1, still has a key.
        Err(Error::InvalidCertificate(error)) if error != CertificateError::BadSignature => {}
        verified => return verified,
    }
    let bad = || Error::InvalidCertificate(CertificateError::BadSignature);
    let (algorithm, key) = certificate::public_key(certificate).ok_or_else(bad)?;
    let mapped = algorithms.mapping.iter().find(|(scheme, _)| *scheme == signed.scheme);
    let mapped = mapped.map(|(_, algorithms)| *algorithms).unwrap_or_default();
    let fits = mapped.iter().take(if tls13 { 1 } else { usize::MAX });
    let mut fits = fits.filter(|mapped| mapped.public_key_alg_id().as_ref() == algorithm);
    if fits.any(|fit| fit.verify_signature(key, message, signed.signature()).is_ok()) {
        return Ok(HandshakeSignatureValid::assertion());
    }
    Err(bad())
}

/// Asks for a certificate, and takes any whose key the client has.
#[derive(Debug)]
struct AnyClient;

impl ClientCertVerifier for AnyClient {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_signature(message, certificate, signed, false)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_signature(message, certificate, signed, true)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        algorithms().supported_schemes()
    }
}

/// Takes any server's certificate.
#[derive(Debug)]
struct AnyServer;

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_signature(message, certificate, signed, false)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_signature(message, certificate, signed, true)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        algorithms().supported_schemes()
    }
}

/// What a client trusts, and shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientTlsOptions {
    /// A PEM file with what the server's certificate must chain to. `None`: the system's roots.
    pub root_ca_file: Option<PathBuf>,
    /// PEM files with the client's certificate and its key.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// The name that the server's certificate must have. `None`: the host connected to.
    pub server_name: Option<String>,
    /// Takes any certificate: whoever is on the way can read and change everything.
    pub insecure_skip_verify: bool,
    /// The lowest version of TLS.
    pub min_version: TlsVersion,
}

/// A client's TLS.
#[derive(Clone, Debug)]
pub struct ClientTls {
    config: Arc<ClientConfig>,
    server_name: Option<ServerName<'static>>,
}

impl ClientTls {
    /// Reads the files. Blocks on the disk.
    ///
    /// # Errors
    /// If a file can't be read, or they do not fit together, or the name is none.
    pub fn load(options: &ClientTlsOptions) -> Result<Self, TlsError> {
        let provider = provider();
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(options.min_version.versions())?;
        let builder = if options.insecure_skip_verify {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyServer))
        } else {
            builder.with_root_certificates(roots(options.root_ca_file.as_deref())?)
        };
        let config = match &options.identity {
            None => builder.with_no_client_auth(),
            Some((cert, key)) => {
                let key = certified_key(&provider, cert, key)?;
                builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(key)))
            }
        };
        let server_name = options.server_name.clone().map(server_name).transpose()?;
        Ok(Self { config: Arc::new(config), server_name })
    }

    /// Shakes hands as the client with the server at `address`.
    pub(crate) async fn connect(&self, transport: Transport, address: &str) -> io::Result<Transport> {
        let name = match &self.server_name {
            Some(name) => name.clone(),
            None => server_name(host(address).to_owned())?,
        };
        let Transport::Plain(socket) = transport else {
            return Err(io::ErrorKind::Unsupported.into());
        };
        let connector = TlsConnector::from(Arc::clone(&self.config));
        let stream: tokio_rustls::client::TlsStream<Socket> = connector.connect(name, socket).await?;
        Ok(Transport::Tls(Box::new(TlsStream::Client(stream))))
    }
}

fn server_name(name: String) -> Result<ServerName<'static>, TlsError> {
    let text = name.clone();
    ServerName::try_from(name)
        .map_err(|_| TlsError::Tls(Error::General(format!("{text:?} is no name of a server"))))
}

/// The host of `host:port`; a unix socket's is this one.
fn host(address: &str) -> &str {
    match address.rsplit_once(':') {
        Some(("", _)) | None => "localhost",
        Some(_) if super::is_path(address) => "localhost",
        Some((host, _)) => host.trim_matches(['[', ']']),
    }
}

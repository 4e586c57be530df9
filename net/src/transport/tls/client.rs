//! A client's TLS.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, ClientConnection, Error, RootCertStore};
use tokio_rustls::{TlsConnector, TlsStream};

use super::super::metered::Metered;
use super::verify::AnyServer;
use super::{TlsError, TlsVersion, certified_key, provider, roots};
use crate::transport::{Transport, is_path};

/// Certificates that a client trusts, and those it shows.
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

    /// The client's end of a connection with the server at `address`, for who moves its bytes without a
    /// runtime.
    ///
    /// # Errors
    /// If the address has no name that a certificate could have.
    pub fn session(&self, address: &str) -> io::Result<ClientConnection> {
        let name = self.name_of(address)?;
        ClientConnection::new(Arc::clone(&self.config), name).map_err(|error| TlsError::Tls(error).into())
    }

    fn name_of(&self, address: &str) -> Result<ServerName<'static>, TlsError> {
        match &self.server_name {
            Some(name) => Ok(name.clone()),
            None => server_name(host(address).to_owned()),
        }
    }

    /// Shakes hands as the client with the server at `address`.
    ///
    /// # Errors
    /// If the server does not speak TLS, or either end does not trust the other.
    pub async fn connect(&self, transport: Transport, address: &str) -> io::Result<Transport> {
        let name = self.name_of(address)?;
        let Transport::Plain(socket) = transport else {
            return Err(io::ErrorKind::Unsupported.into());
        };
        let connector = TlsConnector::from(Arc::clone(&self.config));
        let stream = connector.connect(name, Metered::new(socket, None)).await?;
        Ok(Transport::Tls(Box::new(TlsStream::Client(stream))))
    }
}

/// Settings for requests over HTTPS: the client trusts what the system trusts, if it has anything, and the
/// certificates in `root_ca`.
///
/// # Errors
/// If the file can't be read, or holds no certificates.
pub fn http_connector(root_ca: Option<&Path>, min_version: TlsVersion) -> Result<TlsConnector, TlsError> {
    let mut trusted = match root_ca {
        Some(file) => roots(Some(file))?,
        None => RootCertStore::empty(),
    };
    let system = rustls_native_certs::load_native_certs();
    for error in &system.errors {
        tracing::warn!(%error, "root certificates of the system");
    }
    trusted.add_parsable_certificates(system.certs);
    let config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(min_version.versions())?
        .with_root_certificates(trusted)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
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
        Some(_) if is_path(address) => "localhost",
        Some((host, _)) => host.trim_matches(['[', ']']),
    }
}

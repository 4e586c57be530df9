//! Flags by which every command reaches every broker: its address, TLS, and what it wants to be shown.

use std::path::{Path, PathBuf};

use mq_nsq::client::{Admin, AdminError, ClientTls, ClientTlsOptions, Connection, Error, Identify, Secret};
use mq_server::config::value::{Address, Value};
use mq_server::startup_banner::DEFAULT_ADDRESS;

/// HTTP address of a broker unless another is given.
const DEFAULT_HTTP_ADDRESS: &str = "127.0.0.1:4151";

/// Flags about TLS. Any of them switches it on.
#[derive(Clone, clap::Args)]
pub struct Tls {
    /// Encrypt with TLS (implied by the other --tls flags, and by https:// before an HTTP address)
    #[arg(long)]
    tls: bool,
    /// PEM file of the roots that the broker's certificate must chain to; the system's roots without it
    #[arg(long, value_name = "FILE")]
    tls_ca: Option<PathBuf>,
    /// PEM file of the client's certificate, for a broker that asks for one
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// PEM file of that certificate's key
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Name that the broker's certificate must have; the host connected to without it
    #[arg(long, value_name = "NAME")]
    tls_server_name: Option<String>,
    /// Accept any certificate: whoever is on the way can read and change everything
    #[arg(long, conflicts_with_all = ["tls_ca", "tls_server_name"])]
    tls_insecure: bool,
}

/// Flags of a command that speaks NSQ's protocol.
#[derive(Clone, clap::Args)]
pub struct TcpFlags {
    /// Broker to connect to: host:port, or the path of a unix socket
    #[arg(long, value_name = "ADDRESS", env = "MQ_TCP_ADDRESS", default_value = DEFAULT_ADDRESS, value_parser = address)]
    tcp_address: String,
    #[command(flatten)]
    token: Token,
    #[command(flatten)]
    tls: Tls,
}

/// Flags of a command that speaks to the HTTP API.
#[derive(Clone, clap::Args)]
pub struct HttpFlags {
    #[command(flatten)]
    address: HttpAddressFlag,
    #[command(flatten)]
    token: Token,
    #[command(flatten)]
    tls: Tls,
}

/// The flag that names a broker's HTTP API.
#[derive(Clone, clap::Args)]
pub struct HttpAddressFlag {
    /// Broker's HTTP API: host:port or https://host:port, or the path of a unix socket
    #[arg(long, value_name = "ADDRESS", env = "MQ_HTTP_ADDRESS", default_value = DEFAULT_HTTP_ADDRESS, value_parser = http_address)]
    http_address: HttpAddress,
}

/// The flag that names a secret.
#[derive(Clone, clap::Args)]
pub struct Token {
    /// File whose first line is the token to show, if the broker asks for one: AUTH's secret over NSQ's
    /// protocol, the bearer token over HTTP
    #[arg(long, alias = "http-auth-token-file", value_name = "FILE", env = "MQ_HTTP_AUTH_TOKEN_FILE")]
    auth_token_file: Option<PathBuf>,
}

/// An address of the HTTP API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpAddress {
    /// `host:port`, or the path of a unix socket.
    address: String,
    /// Whether `https://` stood before it.
    https: bool,
}

fn address(text: &str) -> Result<String, String> {
    match Address::parse(text) {
        Some(_) => Ok(text.to_owned()),
        None => Err(format!("it must be {}", Address::FORM)),
    }
}

fn http_address(text: &str) -> Result<HttpAddress, String> {
    let (https, rest, port) = match text.split_once("://") {
        Some(("https", rest)) => (true, rest, Some(443)),
        Some(("http", rest)) => (false, rest, Some(80)),
        Some((scheme, _)) => {
            return Err(format!("{scheme}:// is not spoken here: it must be http:// or https://"));
        }
        None => (false, text, None),
    };
    let bare = rest.trim_end_matches('/');
    let rest = match (port, Address::parse(bare)) {
        // A URL without a port.
        (Some(port), None) if !bare.is_empty() => format!("{bare}:{port}"),
        (Some(_), Some(_)) => bare.to_owned(),
        _ => rest.to_owned(),
    };
    let rest = address(&rest)?;
    if port.is_some() && rest.contains('/') {
        return Err("a URL must end after the port: the API's paths are known".to_owned());
    }
    Ok(HttpAddress { address: rest, https })
}

impl Tls {
    /// Whether a flag switches TLS on.
    pub fn is_on(&self) -> bool {
        let Self { tls, tls_ca, tls_cert, tls_key, tls_server_name, tls_insecure } = self;
        *tls || *tls_insecure
            || tls_ca.is_some()
            || tls_cert.is_some()
            || tls_key.is_some()
            || tls_server_name.is_some()
    }

    /// The client's TLS as the flags say, also if none switches it on.
    pub fn load(&self) -> Result<ClientTls, String> {
        let options = ClientTlsOptions {
            root_ca_file: self.tls_ca.clone(),
            identity: self.tls_cert.clone().zip(self.tls_key.clone()),
            server_name: self.tls_server_name.clone(),
            insecure_skip_verify: self.tls_insecure,
            ..ClientTlsOptions::default()
        };
        ClientTls::load(&options).map_err(|error| format!("--tls-ca, --tls-cert or --tls-key: {error}"))
    }
}

impl Token {
    /// The token in a file, if one is named.
    pub fn of_file(auth_token_file: Option<PathBuf>) -> Self {
        Self { auth_token_file }
    }

    /// The first line of the file, if one is named.
    pub fn read(&self) -> Result<Option<Vec<u8>>, String> {
        self.auth_token_file.as_deref().map(first_line).transpose()
    }
}

/// The token in a file: its first line that is not empty, without a byte order mark.
fn first_line(path: &Path) -> Result<Vec<u8>, String> {
    let named = |what: String| format!("--auth-token-file {}: {what}", path.display());
    let text = std::fs::read(path).map_err(|error| named(error.to_string()))?;
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&text);
    let mut lines = text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    let first = lines.find(|line| !line.is_empty());
    first.map(<[u8]>::to_vec).ok_or_else(|| named("there is no token in it".to_owned()))
}

impl TcpFlags {
    /// The broker's address.
    pub fn address(&self) -> &str {
        &self.tcp_address
    }

    /// The flag of the secret.
    pub fn token(&self) -> &Token {
        &self.token
    }

    /// The client's introduction to the broker.
    pub fn identify(&self) -> Result<Identify, String> {
        let tls = self.tls.is_on().then(|| self.tls.load()).transpose()?;
        let auth_secret = self.token.read()?.map(|secret| Secret::new(secret.into()));
        Ok(Identify { tls, auth_secret, ..Identify::default() })
    }

    /// Connects to the broker.
    pub async fn connect(&self) -> Result<Connection, String> {
        let connected = Connection::connect(&self.tcp_address, self.identify()?).await;
        connected.map_err(|error| self.explain(&error))
    }

    /// An error for people: what would be right.
    pub fn explain(&self, error: &Error) -> String {
        let address = &self.tcp_address;
        match error {
            Error::Io(io) if is_absent(io.kind()) => {
                format!("{address}: {error}: is a broker running there? `mq serve` starts one")
            }
            Error::Server { text, .. } if text.contains("TLS") && !self.tls.is_on() => {
                format!("{address}: {error}: a broker that requires TLS is reached with --tls")
            }
            Error::Server { code, .. } if code.starts_with("E_AUTH") || code == "E_UNAUTHORIZED" => {
                format!("{address}: {error}: --auth-token-file names the file with the secret to show")
            }
            _ => format!("{address}: {error}"),
        }
    }
}

/// Whether nobody listens there.
fn is_absent(kind: std::io::ErrorKind) -> bool {
    use std::io::ErrorKind::{ConnectionRefused, NotFound};
    matches!(kind, ConnectionRefused | NotFound)
}

impl HttpAddressFlag {
    /// The HTTP API of the broker that `beside` names, with the same token and TLS.
    pub fn with(&self, beside: &TcpFlags) -> HttpFlags {
        HttpFlags { address: self.clone(), token: beside.token.clone(), tls: beside.tls.clone() }
    }
}

impl HttpFlags {
    /// The broker's API.
    pub fn admin(&self) -> Result<Admin, String> {
        let admin = Admin::new(self.address(), self.token.read()?.as_deref());
        match self.address.http_address.https || self.tls.is_on() {
            true => Ok(admin.with_tls(self.tls.load()?)),
            false => Ok(admin),
        }
    }

    /// The broker's address.
    pub fn address(&self) -> &str {
        &self.address.http_address.address
    }

    /// An error for people: what would be right.
    pub fn explain(&self, error: &AdminError) -> String {
        let address = self.address();
        match error {
            AdminError::NoAnswer(_) => {
                format!("{address}: {error}: is a broker's HTTP API there? `mq serve` starts one")
            }
            AdminError::Refused { code, .. } if code == "UNAUTHORIZED" || code == "FORBIDDEN" => {
                format!("{address}: {error}: --auth-token-file names the file with the token to show")
            }
            AdminError::Refused { .. } => error.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_http_address_may_be_a_url() {
        let of = |text: &str| http_address(text).map(|address| (address.address, address.https));
        let is = |address: &str, https| Ok((address.to_owned(), https));
        assert_eq!(of("127.0.0.1:4151"), is("127.0.0.1:4151", false));
        assert_eq!(of("http://broker:4151/"), is("broker:4151", false));
        assert_eq!(of("https://broker:4152"), is("broker:4152", true));
        assert_eq!(of("https://broker"), is("broker:443", true));
        assert_eq!(of("/run/mq.sock"), is("/run/mq.sock", false));
        for wrong in ["localhost", "ftp://a:1", "https://", "https://broker:4152/stats", "http://a:x"] {
            assert!(of(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_address_without_a_port_is_refused_with_the_right_form() {
        let error = address("localhost").unwrap_err();
        assert!(error.contains("host:port") && error.contains("unix socket"), "{error}");
    }

    #[test]
    fn a_token_is_the_first_line_without_a_byte_order_mark() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        for text in ["secret\n", "\u{feff}secret\r\nother\n", "\n  secret  \n"] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(first_line(&path).unwrap(), b"secret", "{text:?}");
        }
        for text in ["", "\u{feff}\n", " \n"] {
            std::fs::write(&path, text).unwrap();
            assert!(first_line(&path).unwrap_err().contains("no token"), "{text:?}");
        }
    }

    #[test]
    fn every_tls_flag_switches_tls_on() {
        use clap::{Args, FromArgMatches};
        let parse = |flags: &[&str]| {
            let command = Tls::augment_args(clap::Command::new("mq"));
            let matches = command.get_matches_from([&["mq"], flags].concat());
            Tls::from_arg_matches(&matches).unwrap()
        };
        assert!(!parse(&[]).is_on());
        for flags in [
            &["--tls"][..],
            &["--tls-ca=a"],
            &["--tls-cert=a", "--tls-key=b"],
            &["--tls-server-name=a"],
            &["--tls-insecure"],
        ] {
            assert!(parse(flags).is_on(), "{flags:?}");
        }
    }
}

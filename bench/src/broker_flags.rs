//! Flags by which every command reaches every broker: its address, TLS, and what it wants to be shown.

use std::path::{Path, PathBuf};

use mq_nsq::client::{Admin, AdminError, ClientTls, ClientTlsOptions, Connection, Error, Identify, Secret};
use mq_server::config::value::{Address, Value};
use mq_server::startup_banner::DEFAULT_ADDRESS;

use crate::plain_words::{plain, without_codes};

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
    /// Broker to connect to: host:port, or the path of a unix socket; 127.0.0.1:4150 without it
    #[arg(long, value_name = "ADDRESS", env = "MQ_TCP_ADDRESS", value_parser = address)]
    tcp_address: Option<String>,
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
    /// Broker's HTTP API: host:port or https://host:port, or the path of a unix socket;
    /// 127.0.0.1:4151 without it
    #[arg(long, value_name = "ADDRESS", env = "MQ_HTTP_ADDRESS", value_parser = http_address)]
    http_address: Option<HttpAddress>,
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

/// The address of an HTTP API in a flag.
///
/// # Errors
/// Text of another form, with the right one.
pub fn http_address(text: &str) -> Result<HttpAddress, String> {
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

    /// The flags as options of a client.
    pub fn options(&self) -> ClientTlsOptions {
        ClientTlsOptions {
            root_ca_file: self.tls_ca.clone(),
            identity: self.tls_cert.clone().zip(self.tls_key.clone()),
            server_name: self.tls_server_name.clone(),
            insecure_skip_verify: self.tls_insecure,
            ..ClientTlsOptions::default()
        }
    }

    /// The client's TLS as the flags say, also if none switches it on.
    pub fn load(&self) -> Result<ClientTls, String> {
        ClientTls::load(&self.options())
            .map_err(|error| format!("--tls-ca, --tls-cert or --tls-key: {error}"))
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
        self.tcp_address.as_deref().unwrap_or(DEFAULT_ADDRESS)
    }

    /// Whether a flag or the environment names it.
    pub fn is_given(&self) -> bool {
        self.tcp_address.is_some()
    }

    /// The same as a URL of the crate `libmq`.
    pub fn url(&self) -> String {
        let (address, scheme) = (self.address(), if self.tls.is_on() { "mqs" } else { "mq" });
        if !address.contains('/') {
            let host = if address.starts_with(':') { "127.0.0.1" } else { "" };
            return format!("{scheme}://{host}{address}");
        }
        let is_path = ["/", "./", "../"].iter().any(|start| address.starts_with(start));
        let folder = if is_path { "" } else { "./" };
        // A comma would begin another path, and a question mark the settings.
        let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"/._-".contains(byte);
        let escape =
            |byte: u8| if plain(&byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
        let path: String = address.bytes().map(escape).collect();
        format!("{scheme}+unix:{folder}{path}")
    }

    /// The flag of the secret.
    pub fn token(&self) -> &Token {
        &self.token
    }

    /// TLS as the flags say, if one of them switches it on.
    pub fn tls(&self) -> Option<ClientTlsOptions> {
        self.tls.is_on().then(|| self.tls.options())
    }

    /// The client's introduction to the broker.
    pub fn identify(&self) -> Result<Identify, String> {
        let tls = self.tls.is_on().then(|| self.tls.load()).transpose()?;
        let auth_secret = self.token.read()?.map(|secret| Secret::new(secret.into()));
        Ok(Identify { tls, auth_secret, ..Identify::default() })
    }

    /// Connects to the broker.
    pub async fn connect(&self) -> Result<Connection, String> {
        let connected = Connection::connect(self.address(), self.identify()?).await;
        connected.map_err(|error| self.explain(&error))
    }

    /// An error for people: what would be right.
    pub fn explain(&self, error: &Error) -> String {
        let (address, why) = (self.address(), error.to_string());
        match self.hint(&why) {
            Some(hint) => format!("{address}: {}: {hint}", without_codes(&why)),
            None => format!("{address}: {}", plain(&why)),
        }
    }

    /// The flag or command that would be right after a failure, by the text of the system or the broker.
    pub fn hint(&self, why: &str) -> Option<&'static str> {
        let is_absent =
            ["Connection refused", "No such file or directory"].iter().any(|text| why.contains(text));
        if is_absent {
            Some("is a broker running there? `mq serve` starts one")
        } else if why.starts_with("E_") && why.contains("TLS") && !self.tls.is_on() {
            Some("a broker that requires TLS is reached with --tls")
        } else if why.starts_with("E_AUTH") || why.starts_with("E_UNAUTHORIZED") {
            Some("--auth-token-file names the file with the secret to show")
        } else {
            None
        }
    }
}

impl HttpAddress {
    /// Whether `https://` stood before it.
    pub fn is_https(&self) -> bool {
        self.https
    }

    /// `host:port`, or the path of a unix socket.
    pub fn as_str(&self) -> &str {
        &self.address
    }
}

impl HttpAddressFlag {
    /// Whether a flag or the environment names it.
    pub fn is_given(&self) -> bool {
        self.http_address.is_some()
    }

    /// The HTTP API of the broker that `beside` names, with the same token and TLS.
    pub fn with(&self, beside: &TcpFlags) -> HttpFlags {
        HttpFlags { address: self.clone(), token: beside.token.clone(), tls: beside.tls.clone() }
    }
}

impl HttpFlags {
    /// The broker's API.
    pub fn admin(&self) -> Result<Admin, String> {
        self.api(self.address(), self.is_https())
    }

    /// The API at another address, with the same token and TLS.
    pub fn admin_at(&self, address: &HttpAddress) -> Result<Admin, String> {
        self.api(address.as_str(), address.is_https())
    }

    fn api(&self, address: &str, https: bool) -> Result<Admin, String> {
        let admin = Admin::new(address, self.token.read()?.as_deref());
        Ok(match self.tls(https)? {
            Some(tls) => admin.with_tls(tls),
            None => admin,
        })
    }

    /// Whether `https://` stood before the broker's address.
    pub fn is_https(&self) -> bool {
        self.address.http_address.as_ref().is_some_and(HttpAddress::is_https)
    }

    /// The client's TLS, if a flag or `https` switches it on.
    pub fn tls(&self, https: bool) -> Result<Option<ClientTls>, String> {
        (https || self.tls.is_on()).then(|| self.tls.load()).transpose()
    }

    /// The broker's address.
    pub fn address(&self) -> &str {
        self.address.http_address.as_ref().map_or(DEFAULT_HTTP_ADDRESS, HttpAddress::as_str)
    }

    /// The flag of the token.
    pub fn token(&self) -> &Token {
        &self.token
    }

    /// An error for people: what would be right.
    pub fn explain(&self, error: &AdminError) -> String {
        explain_http(self.address(), error)
    }
}

/// An error of the HTTP API at `address` for people: what would be right.
pub fn explain_http(address: &str, error: &AdminError) -> String {
    match error {
        AdminError::NoAnswer(text) if text.contains("invalid HTTP version") => {
            format!(
                "{address}: nobody speaks HTTP there: is it a broker's TCP port? its HTTP port is another"
            )
        }
        AdminError::NoAnswer(text) if text.contains("InvalidContentType") => {
            format!(
                "{address}: nobody speaks TLS there: leave https:// and --tls out, or name the HTTPS port"
            )
        }
        AdminError::NoAnswer(text) => {
            let text = without_codes(text);
            format!("{address}: {text}: is a broker's HTTP API there? `mq serve` starts one")
        }
        AdminError::Refused { code, .. } if code == "UNAUTHORIZED" || code == "FORBIDDEN" => {
            format!("{address}: {error}: --auth-token-file names the file with the token to show")
        }
        AdminError::Refused { .. } => plain(&error.to_string()),
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
    fn a_broker_of_the_flags_has_a_url() {
        use clap::{Args, FromArgMatches};
        let url = |flags: &[&str]| {
            let command = TcpFlags::augment_args(clap::Command::new("mq"));
            let matches = command.get_matches_from([&["mq"], flags].concat());
            TcpFlags::from_arg_matches(&matches).unwrap().url()
        };
        assert_eq!(url(&["--tcp-address=broker:1"]), "mq://broker:1");
        assert_eq!(url(&["--tcp-address=:1"]), "mq://127.0.0.1:1");
        assert_eq!(url(&["--tcp-address=broker:1", "--tls-ca=a"]), "mqs://broker:1");
        assert_eq!(url(&["--tcp-address=[::1]:4150"]), "mq://[::1]:4150");
        assert_eq!(url(&["--tcp-address=/run/mq.sock"]), "mq+unix:/run/mq.sock");
        assert_eq!(url(&["--tcp-address=/run/a b,c?.sock"]), "mq+unix:/run/a%20b%2Cc%3F.sock");
        assert_eq!(url(&["--tcp-address=run/mq"]), "mq+unix:./run/mq");
        assert_eq!(url(&["--tcp-address=./mq.sock", "--tls"]), "mqs+unix:./mq.sock");
    }

    #[test]
    fn an_address_without_a_port_is_refused_with_the_right_form() {
        for wrong in ["localhost", "https://127.0.0.1:4150"] {
            let error = address(wrong).unwrap_err();
            assert!(error.contains("host:port") && error.contains("unix socket"), "{error}");
        }
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

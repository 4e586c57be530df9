//! A server's settings of TLS, in nsqd's words.

use std::path::PathBuf;
use std::str::FromStr;

use rustls::SupportedProtocolVersion;
use rustls::version::{TLS12, TLS13};

/// TLS of a server, as nsqd's flags `tls-...` say it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsOptions {
    /// `tls-cert`: a PEM file with the certificate and what lies between it and a root.
    pub cert: PathBuf,
    /// `tls-key`: a PEM file with its key: PKCS#1, PKCS#8 or SEC1.
    pub key: PathBuf,
    /// `tls-root-ca-file`: a PEM file with what client certificates must chain to. `None`: the system's
    /// roots.
    pub root_ca_file: Option<PathBuf>,
    /// `tls-client-auth-policy`.
    pub client_auth_policy: ClientAuthPolicy,
    /// `tls-required`, as given: see [`TlsOptions::effective_required`].
    pub required: TlsRequired,
    /// `tls-min-version`.
    pub min_version: TlsVersion,
}

impl TlsOptions {
    /// Clients that have to use TLS: with a policy for client certificates all of them.
    pub fn effective_required(&self) -> TlsRequired {
        match (self.required, self.client_auth_policy) {
            (TlsRequired::False, ClientAuthPolicy::Require | ClientAuthPolicy::RequireVerify) => {
                TlsRequired::True
            }
            (required, _) => required,
        }
    }
}

/// Demands on clients' certificates.
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

/// Clients that have to use TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TlsRequired {
    /// No client has to use TLS.
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
    /// `tls1.2`. nsqd's default, 1.0, comes to the same.
    #[default]
    Tls12,
    /// `tls1.3`.
    Tls13,
}

impl TlsVersion {
    /// Whether versions that it lets pass are not served.
    pub fn is_outdated(self) -> bool {
        matches!(self, Self::Tls10 | Self::Tls11)
    }

    pub(super) fn versions(self) -> &'static [&'static SupportedProtocolVersion] {
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

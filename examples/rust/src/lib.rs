//! Arguments of both examples, and the connection to the broker that they name.

use std::error::Error;
use std::path::PathBuf;

use clap::Args;
use mq_grpc::client::Target;
use tonic::transport::{Certificate, ClientTlsConfig};

/// The arguments of every example.
#[derive(Args)]
pub struct Connection {
    /// host:port of the broker's gRPC
    #[arg(long, default_value = "127.0.0.1:4155")]
    address: String,
    /// The topic
    #[arg(long)]
    pub topic: String,
    /// PEM file of who signed the broker's certificate; none: no TLS
    #[arg(long)]
    ca: Option<PathBuf>,
    /// Shown to the broker. Without TLS it can be read on its way
    #[arg(long, env = "MQ_TOKEN", hide_env_values = true)]
    token: Option<String>,
}

impl Connection {
    /// The broker.
    ///
    /// # Errors
    /// If the arguments can't be right.
    pub fn target(&self) -> Result<Target, Box<dyn Error>> {
        let mut target = Target::new(&self.address)?;
        if let Some(ca) = &self.ca {
            let pem = std::fs::read(ca).map_err(|e| format!("{}: {e}", ca.display()))?;
            let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem));
            target = target.with_tls(tls)?;
        }
        if let Some(token) = &self.token {
            target = target.with_token(token)?;
        }
        Ok(target)
    }
}

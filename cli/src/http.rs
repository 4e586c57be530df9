//! What `mq`'s commands that speak HTTP share: where the broker is, and what to show there.

use std::path::PathBuf;

use mq_net::secret_file;
use mq_nsq::client::{Admin, AdminError};

/// HTTP address of a broker unless told otherwise.
const DEFAULT_ADDRESS: &str = "127.0.0.1:4151";

/// Flags that name a broker's HTTP API.
#[derive(clap::Args)]
pub(crate) struct Http {
    /// Broker to ask: host:port of its HTTP API, or the path of a unix socket
    #[arg(long, value_name = "ADDRESS", env = "MQ_HTTP_ADDRESS", default_value = DEFAULT_ADDRESS)]
    http_address: String,
    /// File whose first line is the token to show, if the broker asks for one
    #[arg(long, value_name = "FILE", env = "MQ_HTTP_AUTH_TOKEN_FILE")]
    http_auth_token_file: Option<PathBuf>,
}

impl Http {
    pub(crate) fn admin(&self) -> Result<Admin, String> {
        let Some(path) = &self.http_auth_token_file else { return Ok(Admin::new(&self.http_address, None)) };
        let name = path.display();
        let text = std::fs::read(path).map_err(|e| format!("--http-auth-token-file {name}: {e}"))?;
        let tokens = secret_file::tokens(&text);
        let tokens = tokens.map_err(|what| format!("--http-auth-token-file {name}: {what}"))?;
        Ok(Admin::new(&self.http_address, tokens.first().copied()))
    }

    /// An error for people.
    pub(crate) fn say(&self, error: &AdminError) -> String {
        match error {
            AdminError::NoAnswer(_) => {
                format!("{}: {error}: is a broker running there? `mq serve` starts one", self.http_address)
            }
            AdminError::Refused { .. } => error.to_string(),
        }
    }
}

/// The runtime of a command.
pub(crate) fn runtime() -> Result<tokio::runtime::Runtime, String> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| format!("cannot start: {e}"))
}

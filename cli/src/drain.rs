//! `mq drain`: empties a broker and stops it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use mq_net::http::{Method, ask};
use mq_net::secret_file;
use mq_server::config::units;
use tokio::time::{Instant, sleep};

use crate::Outcome;

/// How often a broker that empties itself, or stops, is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How long a broker may take to stop once it is empty: what it writes then.
const STOP: Duration = Duration::from_secs(30);

/// Flags of `mq drain`.
#[derive(clap::Args)]
pub(crate) struct Drain {
    /// HTTP address of the broker: host:port, or the path of a unix socket
    #[arg(long, value_name = "ADDRESS", env = "MQ_HTTP_ADDRESS", default_value = "127.0.0.1:4151")]
    http_address: String,
    /// File with the token that the broker wants to see, in its first line
    #[arg(long, value_name = "FILE", env = "MQ_HTTP_AUTH_TOKEN_FILE")]
    http_auth_token_file: Option<PathBuf>,
    /// How long the broker may take to become empty; it stops then in any case, and keeps what is left
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = duration)]
    timeout: Duration,
}

fn duration(text: &str) -> Result<Duration, String> {
    units::parse_duration(text).ok_or_else(|| format!("it must be {}", units::DURATION_FORM))
}

/// Asks for it and waits until the broker has stopped.
pub(crate) fn run(options: Drain) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| format!("cannot start: {e}"))?;
    let token = options.http_auth_token_file.as_deref().map(token).transpose()?;
    runtime.block_on(drain(&options, token.as_deref()))
}

fn token(path: &Path) -> Result<String, String> {
    let named = |what: String| format!("--http-auth-token-file {}: {what}", path.display());
    let text = std::fs::read(path).map_err(|error| named(error.to_string()))?;
    let tokens = secret_file::tokens(&text).map_err(|what| named(what.to_owned()))?;
    let first = tokens.first().map(|token| String::from_utf8(token.to_vec())).transpose();
    first.map(Option::unwrap_or_default).map_err(|_| named("its first token is not UTF-8".to_owned()))
}

async fn drain(options: &Drain, token: Option<&str>) -> Outcome {
    let address = &options.http_address;
    let failed = |error| format!("{address}: {error}");
    let before = ask(address, Method::GET, "/info", token).await.map_err(failed)?;
    let target = format!("/drain?timeout={}", options.timeout.as_millis());
    ask(address, Method::POST, &target, token).await.map_err(failed)?;
    let deadline = Instant::now() + options.timeout + STOP;
    // It is gone, or another has taken its place.
    while ask(address, Method::GET, "/info", token).await.is_ok_and(|now| now == before) {
        if Instant::now() >= deadline {
            return Err(format!("{address}: it has not stopped {STOP:?} after its time was over"));
        }
        sleep(LOOK_EVERY).await;
    }
    Ok(0)
}

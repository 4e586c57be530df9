//! `mq lookup`: the lookup server as a process.

use std::io::Write;

use std::sync::Arc;

use clap::ArgMatches;
use mq_net::access::{Access, HttpTokens};
use mq_net::transport::tls::{TlsConfig, TlsOptions, TlsRequired};
use mq_nsq::lookupd::{LookupConfig, Lookupd};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::config::Idle;
use crate::config::lookup_settings::Config;
use crate::config::settings::InvokedAs;
use crate::features::word;
use crate::host;
use crate::serve::{bind_refused, raise_file_limit, stop_signal};

/// Runs a lookup server until SIGTERM or SIGINT.
pub fn run(flags: &ArgMatches, invoked_as: InvokedAs) -> Result<u8, String> {
    let (config, idle) = Config::load(flags, invoked_as)?;
    let log = config.telemetry().install();
    idle.iter().for_each(Idle::log);
    raise_file_limit();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| format!("cannot start: {e}"))?;
    runtime.block_on(async {
        let unwatched = |e| format!("cannot watch for signals: {e}");
        let (stop, hangup) =
            (stop_signal().map_err(unwatched)?, signal(SignalKind::hangup()).map_err(unwatched)?);
        tokio::spawn(log.report_repeats());
        let server = bind(lookup_config(&config, invoked_as), "").await?;
        let secrets = Secrets::load(&config)?;
        let grpc = bind_grpc(&config, &server, &secrets).await?;
        tokio::spawn(secrets.reload_at(hangup));
        announce(&server, "");
        if let Some(grpc) = &grpc {
            announce_grpc(grpc);
        }
        let stopping = watch::Sender::new(false);
        let stopped = || async {
            // It lives as long as the borrow.
            let _ = stopping.subscribe().wait_for(|stop| *stop).await;
        };
        tokio::join!(
            async {
                stop.await;
                stopping.send_replace(true);
            },
            server.run(stopped()),
            async {
                if let Some(grpc) = grpc {
                    grpc.run(stopped()).await;
                }
            },
        );
        tracing::info!("stopped");
        Ok(0)
    })
}

/// Listens. `prefix`: what the flags of its addresses begin with.
pub(crate) async fn bind(config: LookupConfig, prefix: &str) -> Result<Lookupd, String> {
    let addresses = [config.tcp_address.clone(), config.http_address.clone()];
    Lookupd::bind(config).await.map_err(|(setting, error)| {
        let [tcp, http] = &addresses;
        let address = if setting == "tcp-address" { tcp } else { http };
        format!("--{prefix}{setting} {address}: {error}")
    })
}

/// Tells on stdout that brokers and clients can come.
pub(crate) fn announce(server: &Lookupd, prefix: &str) {
    let mut out = std::io::stdout().lock();
    let (tcp, http) = (server.tcp_address(), server.http_address());
    let written = writeln!(out, "{prefix}tcp {tcp}\n{prefix}http {http}").and_then(|()| out.flush());
    // Who started it may have closed its stdout; it serves all the same.
    if let Err(error) = written {
        tracing::debug!(%error, "stdout is closed");
    }
}

/// Listens for clients over gRPC, if they are served.
async fn bind_grpc(
    config: &Config,
    server: &Lookupd,
    secrets: &Secrets,
) -> Result<Option<mq_grpc::Server>, String> {
    let Some(address) = &config.grpc_address.0 else { return Ok(None) };
    let settings = mq_grpc::Config { address: address.to_string(), ..mq_grpc::Config::default() };
    let parts = mq_grpc::Parts {
        directory: Some(Arc::clone(server.directory())),
        access: secrets.tokens.clone().map(|tokens| Arc::new(Access::new(Some(tokens), None))),
        tls: secrets.tls.clone(),
        ..mq_grpc::Parts::default()
    };
    let bound = mq_grpc::Server::bind(settings, parts).await;
    bound.map(Some).map_err(|error| bind_refused(&format!("--grpc-address {address}"), &error))
}

/// What the gRPC port asks of its clients, read from files.
#[derive(Clone)]
struct Secrets {
    tokens: Option<HttpTokens>,
    tls: Option<TlsConfig>,
}

impl Secrets {
    /// Reads the files. Blocks on the disk.
    fn load(config: &Config) -> Result<Self, String> {
        let tokens = config.grpc_auth_token_file.0.as_deref().map(HttpTokens::load).transpose();
        let tokens = tokens.map_err(|error| format!("--grpc-auth-token-file {error}"))?;
        let tls = match (&config.tls_cert.0, &config.tls_key.0) {
            (Some(cert), Some(key)) => Some(TlsOptions {
                cert: cert.clone(),
                key: key.clone(),
                root_ca_file: config.tls_root_ca_file.0.clone(),
                client_auth_policy: word("tls-client-auth-policy", config.tls_client_auth_policy.0)?,
                required: TlsRequired::True,
                min_version: word("tls-min-version", config.tls_min_version.0)?,
            }),
            _ => None,
        };
        let tls = tls.map(TlsConfig::load).transpose();
        let tls = tls.map_err(|error| format!("--tls-cert, --tls-key or --tls-root-ca-file: {error}"))?;
        Ok(Self { tokens, tls })
    }

    /// Reads the files again at each SIGHUP, off the async workers. Never ends.
    async fn reload_at(self, mut hangup: Signal) {
        while hangup.recv().await.is_some() {
            let secrets = self.clone();
            let reloaded = tokio::task::spawn_blocking(move || {
                // Both log either outcome themselves.
                let _ = secrets.tls.map(|tls| tls.reload());
                let _ = secrets.tokens.map(|tokens| tokens.reload());
            });
            if let Err(error) = reloaded.await {
                tracing::error!(%error, "SIGHUP: files not read again");
            }
        }
    }
}

fn announce_grpc(server: &mq_grpc::Server) {
    let mut out = std::io::stdout().lock();
    if let Err(error) = writeln!(out, "grpc {}", server.local_addr()).and_then(|()| out.flush()) {
        tracing::debug!(%error, "stdout is closed");
    }
}

fn lookup_config(config: &Config, invoked_as: InvokedAs) -> LookupConfig {
    LookupConfig {
        tcp_address: config.tcp_address.to_string(),
        http_address: config.http_address.to_string(),
        broadcast_address: host::broadcast(&config.broadcast_address, &config.http_address, invoked_as),
        hostname: host::name(),
        http_allowed_hosts: config.http_allowed_hosts.0.iter().map(|host| host.0.clone()).collect(),
        inactive_producer_timeout: config.inactive_producer_timeout,
        tombstone_lifetime: config.tombstone_lifetime,
        idle_lifetime: config.idle_lifetime,
        ..LookupConfig::default()
    }
}

//! `mq lookup`: the lookup server as a process.

use std::sync::Arc;

use clap::ArgMatches;
use mq_net::access::{Access, HttpTokens};
use mq_net::http::HostNames;
use mq_net::transport::tls::{TlsConfig, TlsOptions, TlsRequired};
use mq_nsq::lookupd::{LookupConfig, Lookupd};
use tokio::signal::unix::Signal;
use tokio::sync::watch;

use crate::config::lookup_settings::Config;
use crate::config::{Idle, InvokedAs};
use crate::features::word;
use crate::log::Log;
use crate::serve::{bind_refused, raise_file_limit};
use crate::signals::Signals;
use crate::startup_banner::Banner;
use crate::{VERSION, host, pages};

/// Runs a lookup server until a signal stops it, and gives the exit status.
///
/// # Errors
/// Why it could not start.
pub fn run(flags: &ArgMatches, invoked_as: InvokedAs) -> Result<u8, String> {
    let (config, idle) = Config::load(flags, invoked_as)?;
    let log = config.log().install(invoked_as);
    idle.iter().for_each(Idle::log);
    raise_file_limit();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| format!("cannot start: {e}"))?;
    let reload = Reload { flags: flags.clone(), invoked_as, log: log.clone() };
    let served = runtime.block_on(serve(config, reload));
    runtime.shutdown_background();
    log.flush();
    served
}

async fn serve(config: Config, reload: Reload) -> Result<u8, String> {
    let (signals, hangup) = Signals::catch().map_err(|e| format!("cannot watch for signals: {e}"))?;
    tokio::spawn(reload.log.report_repeats());
    let invoked_as = reload.invoked_as;
    let settings = lookup_config(&config, invoked_as);
    let (hosts, name) = (settings.http_allowed_hosts.clone(), settings.broadcast_address.clone());
    let server = bind(settings, "").await?;
    let page = pages::of_lookup(config.admin, &config.admin_address, &hosts, &name, &server).await?;
    let secrets = Secrets::load(&config)?;
    let grpc =
        bind_grpc(&config, &server, &secrets, pages::names(&name, hosts.iter().map(String::as_str))).await?;
    tokio::spawn(reload.at(hangup, secrets));
    let banner = Banner::start();
    announce(&server, grpc.as_ref(), page.address().as_deref(), invoked_as, &banner);
    let stopping = watch::Sender::new(false);
    let stopped = || async {
        // It lives as long as the borrow.
        let _ = stopping.subscribe().wait_for(|stop| *stop).await;
    };
    let serving = async {
        tokio::join!(
            async {
                signals.stopping().await;
                stopping.send_replace(true);
            },
            server.run(stopped()),
            page.run(stopped()),
            async {
                if let Some(grpc) = grpc {
                    grpc.run(stopped()).await;
                }
            },
        )
    };
    let status = tokio::select! {
        _ = serving => 0,
        (signal, _) = signals.at_once() => 128 + signal,
    };
    tracing::info!("stopped");
    Ok(status)
}

fn announce(
    server: &Lookupd,
    grpc: Option<&mq_grpc::Server>,
    page: Option<&str>,
    invoked_as: InvokedAs,
    banner: &Banner,
) {
    banner.lookup(server, "");
    if let Some(grpc) = grpc {
        banner.lookup_grpc(grpc);
    }
    if let Some(page) = page {
        banner.admin_port(page);
    }
    banner.lookup_ready();
    let (tcp, http) = (server.tcp_address(), server.http_address());
    if invoked_as == InvokedAs::Nsqlookupd {
        tracing::info!("TCP: listening on {tcp}");
        tracing::info!("HTTP: listening on {http}");
    }
    let grpc = grpc.map_or_else(|| "none".to_owned(), |grpc| grpc.local_addr().to_string());
    tracing::info!(version = VERSION, %tcp, %http, grpc, "ready");
}

/// SIGHUP of a lookup server: reads the log level and the files of secrets again.
struct Reload {
    flags: ArgMatches,
    invoked_as: InvokedAs,
    log: Log,
}

impl Reload {
    /// Reads again at each SIGHUP. Never ends.
    async fn at(self, mut hangup: Signal, secrets: Secrets) {
        while hangup.recv().await.is_some() {
            secrets.reload().await;
            match Config::load(&self.flags, self.invoked_as) {
                Ok((config, _)) => {
                    self.log.set_level(config.log_level);
                    tracing::info!(log_level = %config.log_level.0, "SIGHUP: log level read again");
                }
                Err(error) => tracing::error!(%error, "SIGHUP: the settings stay as they are"),
            }
        }
    }
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

/// Listens for clients over gRPC, if they are served.
async fn bind_grpc(
    config: &Config,
    server: &Lookupd,
    secrets: &Secrets,
    hosts: HostNames,
) -> Result<Option<mq_grpc::Server>, String> {
    let Some(address) = &config.grpc_address.0 else { return Ok(None) };
    let settings = mq_grpc::Config {
        address: address.to_string(),
        budget: server.budget(),
        ..mq_grpc::Config::default()
    };
    let parts = mq_grpc::Parts {
        directory: Some(Arc::clone(server.directory())),
        access: secrets.tokens.clone().map(|tokens| Arc::new(Access::new(Some(tokens), None))),
        tls: secrets.tls.clone(),
        hosts,
        ..mq_grpc::Parts::default()
    };
    let bound = mq_grpc::Server::bind(settings, parts).await;
    bound.map(Some).map_err(|error| bind_refused(&format!("--grpc-address {address}"), &error))
}

/// Secrets of the gRPC port, read from files.
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

    /// Reads the files again, off the async workers.
    async fn reload(&self) {
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

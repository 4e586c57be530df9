//! `mq serve`: the broker as a process.

use std::future::Future;
use std::path::Path;

use std::sync::Arc;

use clap::ArgMatches;
use mq_core::{Broker, Options as BrokerOptions};
use mq_net::secret_file;
use mq_nsq::server::{self, OptionSource, Options, Server};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::config::value::Address;
use crate::config::{Config, Idle, InvokedAs, Loaded};
use crate::discovery::Discovery;
use crate::options::LiveOptions;
use crate::reload::Reload;
use crate::startup_banner::Addresses;
use crate::{drain, features, grpc, startup_banner};

/// Runs a broker until SIGTERM or SIGINT.
pub fn run(flags: &ArgMatches, invoked_as: InvokedAs) -> Result<u8, String> {
    let loaded = Loaded::load(flags, invoked_as)?;
    let mut server = server_config(&loaded.config);
    features::apply(&loaded.config, invoked_as, &mut server)?;
    let log = Arc::new(loaded.config.telemetry().install());
    let options = Arc::new(LiveOptions::new(&loaded, &server.broadcast_address, Arc::clone(&log)));
    server.options = Options::new(Arc::clone(&options) as Arc<dyn OptionSource>);
    loaded.idle.iter().for_each(Idle::log);
    let reload = Reload { flags: flags.clone(), invoked_as, log, loaded, tls: None, tokens: None, options };
    raise_file_limit();
    // At least two: one may hang in a write of the log, and the others go on.
    let workers = std::thread::available_parallelism().map_or(2, |n| n.get().max(2));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers)
        .enable_all()
        .build()
        .map_err(|e| format!("cannot start: {e}"))?;
    // On a worker: what is accepted there begins there too.
    let served = runtime.block_on(runtime.spawn(serve(reload, server)));
    served.map_err(|panicked| panicked.to_string())??;
    Ok(0)
}

async fn serve(mut reload: Reload, server: server::Config) -> Result<(), String> {
    // Before anything is opened: a signal during recovery must end in a clean stop too.
    let stop = stop_signal().map_err(|e| format!("cannot watch for signals: {e}"))?;
    let hangup = signal(SignalKind::hangup()).map_err(|e| format!("cannot watch for signals: {e}"))?;
    tokio::spawn(reload.log.report_repeats());
    let config = reload.config().clone();
    let broker = open(&config).await?;
    let wish = server.drain.clone();
    let server = match Server::bind(server, broker.clone()).await {
        Ok(server) => server,
        Err(error) => {
            close(broker).await?;
            return Err(bind_failed(&config.tcp_address, &error));
        }
    };
    let mut grpc = match grpc::bind(&config, broker.clone(), &server).await {
        Ok(grpc) => grpc,
        Err(error) => {
            drop(server);
            close(broker).await?;
            return Err(error);
        }
    };
    // Before the broker is known anywhere, which is when the first clients come.
    let addresses = (server.local_addr(), server.http_addr(), grpc.as_ref().map(mq_grpc::Server::local_addr));
    let discovery = match Discovery::bind(&config, reload.invoked_as, broker.clone(), addresses).await {
        Ok(discovery) => discovery,
        Err(error) => {
            close(broker).await?;
            return Err(error);
        }
    };
    if let (Some(grpc), Some(directory)) = (&mut grpc, discovery.directory()) {
        grpc.add_directory(directory);
    }
    reload.options.set_lookups(discovery.lookups.clone());
    reload.tls = server.tls();
    reload.tokens = server.http_tokens();
    tokio::spawn(reload_at(hangup, reload));
    announce(&server, grpc.as_ref(), &config.data_path);
    discovery.announce();
    let lookups = discovery.lookups.clone();
    let (stopping, stopped) = (watch::Sender::new(false), watch::Sender::new(false));
    tokio::join!(
        async {
            tokio::select! {
                () = stop => {}
                () = drain::until_empty(&wish, &broker, &lookups) => {}
            }
            stopping.send_replace(true);
        },
        async {
            let grpc = async {
                if let Some(grpc) = grpc {
                    grpc.run(set(&stopping)).await;
                }
            };
            tokio::join!(server.run(set(&stopping)), grpc);
            stopped.send_replace(true);
        },
        discovery.run(set(&stopping), set(&stopped)),
    );
    close(broker).await?;
    tracing::info!("stopped");
    Ok(())
}

/// Resolves once `flag` is true.
async fn set(flag: &watch::Sender<bool>) {
    // It lives as long as the borrow.
    let _ = flag.subscribe().wait_for(|set| *set).await;
}

/// Reads settings again at each SIGHUP, off the async workers. Never ends.
async fn reload_at(mut hangup: Signal, mut reload: Reload) {
    while hangup.recv().await.is_some() {
        let reloaded = tokio::task::spawn_blocking(move || {
            reload.run();
            reload
        });
        reload = match reloaded.await {
            Ok(reload) => reload,
            Err(error) => return tracing::error!(%error, "SIGHUP is not heard any more"),
        };
    }
}

/// Opens the broker off the async workers: recovery reads files.
async fn open(config: &Config) -> Result<Broker, String> {
    let options = BrokerOptions {
        data_path: config.data_path.clone(),
        memory_limit: config.memory_limit.0,
        durability: config.durability,
        max_disk_bytes: config.max_disk_bytes.0,
        sync_wait: config.sync_wait,
        dedup_window: config.dedup_window,
        dedup_max_ids: config.dedup_max_ids,
        node_id: config.node_id.0,
        ephemeral_queue: config.mem_queue_size,
        max_msg_timeout: config.max_msg_timeout,
        max_channel_consumers: config.max_channel_consumers,
        ..BrokerOptions::default()
    };
    let opened = tokio::task::spawn_blocking(move || Broker::open(options)).await;
    match opened {
        Ok(Ok(broker)) => {
            secret_file::warn_if_exposed("the data folder", &config.data_path);
            Ok(broker)
        }
        Ok(Err(error)) => Err(format!("--data-path {}: {error}", config.data_path.display())),
        Err(panicked) => Err(format!("opening the data folder: {panicked}")),
    }
}

/// Spills, writes a checkpoint and syncs. No client can delay it.
async fn close(broker: Broker) -> Result<(), String> {
    match tokio::task::spawn_blocking(move || broker.close()).await {
        Ok(closed) => closed.map_err(|error| format!("closing the data folder: {error}")),
        Err(panicked) => Err(format!("closing the data folder: {panicked}")),
    }
}

fn server_config(config: &Config) -> server::Config {
    server::Config {
        tcp_address: match &config.tcp_address {
            Address::Tcp(address) => address.clone(),
            Address::Unix(path) => path.display().to_string(),
        },
        msg_timeout: config.msg_timeout,
        max_msg_timeout: config.max_msg_timeout,
        max_req_timeout: config.max_req_timeout,
        max_msg_size: config.max_msg_size.0,
        max_body_size: config.max_body_size.0,
        max_rdy_count: config.max_rdy_count,
        max_heartbeat_interval: config.max_heartbeat_interval,
        max_output_buffer_size: config.max_output_buffer_size.0,
        min_output_buffer_timeout: config.min_output_buffer_timeout,
        max_output_buffer_timeout: config.max_output_buffer_timeout,
        topology_region: config.topology_region.clone(),
        topology_zone: config.topology_zone.clone(),
        ..server::Config::default()
    }
}

fn bind_failed(address: &Address, error: &std::io::Error) -> String {
    if let Some(tls) = error.get_ref().and_then(|source| source.downcast_ref::<server::TlsError>()) {
        return format!("--tls-cert, --tls-key or --tls-root-ca-file: {tls}");
    }
    let web = error.get_ref().and_then(|source| source.downcast_ref::<server::WebError>());
    let flag = match web {
        Some(web) => return bind_refused(&format!("--{} {}", web.flag, web.value), &web.source),
        None => format!("--tcp-address {address}"),
    };
    bind_refused(&flag, error)
}

pub(crate) fn bind_refused(flag: &str, error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::AddrInUse => {
            format!("{flag}: {error}: stop what listens there, or choose another port (0 = any free one)")
        }
        _ => format!("{flag}: {error}"),
    }
}

/// Tells on stdout that clients can come.
fn announce(server: &Server, grpc: Option<&mq_grpc::Server>, data_path: &Path) {
    let data_path = data_path.canonicalize().unwrap_or_else(|_| data_path.to_owned());
    // Who started the broker may have closed its stdout; it serves all the same.
    let address = |address: Option<&_>| address.map(ToString::to_string);
    let addresses = Addresses {
        tcp: server.local_addr().to_string(),
        http: address(server.http_addr()),
        https: address(server.https_addr()),
        grpc: address(grpc.map(mq_grpc::Server::local_addr)),
    };
    if let Err(error) = startup_banner::announce(&mut std::io::stdout().lock(), &addresses, &data_path) {
        tracing::debug!(%error, "stdout is closed");
    }
}

/// Resolves at the first SIGTERM or SIGINT; the second ends the process at once.
pub(crate) fn stop_signal() -> std::io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        let name = next_signal(&mut terminate, &mut interrupt).await.0;
        tracing::info!(signal = name, "stopping; a second signal stops at once");
        tokio::spawn(async move {
            let (name, number) = next_signal(&mut terminate, &mut interrupt).await;
            tracing::warn!(signal = name, "stopping at once");
            std::process::exit(128 + number);
        });
    })
}

async fn next_signal(terminate: &mut Signal, interrupt: &mut Signal) -> (&'static str, i32) {
    tokio::select! {
        _ = terminate.recv() => ("SIGTERM", SignalKind::terminate().as_raw_value()),
        _ = interrupt.recv() => ("SIGINT", SignalKind::interrupt().as_raw_value()),
    }
}

/// A connection is a file descriptor, and the usual soft limit of 1,024 is far below what the hard one allows.
pub(crate) fn raise_file_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = rustix::process::Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, limit = limit.current, "the limit on open files stays as it is");
    }
}

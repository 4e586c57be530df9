//! `mq serve`: the broker as a process.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use clap::ArgMatches;
use mq_core::{Broker, Error, Options as BrokerOptions};
use mq_net::budget::Budget;
use mq_net::secret_file;
use mq_nsq::server::{self, OptionSource, Options, Server};
use tokio::signal::unix::Signal;
use tokio::sync::watch;
use tokio::time::{Instant, interval_at};

use crate::config::value::Address;
use crate::config::{Config, Idle, InvokedAs, Loaded};
use crate::discovery::Discovery;
use crate::new_folder::NewFolder;
use crate::nsqd_metadata::NsqdMetadata;
use crate::options::LiveOptions;
use crate::pages::{self, Port};
use crate::reload::Reload;
use crate::signals::{Signals, Stop};
use crate::startup_banner::{Addresses, Banner};
use crate::{Ended, VERSION, drain, features, grpc};

/// Interval between log lines of a start that takes long.
const OPENING_EVERY: Duration = Duration::from_secs(10);

/// Runs a broker until a signal stops it, or it is drained. The exit status is 0 after a clean stop, 128 and
/// the signal's number after one that was cut short.
///
/// # Errors
/// Why it could not start, or what went wrong when it stopped.
pub fn run(flags: &ArgMatches, invoked_as: InvokedAs) -> Result<Ended, String> {
    let loaded = Loaded::load(flags, invoked_as)?;
    let mut server = server_config(&loaded.config);
    features::apply(&loaded.config, invoked_as, &mut server)?;
    let log = loaded.config.log().install(invoked_as);
    let options = Arc::new(LiveOptions::new(&loaded, &server.broadcast_address, log.clone()));
    server.options = Options::new(Arc::clone(&options) as Arc<dyn OptionSource>);
    loaded.idle.iter().for_each(Idle::log);
    features::log_notes(&loaded);
    let reload = Reload {
        flags: flags.clone(),
        invoked_as,
        log: log.clone(),
        loaded,
        tls: None,
        tokens: None,
        options,
    };
    raise_file_limit();
    // At least two: one may hang in a write of the log, and the others go on.
    let workers = std::thread::available_parallelism().map_or(2, |n| n.get().max(2));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        // Turns of tasks between two looks at the sockets while there is always something to do: tokio's 61
        // turns of clients that flood are tens of milliseconds for everybody else.
        .event_interval(24)
        .worker_threads(workers)
        .enable_all()
        .build()
        .map_err(|e| format!("cannot start: {e}"))?;
    // On a worker: what is accepted there begins there too.
    let served = runtime.block_on(runtime.spawn(serve(reload, server)));
    // Nothing that is left may keep the process: a recovery or a write that was cut short.
    runtime.shutdown_background();
    log.flush();
    served.map_err(|panicked| panicked.to_string())?
}

async fn serve(reload: Reload, server: server::Config) -> Result<Ended, String> {
    // Before anything is opened: a signal during recovery must not end the process either.
    let (signals, hangup) = Signals::catch().map_err(|e| format!("cannot watch for signals: {e}"))?;
    tokio::spawn(reload.log.report_repeats());
    let config = reload.config().clone();
    let new_folder = NewFolder::at(&config.data_path);
    let nsqd = NsqdMetadata::read(&config.data_path);
    let opened = tokio::select! {
        opened = open(&config, nsqd) => opened,
        (signal, _) = signals.at_once() => {
            tracing::warn!("the data folder was not open yet: nothing is lost, and the next start reads it again");
            return Ok(Ended::with(128 + signal));
        }
    };
    let started = match opened {
        Ok(broker) if signals.stop() != Stop::No => {
            return close(&broker, &signals).await.map(Ended::with);
        }
        Ok(broker) => match Started::bind(&reload, server, broker.clone()).await {
            Ok(started) => Ok(started),
            Err(error) => {
                // The error that matters is the one before.
                let _ = close(&broker, &signals).await;
                Err(error)
            }
        },
        Err(error) => Err(error),
    };
    match started {
        Ok(started) => started.run(reload, hangup, &signals).await,
        Err(error) => {
            if let Some(new_folder) = new_folder {
                new_folder.empty();
            }
            Err(error)
        }
    }
}

/// A broker that listens everywhere and serves nobody yet.
struct Started {
    broker: Broker,
    server: Server,
    grpc: Option<mq_grpc::Server>,
    page: Port,
    discovery: Discovery,
    drain: server::Drain,
}

impl Started {
    async fn bind(reload: &Reload, server: server::Config, broker: Broker) -> Result<Self, String> {
        let config = reload.config();
        let drain = server.drain.clone();
        let bound = Server::bind(server, broker.clone()).await;
        let server = bound.map_err(|error| bind_failed(&config.tcp_address, &error))?;
        let page = pages::of_broker(config, reload.invoked_as, &server).await?;
        let mut grpc = grpc::bind(config, reload.invoked_as, broker.clone(), &server).await?;
        // Before the broker is known anywhere, which is when the first clients come.
        let addresses =
            (server.local_addr(), server.http_addr(), grpc.as_ref().map(mq_grpc::Server::local_addr));
        let discovery =
            Discovery::bind(config, reload.invoked_as, broker.clone(), addresses, server.budget());
        let discovery = discovery.await?;
        if let (Some(grpc), Some(directory)) = (&mut grpc, discovery.directory()) {
            grpc.add_directory(directory);
        }
        Ok(Self { broker, server, grpc, page, discovery, drain })
    }

    async fn run(self, mut reload: Reload, hangup: Signal, signals: &Signals) -> Result<Ended, String> {
        let Self { broker, server, grpc, page, discovery, drain } = self;
        let listeners = server.http_listeners();
        reload.options.set_lookups(discovery.lookups.clone());
        reload.tls = server.tls();
        reload.tokens = server.http_tokens();
        let banner = Banner::start();
        let addresses = addresses(&server, grpc.as_ref(), &page);
        banner.broker(&addresses, &reload.config().data_path);
        discovery.announce(&banner);
        addresses.log(reload.invoked_as);
        tokio::spawn(reload_at(hangup, reload));
        let lookups = discovery.lookups.clone();
        let (stopping, stopped) = (watch::Sender::new(false), watch::Sender::new(false));
        let serving = async {
            tokio::join!(
                async {
                    tokio::select! {
                        // Nobody waits for a drain that comes to no other end.
                        () = signals.stopping() => drain.end(broker.pending()),
                        () = drain::until_empty(&drain, &broker, &lookups) => {}
                    }
                    stopping.send_replace(true);
                },
                async {
                    let grpc = async {
                        if let Some(grpc) = grpc {
                            grpc.run(set(&stopping)).await;
                        }
                    };
                    tokio::join!(server.run(set(&stopping)), grpc, page.run(set(&stopping)));
                    stopped.send_replace(true);
                },
                discovery.run(set(&stopping), set(&stopped)),
            )
        };
        tokio::select! {
            _ = serving => {}
            // Clients are dropped with what serves them.
            _ = signals.at_once() => {}
        }
        let status = close(&broker, signals).await?;
        // Whoever drains it waits for that.
        let ports = if drain.is_asked() { listeners } else { Vec::new() };
        Ok(Ended { status, ports })
    }
}

/// Spills, writes a checkpoint and syncs, and gives the exit status. No client can delay it; a signal bounds
/// its time.
async fn close(broker: &Broker, signals: &Signals) -> Result<u8, String> {
    let closing = broker.clone();
    let mut closing = tokio::task::spawn_blocking(move || closing.close());
    let closed = tokio::select! {
        closed = &mut closing => Some(closed),
        (_, deadline) = signals.at_once() => tokio::time::timeout_at(deadline, closing).await.ok(),
    };
    match closed {
        Some(Ok(Ok(()))) => tracing::info!("stopped: everything is stored"),
        Some(Ok(Err(error))) => return Err(format!("closing the data folder: {error}")),
        Some(Err(panicked)) => return Err(format!("closing the data folder: {panicked}")),
        None => {
            let messages = broker.only_in_memory();
            tracing::error!(messages, "stopped before everything was stored: these messages are lost");
        }
    }
    Ok(match signals.stop() {
        Stop::AtOnce { signal, .. } => 128 + signal,
        Stop::No | Stop::Clean => 0,
    })
}

/// Resolves once `flag` is true.
pub(crate) async fn set(flag: &watch::Sender<bool>) {
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
async fn open(config: &Config, nsqd: Option<NsqdMetadata>) -> Result<Broker, String> {
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
    let (path, began) = (config.data_path.display(), Instant::now());
    tracing::info!(version = VERSION, data_path = %path, "opening the data folder");
    let mut opening = tokio::task::spawn_blocking(move || {
        let broker = Broker::open(options)?;
        if let Some(nsqd) = nsqd {
            nsqd.take_over(&broker);
        }
        Ok(broker)
    });
    let mut ticks = interval_at(began + OPENING_EVERY, OPENING_EVERY);
    let opened = loop {
        tokio::select! {
            opened = &mut opening => break opened,
            _ = ticks.tick() => tracing::info!(seconds = began.elapsed().as_secs(), "still reading the data folder"),
        }
    };
    let broker = match opened {
        Ok(opened) => opened.map_err(|error| open_failed(&config.data_path, &error))?,
        Err(panicked) => return Err(format!("opening the data folder: {panicked}")),
    };
    secret_file::warn_if_exposed("the data folder", &config.data_path);
    let (topics, messages, took) = (broker.topics().len(), broker.pending(), began.elapsed());
    if broker.had_clean_stop() {
        tracing::info!(topics, messages, ?took, "the data folder is open");
    } else {
        tracing::info!(
            topics,
            messages,
            ?took,
            "the data folder is open, recovered after a stop that was not clean"
        );
    }
    Ok(broker)
}

/// Complaint about a data folder that can't be opened. Where a file of it is missing, it says what to do.
fn open_failed(folder: &Path, error: &Error) -> String {
    let shown = folder.display();
    let source = std::error::Error::source(error).and_then(|source| source.downcast_ref::<io::Error>());
    match source.is_some_and(|source| source.kind() == io::ErrorKind::NotFound) && folder.exists() {
        true => format!(
            "--data-path {shown}: {error}: a file is missing; `mq inspect` shows what is there, and `mq repair` keeps every message that is whole"
        ),
        false => format!("--data-path {shown}: {error}"),
    }
}

pub(crate) fn server_config(config: &Config) -> server::Config {
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
        budget: Budget::beside(config.memory_limit.0),
        ..server::Config::default()
    }
}

pub(crate) fn bind_failed(address: &Address, error: &io::Error) -> String {
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

pub(crate) fn bind_refused(flag: &str, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            format!("{flag}: {error}: stop what listens there, or choose another port (0 = any free one)")
        }
        _ => format!("{flag}: {error}"),
    }
}

pub(crate) fn addresses(server: &Server, grpc: Option<&mq_grpc::Server>, page: &Port) -> Addresses {
    let address = |address: Option<&_>| address.map(ToString::to_string);
    Addresses {
        tcp: server.local_addr().to_string(),
        http: address(server.http_addr()),
        https: address(server.https_addr()),
        grpc: address(grpc.map(mq_grpc::Server::local_addr)),
        admin: page.address(),
    }
}

/// A connection is a file descriptor, and the usual soft limit of 1,024 is far below what the hard one
/// allows.
pub(crate) fn raise_file_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = rustix::process::Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, limit = limit.current, "the limit on open files stays as it is");
    }
}

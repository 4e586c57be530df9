//! A broker that a program has open, served to others: what `mq serve` does, without its process.

use std::future::Future;

use clap::Command;
use mq_core::Broker;
use mq_nsq::server::Server;
use tokio::sync::watch;

use crate::config::{self, InvokedAs, Loaded};
use crate::discovery::Discovery;
use crate::pages::{self, Port};
use crate::startup_banner::Addresses;
use crate::{drain, features, grpc, serve};

/// Flags of `mq serve` that are about the broker itself or the process, which the program has already.
const NOT_HERE: [&str; 14] = [
    "data_path",
    "memory_limit",
    "durability",
    "max_disk_bytes",
    "sync_wait",
    "dedup_window",
    "dedup_max_ids",
    "node_id",
    "mem_queue_size",
    "max_msg_timeout",
    "max_channel_consumers",
    "log_level",
    "log_format",
    "log_prefix",
];

/// Listeners on a broker.
pub struct ServedBroker {
    broker: Broker,
    server: Server,
    grpc: Option<mq_grpc::Server>,
    page: Port,
    discovery: Discovery,
    drain: mq_nsq::server::Drain,
}

impl ServedBroker {
    /// Listens as `flags`, those of `mq serve`, say. Neither a file nor the environment is read. Nobody is
    /// served before [`ServedBroker::run`].
    ///
    /// # Errors
    /// Fails for a flag that is none, or that is about the broker itself; for an address that can't be
    /// listened on.
    pub async fn bind(broker: Broker, flags: &[String]) -> Result<Self, String> {
        let command =
            Command::new("serve").no_binary_name(true).args_override_self(true).disable_help_flag(true);
        let command = config::augment_serve(command, InvokedAs::Mq);
        let matches = command.try_get_matches_from(flags).map_err(|error| error.to_string())?;
        let loaded = Loaded::from_flags(&matches)?;
        if let Some(flag) = NOT_HERE.iter().find(|key| loaded.is_given(key)) {
            let flag = flag.replace('_', "-");
            return Err(format!("--{flag} is a setting of the broker, which is open already"));
        }
        let config = &loaded.config;
        let mut server = serve::server_config(config);
        features::apply(config, InvokedAs::Mq, &mut server)?;
        let drain = server.drain.clone();
        let bound = Server::bind(server, broker.clone()).await;
        let server = bound.map_err(|error| serve::bind_failed(&config.tcp_address, &error))?;
        let page = pages::of_broker(config, InvokedAs::Mq, &server).await?;
        let mut grpc = grpc::bind(config, InvokedAs::Mq, broker.clone(), &server).await?;
        let addresses =
            (server.local_addr(), server.http_addr(), grpc.as_ref().map(mq_grpc::Server::local_addr));
        let discovery =
            Discovery::bind(config, InvokedAs::Mq, broker.clone(), addresses, server.budget()).await?;
        if let (Some(grpc), Some(directory)) = (&mut grpc, discovery.directory()) {
            grpc.add_directory(directory);
        }
        Ok(Self { broker, server, grpc, page, discovery, drain })
    }

    /// The addresses it listens on.
    pub fn addresses(&self) -> Addresses {
        serve::addresses(&self.server, self.grpc.as_ref(), &self.page)
    }

    /// Serves until `stop` is done, or the broker was drained. Ends once every client is gone; the broker
    /// goes on.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        let Self { broker, server, grpc, page, discovery, drain } = self;
        let lookups = discovery.lookups.clone();
        let (stopping, stopped) = (watch::Sender::new(false), watch::Sender::new(false));
        tokio::join!(
            async {
                tokio::select! {
                    () = stop => {}
                    () = drain::until_empty(&drain, &broker, &lookups) => {}
                }
                stopping.send_replace(true);
            },
            async {
                let grpc = async {
                    if let Some(grpc) = grpc {
                        grpc.run(serve::set(&stopping)).await;
                    }
                };
                tokio::join!(server.run(serve::set(&stopping)), grpc, page.run(serve::set(&stopping)));
                stopped.send_replace(true);
            },
            discovery.run(serve::set(&stopping), serve::set(&stopped)),
        );
    }
}

//! `mq admin`: the admin page as a process.

use std::collections::BTreeMap;
use std::sync::Arc;

use clap::ArgMatches;
use mq_admin::{Admin, Alone, Credentials, Mode, NsqadminSettings, PageOptions, Settings};
use mq_net::access::{Access, HttpTokens};
use mq_net::http::{HostNames, HttpLimits, HttpServer};
use mq_net::secret::Secret;
use mq_net::secret_file;
use mq_net::transport::tls::{ClientTls, ClientTlsOptions};
use mq_nsq::server::OptionValue;
use parking_lot::Mutex;
use tokio::signal::unix::Signal;

use crate::config::admin_settings::{Config, Loaded};
use crate::config::value::{LogLevel, Value};
use crate::config::{Idle, InvokedAs};
use crate::log::Log;
use crate::serve::{bind_refused, raise_file_limit};
use crate::signals::Signals;
use crate::startup_banner::Banner;
use crate::{VERSION, host};

/// Runs the page until a signal stops it, and gives the exit status.
///
/// # Errors
/// Why it could not start.
pub fn run(flags: &ArgMatches, invoked_as: InvokedAs) -> Result<u8, String> {
    let Loaded { config, idle, shown } = Config::load(flags, invoked_as)?;
    let log = config.log().install(invoked_as);
    idle.iter().for_each(Idle::log);
    raise_file_limit();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| format!("cannot start: {e}"))?;
    let served = runtime.block_on(async {
        tokio::spawn(log.clone().report_repeats());
        let options = Shown { values: Mutex::new(shown), log: log.clone() };
        serve(&config, Arc::new(options), invoked_as).await
    });
    runtime.shutdown_background();
    log.flush();
    served
}

/// Settings as `/config` shows them.
struct Shown {
    values: Mutex<BTreeMap<&'static str, OptionValue>>,
    log: Log,
}

impl PageOptions for Shown {
    fn get(&self, name: &str) -> Option<mq_admin::OptionValue> {
        Some(match self.values.lock().get(name)?.clone() {
            OptionValue::Text(text) => mq_admin::OptionValue::Text(text),
            OptionValue::Json(json) => mq_admin::OptionValue::Json(json),
        })
    }

    fn set_log_level(&self, word: &str) -> bool {
        let Some(level) = LogLevel::parse(word) else { return false };
        self.log.set_level(level);
        self.values.lock().insert("log_level", level.show());
        true
    }
}

async fn serve(config: &Config, options: Arc<Shown>, invoked_as: InvokedAs) -> Result<u8, String> {
    let (signals, hangup) = Signals::catch().map_err(|e| format!("cannot watch for signals: {e}"))?;
    let tokens = config.http_auth_token_file.0.as_deref().map(HttpTokens::load).transpose();
    let tokens = tokens.map_err(|error| format!("--http-auth-token-file {error}"))?;
    let address = config.http_address.to_string();
    let bound = HttpServer::bind(&address, None, HttpLimits::default()).await;
    let server = bound.map_err(|error| bind_refused(&format!("--http-address {address}"), &error))?;
    let settings = settings(config, options, server.local_addr().to_string(), tokens.clone())?;
    let name = host::name();
    let allowed = config.http_allowed_hosts.0.iter().map(|host| host.0.as_str());
    let hosts = HostNames::new(std::iter::once(name.as_str()).chain(allowed));
    let page = Alone::new(Admin::new(settings), hosts);
    tokio::spawn(reload(hangup, tokens));
    let http = server.local_addr().to_string();
    let banner = Banner::start();
    banner.admin(&http);
    if invoked_as == InvokedAs::Nsqadmin {
        tracing::info!("HTTP: listening on {http}");
    }
    tracing::info!(version = VERSION, http, "ready");
    let status = tokio::select! {
        () = server.run(page, signals.stopping()) => 0,
        (signal, _) = signals.at_once() => 128 + signal,
    };
    tracing::info!("stopped");
    Ok(status)
}

/// Reads the file of tokens again at each SIGHUP. Never ends.
async fn reload(mut hangup: Signal, tokens: Option<HttpTokens>) {
    while hangup.recv().await.is_some() {
        let tokens = tokens.clone();
        // It logs either outcome itself.
        let read = tokio::task::spawn_blocking(move || tokens.map(|tokens| tokens.reload()));
        if let Err(error) = read.await {
            tracing::error!(%error, "SIGHUP: tokens not read again");
        }
    }
}

fn settings(
    config: &Config,
    options: Arc<Shown>,
    name: String,
    tokens: Option<HttpTokens>,
) -> Result<Settings, String> {
    let token = config.auth_token_file.0.as_deref().map(|path| {
        let text =
            std::fs::read(path).map_err(|error| format!("--auth-token-file {}: {error}", path.display()))?;
        secret_file::warn_if_exposed("the file of the token", path);
        let tokens = secret_file::tokens(&text);
        let tokens = tokens.map_err(|error| format!("--auth-token-file {}: {error}", path.display()))?;
        let first = tokens.into_iter().next().unwrap_or_default();
        Ok::<_, String>(Secret::new(Arc::from(first.to_vec())))
    });
    let addresses = |list: &[crate::config::value::list::HttpAddress]| -> Vec<String> {
        list.iter().map(|address| address.0.clone()).collect()
    };
    Ok(Settings {
        nodes: addresses(&config.nsqd_http_address.0),
        lookups: addresses(&config.lookupd_http_address.0),
        tls: config.http_client_tls.then(|| client_tls(config)).transpose()?,
        access: Some(Arc::new(Access::new(tokens, None))),
        credentials: Credentials::Own(token.transpose()?),
        connect_timeout: config.http_client_connect_timeout,
        request_timeout: config.http_client_request_timeout,
        nsqadmin: NsqadminSettings {
            admin_users: config.admin_user.0.iter().map(|user| user.0.clone()).collect(),
            acl_http_header: config.acl_http_header.clone(),
            acl_http_proxies: config.acl_http_proxies.0.iter().map(|network| network.0).collect(),
            allow_config_from: config.allow_config_from_cidr.0.first().map(|network| network.0),
            notification_endpoint: Some(config.notification_http_endpoint.clone())
                .filter(|url| !url.is_empty()),
            via: host::name(),
            graphite: config.graphite(),
            options: Some(options),
        },
        ..Settings::new(Mode::Fleet, &name, &config.base_path)
    })
}

fn client_tls(config: &Config) -> Result<ClientTls, String> {
    let identity = config.http_client_tls_cert.0.clone().zip(config.http_client_tls_key.0.clone());
    let options = ClientTlsOptions {
        root_ca_file: config.http_client_tls_root_ca_file.0.clone(),
        identity,
        insecure_skip_verify: config.http_client_tls_insecure_skip_verify,
        ..ClientTlsOptions::default()
    };
    ClientTls::load(&options)
        .map_err(|error| format!("--http-client-tls-root-ca-file, -cert or -key: {error}"))
}

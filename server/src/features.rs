//! Turns settings into the server's configuration: TLS, compression, permissions, HTTP, statistics.

use std::fmt::Display;
use std::str::FromStr;

use mq_net::transport::tls::TlsVersion;
use mq_nsq::server::{self, StatsdConfig, TlsOptions};

use crate::config::value::{Address, MaybeAddress};
use crate::config::{Config, InvokedAs, Loaded};
use crate::host;

/// Copies the settings of `config` to those of `server`.
///
/// # Errors
/// If a word of `config` is not one that the server has.
pub(crate) fn apply(
    config: &Config,
    invoked_as: InvokedAs,
    server: &mut server::Config,
) -> Result<(), String> {
    tls(config, server)?;
    auth(config, server)?;
    http(config, invoked_as, server);
    statistics(config, server);
    Ok(())
}

/// Writes lines about settings that do other than nsqd's users may expect.
pub(crate) fn log_notes(loaded: &Loaded) {
    let config = &loaded.config;
    let version = config.tls_min_version.0.parse::<TlsVersion>();
    if loaded.is_given("tls_min_version") && version.is_ok_and(TlsVersion::is_outdated) {
        tracing::warn!(
            "--tls-min-version {}: TLS 1.0 and 1.1 are not served, so clients need TLS 1.2 or 1.3",
            config.tls_min_version.0
        );
    }
    if !config.auth_http_address.0.is_empty() {
        tracing::info!(
            "--auth-http-address: requests over HTTP and gRPC, too, must have a secret that the auth servers permit (Authorization: Bearer SECRET), all but /ping"
        );
    }
}

fn tls(config: &Config, server: &mut server::Config) -> Result<(), String> {
    server.max_deflate_level = u8::try_from(config.max_deflate_level).unwrap_or(u8::MAX);
    server.snappy = config.snappy;
    server.deflate = config.deflate;
    let (Some(cert), Some(key)) = (&config.tls_cert.0, &config.tls_key.0) else { return Ok(()) };
    server.tls = Some(TlsOptions {
        cert: cert.clone(),
        key: key.clone(),
        root_ca_file: config.tls_root_ca_file.0.clone(),
        client_auth_policy: word("tls-client-auth-policy", config.tls_client_auth_policy.0)?,
        required: word("tls-required", config.tls_required.0)?,
        min_version: word("tls-min-version", config.tls_min_version.0)?,
    });
    Ok(())
}

fn http(config: &Config, invoked_as: InvokedAs, server: &mut server::Config) {
    let address = |address: &MaybeAddress| address.0.as_ref().map(Address::to_string);
    server.http_address = address(&config.http_address);
    server.https_address = address(&config.https_address);
    server.http_auth_token_file = config.http_auth_token_file.0.clone();
    server.http_allowed_hosts = config.http_allowed_hosts.0.iter().map(|host| host.0.clone()).collect();
    server.broadcast_address = host::broadcast(&config.broadcast_address, &config.tcp_address, invoked_as);
    server.broadcast_http_port = config.broadcast_http_port;
    server.hostname = host::name();
}

fn statistics(config: &Config, server: &mut server::Config) {
    server.metrics_per_channel = config.metrics_per_channel;
    server.latency_percentiles =
        config.e2e_processing_latency_percentile.0.iter().map(|part| part.0).collect();
    server.latency_window = config.e2e_processing_latency_window_time;
    server.statsd = config.statsd_address.0.as_ref().map(|address| StatsdConfig {
        address: address.to_string(),
        prefix: config.statsd_prefix.clone(),
        interval: config.statsd_interval,
        mem_stats: config.statsd_mem_stats,
        udp_packet_size: usize::try_from(config.statsd_udp_packet_size).unwrap_or(usize::MAX),
        exclude_ephemeral: config.statsd_exclude_ephemeral,
    });
}

/// The server's own value for a word that settings allow.
pub(crate) fn word<T: FromStr<Err: Display>>(flag: &str, text: &str) -> Result<T, String> {
    text.parse().map_err(|error| format!("--{flag} {text}: {error}"))
}

fn auth(config: &Config, server: &mut server::Config) -> Result<(), String> {
    server.auth_http_addresses = config.auth_http_address.0.iter().map(|address| address.0.clone()).collect();
    server.auth_http_request_method = match config.auth_http_request_method.0 {
        "post" => server::AuthMethod::Post,
        _ => server::AuthMethod::Get,
    };
    server.http_client_connect_timeout = config.http_client_connect_timeout;
    server.http_client_request_timeout = config.http_client_request_timeout;
    server.tls_root_ca_file = config.tls_root_ca_file.0.clone();
    server.tls_min_version = word("tls-min-version", config.tls_min_version.0)?;
    Ok(())
}

//! From settings to what the server offers beside plain connections: TLS, compression, permissions.

use mq_nsq::server;

use crate::config::Config;

/// Sets `server` to what `config` says.
///
/// # Errors
/// If `config` asks for a protection that this build has not: to serve without it would be worse than not at all.
pub(crate) fn apply(config: &Config, server: &mut server::Config) -> Result<(), String> {
    server.max_deflate_level = config.max_deflate_level;
    // These only shape what is asked for below, or allow what no client is offered.
    let _ = (&config.tls_root_ca_file, config.tls_min_version, config.deflate, config.snappy);
    let _ = (config.auth_http_request_method, config.http_client_connect_timeout);
    let _ = config.http_client_request_timeout;
    let asked = [
        (config.tls_cert.0.is_some(), "--tls-cert: TLS"),
        (!config.auth_http_address.0.is_empty(), "--auth-http-address: AUTH"),
    ];
    match asked.iter().find(|(asked, _)| *asked) {
        Some((_, what)) => Err(format!("{what} is not in this build of mq")),
        None => Ok(()),
    }
}

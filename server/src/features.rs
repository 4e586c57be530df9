//! From settings to what the server offers beside plain connections: TLS, compression, permissions.

use mq_nsq::server;

use crate::config::Config;

/// Sets `server` to what `config` says.
///
/// # Errors
/// If `config` asks for a protection that this build has not: to serve without it would be worse than not at all.
pub(crate) fn apply(config: &Config, server: &mut server::Config) -> Result<(), String> {
    tls(config, server)?;
    auth(config, server);
    Ok(())
}

fn tls(config: &Config, server: &mut server::Config) -> Result<(), String> {
    server.max_deflate_level = config.max_deflate_level;
    // These shape what is asked for below, or allow what no client is offered.
    let _ = (config.tls_min_version, config.deflate, config.snappy);
    if config.tls_cert.0.is_some() {
        return Err("--tls-cert: TLS is not in this build of mq".to_owned());
    }
    Ok(())
}

fn auth(config: &Config, server: &mut server::Config) {
    server.auth_http_addresses = config.auth_http_address.0.iter().map(|address| address.0.clone()).collect();
    server.auth_http_request_method = match config.auth_http_request_method.0 {
        "post" => server::AuthMethod::Post,
        _ => server::AuthMethod::Get,
    };
    server.http_client_connect_timeout = config.http_client_connect_timeout;
    server.http_client_request_timeout = config.http_client_request_timeout;
    server.tls_root_ca_file = config.tls_root_ca_file.0.clone();
}

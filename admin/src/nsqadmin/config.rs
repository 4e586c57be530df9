//! `/config`: what the page runs with, under nsqadmin's names, and what of it can change.

use std::net::IpAddr;

use mq_net::http::{Answer, Method, Request, StatusCode};

use super::refused;
use crate::admin::Admin;
use crate::settings::{Mode, OptionValue};
use crate::upstream::Upstream;
use crate::viewer::{Viewer, ip_of};

/// Largest value.
const VALUE_BYTES_MAX: u64 = 1024 * 1024;
/// Lookup servers of a value: each is asked whenever somebody looks.
const LOOKUPS_MAX: usize = 64;

const LOOKUPS: &str = "nsqlookupd_http_addresses";
const LOG_LEVEL: &str = "log_level";

/// Answers a request for the option `name`, from addresses that it is meant for.
pub(super) async fn answer(admin: &Admin, name: &str, request: Request) -> Result<Answer, Answer> {
    let range = admin.settings.nsqadmin.allow_config_from;
    let ip: Result<IpAddr, _> = ip_of(request.peer()).parse();
    if let Some(range) = range {
        let ip = ip.map_err(|_| refused(StatusCode::BAD_REQUEST, "INVALID_REMOTE_ADDR"))?;
        if !range.contains(ip) {
            return Err(refused(StatusCode::FORBIDDEN, "FORBIDDEN"));
        }
    }
    let viewer = Viewer::of(admin, &request).await?;
    match *request.method() {
        Method::GET => {}
        Method::PUT => put(admin, &viewer, name, request).await?,
        _ => return Err(refused(StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED")),
    }
    show(admin, name).ok_or_else(|| refused(StatusCode::BAD_REQUEST, "INVALID_OPTION"))
}

/// The value in force.
fn show(admin: &Admin, name: &str) -> Option<Answer> {
    let sources = admin.fleet.sources();
    let ids = |upstreams: &[Upstream]| {
        let ids: Vec<_> = upstreams.iter().map(|upstream| upstream.id.as_str()).collect();
        Answer::json(&ids)
    };
    match name {
        LOOKUPS => Some(ids(&sources.lookups)),
        "nsqd_http_addresses" => Some(ids(&sources.nodes)),
        name => Some(match admin.settings.nsqadmin.options.as_ref()?.get(name)? {
            OptionValue::Text(text) => Answer::text(text).plain(),
            OptionValue::Json(json) => Answer::raw_json(json),
        }),
    }
}

async fn put(admin: &Admin, viewer: &Viewer, name: &str, request: Request) -> Result<(), Answer> {
    if !viewer.may_change {
        return Err(refused(StatusCode::FORBIDDEN, "FORBIDDEN"));
    }
    let invalid = || refused(StatusCode::BAD_REQUEST, "INVALID_VALUE");
    let too_big = || refused(StatusCode::PAYLOAD_TOO_LARGE, "INVALID_VALUE");
    let value = request.body(VALUE_BYTES_MAX).await.map_err(|_| too_big())?;
    if value.is_empty() {
        return Err(too_big());
    }
    match name {
        LOOKUPS if admin.settings.mode == Mode::Fleet => {
            let addresses: Vec<String> = serde_json::from_slice(&value).map_err(|_| invalid())?;
            if addresses.len() > LOOKUPS_MAX || !addresses.iter().all(|address| is_address(address)) {
                return Err(invalid());
            }
            admin.fleet.set_lookups(addresses.iter().map(|address| lookup(admin, address)).collect());
        }
        LOG_LEVEL => {
            let options = admin
                .settings
                .nsqadmin
                .options
                .as_ref()
                .ok_or_else(|| refused(StatusCode::BAD_REQUEST, "INVALID_OPTION"))?;
            let word = std::str::from_utf8(&value).map_err(|_| invalid())?;
            if !options.set_log_level(word) {
                return Err(invalid());
            }
        }
        _ => return Err(refused(StatusCode::BAD_REQUEST, "INVALID_OPTION")),
    }
    let shown = String::from_utf8_lossy(&value);
    tracing::info!(
        option = name,
        value = &*shown,
        by = viewer.name(),
        peer = viewer.from(),
        "admin: option changed"
    );
    Ok(())
}

/// The lookup server at an address. Only one that was named at the start gets the token.
fn lookup(admin: &Admin, address: &str) -> Upstream {
    let settings = &admin.settings;
    match settings.lookups.iter().any(|named| named == address) {
        true => Upstream::configured(address, settings.tls.clone()),
        false => Upstream::added(address, settings.tls.clone()),
    }
}

fn is_address(text: &str) -> bool {
    let is_port = |port: &str| port.parse::<u16>().is_ok_and(|port| port > 0);
    let plain = |host: &str| {
        !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || b".-_:[]".contains(&b))
    };
    text.len() <= 300 && text.rsplit_once(':').is_some_and(|(host, port)| plain(host) && is_port(port))
}

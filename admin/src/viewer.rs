//! Viewers of the page, and what they may do.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use mq_net::http::{Answer, Peer, Request, StatusCode};
use mq_net::secret::Secret;

use crate::fleet::{Key, Snapshot};
use crate::settings::Credentials;
use crate::site::Admin;
use crate::upstream::Call;

/// One who looks at the page.
pub(crate) struct Viewer {
    /// Name in the audit log; never a secret.
    pub(crate) name: String,
    /// Whether it may change anything, by nsqadmin's rule for users; tokens have their own.
    pub(crate) may_change: bool,
    pub(crate) call: Call,
}

impl Viewer {
    /// The sender of a request, by its cookie or its header.
    pub(crate) async fn of(admin: &Admin, request: &Request) -> Result<Self, Answer> {
        let settings = &admin.settings;
        let session = || admin.sessions.token(request);
        let token: Option<Secret<Arc<[u8]>>> =
            request.bearer().map(|bearer| Secret::new(bearer.into())).or_else(session);
        let user = user(admin, request);
        let mut name = user.clone();
        if let Some(access) = &settings.access {
            let caller = access.caller(token.as_ref().map(|token| &**token.expose()), request.peer()).await?;
            name = name.or_else(|| caller.name().map(str::to_owned));
        }
        let users = &settings.nsqadmin.admin_users;
        let token = match &settings.credentials {
            Credentials::Viewers => token,
            Credentials::Own(token) => token.clone(),
        };
        Ok(Self {
            may_change: users.is_empty() || user.is_some_and(|user| users.contains(&user)),
            name: name.unwrap_or_else(|| "anyone".to_owned()),
            call: Call {
                peer: request.peer().clone(),
                token,
                connect_timeout: settings.connect_timeout,
                request_timeout: settings.request_timeout,
            },
        })
    }

    /// The fleet as it may be seen.
    pub(crate) async fn snapshot(&self, admin: &Admin) -> Result<Arc<Snapshot>, Answer> {
        // Where one token is for all, all see the same; else an auth server may look at the address too.
        let asks = admin.settings.access.as_ref().is_some_and(|access| !access.is_open());
        let key = match &admin.settings.credentials {
            Credentials::Viewers if asks => Key {
                token: self.call.token.as_ref().map(|token| Arc::clone(token.expose())),
                ip: ip_of(&self.call.peer),
            },
            _ => Key::default(),
        };
        let snapshot = admin.fleet.snapshot(&self.call, key).await;
        match snapshot.is_empty() && !snapshot.warnings.is_empty() {
            true => {
                let detail = snapshot.warnings.join("; ");
                Err(Answer::error_with(StatusCode::BAD_GATEWAY, "UPSTREAM_ERROR", &detail))
            }
            false => Ok(snapshot),
        }
    }
}

/// The user that a proxy names, where its word counts.
fn user(admin: &Admin, request: &Request) -> Option<String> {
    let settings = &admin.settings.nsqadmin;
    let ip: IpAddr = ip_of(request.peer()).parse().ok()?;
    if !settings.acl_http_proxies.iter().any(|range| range.contains(ip)) {
        return None;
    }
    let mut values = request.headers().get_all(settings.acl_http_header.as_str()).iter();
    let (value, None) = (values.next()?, values.next()) else { return None };
    let name: String = value.to_str().ok()?.chars().filter(|c| !c.is_control()).take(256).collect();
    Some(name).filter(|name| !name.is_empty())
}

/// The IP address of a peer; empty on a unix socket.
pub(crate) fn ip_of(peer: &Peer) -> String {
    let address: Option<SocketAddr> = peer.address.parse().ok();
    address.map(|address| address.ip().to_canonical().to_string()).unwrap_or_default()
}

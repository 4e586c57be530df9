//! Viewers of the page, and what they may do.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use mq_net::http::{Answer, Peer, Request, StatusCode};
use mq_net::secret::Secret;

use crate::admin::Admin;
use crate::fleet::{Key, Seen};
use crate::settings::Credentials;
use crate::snapshot::Snapshot;
use crate::upstream::Call;

/// One who looks at the page.
pub(crate) struct Viewer {
    /// The name by which it is known, if it is; never a secret.
    known: Option<String>,
    /// The address that it comes from, as a proxy names it that is believed.
    from: String,
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
            known: name,
            from: origin(admin, request),
            call: Call {
                peer: request.peer().clone(),
                token,
                connect_timeout: settings.connect_timeout,
                request_timeout: settings.request_timeout,
                room: admin.room.clone(),
            },
        })
    }

    /// The name by which it is known, if it is.
    pub(crate) fn known(&self) -> Option<&str> {
        self.known.as_deref()
    }

    /// Name in the audit log.
    pub(crate) fn name(&self) -> &str {
        self.known().unwrap_or("anyone")
    }

    /// The address that it comes from: the connection's, or what a proxy that is believed says.
    pub(crate) fn from(&self) -> &str {
        &self.from
    }

    /// Begins to read the fleet: whoever opens the page asks for it next.
    pub(crate) fn prepare(&self, admin: &Admin) {
        admin.fleet.prepare(&self.call, self.key(admin));
    }

    /// The viewers who see the same.
    pub(crate) fn key(&self, admin: &Admin) -> Key {
        // Where one token is for all, all see the same; else an auth server may look at the address too.
        let asks = admin.settings.access.as_ref().is_some_and(|access| !access.is_open());
        match &admin.settings.credentials {
            Credentials::Viewers if asks => Key {
                token: self.call.token.as_ref().map(|token| Arc::clone(token.expose())),
                ip: ip_of(&self.call.peer),
            },
            _ => Key::default(),
        }
    }

    /// The fleet as it may be seen, or what is read of it so far.
    pub(crate) async fn seen(&self, admin: &Admin) -> Result<Seen, Answer> {
        let seen = admin.fleet.seen(&self.call, self.key(admin)).await;
        match seen.reading {
            None => Ok(Seen { snapshot: answered(seen.snapshot)?, reading: None }),
            Some(_) => Ok(seen),
        }
    }

    /// The fleet as it may be seen.
    pub(crate) async fn snapshot(&self, admin: &Admin) -> Result<Arc<Snapshot>, Answer> {
        answered(admin.fleet.snapshot(&self.call, self.key(admin)).await)
    }
}

/// The fleet, where anybody of it answers.
fn answered(snapshot: Arc<Snapshot>) -> Result<Arc<Snapshot>, Answer> {
    match snapshot.is_empty() && !snapshot.warnings.is_empty() {
        true => {
            let detail = snapshot.warnings.join("; ");
            Err(Answer::error_with(StatusCode::BAD_GATEWAY, "UPSTREAM_ERROR", &detail))
        }
        false => Ok(snapshot),
    }
}

/// Whether `ip` is a proxy whose headers are believed.
fn is_proxy(admin: &Admin, ip: IpAddr) -> bool {
    admin.settings.nsqadmin.acl_http_proxies.iter().any(|range| range.contains(ip))
}

/// The client's address as the proxy names it through which it comes, where that is believed: the last in
/// `X-Forwarded-For` that is no such proxy itself. What stands before it, anybody can write.
pub(crate) fn forwarded(admin: &Admin, request: &Request) -> Option<IpAddr> {
    let peer: IpAddr = ip_of(request.peer()).parse().ok()?;
    if !is_proxy(admin, peer) {
        return None;
    }
    let lines: Vec<_> = request.headers().get_all("x-forwarded-for").iter().collect();
    let addresses =
        lines.iter().rev().filter_map(|line| line.to_str().ok()).flat_map(|line| line.rsplit(','));
    for address in addresses {
        let ip: IpAddr = address.trim().parse::<IpAddr>().ok()?.to_canonical();
        if !is_proxy(admin, ip) {
            return Some(ip);
        }
    }
    None
}

/// The address that a request comes from, for logs: both where a proxy names it.
pub(crate) fn origin(admin: &Admin, request: &Request) -> String {
    match forwarded(admin, request) {
        Some(ip) => format!("{ip} by {}", request.peer().address),
        None => request.peer().address.clone(),
    }
}

/// The user that a proxy names, where its word counts.
fn user(admin: &Admin, request: &Request) -> Option<String> {
    let settings = &admin.settings.nsqadmin;
    let ip: IpAddr = ip_of(request.peer()).parse().ok()?;
    if !is_proxy(admin, ip) {
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

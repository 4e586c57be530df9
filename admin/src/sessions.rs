//! Logins: a random name in a cookie stands for a token, which never leaves the server.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use mq_net::http::{Request, header};
use mq_net::secret::{Secret, unguessable};
use parking_lot::Mutex;
use tokio::time::Instant;

/// Time until somebody has to log in again.
const LIFETIME: Duration = Duration::from_secs(12 * 3600);
/// Most sessions: beyond it the oldest end.
const SESSIONS_MAX: usize = 1024;
/// Wrong tokens from one address until it has to wait, and for how long.
const TRIES_MAX: u32 = 10;
/// The same of all who come by one proxy.
const TRIES_BY_PROXY_MAX: u32 = 100;
const TRIES_WINDOW: Duration = Duration::from_secs(60);
/// Addresses that are remembered for it.
const ADDRESSES_MAX: usize = 4096;

type Token = Secret<Arc<[u8]>>;

/// The sessions of a page.
#[derive(Default)]
pub(crate) struct Sessions {
    open: Mutex<HashMap<String, (Token, Instant)>>,
    tries: Mutex<HashMap<String, (u32, Instant)>>,
}

impl Sessions {
    /// Opens a session for a token, and gives the value of `Set-Cookie`; `None` where the system has no
    /// random numbers.
    pub(crate) fn open(&self, token: Token, cookie: &Named) -> Option<String> {
        let id = unguessable()?;
        let now = Instant::now();
        let mut open = self.open.lock();
        if open.len() >= SESSIONS_MAX {
            open.retain(|_, (_, expires)| now < *expires);
        }
        if open.len() >= SESSIONS_MAX
            && let Some(oldest) =
                open.iter().min_by_key(|(_, (_, expires))| *expires).map(|(id, _)| id.clone())
        {
            open.remove(&oldest);
        }
        open.insert(id.clone(), (token, now + LIFETIME));
        Some(cookie.set(&id, LIFETIME.as_secs()))
    }

    /// Ends the request's session, and gives the value of `Set-Cookie` that forgets it.
    pub(crate) fn close(&self, request: &Request, base: &str) -> String {
        let cookie = Named::of(request, base);
        if let Some(id) = cookie.id_in(request) {
            self.open.lock().remove(&id);
        }
        cookie.set("", 0)
    }

    /// The token of the request's session.
    pub(crate) fn token(&self, request: &Request) -> Option<Token> {
        self.token_of(&Named::of(request, "").id_in(request)?)
    }

    fn token_of(&self, id: &str) -> Option<Token> {
        let open = self.open.lock();
        open.get(id).filter(|(_, expires)| Instant::now() < *expires).map(|(token, _)| token.clone())
    }

    /// Whether somebody at `ip` may try a token.
    pub(crate) fn may_try(&self, ip: &str) -> bool {
        self.has_less(ip, TRIES_MAX)
    }

    /// Whether anybody may who comes by the proxy at `ip`.
    pub(crate) fn may_try_by(&self, ip: &str) -> bool {
        self.has_less(ip, TRIES_BY_PROXY_MAX)
    }

    fn has_less(&self, ip: &str, max: u32) -> bool {
        let tries = self.tries.lock();
        tries.get(ip).is_none_or(|(count, since)| *count < max || since.elapsed() >= TRIES_WINDOW)
    }

    /// Counts a wrong token from `ip`.
    pub(crate) fn failed(&self, ip: &str) {
        let mut tries = self.tries.lock();
        if tries.len() >= ADDRESSES_MAX {
            tries.retain(|_, (_, since)| since.elapsed() < TRIES_WINDOW);
        }
        if tries.len() >= ADDRESSES_MAX {
            tries.clear();
        }
        let (count, since) = tries.entry(ip.to_owned()).or_insert((0, Instant::now()));
        if since.elapsed() >= TRIES_WINDOW {
            (*count, *since) = (0, Instant::now());
        }
        *count += 1;
    }
}

/// The cookie of a request's page.
pub(crate) struct Named {
    name: String,
    base: String,
    is_secure: bool,
}

impl Named {
    /// The cookie's name has the port: browsers send a host's cookies to all its ports.
    pub(crate) fn of(request: &Request, base: &str) -> Self {
        let host =
            request.headers().get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        let port = host.rsplit_once(':').map_or("", |(_, port)| port);
        let port: String = port.chars().filter(char::is_ascii_digit).take(5).collect();
        let is_secure = request.peer().tls.is_some();
        Self { name: format!("mq_admin_{port}"), base: base.to_owned(), is_secure }
    }

    /// The value of `Set-Cookie`.
    fn set(&self, id: &str, seconds: u64) -> String {
        let Self { name, base, is_secure } = self;
        let secure = if *is_secure { "; Secure" } else { "" };
        format!("{name}={id}; Path={base}; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}")
    }

    fn id_in(&self, request: &Request) -> Option<String> {
        let all = request.headers().get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
        let mut pairs = all.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
        pairs.find(|(have, _)| *have == self.name).map(|(_, id)| id.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_session_ends_after_twelve_hours() {
        let sessions = Sessions::default();
        let cookie = Named { name: "c".to_owned(), base: "/".to_owned(), is_secure: false };
        let set = sessions.open(Secret::new(Arc::from(&b"token"[..])), &cookie).unwrap();
        let id = set.strip_prefix("c=").and_then(|rest| rest.split(';').next()).unwrap();
        tokio::time::advance(LIFETIME - Duration::from_secs(1)).await;
        assert!(sessions.token_of(id).is_some());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(sessions.token_of(id).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn beyond_the_bound_the_oldest_session_ends() {
        let sessions = Sessions::default();
        let cookie = Named { name: "c".to_owned(), base: "/".to_owned(), is_secure: false };
        let mut ids = Vec::new();
        for _ in 0..=SESSIONS_MAX {
            let set = sessions.open(Secret::new(Arc::from(&b"token"[..])), &cookie).unwrap();
            ids.push(set.strip_prefix("c=").and_then(|rest| rest.split(';').next()).unwrap().to_owned());
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        assert!(sessions.token_of(&ids[0]).is_none());
        assert!(ids[1..].iter().all(|id| sessions.token_of(id).is_some()));
    }

    #[tokio::test(start_paused = true)]
    async fn after_ten_wrong_tokens_an_address_waits_a_minute() {
        let sessions = Sessions::default();
        for _ in 0..10 {
            assert!(sessions.may_try("10.0.0.1"));
            sessions.failed("10.0.0.1");
        }
        assert!(!sessions.may_try("10.0.0.1"));
        assert!(sessions.may_try("10.0.0.2"));
        tokio::time::advance(TRIES_WINDOW).await;
        assert!(sessions.may_try("10.0.0.1"));
        sessions.failed("10.0.0.1");
        assert!(sessions.may_try("10.0.0.1"), "the count begins again");
    }
}

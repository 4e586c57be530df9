//! AUTH, and whether a command may be executed. A question to the auth server holds up the commands behind
//! it, and nothing else of the session: deliveries and heartbeats go on.

use std::fmt::Display;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::time::Instant;

use mq_net::access::Asker;
use mq_net::secret::Secret;

use super::auth::{Access, AuthClient, Failure, Grant, Permission, Verdict, auth_answer};
use super::session::Session;
use crate::wire::error::{Code, WireError};

/// A session's permissions.
#[derive(Default)]
pub(super) struct Authorization {
    /// The permissions, from a successful AUTH on.
    access: Option<Box<Access>>,
    query: Option<Box<Query>>,
    /// Whether the MPUB at the front of the input was allowed; the rest of it may still have to come.
    pub(super) batch_allowed: bool,
}

/// A request to an auth server that is under way.
struct Query {
    purpose: Purpose,
    answer: Pin<Box<dyn Future<Output = Result<Grant, Failure>> + Send>>,
}

enum Purpose {
    /// AUTH, with this secret.
    Authenticate(Secret<Arc<[u8]>>),
    /// The permissions have expired.
    Renew,
}

/// Whether a command may be executed.
pub(super) enum Check {
    Allowed,
    Refused(WireError),
    /// Refused and answered: what comes behind it may be executed.
    Skip,
    /// The auth server has not answered yet: the command is checked again when commands are next read.
    Wait,
}

impl Authorization {
    /// Whether no command may be executed until the auth server has answered.
    pub(super) fn is_pending(&self) -> bool {
        self.query.is_some()
    }
}

impl Session {
    pub(super) fn authenticate(&mut self, secret: &[u8]) {
        if self.authorization.access.is_some() {
            return self.fail(WireError::new(Code::Invalid, "AUTH already set"));
        }
        let Some(auth) = self.shared.auth.clone() else {
            return self.fail(WireError::new(Code::AuthDisabled, "AUTH disabled"));
        };
        let secret = Secret::new(Arc::from(secret));
        self.ask(auth, secret.clone(), Purpose::Authenticate(secret));
    }

    /// Whether the client may do `command` to a topic and channel; publishing is to the channel "".
    pub(super) fn authorize(
        &mut self,
        command: &'static str,
        permission: Permission,
        topic: &str,
        channel: &str,
    ) -> Check {
        let Some(auth) = &self.shared.auth else {
            return Check::Allowed;
        };
        let Some(access) = &mut self.authorization.access else {
            let text = format!("AUTH required before {command}");
            return Check::Refused(WireError::new(Code::AuthFirst, text));
        };
        match access.check(permission, topic, channel, Instant::now()) {
            Verdict::Allowed => Check::Allowed,
            Verdict::Refused => {
                // Names need no escapes.
                let text = format!("AUTH failed for {command} on \"{topic}\" \"{channel}\"");
                self.warn_denied(&text);
                Check::Refused(WireError::new(Code::Unauthorized, text))
            }
            Verdict::Expired => {
                let (auth, secret) = (Arc::clone(auth), access.secret());
                self.ask(auth, secret, Purpose::Renew);
                Check::Wait
            }
        }
    }

    /// Writes a warning with who was not let in, or may not do what it asked for. The log holds back what one
    /// place writes again and again, so a client that comes back all the time does not fill it.
    fn warn_denied(&self, why: &dyn Display) {
        let identity = self.client.identity();
        let authorized = self.client.authorized().map(|authorized| authorized.identity);
        tracing::warn!(
            client = self.client.id,
            peer = self.client.remote_address,
            client_id = identity.client_id,
            hostname = identity.hostname,
            identity = authorized.unwrap_or_default(),
            "{why}"
        );
    }

    fn ask(&mut self, auth: Arc<AuthClient>, secret: Secret<Arc<[u8]>>, purpose: Purpose) {
        let (tls, common_name) = self.certificate();
        let asker = Asker { secret, remote_ip: self.client.remote_ip(), tls, common_name };
        let answer = Box::pin(async move { auth.query(&asker).await });
        self.authorization.query = Some(Box::new(Query { purpose, answer }));
    }

    /// Whether the connection is encrypted, and the common name of the client's certificate.
    fn certificate(&self) -> (bool, String) {
        (self.client.tls().is_some(), self.client.tls_common_name().to_owned())
    }

    /// Takes the auth server's answer if it is there. Returns whether it was.
    pub(super) fn poll_authorization(&mut self, cx: &mut Context<'_>) -> bool {
        if self.is_draining() {
            // Nobody waits for it any more.
            self.authorization.query = None;
        }
        let Some(query) = &mut self.authorization.query else {
            return false;
        };
        let Poll::Ready(answer) = query.answer.as_mut().poll(cx) else {
            return false;
        };
        let Some(query) = self.authorization.query.take() else {
            return false;
        };
        match (answer, query.purpose) {
            (Err(failure), _) => {
                self.warn_denied(&format_args!("AUTH failed: {failure}"));
                self.fail(WireError::new(Code::AuthFailed, "AUTH failed"));
            }
            (Ok(grant), Purpose::Renew) => {
                tracing::debug!(
                    client = self.client.id,
                    identity = grant.authorized.identity,
                    permissions = grant.authorized.permission_count,
                    "authorized again"
                );
                self.client.set_authorized(grant.authorized.clone());
                if let Some(access) = &mut self.authorization.access {
                    access.renew(grant, Instant::now());
                }
            }
            (Ok(grant), Purpose::Authenticate(secret)) => self.authenticated(secret, grant),
        }
        true
    }

    fn authenticated(&mut self, secret: Secret<Arc<[u8]>>, grant: Grant) {
        if grant.authorized.permission_count == 0 {
            self.warn_denied(&"AUTH failed: the auth server permits nothing");
            return self.fail(WireError::new(Code::Unauthorized, "AUTH no authorizations found"));
        }
        match auth_answer(&grant.authorized) {
            Ok(json) => self.replies.response(json),
            Err(error) => return self.fail(WireError::new(Code::AuthError, format!("AUTH error {error}"))),
        }
        tracing::debug!(
            client = self.client.id,
            identity = grant.authorized.identity,
            permissions = grant.authorized.permission_count,
            "authorized"
        );
        self.client.set_authorized(grant.authorized.clone());
        self.authorization.access = Some(Box::new(Access::new(secret, grant, Instant::now())));
    }
}

//! The decision who may do what: everybody, whoever shows a token, or whoever an auth server knows.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use mq_core::{ChannelName, TopicName};
use parking_lot::{Mutex, RwLock};
use subtle::{ConditionallySelectable, ConstantTimeEq};
use tokio::time::Instant;

use crate::client::ip_of;
use crate::http::{Answer, Peer, StatusCode};
use crate::secret::Secret;
use crate::secret_file;

/// Answers of auth servers that are kept: each is asked for again once it expires, or was crowded out.
const GRANTS_MAX: usize = 1024;

type Token = Secret<Box<[u8]>>;

/// The tokens of a file such as `--http-auth-token-file`: one a line, so that a new one can be given out
/// before the old one goes. Clones share them: what one reads again, all have.
#[derive(Clone)]
pub struct HttpTokens {
    path: PathBuf,
    tokens: Arc<RwLock<Vec<Token>>>,
}

impl HttpTokens {
    /// Reads the file. Blocks on the disk.
    ///
    /// # Errors
    /// If it can't be read, or holds no token.
    pub fn load(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), tokens: Arc::new(RwLock::new(read(path)?)) })
    }

    /// Reads the file again. Blocks on the disk. Without a token in the file nobody is let in: who emptied it
    /// wanted the old tokens to end.
    ///
    /// # Errors
    /// The errors of [`HttpTokens::load`]. Where the file can't be read the tokens read last stay in use.
    pub fn reload(&self) -> io::Result<()> {
        match read(&self.path) {
            Ok(tokens) => {
                *self.tokens.write() = tokens;
                tracing::info!(file = %self.path.display(), "tokens read again");
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                self.tokens.write().clear();
                tracing::error!(%error, "no token is valid any more: every request is refused until the file has one and is read again");
                Err(error)
            }
            Err(error) => {
                tracing::error!(%error, "tokens not read again: the old ones stay in use");
                Err(error)
            }
        }
    }

    /// The number of the token that `given` is, from 1. Looks at every token to its end, so that the time
    /// gives nothing of them away.
    fn number(&self, given: &[u8]) -> Option<u32> {
        let mut found = 0;
        for (number, token) in (1..).zip(self.tokens.read().iter()) {
            found.conditional_assign(&number, token.expose().ct_eq(given));
        }
        Some(found).filter(|number| *number > 0)
    }
}

fn read(path: &Path) -> io::Result<Vec<Token>> {
    let named = |kind, what: &dyn fmt::Display| io::Error::new(kind, format!("{}: {what}", path.display()));
    let text = std::fs::read(path).map_err(|error| named(error.kind(), &error))?;
    secret_file::warn_if_exposed("the file of tokens", path);
    let tokens = secret_file::tokens(&text).map_err(|what| named(io::ErrorKind::InvalidData, &what))?;
    Ok(tokens.into_iter().map(|token| Secret::new(token.into())).collect())
}

/// The requester of permissions, as an auth server is asked about it.
#[derive(Clone, Debug)]
pub struct Asker {
    /// The secret it shows.
    pub secret: Secret<Arc<[u8]>>,
    /// Its IP address; "" on unix sockets.
    pub remote_ip: String,
    /// Whether its connection is encrypted.
    pub tls: bool,
    /// The common name of its certificate, or "".
    pub common_name: String,
}

/// Rights to topics and channels, as an auth server gives them.
pub trait Permissions: Send + Sync {
    /// Whether `topic` may be published to.
    fn may_publish(&self, topic: &str) -> bool;

    /// Whether `channel` of `topic` may be consumed.
    fn may_subscribe(&self, topic: &str, channel: &str) -> bool;

    /// Whether the messages of `topic` may be read without consuming them.
    fn may_peek(&self, topic: &str) -> bool;

    /// Whether single messages of `channel` may be dropped and requeued, whoever holds them.
    fn may_manage(&self, topic: &str, channel: &str) -> bool;

    /// Whether any right is about `topic`.
    fn mention(&self, topic: &str) -> bool;
}

/// An auth server's answer.
pub struct Grant {
    /// Time for which it is valid.
    pub ttl: Duration,
    /// The name of who shows the secret; may be empty.
    pub identity: String,
    /// The rights it gives.
    pub permissions: Arc<dyn Permissions>,
}

/// An answer of auth servers on its way.
pub type Granting<'a> = Pin<Box<dyn Future<Output = Result<Grant, Denied>> + Send + 'a>>;

/// Auth servers: they know secrets that are in no file of this process.
pub trait AuthServers: fmt::Debug + Send + Sync {
    /// Asks for the rights of `asker`. A failure to ask is logged there, and denies.
    fn grant(&self, asker: Asker) -> Granting<'_>;
}

/// Decides who may use the HTTP and gRPC APIs.
pub struct Access {
    tokens: Option<HttpTokens>,
    auth: Option<Arc<dyn AuthServers>>,
    grants: Mutex<HashMap<Key, (Caller, Instant)>>,
}

/// The request that an auth server's answer is about.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    secret: Vec<u8>,
    remote_ip: String,
    tls: bool,
    common_name: String,
}

/// The reason a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// The request shows no secret, or one that is not known.
    Unauthorized,
    /// Its secret does not permit it.
    Forbidden,
}

impl From<Denied> for Answer {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::Unauthorized => Self::unauthorized(),
            Denied::Forbidden => Self::error(StatusCode::FORBIDDEN, "FORBIDDEN"),
        }
    }
}

/// The authenticated caller of a request.
#[derive(Clone)]
pub struct Caller {
    /// `None`: everything is allowed.
    permissions: Option<Arc<dyn Permissions>>,
    name: Option<Arc<str>>,
}

impl Caller {
    const ANYBODY: Self = Self { permissions: None, name: None };

    /// A caller who may do everything, of a server that asks for no secret.
    pub fn anybody() -> Self {
        Self::ANYBODY
    }

    /// A caller who may do nothing.
    pub fn nobody() -> Self {
        Self { permissions: Some(Arc::new(NoPermissions)), name: None }
    }

    /// A name for logs: `token 2` for the second of the file, or what an auth server calls the caller; `None`
    /// where nobody is asked. Never a secret.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Whether the caller may publish to a topic, and so manage it.
    ///
    /// # Errors
    /// `Forbidden`.
    pub fn publish(&self, topic: &TopicName) -> Result<(), Denied> {
        self.check(|permissions| permissions.may_publish(topic.as_str()))
    }

    /// Whether the caller may consume a channel, and so manage it.
    ///
    /// # Errors
    /// `Forbidden`.
    pub fn consume(&self, topic: &TopicName, channel: &ChannelName) -> Result<(), Denied> {
        self.check(|permissions| permissions.may_subscribe(topic.as_str(), channel.as_str()))
    }

    /// Whether the caller may read a topic's messages without consuming them.
    ///
    /// # Errors
    /// `Forbidden`.
    pub fn peek(&self, topic: &TopicName) -> Result<(), Denied> {
        self.check(|permissions| permissions.may_peek(topic.as_str()))
    }

    /// Whether the caller may drop and requeue single messages of a channel, whoever holds them.
    ///
    /// # Errors
    /// `Forbidden`.
    pub fn manage_messages(&self, topic: &TopicName, channel: &ChannelName) -> Result<(), Denied> {
        self.check(|permissions| permissions.may_manage(topic.as_str(), channel.as_str()))
    }

    /// Whether the caller may change what concerns the whole broker: not by what an auth server says, which
    /// speaks of topics.
    ///
    /// # Errors
    /// `Forbidden`.
    pub fn manage(&self) -> Result<(), Denied> {
        self.check(|_| false)
    }

    /// Whether the caller may know of a topic.
    pub fn sees(&self, topic: &str) -> bool {
        self.permissions.as_ref().is_none_or(|permissions| permissions.mention(topic))
    }

    fn check(&self, allow: impl FnOnce(&dyn Permissions) -> bool) -> Result<(), Denied> {
        match &self.permissions {
            Some(permissions) if !allow(&**permissions) => Err(Denied::Forbidden),
            _ => Ok(()),
        }
    }
}

struct NoPermissions;

impl Permissions for NoPermissions {
    fn may_publish(&self, _: &str) -> bool {
        false
    }

    fn may_subscribe(&self, _: &str, _: &str) -> bool {
        false
    }

    fn may_peek(&self, _: &str) -> bool {
        false
    }

    fn may_manage(&self, _: &str, _: &str) -> bool {
        false
    }

    fn mention(&self, _: &str) -> bool {
        false
    }
}

impl Access {
    /// Lets in whoever shows one of the `tokens`, or is known to the auth servers; everybody if there are
    /// neither.
    pub fn new(tokens: Option<HttpTokens>, auth: Option<Arc<dyn AuthServers>>) -> Self {
        Self { tokens, auth, grants: Mutex::default() }
    }

    /// Whether everybody may do everything.
    pub fn is_open(&self) -> bool {
        self.tokens.is_none() && self.auth.is_none()
    }

    /// The caller of a request that shows `bearer` and comes from `peer`.
    ///
    /// # Errors
    /// If it shows nothing, or nothing good.
    pub async fn caller(&self, bearer: Option<&[u8]>, peer: &Peer) -> Result<Caller, Denied> {
        if self.is_open() {
            return Ok(Caller::ANYBODY);
        }
        let given = bearer.filter(|given| !given.is_empty()).ok_or(Denied::Unauthorized)?;
        if let Some(number) = self.tokens.as_ref().and_then(|tokens| tokens.number(given)) {
            return Ok(Caller { permissions: None, name: Some(format!("token {number}").into()) });
        }
        match &self.auth {
            Some(auth) => self.ask(&**auth, given.to_owned(), peer).await,
            None => Err(Denied::Unauthorized),
        }
    }

    async fn ask(&self, auth: &dyn AuthServers, secret: Vec<u8>, peer: &Peer) -> Result<Caller, Denied> {
        let common_name = peer.tls.as_ref().map(|tls| tls.common_name.clone()).unwrap_or_default();
        let key = Key { secret, remote_ip: ip_of(&peer.address), tls: peer.tls.is_some(), common_name };
        let known = self.grants.lock().get(&key).cloned();
        if let Some((caller, _)) = known.filter(|(_, expires)| Instant::now() < *expires) {
            return Ok(caller);
        }
        let asker = Asker {
            secret: Secret::new(Arc::from(&key.secret[..])),
            remote_ip: key.remote_ip.clone(),
            tls: key.tls,
            common_name: key.common_name.clone(),
        };
        let grant = auth.grant(asker).await?;
        let now = Instant::now();
        let name = Some(Arc::from(grant.identity)).filter(|name: &Arc<str>| !name.is_empty());
        let caller = Caller { permissions: Some(grant.permissions), name };
        let mut grants = self.grants.lock();
        if grants.len() >= GRANTS_MAX {
            grants.retain(|_, (_, expires)| now < *expires);
        }
        if grants.len() >= GRANTS_MAX {
            grants.clear();
        }
        grants.insert(key, (caller.clone(), now + grant.ttl));
        Ok(caller)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_lines_and_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("tokens");
        assert!(HttpTokens::load(&file).is_err());
        std::fs::write(&file, "\n  \n").unwrap();
        assert!(HttpTokens::load(&file).is_err_and(|error| error.to_string().contains("no token")));
        std::fs::write(&file, "old\r\n new \n").unwrap();
        let tokens = HttpTokens::load(&file).unwrap();
        let has = |tokens: &HttpTokens| {
            [&b"old"[..], b"new", b"ol", b"oldd", b""].map(|given| tokens.number(given))
        };
        assert_eq!(has(&tokens), [Some(1), Some(2), None, None, None]);
        std::fs::write(&file, "new").unwrap();
        tokens.clone().reload().unwrap();
        assert_eq!(has(&tokens), [None, Some(1), None, None, None]);
        std::fs::write(&file, "\u{feff}first\nsecond\n").unwrap();
        tokens.reload().unwrap();
        assert!(
            tokens.number(b"first").is_some() && tokens.number(b"second").is_some(),
            "a byte order mark is none of a token"
        );
        std::fs::remove_file(&file).unwrap();
        assert!(tokens.reload().is_err());
        assert!(tokens.number(b"first").is_some(), "it can't be read: what was read last counts");
        std::fs::write(&file, " \n").unwrap();
        assert!(tokens.reload().is_err());
        assert!(
            tokens.number(b"first").is_none() && tokens.number(b"").is_none(),
            "it was emptied: nobody is let in"
        );
        std::fs::write(&file, "first\n").unwrap();
        tokens.reload().unwrap();
        assert!(tokens.number(b"first").is_some());
    }
}

//! Permissions of one connection, until they have to be requested again. Pure: the caller brings the time.

use std::sync::Arc;

use tokio::time::Instant;

use super::permissions::{Grant, Permission, Permissions};
use mq_net::secret::Secret;

/// Topics remembered as allowed: more than most producers have, few enough to be compared with one by one.
const REMEMBERED_MAX: usize = 16;

/// A connection's permissions and the secret they were got with.
#[derive(Debug)]
pub(in crate::server) struct Access {
    secret: Secret<Arc<[u8]>>,
    permissions: Permissions,
    expires: Instant,
    /// Topics that may be published to, as found out before: no expression is matched for each message.
    publishable: Vec<Box<str>>,
}

/// The answer to a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::server) enum Verdict {
    Allowed,
    Refused,
    /// The permissions are too old: to be asked for again first.
    Expired,
}

impl Access {
    pub(in crate::server) fn new(secret: Secret<Arc<[u8]>>, grant: Grant, now: Instant) -> Self {
        let expires = now + grant.ttl;
        Self { secret, permissions: grant.permissions, expires, publishable: Vec::new() }
    }

    /// Takes over what the auth server says now.
    pub(in crate::server) fn renew(&mut self, grant: Grant, now: Instant) {
        self.permissions = grant.permissions;
        self.expires = now + grant.ttl;
        self.publishable.clear();
    }

    pub(in crate::server) fn secret(&self) -> Secret<Arc<[u8]>> {
        self.secret.clone()
    }

    pub(in crate::server) fn check(
        &mut self,
        permission: Permission,
        topic: &str,
        channel: &str,
        now: Instant,
    ) -> Verdict {
        if now > self.expires {
            return Verdict::Expired;
        }
        let publishes = permission == Permission::Publish && channel.is_empty();
        if publishes && self.publishable.iter().any(|known| **known == *topic) {
            return Verdict::Allowed;
        }
        if !self.permissions.allow(permission, topic, channel) {
            return Verdict::Refused;
        }
        if publishes {
            if self.publishable.len() == REMEMBERED_MAX {
                self.publishable.remove(0);
            }
            self.publishable.push(topic.into());
        }
        Verdict::Allowed
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::pattern::Patterns;
    use super::*;

    fn grant(ttl: u64, topic: &str) -> Grant {
        let json = format!(
            r#"{{"ttl":{ttl},"authorizations":[{{"topic":"{topic}","channels":[".*"],"permissions":["publish","subscribe"]}}]}}"#
        );
        Grant::parse(json.as_bytes(), &Patterns::default()).unwrap()
    }

    fn access(now: Instant) -> Access {
        Access::new(Secret::new(Arc::from(&b"hush"[..])), grant(10, "^a"), now)
    }

    #[test]
    fn holds_until_it_expires_and_again_when_renewed() {
        let start = Instant::now();
        let mut access = access(start);
        let at = |seconds| start + Duration::from_secs(seconds);
        let publish = |access: &mut Access, now| access.check(Permission::Publish, "a", "", now);
        assert_eq!(publish(&mut access, at(0)), Verdict::Allowed);
        assert_eq!(publish(&mut access, at(10)), Verdict::Allowed);
        let late = at(10) + Duration::from_nanos(1);
        assert_eq!(publish(&mut access, late), Verdict::Expired);
        assert_eq!(access.check(Permission::Subscribe, "b", "c", late), Verdict::Expired);
        access.renew(grant(5, "^a"), at(20));
        assert_eq!(publish(&mut access, at(25)), Verdict::Allowed);
        assert_eq!(publish(&mut access, at(26)), Verdict::Expired);
        access.renew(grant(5, "^b"), at(30));
        assert_eq!(publish(&mut access, at(30)), Verdict::Refused, "what was remembered is revoked");
    }

    #[test]
    fn remembers_only_topics_to_publish_to_and_not_all_of_them() {
        let now = Instant::now();
        let mut access = access(now);
        for i in 0..10 * REMEMBERED_MAX {
            for _ in 0..2 {
                assert_eq!(access.check(Permission::Publish, &format!("a{i}"), "", now), Verdict::Allowed);
                assert_eq!(access.check(Permission::Publish, &format!("b{i}"), "", now), Verdict::Refused);
                assert_eq!(access.check(Permission::Subscribe, &format!("a{i}"), "", now), Verdict::Allowed);
                assert_eq!(access.check(Permission::Subscribe, &format!("a{i}"), "c", now), Verdict::Allowed);
            }
        }
        assert_eq!(access.publishable.len(), REMEMBERED_MAX);
        access.permissions = Permissions::default();
        assert_eq!(access.check(Permission::Subscribe, "a159", "", now), Verdict::Refused);
        assert_eq!(access.check(Permission::Publish, "a159", "", now), Verdict::Allowed);
        assert_eq!(access.check(Permission::Publish, "a0", "", now), Verdict::Refused);
    }

    #[test]
    fn never_prints_the_secret() {
        let text = format!("{:?}", access(Instant::now()));
        assert!(!text.contains("hush") && !text.contains("104"), "{text}");
    }
}

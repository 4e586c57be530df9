//! The answer of an auth server, and the permissions in it.
//!
//! ```json
//! {"ttl":3600,"identity":"u","identity_url":"http://..",
//!  "authorizations":[{"topic":".*","channels":[".*"],"permissions":["subscribe","publish"]}]}
//! ```
//! Keys match in any case, unknown ones are ignored, what is missing or `null` has its zero value: as in Go.

use std::fmt;
use std::time::Duration;

use mq_net::access;
use mq_net::clients::Authorized;
use serde_json::{Map, Value};

use super::pattern::{Pattern, Patterns};

/// Most expressions in an answer: each takes time to compile, and at every check.
const PATTERNS_MAX: usize = 4096;

/// A longer time to live is cut: nothing of today lives as long, and instants end somewhere.
const TTL_MAX_SECONDS: u64 = 100 * 365 * 24 * 3600;

/// One kind of permission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::server) enum Permission {
    /// To read.
    Subscribe,
    /// To write.
    Publish,
}

/// The answer to AUTH, to the byte as nsqd gives it.
pub(in crate::server) fn auth_answer(authorized: &Authorized) -> Result<Vec<u8>, serde_json::Error> {
    let json = serde_json::to_string(authorized)?;
    let mut out = Vec::with_capacity(json.len());
    for c in json.chars() {
        // Go's JSON is safe to be put in a page.
        if matches!(c, '<' | '>' | '&' | '\u{2028}' | '\u{2029}') {
            out.extend_from_slice(format!("\\u{:04x}", u32::from(c)).as_bytes());
        } else {
            out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
        }
    }
    Ok(out)
}

/// A valid answer.
#[derive(Clone, Debug)]
pub(in crate::server) struct Grant {
    /// Life of the grant; not zero.
    pub(in crate::server) ttl: Duration,
    pub(in crate::server) authorized: Authorized,
    pub(in crate::server) permissions: Permissions,
}

/// Permissions of all authorizations of an answer.
#[derive(Clone, Debug, Default)]
pub(in crate::server) struct Permissions(Vec<Authorization>);

#[derive(Clone, Debug)]
struct Authorization {
    subscribe: bool,
    publish: bool,
    /// libmq's own: to read messages without consuming them, over HTTP.
    peek: bool,
    /// libmq's own: to drop and requeue single messages, over HTTP.
    manage: bool,
    topic: Pattern,
    channels: Vec<Pattern>,
}

impl Grant {
    /// Checks and compiles an answer.
    ///
    /// # Errors
    /// The fault, in a few words.
    pub(super) fn parse(json: &[u8], patterns: &Patterns) -> Result<Self, Invalid> {
        // Go replaces what is not UTF-8 instead of refusing it.
        let answer = match serde_json::from_str(&String::from_utf8_lossy(json)) {
            Ok(Value::Object(answer)) => answer,
            Ok(Value::Null) => Map::new(),
            Ok(_) => return Err(Invalid::of("the answer is no object")),
            // Its text has the place, never the content.
            Err(error) => return Err(Invalid(format!("the answer is no JSON: {error}"))),
        };
        let identity = text(&answer, "identity")?.to_owned();
        let identity_url = text(&answer, "identity_url")?.to_owned();
        let mut count = 0;
        let authorizations = list(&answer, "authorizations")?
            .iter()
            .map(|value| Authorization::parse(value, patterns, &mut count))
            .collect::<Result<Vec<_>, _>>()?;
        let ttl = match get(&answer, "ttl") {
            None => 0,
            Some(ttl) => ttl.as_i64().ok_or_else(|| Invalid::of("ttl is no whole number"))?,
        };
        let seconds = u64::try_from(ttl).unwrap_or(0);
        if seconds == 0 {
            return Err(Invalid(format!("invalid TTL {ttl} (must be >0)")));
        }
        Ok(Self {
            ttl: Duration::from_secs(seconds.min(TTL_MAX_SECONDS)),
            authorized: Authorized { identity, identity_url, permission_count: authorizations.len() },
            permissions: Permissions(authorizations),
        })
    }
}

impl Permissions {
    /// Whether some authorization has `permission`, a topic that matches and a channel that matches. To
    /// publish is to the channel "".
    pub(in crate::server) fn allow(&self, permission: Permission, topic: &str, channel: &str) -> bool {
        self.0.iter().any(|authorization| {
            let has = match permission {
                Permission::Subscribe => authorization.subscribe,
                Permission::Publish => authorization.publish,
            };
            has && authorization.topic.matches(topic)
                && authorization.channels.iter().any(|pattern| pattern.matches(channel))
        })
    }
}

impl access::Permissions for Permissions {
    fn may_publish(&self, topic: &str) -> bool {
        self.allow(Permission::Publish, topic, "")
    }

    fn may_subscribe(&self, topic: &str, channel: &str) -> bool {
        self.allow(Permission::Subscribe, topic, channel)
    }

    fn may_peek(&self, topic: &str) -> bool {
        self.0.iter().any(|authorization| authorization.peek && authorization.topic.matches(topic))
    }

    fn may_manage(&self, topic: &str, channel: &str) -> bool {
        self.0.iter().any(|authorization| {
            authorization.manage
                && authorization.topic.matches(topic)
                && authorization.channels.iter().any(|pattern| pattern.matches(channel))
        })
    }

    fn mention(&self, topic: &str) -> bool {
        self.0.iter().any(|authorization| authorization.topic.matches(topic))
    }
}

impl Authorization {
    fn parse(value: &Value, patterns: &Patterns, count: &mut usize) -> Result<Self, Invalid> {
        let empty = Map::new();
        let value = match value {
            Value::Object(value) => value,
            Value::Null => &empty,
            _ => return Err(Invalid::of("an authorization is no object")),
        };
        let (mut subscribe, mut publish, mut peek, mut manage) = (false, false, false, false);
        for permission in list(value, "permissions")? {
            match permission {
                Value::String(name) if name == "subscribe" => subscribe = true,
                Value::String(name) if name == "publish" => publish = true,
                Value::String(name) if name == "peek" => peek = true,
                Value::String(name) if name == "manage" => manage = true,
                Value::String(name) => return Err(Invalid(format!("unknown permission {}", shown(name)))),
                _ => return Err(Invalid::of("a permission is no string")),
            }
        }
        let mut compile = |text: &str| {
            *count += 1;
            if *count > PATTERNS_MAX {
                return Err(Invalid(format!("more than {PATTERNS_MAX} expressions")));
            }
            patterns.get(text).map_err(|_| Invalid(format!("bad expression {}", shown(text))))
        };
        let topic = compile(text(value, "topic")?)?;
        let channels = list(value, "channels")?
            .iter()
            .map(|channel| match channel {
                Value::String(text) => compile(text),
                Value::Null => compile(""),
                _ => Err(Invalid::of("a channel is no string")),
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { subscribe, publish, peek, manage, topic, channels })
    }
}

/// A text for a log: quoted, and not more of it than helps.
fn shown(text: &str) -> String {
    const BYTES_MAX: usize = 100;
    let part = &text[..text.floor_char_boundary(BYTES_MAX)];
    format!("{part:?}{}", if part.len() < text.len() { "..." } else { "" })
}

/// The fault of an invalid answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Invalid(String);

impl Invalid {
    fn of(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The value of `key` in any case, unless it is `null`.
fn get<'v>(object: &'v Map<String, Value>, key: &str) -> Option<&'v Value> {
    let other_case =
        || object.iter().find(|(other, _)| other.eq_ignore_ascii_case(key)).map(|(_, value)| value);
    object.get(key).or_else(other_case).filter(|value| !value.is_null())
}

fn text<'v>(object: &'v Map<String, Value>, key: &str) -> Result<&'v str, Invalid> {
    match get(object, key) {
        None => Ok(""),
        Some(Value::String(text)) => Ok(text),
        Some(_) => Err(Invalid(format!("{key} is no string"))),
    }
}

fn list<'v>(object: &'v Map<String, Value>, key: &str) -> Result<&'v [Value], Invalid> {
    match get(object, key) {
        None => Ok(&[]),
        Some(Value::Array(values)) => Ok(values),
        Some(_) => Err(Invalid(format!("{key} is no list"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(json: &str) -> Result<Grant, String> {
        Grant::parse(json.as_bytes(), &Patterns::default()).map_err(|error| error.to_string())
    }

    fn one(topic: &str, channels: &str, permissions: &str) -> Permissions {
        let authorization =
            format!(r#"{{"topic":"{topic}","channels":{channels},"permissions":{permissions}}}"#);
        parse(&format!(r#"{{"ttl":1,"authorizations":[{authorization}]}}"#)).unwrap().permissions
    }

    #[test]
    fn an_answer_is_read_as_go_reads_it() {
        let grant = parse(
            r#" {"TTL":3600,"Identity":"u","identity_url":"http://x/?a=1&b=<2>","more":[{}],"authorizations":
                [{"Topic":".*","channels":[".*"],"permissions":["subscribe","publish"]},null,{"channels":null}]} "#,
        )
        .unwrap();
        assert_eq!(grant.ttl, Duration::from_secs(3600));
        assert_eq!(grant.authorized.permission_count, 3);
        assert_eq!(
            String::from_utf8(auth_answer(&grant.authorized).unwrap()).unwrap(),
            r#"{"identity":"u","identity_url":"http://x/?a=1\u0026b=\u003c2\u003e","permission_count":3}"#
        );
        let grant = parse(r#"{"ttl":9223372036854775807,"identity":null}"#).unwrap();
        assert_eq!(grant.ttl, Duration::from_secs(TTL_MAX_SECONDS));
        assert_eq!(
            auth_answer(&grant.authorized).unwrap(),
            br#"{"identity":"","identity_url":"","permission_count":0}"#
        );
    }

    #[test]
    fn what_breaks_a_rule_is_refused() {
        let deep = "[".repeat(100_000);
        let many =
            format!(r#"{{"ttl":1,"authorizations":[{{"channels":[{}""]}}]}}"#, r#""","#.repeat(PATTERNS_MAX));
        for (json, want) in [
            ("", "the answer is no JSON: EOF while parsing a value at line 1 column 0"),
            ("OK", "the answer is no JSON: expected value at line 1 column 1"),
            (r#"{"ttl":1} {}"#, "the answer is no JSON: trailing characters at line 1 column 11"),
            ("[]", "the answer is no object"),
            ("null", "invalid TTL 0 (must be >0)"),
            ("{}", "invalid TTL 0 (must be >0)"),
            (r#"{"ttl":0}"#, "invalid TTL 0 (must be >0)"),
            (r#"{"ttl":-1}"#, "invalid TTL -1 (must be >0)"),
            (r#"{"ttl":1.0}"#, "ttl is no whole number"),
            (r#"{"ttl":"1"}"#, "ttl is no whole number"),
            (r#"{"ttl":9223372036854775808}"#, "ttl is no whole number"),
            (r#"{"ttl":1,"identity":1}"#, "identity is no string"),
            (r#"{"ttl":1,"authorizations":{}}"#, "authorizations is no list"),
            (r#"{"ttl":1,"authorizations":[1]}"#, "an authorization is no object"),
            (r#"{"ttl":1,"authorizations":[{"permissions":["admin"]}]}"#, "unknown permission \"admin\""),
            (r#"{"ttl":1,"authorizations":[{"permissions":[1]}]}"#, "a permission is no string"),
            (r#"{"ttl":1,"authorizations":[{"topic":"("}]}"#, "bad expression \"(\""),
            (r#"{"ttl":1,"authorizations":[{"channels":["["]}]}"#, "bad expression \"[\""),
            (&many, "more than 4096 expressions"),
        ] {
            assert_eq!(parse(json).unwrap_err(), want, "{json:.60}");
        }
        assert!(parse(&deep).is_err());
    }

    #[test]
    fn all_three_have_to_fit() {
        use Permission::{Publish, Subscribe};
        let both = r#"["subscribe","publish"]"#;
        for (permissions, permission, topic, channel, want) in [
            (one(".*", r#"[".*"]"#, both), Subscribe, "t", "c", true),
            (one(".*", r#"[".*"]"#, both), Publish, "t", "", true),
            (one(".*", r#"[".*"]"#, r#"["subscribe"]"#), Publish, "t", "", false),
            (one(".*", r#"[".*"]"#, r#"["publish"]"#), Subscribe, "t", "c", false),
            (one(".*", r#"[".*"]"#, "[]"), Subscribe, "t", "c", false),
            // Publishing is to the channel "".
            (one(".*", r#"[".+"]"#, both), Publish, "t", "", false),
            (one(".*", "[]", both), Publish, "t", "", false),
            (one(".*", r#"["c","^$"]"#, both), Publish, "t", "", true),
            (one("^a$", r#"["^b$"]"#, both), Subscribe, "a", "b", true),
            (one("^a$", r#"["^b$"]"#, both), Subscribe, "a", "ba", false),
            (one("^a$", r#"["^b$"]"#, both), Subscribe, "ab", "b", false),
            (one("a", r#"["b"]"#, both), Subscribe, "xax", "xbx", true),
            (Permissions::default(), Subscribe, "t", "c", false),
        ] {
            assert_eq!(
                permissions.allow(permission, topic, channel),
                want,
                "{permissions:?} {topic} {channel}"
            );
        }
        let split = parse(
            r#"{"ttl":1,"authorizations":[{"topic":"^a$","channels":[""],"permissions":["publish"]},
                {"topic":"^b$","channels":[""],"permissions":["subscribe"]}]}"#,
        )
        .unwrap()
        .permissions;
        assert!(split.allow(Publish, "a", "") && split.allow(Subscribe, "b", "c"));
        assert!(!split.allow(Publish, "b", "") && !split.allow(Subscribe, "a", "c"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_grant_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = Grant::parse(&bytes, &Patterns::default());
        }

        /// Names as patterns that match only themselves: an authorization is then three comparisons.
        #[test]
        fn allows_what_a_comparison_allows(
            authorizations in prop::collection::vec(
                ("[ab]", prop::collection::vec("[cd]?", 0..3), any::<bool>(), any::<bool>()), 0..4),
            topic in "[abx]", channel in "[cdx]?", publish in any::<bool>(),
        ) {
            let exact = |name: &str| Value::String(format!("^{name}$"));
            let list: Vec<Value> = authorizations.iter().map(|(topic, channels, subscribe, publish)| {
                let mut permissions = Vec::new();
                if *subscribe { permissions.push("subscribe"); }
                if *publish { permissions.push("publish"); }
                let channels: Vec<_> = channels.iter().map(|name| exact(name)).collect();
                serde_json::json!({"topic": exact(topic), "channels": channels, "permissions": permissions})
            }).collect();
            let json = serde_json::json!({"ttl": 1, "authorizations": list}).to_string();
            let want = authorizations.iter().any(|(t, cs, s, p)| {
                *t == topic && cs.contains(&channel) && if publish { *p } else { *s }
            });
            let permission = if publish { Permission::Publish } else { Permission::Subscribe };
            let grant = parse(&json).unwrap();
            prop_assert_eq!(grant.permissions.allow(permission, &topic, &channel), want);
        }
    }
}

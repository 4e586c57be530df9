//! Address of an auth server, and the form of its requests.

use std::fmt;
use std::str::FromStr;

use hyper::header::{ACCEPT, CONTENT_TYPE, HOST, HeaderValue, USER_AGENT};
use hyper::http::uri::Scheme;
use hyper::{Method, Request, Uri};
use serde::Serialize;

use mq_net::access::Asker;

/// HTTP method of requests to auth servers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AuthMethod {
    /// GET, with everything in the URL.
    #[default]
    Get,
    /// POST, with everything in a JSON body.
    Post,
}

impl FromStr for AuthMethod {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "get" => Ok(Self::Get),
            "post" => Ok(Self::Post),
            other => Err(format!("{other:?} is neither `get` nor `post`")),
        }
    }
}

/// An auth server.
#[derive(Clone, Debug)]
pub(super) struct Endpoint {
    pub(super) tls: bool,
    pub(super) host: String,
    pub(super) port: u16,
    /// Path and query.
    target: String,
    authority: HeaderValue,
}

impl Endpoint {
    /// `host:port` is asked at `/auth`; a URL as it is.
    ///
    /// # Errors
    /// The fault.
    pub(super) fn parse(address: &str) -> Result<Self, String> {
        let url = if address.contains("://") {
            address.to_owned()
        } else if address.starts_with(':') {
            format!("http://127.0.0.1{address}/auth")
        } else {
            format!("http://{address}/auth")
        };
        // Not the address itself: a query may hold a key.
        let wrong = |what: &str| format!("an auth server's address is `host:port` or a URL: {what}");
        let uri: Uri = url.parse().map_err(|error| wrong(&format!("{error}")))?;
        let tls = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTP => false,
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            _ => return Err(wrong("neither http nor https")),
        };
        let authority = uri.authority().ok_or_else(|| wrong("no host"))?;
        if authority.as_str().contains('@') {
            return Err(wrong("a user in it is not supported"));
        }
        if authority.host().is_empty() {
            return Err(wrong("no host"));
        }
        let port = match authority.port() {
            Some(port) => port.as_u16(),
            None if authority.as_str().len() != authority.host().len() => return Err(wrong("no port")),
            None if tls => 443,
            None => 80,
        };
        let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
        Ok(Self {
            tls,
            host: authority.host().trim_matches(['[', ']']).to_owned(),
            port,
            target: format!("{}{query}", uri.path()),
            authority: HeaderValue::from_str(authority.as_str()).map_err(|_| wrong("no host"))?,
        })
    }

    /// The request to send.
    ///
    /// # Errors
    /// If it would be too long.
    pub(super) fn request(
        &self,
        method: AuthMethod,
        asker: &Asker,
    ) -> Result<Request<String>, hyper::http::Error> {
        let request = Request::builder()
            .header(HOST, &self.authority)
            .header(USER_AGENT, concat!("mq/", env!("CARGO_PKG_VERSION")))
            .header(ACCEPT, "application/vnd.nsq; version=1.0");
        match method {
            // With a `?` even after another: so nsqd does.
            AuthMethod::Get => request
                .method(Method::GET)
                .uri(format!("{}?{}", self.target, query(asker)))
                .body(String::new()),
            AuthMethod::Post => request
                .method(Method::POST)
                .uri(&self.target)
                .header(CONTENT_TYPE, "application/json")
                .body(form(asker)),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        write!(f, "{scheme}://{}", String::from_utf8_lossy(self.authority.as_bytes()))
    }
}

fn query(asker: &Asker) -> String {
    let mut out = String::from("common_name=");
    escape(&mut out, asker.common_name.as_bytes());
    out.push_str("&remote_ip=");
    escape(&mut out, asker.remote_ip.as_bytes());
    out.push_str("&secret=");
    escape(&mut out, asker.secret.expose());
    out.push_str("&tls=");
    out.push_str(truth(asker.tls));
    out
}

/// Escapes the value of a query as Go does.
fn escape(out: &mut String, bytes: &[u8]) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for &byte in bytes {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(byte.into()),
            b' ' => out.push('+'),
            _ => {
                out.push('%');
                out.push(HEX[usize::from(byte >> 4)].into());
                out.push(HEX[usize::from(byte & 15)].into());
            }
        }
    }
}

fn form(asker: &Asker) -> String {
    #[derive(Serialize)]
    struct Form<'a> {
        common_name: [&'a str; 1],
        remote_ip: [&'a str; 1],
        secret: [&'a str; 1],
        tls: [&'static str; 1],
    }
    // Each byte that is not UTF-8 becomes a character of its own, as in Go.
    let mut secret = String::new();
    for chunk in asker.secret.expose().utf8_chunks() {
        secret.push_str(chunk.valid());
        secret.extend(chunk.invalid().iter().map(|_| char::REPLACEMENT_CHARACTER));
    }
    let form = Form {
        common_name: [&asker.common_name],
        remote_ip: [&asker.remote_ip],
        secret: [&secret],
        tls: [truth(asker.tls)],
    };
    // Strings always are JSON.
    serde_json::to_string(&form).unwrap_or_default()
}

fn truth(value: bool) -> &'static str {
    if value { "true" } else { "false" }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use mq_net::secret::Secret;

    fn asker(secret: &[u8]) -> Asker {
        Asker {
            secret: Secret::new(Arc::from(secret)),
            remote_ip: "::1".to_owned(),
            tls: true,
            common_name: "a b".to_owned(),
        }
    }

    fn get(address: &str) -> String {
        let request = Endpoint::parse(address).unwrap().request(AuthMethod::Get, &asker(b"s")).unwrap();
        format!("{} {}", request.headers()[HOST].to_str().unwrap(), request.uri())
    }

    #[test]
    fn addresses_have_nsqds_forms() {
        let rest = "common_name=a+b&remote_ip=%3A%3A1&secret=s&tls=true";
        for (address, want) in [
            ("auth.example:4181", "auth.example:4181 /auth?"),
            (":4181", "127.0.0.1:4181 /auth?"),
            ("[::1]:4181", "[::1]:4181 /auth?"),
            ("http://h/my/path", "h /my/path?"),
            ("https://h:8443/p?key=1", "h:8443 /p?key=1?"),
            ("http://h", "h /?"),
            ("http://h?key=1", "h /?key=1?"),
        ] {
            assert_eq!(get(address), format!("{want}{rest}"), "{address}");
        }
        let endpoint = Endpoint::parse("https://[::1]/x?key=hush").unwrap();
        assert_eq!((endpoint.tls, &*endpoint.host, endpoint.port), (true, "::1", 443));
        assert_eq!(endpoint.to_string(), "https://[::1]");
    }

    #[test]
    fn a_bad_address_is_told_but_not_shown() {
        for bad in [
            "",
            "ftp://h/",
            "http://",
            "http:///hush",
            "http://user:hush@h/",
            "h:99999",
            "h:x",
            "a b:1",
            "h:",
        ] {
            let error = Endpoint::parse(bad).unwrap_err();
            assert!(
                error.starts_with("an auth server's address is `host:port` or a URL: "),
                "{bad}: {error}"
            );
            assert!(!error.contains("hush"), "{error}");
        }
    }

    #[test]
    fn any_secret_is_sent_as_go_sends_it() {
        let asker = asker(b"a b&\"\xc3\xa4\xff\xfe/~");
        assert_eq!(
            query(&asker),
            "common_name=a+b&remote_ip=%3A%3A1&secret=a+b%26%22%C3%A4%FF%FE%2F~&tls=true"
        );
        assert_eq!(
            form(&asker),
            "{\"common_name\":[\"a b\"],\"remote_ip\":[\"::1\"],\"secret\":[\"a b&\\\"\u{e4}\u{fffd}\u{fffd}/~\"],\"tls\":[\"true\"]}"
        );
    }

    #[test]
    fn methods_have_names() {
        assert_eq!("get".parse(), Ok(AuthMethod::Get));
        assert_eq!("post".parse(), Ok(AuthMethod::Post));
        assert_eq!(AuthMethod::from_str("GET"), Err("\"GET\" is neither `get` nor `post`".to_owned()));
    }
}

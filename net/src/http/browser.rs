//! Requests that a browser sends for a page of another site.
//!
//! A server that trusts whoever reaches its port would obey any page that somebody on its machine or network
//! opens. A page's requests show themselves: by `Origin` and `Sec-Fetch-Site`, and where a name of the page's
//! own leads to this machine (DNS rebinding) by `Host`.

use std::net::IpAddr;

use hyper::Method;
use hyper::header::{HOST, HeaderMap, HeaderValue, ORIGIN};

use super::StatusCode;
use super::answer::Answer;
use super::request::{Peer, Request};

/// Names in `Host` by which clients may reach a server that asks for no secret, beside IP addresses and
/// `localhost`.
#[derive(Clone, Debug, Default)]
pub struct HostNames {
    names: Vec<String>,
    /// Whether clients from elsewhere, too, may reach it by these names only.
    for_everybody: bool,
}

impl HostNames {
    /// These names, in any case. Empty ones are none.
    pub fn new<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let names = names.into_iter().map(plain).filter(|name| !name.is_empty());
        Self { names: names.map(str::to_ascii_lowercase).collect(), for_everybody: false }
    }

    /// The same for clients from elsewhere, too: of a server that does for everybody what it alone may do.
    #[must_use]
    pub fn for_everybody(self) -> Self {
        Self { for_everybody: true, ..self }
    }

    /// Whether `host`, maybe with a port, is one of them, an IP address, `localhost` or nothing.
    fn allow(&self, host: &str) -> bool {
        let name = name_of(host).to_ascii_lowercase();
        name.is_empty() || name == "localhost" || name.parse::<IpAddr>().is_ok() || self.names.contains(&name)
    }
}

/// `host:port` without the port, without brackets and without the last dot.
fn name_of(host: &str) -> &str {
    if let Some((address, _)) = host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return address;
    }
    plain(host.split_once(':').map_or(host, |(name, _)| name))
}

/// A name without the dot that may end it, and an IPv6 address without brackets.
fn plain(name: &str) -> &str {
    let name = name.strip_suffix('.').unwrap_or(name);
    name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name)
}

/// The reason why a request is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ForeignPage {
    /// A request from a page of this origin, or another way from another site.
    Site(String),
    /// A request to a host of this name.
    Host(String),
}

impl ForeignPage {
    /// Says what is wrong and what would be right.
    pub fn detail(&self) -> String {
        match self {
            Self::Site(from) => format!(
                "a browser sent this for a page of another site ({from}); only pages of this server may"
            ),
            Self::Host(host) => format!(
                "the request is for host {host:?}, which is none of this server's names: if it is one, add it to --http-allowed-hosts"
            ),
        }
    }
}

impl From<ForeignPage> for Answer {
    fn from(page: ForeignPage) -> Self {
        let code = match page {
            ForeignPage::Site(_) => "CROSS_SITE_REQUEST",
            ForeignPage::Host(_) => "HOST_NOT_ALLOWED",
        };
        Self::error_with(StatusCode::FORBIDDEN, code, &page.detail())
    }
}

/// Whether a request may be looked at. `hosts`: the names it may be for; `None` where a secret is asked for,
/// which no page knows.
pub(super) fn check(request: &Request, hosts: Option<&HostNames>) -> Result<(), ForeignPage> {
    check_page(request.method(), request.headers(), request.authority(), request.peer(), hosts)
}

/// [`check_site`], and the name that the request is for. `hosts`: the names it may be for; `None` where a
/// secret is asked for.
///
/// # Errors
/// The reason why the request is refused.
pub fn check_page(
    method: &Method,
    headers: &HeaderMap,
    authority: Option<&str>,
    peer: &Peer,
    hosts: Option<&HostNames>,
) -> Result<(), ForeignPage> {
    check_site(method, headers, authority)?;
    // From elsewhere a browser reaches this server by the same name as everybody.
    match hosts.filter(|names| names.for_everybody || peer.is_on_loopback) {
        Some(names) => check_host(headers, authority, names),
        None => Ok(()),
    }
}

/// Whether a browser sent a request for a page of another site. `authority`: the host that the request's
/// target names, if it names one.
///
/// # Errors
/// [`ForeignPage::Site`].
pub fn check_site(method: &Method, headers: &HeaderMap, authority: Option<&str>) -> Result<(), ForeignPage> {
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let own = authority.or_else(|| headers.get(HOST)?.to_str().ok());
    for origin in headers.get_all(ORIGIN) {
        let origin = text(origin);
        let host = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
        if !host.zip(own).is_some_and(|(host, own)| host.eq_ignore_ascii_case(own)) {
            return Err(ForeignPage::Site(format!("Origin: {origin}")));
        }
    }
    let is = |name: &str, value: &[u8]| headers.get(name).is_some_and(|have| have.as_bytes() == value);
    // Somebody follows a link, and sees the answer as a page of its own. GET changes nothing.
    let navigates =
        method == Method::GET && is("sec-fetch-mode", b"navigate") && is("sec-fetch-dest", b"document");
    for site in headers.get_all("sec-fetch-site") {
        if !matches!(site.as_bytes(), b"same-origin" | b"none") && !navigates {
            return Err(ForeignPage::Site(format!("Sec-Fetch-Site: {}", text(site))));
        }
    }
    Ok(())
}

fn check_host(headers: &HeaderMap, authority: Option<&str>, names: &HostNames) -> Result<(), ForeignPage> {
    let hosts =
        headers.get_all(HOST).iter().map(|host| String::from_utf8_lossy(host.as_bytes()).into_owned());
    let mut hosts = hosts.chain(authority.map(str::to_owned));
    match hosts.find(|host| !names.allow(host)) {
        Some(host) => Err(ForeignPage::Host(host)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderName;

    use super::*;

    fn headers(lines: &str) -> HeaderMap {
        let pairs = lines.split("; ").filter(|line| !line.is_empty()).map(|line| {
            let (name, value) = line.split_once(": ").unwrap();
            (name.parse::<HeaderName>().unwrap(), value.parse().unwrap())
        });
        pairs.collect()
    }

    #[test]
    fn a_page_of_another_site_gives_itself_away() {
        let navigation = "Sec-Fetch-Mode: navigate; Sec-Fetch-Dest: document";
        let get = [
            ("", true),
            ("Host: a:1", true),
            ("Host: a:1; Origin: http://a:1", true),
            ("Host: a; Origin: https://A", true),
            ("Host: a:1; Origin: http://a:2", false),
            ("Host: a:1; Origin: http://b:1", false),
            ("Host: a:1; Origin: http://a:1; Origin: http://b", false),
            ("Host: a:1; Origin: null", false),
            ("Host: a:1; Origin: file://", false),
            ("Origin: http://a", false),
            ("Sec-Fetch-Site: none", true),
            ("Sec-Fetch-Site: same-origin", true),
            ("Sec-Fetch-Site: same-site", false),
            ("Sec-Fetch-Site: cross-site", false),
            ("Sec-Fetch-Site: something-new", false),
            ("Sec-Fetch-Site: cross-site; Sec-Fetch-Mode: navigate", false),
            ("Sec-Fetch-Site: cross-site; Sec-Fetch-Mode: no-cors; Sec-Fetch-Dest: document", false),
            ("Sec-Fetch-Site: cross-site; Sec-Fetch-Mode: navigate; Sec-Fetch-Dest: iframe", false),
            (&format!("Sec-Fetch-Site: cross-site; {navigation}"), true),
            (&format!("Origin: http://b; Sec-Fetch-Site: cross-site; {navigation}"), false),
        ];
        for (lines, good) in get {
            assert_eq!(check_site(&Method::GET, &headers(lines), None).is_ok(), good, "{lines}");
        }
        let lines = format!("Sec-Fetch-Site: cross-site; {navigation}");
        for method in [Method::POST, Method::PUT, Method::DELETE, Method::OPTIONS] {
            assert!(check_site(&method, &headers(&lines), None).is_err(), "{method}");
        }
        let own = headers("Host: b; Origin: http://a");
        assert!(check_site(&Method::GET, &own, Some("a")).is_ok(), "the target's host counts");
    }

    #[test]
    fn a_host_is_an_address_or_a_name_that_is_known() {
        let names = HostNames::new(["broker.example", "", "Upper.", "[fd00::1]"]);
        for good in [
            "",
            "localhost",
            "LOCALHOST:4151",
            "localhost.",
            "127.0.0.1",
            "127.0.0.1:4151",
            "10.1.2.3:80",
            "[::1]",
            "[::1]:4151",
            "[fd00::1]:1",
            ":4151",
            "broker.example",
            "Broker.Example.:4151",
            "upper:1",
        ] {
            let lines = if good.is_empty() { String::new() } else { format!("Host: {good}") };
            assert_eq!(check_host(&headers(&lines), None, &names), Ok(()), "{good}");
        }
        for bad in [
            "evil.example",
            "evil.example:4151",
            "a.broker.example",
            "localhost.evil",
            "127.0.0.1.evil",
            "0x7f.1",
            "[evil]",
        ] {
            let lines = format!("Host: {bad}");
            assert_eq!(check_host(&headers(&lines), None, &names), Err(ForeignPage::Host(bad.to_owned())));
        }
        assert!(check_host(&headers("Host: localhost; Host: evil"), None, &names).is_err());
        assert!(check_host(&headers("Host: localhost"), Some("evil"), &names).is_err());
    }
}

//! Requests to a web server: one a message, over connections that are kept.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use hyper::{Method, Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use mq_core::sync::Mutex;
use mq_net::transport::Transport;
use mq_nsq::client::ClientTls;
use tokio::time::timeout;

/// Longest answer that is read to keep its connection.
const ANSWER_BYTES_MAX: usize = 1 << 20;
/// Most connections that are kept while idle.
const IDLE_MAX: usize = 1000;

/// Settings of requests to all web servers.
#[derive(Clone)]
pub(super) struct Requests {
    /// `GET` with the body in the URL, or `POST`.
    pub(super) method: Method,
    pub(super) headers: HeaderMap,
    pub(super) connect_timeout: Duration,
    /// Longest time of a request in all.
    pub(super) timeout: Duration,
    pub(super) tls: Option<ClientTls>,
}

/// A web server and its URL.
pub(super) struct Web {
    /// The URL without what may be a secret.
    name: String,
    url: String,
    host: HeaderValue,
    /// `host:port`.
    address: String,
    requests: Requests,
    idle: Mutex<Vec<SendRequest<Full<Bytes>>>>,
}

/// Headers of all requests: one `Key: value` each, and the tool's name.
pub(super) fn headers(given: &[String], user_agent: &str) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    let form = |text: &str| format!("--header is {text:?}: it must be 'Key: value'");
    headers.insert(USER_AGENT, HeaderValue::from_str(user_agent).map_err(|error| error.to_string())?);
    for text in given {
        let (name, value) = text.split_once(':').ok_or_else(|| form(text))?;
        let name = HeaderName::from_bytes(name.trim().as_bytes()).map_err(|_| form(text))?;
        let value = HeaderValue::from_str(value.trim()).map_err(|_| form(text))?;
        if value.is_empty() {
            return Err(form(text));
        }
        headers.insert(name, value);
    }
    Ok(headers)
}

impl Requests {
    /// Sets the form of the bodies, unless a header does.
    pub(super) fn content_type(&mut self, text: &str) -> Result<(), String> {
        let value = HeaderValue::from_str(text).map_err(|_| format!("--content-type is {text:?}"))?;
        self.headers.entry(CONTENT_TYPE).or_insert(value);
        Ok(())
    }
}

impl Web {
    /// The server at `url`, which has one `%s` for the body of a GET.
    ///
    /// # Errors
    /// If it is no URL of a web server.
    pub(super) fn new(url: &str, mut requests: Requests) -> Result<Self, String> {
        let is_get = requests.method == Method::GET;
        if is_get && url.matches("%s").count() != 1 {
            return Err(format!("{url}: the address of a GET has one %s, for the message"));
        }
        let bad = |what: &str| format!("{url}: {what}");
        let uri: Uri = if is_get { url.replacen("%s", "", 1) } else { url.to_owned() }
            .parse()
            .map_err(|error| bad(&format!("{error}")))?;
        let port = match uri.scheme_str() {
            Some("http") => 80,
            Some("https") => 443,
            _ => return Err(bad("it must begin with http:// or https://")),
        };
        let authority = uri.authority().ok_or_else(|| bad("it names no host"))?;
        if let Some((user, _)) = authority.as_str().rsplit_once('@') {
            let value = HeaderValue::from_str(&format!("Basic {}", base64(user.as_bytes())));
            let mut value = value.map_err(|error| bad(&error.to_string()))?;
            value.set_sensitive(true);
            requests.headers.entry(AUTHORIZATION).or_insert(value);
        }
        let (host, port) = (authority.host(), authority.port_u16().unwrap_or(port));
        let shown = authority.as_str().rsplit('@').next().unwrap_or_default();
        let tls = requests.tls.take().filter(|_| uri.scheme_str() == Some("https"));
        Ok(Self {
            name: format!("{}://{shown}{}", uri.scheme_str().unwrap_or_default(), uri.path()),
            url: url.to_owned(),
            host: HeaderValue::from_str(shown).map_err(|error| bad(&error.to_string()))?,
            address: format!("{host}:{port}"),
            requests: Requests { tls, ..requests },
            idle: Mutex::default(),
        })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Sends one message. Returns once the server has answered that it took it.
    pub(super) async fn send(&self, body: &Bytes, headers: &[(String, Bytes)]) -> Result<(), String> {
        let time = self.requests.timeout;
        let sent = timeout(time, self.exchange(body, headers)).await;
        let status = sent.unwrap_or_else(|_| Err(format!("no answer within {time:?}")))?;
        let is_taken = match self.requests.method {
            Method::GET => status == StatusCode::OK,
            _ => status.is_success(),
        };
        if is_taken { Ok(()) } else { Err(format!("got status code {}", status.as_u16())) }
    }

    async fn exchange(&self, body: &Bytes, headers: &[(String, Bytes)]) -> Result<StatusCode, String> {
        // The server may have closed one that was kept: then once more over a new one.
        while let Some(kept) = self.take_idle() {
            match self.exchange_over(kept, self.request(body, headers)).await {
                Err(error) if error.is_canceled() || error.is_incomplete_message() || error.is_closed() => {}
                other => return other.map_err(|error| error.to_string()),
            }
        }
        let fresh = self.connect().await?;
        self.exchange_over(fresh, self.request(body, headers)).await.map_err(|error| error.to_string())
    }

    fn take_idle(&self) -> Option<SendRequest<Full<Bytes>>> {
        let mut idle = self.idle.lock();
        std::iter::from_fn(|| idle.pop()).find(|kept| !kept.is_closed())
    }

    async fn exchange_over(
        &self,
        mut connection: SendRequest<Full<Bytes>>,
        request: Request<Full<Bytes>>,
    ) -> Result<StatusCode, hyper::Error> {
        let response = connection.send_request(request).await?;
        let status = response.status();
        if Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await.is_ok()
            && connection.ready().await.is_ok()
        {
            let mut idle = self.idle.lock();
            if idle.len() < IDLE_MAX {
                idle.push(connection);
            }
        }
        Ok(status)
    }

    fn request(&self, body: &Bytes, headers: &[(String, Bytes)]) -> Request<Full<Bytes>> {
        let is_get = self.requests.method == Method::GET;
        let (url, body) = match is_get {
            true => (self.url.replacen("%s", &query_escape(body), 1), Bytes::new()),
            false => (self.url.clone(), body.clone()),
        };
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = self.requests.method.clone();
        // With the escaped body in it, it is a URL as it was without.
        if let Ok(uri) = url.parse::<Uri>()
            && let Some(path) = uri.path_and_query()
        {
            *request.uri_mut() = Uri::from(path.clone());
        }
        *request.headers_mut() = self.requests.headers.clone();
        for (name, value) in headers {
            // What HTTP can't say stays behind.
            if let Ok(name) = HeaderName::from_bytes(format!("mq-header-{name}").as_bytes())
                && let Ok(value) = HeaderValue::from_bytes(value)
            {
                request.headers_mut().append(name, value);
            }
        }
        request.headers_mut().entry(HOST).or_insert_with(|| self.host.clone());
        request
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, String> {
        let connect = async {
            let mut transport = Transport::connect(&self.address).await?;
            if let Some(tls) = &self.requests.tls {
                transport = tls.connect(transport, &self.address).await?;
            }
            Ok::<_, std::io::Error>(transport)
        };
        let time = self.requests.connect_timeout;
        let connected = timeout(time, connect).await.map_err(|_| format!("no connection within {time:?}"))?;
        let transport = connected.map_err(|error| error.to_string())?;
        let (sender, connection) =
            handshake(TokioIo::new(transport)).await.map_err(|error| error.to_string())?;
        // Ends with its sender; its errors are those of the request.
        tokio::spawn(connection);
        Ok(sender)
    }
}

/// Bytes as a part of a query, as Go escapes them.
fn query_escape(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for byte in bytes {
        match byte {
            b' ' => out.push('+'),
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push((*byte).into()),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// Bytes in base64, for HTTP's basic authentication.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for group in bytes.chunks(3) {
        let byte = |at: usize| u32::from(group.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for digit in 0..4 {
            let at = (bits >> (18 - 6 * digit)) as usize & 63;
            out.push(if digit <= group.len() { DIGITS[at].into() } else { '=' });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn web(url: &str, method: Method) -> Result<Web, String> {
        let second = Duration::from_secs(1);
        let headers = headers(&["X-Key: a:b ".to_owned()], "tool").unwrap();
        Web::new(url, Requests { method, headers, connect_timeout: second, timeout: second, tls: None })
    }

    #[test]
    fn a_get_has_the_message_in_its_url() {
        let web = web("http://h:80/a%20b?m=%s&x=1", Method::GET).unwrap();
        let request = web.request(&Bytes::from_static(b"a b&/%s\xff"), &[("trace".to_owned(), "7".into())]);
        assert_eq!(request.headers()["mq-header-trace"], "7");
        assert_eq!(request.uri(), "/a%20b?m=a+b%26%2F%25s%FF&x=1");
        assert_eq!(
            (&request.headers()["x-key"], &request.headers()[HOST]),
            (&"a:b".parse().unwrap(), &"h:80".parse().unwrap())
        );
        assert_eq!(web.name(), "http://h:80/a%20b");
    }

    #[test]
    fn a_url_that_cannot_be_is_refused() {
        for (url, method) in [
            ("http://h/none", Method::GET),
            ("http://h/%s/%s", Method::GET),
            ("h:80/x", Method::POST),
            ("ftp://h/", Method::POST),
            ("http:///x", Method::POST),
        ] {
            assert!(web(url, method).is_err(), "{url}");
        }
        for header in ["novalue", ": x", "key:", "ke y: x"] {
            assert!(headers(&[header.to_owned()], "tool").is_err(), "{header}");
        }
    }

    #[test]
    fn a_password_in_a_url_is_sent_and_not_shown() {
        let web = web("https://me:hush@h/x?token=hush", Method::POST).unwrap();
        assert_eq!(web.address, "h:443");
        assert_eq!(web.request(&Bytes::new(), &[]).headers()[AUTHORIZATION], "Basic bWU6aHVzaA==");
        assert_eq!(web.name(), "https://h/x");
    }
}

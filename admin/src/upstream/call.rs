//! One request to a broker or a lookup server.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::Request;
use hyper::header::{ACCEPT, AUTHORIZATION, HOST, HeaderValue};
use mq_net::http::{Link, LocalHttp, Method, Peer, StatusCode, send};
use mq_net::secret::Secret;
use mq_net::transport::Transport;
use mq_net::transport::tls::ClientTls;
use serde::de::DeserializeOwned;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::error::Elapsed;
use tokio::time::timeout;

use super::address;

/// Largest answer: statistics of tens of thousands of topics.
const ANSWER_BYTES_MAX: usize = 128 * 1024 * 1024;
/// Largest answer of a server that registered itself, which anybody can.
const LEARNED_BYTES_MAX: usize = 16 * 1024 * 1024;
/// KiB of answers that are read at a time, of all of those together.
const LEARNED_ROOM_KIB: usize = 64 * 1024;
/// Longest answer that is parsed at once, in a moment.
const SHORT_BYTES_MAX: usize = 32 * 1024;
/// Answers that are parsed at the same time: each takes a thread, and memory that the thread keeps.
const PARSED_AT_ONCE: usize = 2;
/// Longest text of an error that is passed on.
const DETAIL_CHARS_MAX: usize = 300;

/// A broker or a lookup server.
#[derive(Clone)]
pub(crate) struct Upstream {
    /// `host:port`, by which people know it.
    pub(crate) id: String,
    reach: Reach,
    /// Whether it was named by who runs this page. Only then it gets a token.
    pub(crate) is_configured: bool,
}

#[derive(Clone)]
enum Reach {
    /// In this process.
    Local(Arc<dyn LocalHttp>),
    /// At its id, over TLS if there is any.
    Configured(Option<ClientTls>),
    /// At its id, which a lookup server reported.
    Learned { lookup_is_here: bool },
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.id)
    }
}

/// Status and body of an answer in time, or why there is none.
type Answered = Result<Result<(StatusCode, Vec<u8>), String>, Elapsed>;

/// A request to be made of upstreams, and for whom.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    /// The one who looks at the page: what runs in this process has rights for it.
    pub(crate) peer: Peer,
    /// The token for configured upstreams.
    pub(crate) token: Option<Secret<Arc<[u8]>>>,
    pub(crate) connect_timeout: Duration,
    pub(crate) request_timeout: Duration,
    /// Room for the answers of servers that registered themselves.
    pub(crate) room: Room,
}

/// The room that the calls of all viewers share.
#[derive(Clone, Debug)]
pub(crate) struct Room {
    /// KiB that answers may still take while they are read.
    answers: Arc<Semaphore>,
    /// Answers that may still be parsed at the same time.
    parsed: Arc<Semaphore>,
}

impl Default for Room {
    fn default() -> Self {
        Self {
            answers: Arc::new(Semaphore::new(LEARNED_ROOM_KIB)),
            parsed: Arc::new(Semaphore::new(PARSED_AT_ONCE)),
        }
    }
}

impl Room {
    /// Does what takes a processor for a while: statistics of thousands of topics are long to parse.
    pub(crate) async fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, String> {
        // Never closed.
        let _turn = self.parsed.acquire().await;
        tokio::task::spawn_blocking(work).await.map_err(|error| error.to_string())
    }
}

/// The failure of an answer that is no JSON, or other JSON.
pub(crate) fn unreadable(error: impl fmt::Display) -> Failure {
    Failure::NoAnswer(format!("its answer can't be read: {error}"))
}

/// A reason why an upstream did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// There was no answer.
    NoAnswer(String),
    /// It refused: the answer's status, code and detail.
    Refused(StatusCode, String, String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoAnswer(text) => f.write_str(text),
            Self::Refused(StatusCode::UNAUTHORIZED, ..) => f.write_str("it wants a token that it knows"),
            Self::Refused(_, code, detail) if detail.is_empty() => f.write_str(code),
            Self::Refused(_, code, detail) => write!(f, "{detail} ({code})"),
        }
    }
}

impl Failure {
    /// The status of a refusal.
    pub(crate) fn status(&self) -> Option<StatusCode> {
        match self {
            Self::NoAnswer(_) => None,
            Self::Refused(status, ..) => Some(*status),
        }
    }

    /// Whether it says that a token is missing.
    pub(crate) fn is_unauthorized(&self) -> bool {
        self.status() == Some(StatusCode::UNAUTHORIZED)
    }
}

impl Upstream {
    /// A server in this process.
    pub(crate) fn local(id: String, server: Arc<dyn LocalHttp>) -> Self {
        Self { id, reach: Reach::Local(server), is_configured: true }
    }

    /// One that who runs this page named.
    pub(crate) fn configured(address: &str, tls: Option<ClientTls>) -> Self {
        Self { id: address.to_owned(), reach: Reach::Configured(tls), is_configured: true }
    }

    /// One that somebody added while the page runs: it gets no token.
    pub(crate) fn added(address: &str, tls: Option<ClientTls>) -> Self {
        Self { is_configured: false, ..Self::configured(address, tls) }
    }

    /// One that the lookup server at `lookup` reported, and that may be called.
    pub(crate) fn learned(address: String, lookup: &str) -> Self {
        let lookup_is_here = address::is_here(lookup);
        Self { id: address, reach: Reach::Learned { lookup_is_here }, is_configured: false }
    }

    /// Asks for JSON.
    pub(crate) async fn get<T: DeserializeOwned + Send + 'static>(
        &self,
        call: &Call,
        path: &str,
        query: &[(&str, &str)],
    ) -> Result<T, Failure> {
        let body = self.ask(call, Method::GET, path, query, Bytes::new()).await?;
        let body_is_short = body.len() <= SHORT_BYTES_MAX;
        let parse = move || serde_json::from_slice(&body).map_err(|error| error.to_string());
        if body_is_short {
            return parse().map_err(unreadable);
        }
        call.room.work(parse).await.flatten().map_err(unreadable)
    }

    /// A connection for several requests, made with the first of them.
    pub(crate) fn link(&self) -> UpstreamLink<'_> {
        UpstreamLink { upstream: self, link: None, taken: None }
    }

    /// Sends a request, and gives the body of an answer with status 200.
    pub(crate) async fn ask(
        &self,
        call: &Call,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        body: Bytes,
    ) -> Result<Vec<u8>, Failure> {
        self.ask_with(call, method, path, query, &[], body).await
    }

    /// [`Upstream::ask`] with headers.
    pub(crate) async fn ask_with(
        &self,
        call: &Call,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        headers: &[(String, String)],
        body: Bytes,
    ) -> Result<Vec<u8>, Failure> {
        let request = self.request(call, method, path, query, headers, body).map_err(Failure::NoAnswer)?;
        let answer = timeout(call.request_timeout, self.exchange(call, request)).await;
        Self::answer_of(call, answer)
    }

    fn answer_of(call: &Call, answer: Answered) -> Result<Vec<u8>, Failure> {
        let late = |_| Err(format!("no answer within {:?}", call.request_timeout));
        let (status, body) = answer.unwrap_or_else(late).map_err(Failure::NoAnswer)?;
        match status {
            StatusCode::OK => Ok(body),
            _ => Err(refusal(status, &body)),
        }
    }

    fn request(
        &self,
        call: &Call,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        headers: &[(String, String)],
        body: Bytes,
    ) -> Result<Request<Bytes>, String> {
        let pairs: Vec<_> = query.iter().map(|(name, value)| format!("{name}={}", escaped(value))).collect();
        let separator = if pairs.is_empty() { "" } else { "?" };
        let host = match &self.reach {
            Reach::Local(_) => "localhost",
            _ if self.id.contains('/') => "localhost",
            _ => &self.id,
        };
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{path}{separator}{}", pairs.join("&")))
            .header(HOST, host)
            .header(ACCEPT, "application/vnd.nsq; version=1.0");
        if let Some(token) = call.token.as_ref().filter(|_| self.is_configured) {
            let mut value = HeaderValue::from_bytes(&[b"Bearer ", &**token.expose()].concat())
                .map_err(|_| "the token has control characters")?;
            value.set_sensitive(true);
            request = request.header(AUTHORIZATION, value);
        }
        for (name, value) in headers {
            request = request.header(name, value);
        }
        request.body(body).map_err(|error| error.to_string())
    }

    async fn exchange(&self, call: &Call, request: Request<Bytes>) -> Result<(StatusCode, Vec<u8>), String> {
        if let Reach::Local(server) = &self.reach {
            return send(server.connect(&call.peer), request, ANSWER_BYTES_MAX).await;
        }
        let mut link = Link::new(self.connected(call).await?).await?;
        self.exchange_on(&mut link, &mut None, call, request).await
    }

    /// Sends a request on a connection. `taken` is the room that answers on it take so far.
    async fn exchange_on(
        &self,
        link: &mut Link<Transport>,
        taken: &mut Option<OwnedSemaphorePermit>,
        call: &Call,
        request: Request<Bytes>,
    ) -> Result<(StatusCode, Vec<u8>), String> {
        if self.is_configured {
            return link.send(request, ANSWER_BYTES_MAX, |_| Ok(())).await;
        }
        let take = |bytes: usize| {
            let kib = u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX);
            let more = Arc::clone(&call.room.answers).try_acquire_many_owned(kib);
            let more = more.map_err(|_| "the answers of all registered servers are too large together")?;
            match taken {
                Some(taken) => taken.merge(more),
                None => *taken = Some(more),
            }
            Ok(())
        };
        link.send(request, LEARNED_BYTES_MAX, take).await
    }

    async fn connected(&self, call: &Call) -> Result<Transport, String> {
        let connecting = timeout(call.connect_timeout, self.connect()).await;
        let late = |_| Err(format!("no connection within {:?}", call.connect_timeout));
        connecting.unwrap_or_else(late)
    }

    async fn connect(&self) -> Result<Transport, String> {
        let failed = |error: std::io::Error| format!("no connection: {error}");
        match &self.reach {
            // Resolved once, so that the address that was checked is the one that is called.
            Reach::Learned { lookup_is_here } => {
                let found: Vec<SocketAddr> =
                    tokio::net::lookup_host(&self.id).await.map_err(failed)?.collect();
                let allowed = |address: &&SocketAddr| address::is_callable(*lookup_is_here, address.ip());
                let address = found.iter().find(allowed).ok_or(
                    "its address leads to this machine or link: name it with --nsqd-http-address if it is a broker",
                )?;
                Transport::connect(&address.to_string()).await.map_err(failed)
            }
            Reach::Configured(Some(tls)) => {
                let stream = Transport::connect(&self.id).await.map_err(failed)?;
                tls.connect(stream, &self.id).await.map_err(|error| format!("TLS: {error}"))
            }
            _ => Transport::connect(&self.id).await.map_err(failed),
        }
    }
}

/// A connection to an upstream for several requests.
pub(crate) struct UpstreamLink<'u> {
    upstream: &'u Upstream,
    link: Option<Link<Transport>>,
    /// Room that the answers take until the link is dropped.
    taken: Option<OwnedSemaphorePermit>,
}

impl UpstreamLink<'_> {
    /// Sends a GET request, and gives the body of an answer with status 200.
    pub(crate) async fn ask(
        &mut self,
        call: &Call,
        path: &str,
        query: &[(&str, &str)],
    ) -> Result<Vec<u8>, Failure> {
        let upstream = self.upstream;
        let request =
            || upstream.request(call, Method::GET, path, query, &[], Bytes::new()).map_err(Failure::NoAnswer);
        let (first, again) = (request()?, request()?);
        let answer = timeout(call.request_timeout, self.exchange(call, first, again)).await;
        Upstream::answer_of(call, answer)
    }

    async fn exchange(
        &mut self,
        call: &Call,
        first: Request<Bytes>,
        again: Request<Bytes>,
    ) -> Result<(StatusCode, Vec<u8>), String> {
        let Self { upstream, link, taken } = self;
        if let Reach::Local(_) = &upstream.reach {
            return upstream.exchange(call, first).await;
        }
        if let Some(open) = link {
            // Many servers close a connection after an answer.
            if let Ok(answer) = upstream.exchange_on(open, taken, call, first).await {
                return Ok(answer);
            }
        }
        *link = None;
        let open = link.insert(Link::new(upstream.connected(call).await?).await?);
        upstream.exchange_on(open, taken, call, again).await
    }
}

fn refusal(status: StatusCode, body: &[u8]) -> Failure {
    #[derive(serde::Deserialize)]
    struct Reason {
        message: String,
        #[serde(default)]
        detail: String,
    }
    let short = |text: &str| text.chars().filter(|c| !c.is_control()).take(DETAIL_CHARS_MAX).collect();
    match serde_json::from_slice::<Reason>(body) {
        Ok(reason) => Failure::Refused(status, short(&reason.message), short(&reason.detail)),
        // Health, and what stands before a broker, answer plain text.
        Err(_) => {
            let text = String::from_utf8_lossy(body);
            let line = text.lines().next().unwrap_or_default();
            Failure::Refused(status, format!("status {}", status.as_u16()), short(line))
        }
    }
}

/// `value` as part of a query.
pub(crate) fn escaped(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    for byte in value.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(byte.into()),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    /// The address of a server that registered itself and answers without an end, or `bytes` and then waits.
    fn flood(bytes: Option<usize>) -> Upstream {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let _ = stream.read(&mut [0; 1024]);
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
                let piece = [b'['; 64 * 1024];
                let pieces = bytes.map_or(usize::MAX, |bytes| bytes / piece.len());
                // Until the other end has enough.
                let is_sent = (0..pieces).all(|_| stream.write_all(&piece).is_ok());
                if is_sent {
                    let _ = stream.read(&mut [0; 1]);
                }
            }
        });
        Upstream::learned(address, "127.0.0.1:4161")
    }

    fn call(request_timeout: Duration) -> Call {
        let peer = Peer { address: "127.0.0.1:1".to_owned(), tls: None, is_on_loopback: true };
        let connect_timeout = Duration::from_secs(60);
        Call { peer, token: None, connect_timeout, request_timeout, room: Room::default() }
    }

    async fn ask(upstream: &Upstream, call: &Call) -> String {
        let answer = upstream.ask(call, Method::GET, "/stats", &[], Bytes::new()).await;
        answer.map(|body| body.len()).unwrap_err().to_string()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_registered_server_that_answers_without_an_end_is_left() {
        let call = call(Duration::from_secs(60));
        assert_eq!(ask(&flood(None), &call).await, "the answer is larger than 16 MiB");
        assert_eq!(call.room.answers.available_permits(), LEARNED_ROOM_KIB, "nothing is held any more");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_link_goes_on_where_the_server_closes_after_each_answer_and_where_it_does_not() {
        for answers in [1, 100] {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let upstream = Upstream::learned(listener.local_addr().unwrap().to_string(), "127.0.0.1:4161");
            let connections = Arc::new(std::sync::atomic::AtomicUsize::new(0));
            let count = Arc::clone(&connections);
            std::thread::spawn(move || {
                for stream in listener.incoming() {
                    let mut stream = stream.unwrap();
                    count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                    for _ in 0..answers {
                        let mut head = Vec::new();
                        while !head.ends_with(b"\r\n\r\n") {
                            let mut byte = [0];
                            match stream.read(&mut byte) {
                                Ok(1) => head.push(byte[0]),
                                _ => break,
                            }
                        }
                        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}");
                    }
                }
            });
            let call = call(Duration::from_secs(60));
            let mut link = upstream.link();
            for _ in 0..3 {
                assert_eq!(link.ask(&call, "/stats", &[]).await, Ok(b"{}".to_vec()), "{answers}");
            }
            let made = connections.load(std::sync::atomic::Ordering::SeqCst);
            assert_eq!(made, if answers == 1 { 3 } else { 1 });
            drop(link);
            assert_eq!(call.room.answers.available_permits(), LEARNED_ROOM_KIB, "nothing is held any more");
        }
    }

    #[tokio::test]
    async fn a_registered_address_that_leads_to_this_machine_is_not_called() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let upstream = Upstream::learned(listener.local_addr().unwrap().to_string(), "10.0.0.1:4161");
        let call = call(Duration::from_secs(60));
        let words = "its address leads to this machine or link";
        assert!(ask(&upstream, &call).await.starts_with(words));
        let asked = upstream.link().ask(&call, "/stats", &[]).await;
        assert!(asked.unwrap_err().to_string().starts_with(words));
        assert!(listener.accept().is_err(), "nobody called");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn registered_servers_have_bounded_memory_together() {
        let (call, mib) = (call(Duration::from_secs(60)), 1 << 20);
        // Five of them want more than there is; four keep what they have until their time is over.
        let mut asking = tokio::task::JoinSet::new();
        for _ in 0..5 {
            let (call, upstream) = (call.clone(), flood(Some(15 * mib)));
            asking.spawn(async move { ask(&upstream, &call).await });
        }
        let error = asking.join_next().await.unwrap().unwrap();
        assert_eq!(error, "the answers of all registered servers are too large together");
        asking.shutdown().await;
        assert_eq!(call.room.answers.available_permits(), LEARNED_ROOM_KIB);
    }
}

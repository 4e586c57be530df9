//! The HTTP server by itself, over an API of a few routes.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::sync::Arc;
use std::time::Duration;

use mq_net::budget::Budget;
use mq_net::http::{
    Answer, Api, HostNames, HttpLimits, HttpServer, Method, Parameter, Request, Route, StatusCode,
};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(60);
const BODY_MAX: u64 = 100_000;
/// More than the sockets of both ends take.
const LARGE_BYTES: usize = 16 << 20;

#[derive(Default)]
struct Echo {
    /// A request for `/slow` has come.
    asked: Notify,
    /// It may be answered.
    go: Notify,
    hosts: HostNames,
}

impl Api for Echo {
    const ROUTES: &'static [Route<Self>] = &[
        Route {
            method: Method::GET,
            path: "/greet",
            parameters: &[Parameter::required("name", "Whom to greet")],
            statuses: &[StatusCode::BAD_REQUEST],
            handler: |_, request| Box::pin(async move { greet(&request).unwrap_or_else(|answer| answer) }),
        },
        Route {
            method: Method::POST,
            path: "/echo",
            parameters: &[],
            statuses: &[
                StatusCode::BAD_REQUEST,
                StatusCode::PAYLOAD_TOO_LARGE,
                StatusCode::INTERNAL_SERVER_ERROR,
            ],
            handler: |_, request| Box::pin(echo(request)),
        },
        Route {
            method: Method::POST,
            path: "/hold",
            parameters: &[],
            statuses: &[],
            handler: |api, request| {
                Box::pin(async move {
                    let body = request.body(BODY_MAX).await.unwrap();
                    api.asked.notify_one();
                    api.go.notified().await;
                    Answer::text(body.len().to_string())
                })
            },
        },
        Route {
            method: Method::PUT,
            path: "/item/{name}",
            parameters: &[],
            statuses: &[],
            handler: |_, request| Box::pin(async move { Answer::text(request.tail().to_owned()) }),
        },
        Route {
            method: Method::GET,
            path: "/item/{name}",
            parameters: &[],
            statuses: &[],
            handler: |_, _| Box::pin(async { Answer::text(vec![b'x'; 64 << 20]) }),
        },
        Route {
            method: Method::GET,
            path: "/large",
            parameters: &[],
            statuses: &[],
            handler: |_, request| {
                Box::pin(async move {
                    let turn = request.turn().await;
                    Answer::text(vec![b'x'; LARGE_BYTES]).made_in(turn)
                })
            },
        },
        Route {
            method: Method::GET,
            path: "/slow",
            parameters: &[],
            statuses: &[],
            handler: |api, _| {
                Box::pin(async move {
                    api.asked.notify_one();
                    api.go.notified().await;
                    Answer::empty()
                })
            },
        },
    ];

    fn hosts(&self) -> Option<&HostNames> {
        Some(&self.hosts)
    }

    async fn admit(&self, _: Option<&'static Route<Self>>, request: &mut Request) -> Result<(), Answer> {
        match request.bearer() {
            Some(b"wrong") => Err(Answer::unauthorized()),
            _ => Ok(()),
        }
    }
}

fn greet(request: &Request) -> Result<Answer, Answer> {
    let query = request.query()?;
    let missing = || Answer::error(StatusCode::BAD_REQUEST, "MISSING_ARG_NAME");
    Ok(Answer::text(format!("hello {}", query.get_some("name").ok_or_else(missing)?)))
}

async fn echo(request: Request) -> Answer {
    match request.body(BODY_MAX).await {
        Ok(body) => Answer::text(body.to_vec()),
        Err(error) => error.answer("BODY_TOO_BIG"),
    }
}

struct Running {
    api: Arc<Echo>,
    address: String,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

async fn start(limits: HttpLimits) -> Running {
    start_at("127.0.0.1:0", limits).await
}

async fn start_at(address: &str, limits: HttpLimits) -> Running {
    let server = HttpServer::bind(address, None, limits).await.unwrap();
    let address = server.local_addr().to_string();
    let (stop, stopped) = oneshot::channel();
    let api = Arc::new(Echo { hosts: HostNames::new(["h"]), ..Echo::default() });
    let task = tokio::spawn(server.run(Arc::clone(&api), async {
        let _ = stopped.await;
    }));
    Running { api, address, stop, task }
}

impl Running {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(&self.address).await.unwrap()
    }

    /// Sends bytes and gives all that comes until the connection closes, without the date.
    async fn exchange(&self, request: &[u8]) -> String {
        let mut stream = self.connect().await;
        stream.write_all(request).await.unwrap();
        rest(&mut stream).await
    }

    async fn request(&self, line: &str) -> String {
        self.exchange(format!("{line} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").as_bytes()).await
    }
}

async fn rest(stream: &mut (impl AsyncReadExt + Unpin)) -> String {
    let mut bytes = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut bytes)).await.expect("the server closes").unwrap();
    let text = String::from_utf8(bytes).unwrap();
    let dated = |line: &&str| !line.to_ascii_lowercase().starts_with("date:");
    text.split("\r\n").filter(dated).collect::<Vec<_>>().join("\n")
}

#[tokio::test]
async fn paths_and_methods_are_told_apart_as_nsqds_router_does() {
    let server = start(HttpLimits::default()).await;
    let cases = [
        ("GET /greet?name=you", "200 OK", "", "hello you"),
        ("GET /greet?name=a%20b+c", "200 OK", "", "hello a b c"),
        ("GET /greet", "400 Bad Request", "", r#"{"message":"MISSING_ARG_NAME"}"#),
        ("GET /greet?name=%zz", "400 Bad Request", "", r#"{"message":"INVALID_REQUEST"}"#),
        ("GET /nope", "404 Not Found", "", r#"{"message":"NOT_FOUND"}"#),
        ("OPTIONS /nope", "404 Not Found", "", r#"{"message":"NOT_FOUND"}"#),
        ("GET /item/", "404 Not Found", "", r#"{"message":"NOT_FOUND"}"#),
        ("GET /item/a/b", "404 Not Found", "", r#"{"message":"NOT_FOUND"}"#),
        ("PUT /item/a", "200 OK", "", "a"),
        (
            "DELETE /greet",
            "405 Method Not Allowed",
            "allow: GET, OPTIONS",
            r#"{"message":"METHOD_NOT_ALLOWED"}"#,
        ),
        ("HEAD /greet", "405 Method Not Allowed", "allow: GET, OPTIONS", ""),
        ("OPTIONS /item/a", "200 OK", "allow: GET, OPTIONS, PUT", ""),
        ("GET /greet/?name=a", "301 Moved Permanently", "location: /greet?name=a", ""),
        ("GET //GREET", "301 Moved Permanently", "location: /greet", ""),
        ("POST /Echo", "307 Temporary Redirect", "location: /echo", ""),
    ];
    for (line, status, header, body) in cases {
        let answer = server.request(line).await;
        let (head, have) = answer.split_once("\n\n").unwrap();
        assert!(head.starts_with(&format!("HTTP/1.1 {status}\n")), "{line}: {answer}");
        assert!(head.contains(header), "{line}: {answer}");
        assert_eq!(have, body, "{line}");
        let plain = line.starts_with("OPTIONS /i") || answer.contains("location:");
        assert_eq!(head.contains("x-nsq-content-type: nsq; version=1.0"), !plain, "{line}: {answer}");
    }
}

#[tokio::test]
async fn who_may_not_is_told_on_any_path() {
    let server = start(HttpLimits::default()).await;
    for path in ["/greet?name=a", "/nope"] {
        let request =
            format!("GET {path} HTTP/1.1\r\nAuthorization: bearer wrong\r\nConnection: close\r\n\r\n");
        let answer = server.exchange(request.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 401 Unauthorized\n"), "{answer}");
        assert!(answer.contains("www-authenticate: Bearer"), "{answer}");
    }
}

#[tokio::test]
async fn what_is_no_http_is_answered_400() {
    let server = start(HttpLimits::default()).await;
    for garbage in
        [&b"garbage\r\n\r\n"[..], b"\x16\x03\x01\x02\x00\x01\x00\x01", b"  V2PUB t\n\x00\x00\x00\x01a"]
    {
        let answer = server.exchange(garbage).await;
        assert!(answer.starts_with("HTTP/1.1 400 Bad Request\n"), "{answer}");
    }
}

#[tokio::test]
async fn bodies_have_a_limit_before_they_are_read() {
    let server = start(HttpLimits::default()).await;
    let post =
        |length: u64| format!("POST /echo HTTP/1.1\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n");
    let body = vec![b'b'; BODY_MAX as usize];
    let answer = server.exchange(&[post(BODY_MAX).as_bytes(), &body].concat()).await;
    assert!(answer.ends_with(std::str::from_utf8(&body).unwrap()));
    // Refused by what it announces: none of it was sent.
    let answer = server.exchange(post(BODY_MAX + 1).as_bytes()).await;
    assert!(
        answer.starts_with("HTTP/1.1 413 ") && answer.ends_with(r#"{"message":"BODY_TOO_BIG"}"#),
        "{answer}"
    );
    // Sent all the same, it does not cost the client the answer.
    let answer = server.exchange(&[post(BODY_MAX + 1).as_bytes(), &body, b"b"].concat()).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    let chunk = [b"c350\r\n", &vec![b'c'; 50_000][..], b"\r\n"].concat();
    let head = b"POST /echo HTTP/1.1\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n";
    let whole = server.exchange(&[&head[..], &chunk, &chunk, b"0\r\n\r\n"].concat()).await;
    assert!(whole.starts_with("HTTP/1.1 200 "), "{}", &whole[..60]);
    let more = server.exchange(&[&head[..], &chunk, &chunk, b"1\r\nc\r\n0\r\n\r\n"].concat()).await;
    assert!(more.starts_with("HTTP/1.1 413 "), "{}", &more[..60]);
}

/// Whether an answer says that the connection ends after it.
fn closes(answer: &str) -> bool {
    answer.to_ascii_lowercase().contains("\nconnection: close")
}

#[tokio::test]
async fn an_answer_that_ends_the_connection_says_so() {
    let limits = HttpLimits { body_timeout: Duration::from_millis(100), ..HttpLimits::default() };
    let server = start(limits).await;
    let mebibyte = 1 << 20;
    for (case, status) in [
        // The body is refused by what it announces, and by what comes.
        (format!("POST /echo HTTP/1.1\r\nContent-Length: {mebibyte}\r\n\r\n"), "413"),
        (format!("POST /echo HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: {mebibyte}\r\n\r\n"), "413"),
        (
            format!(
                "POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n{mebibyte:x}\r\n{}",
                "x".repeat(200_000)
            ),
            "413",
        ),
        // It does not come, or not as it says it does.
        ("POST /echo HTTP/1.1\r\nContent-Length: 10\r\n\r\nhalf".to_owned(), "500"),
        ("POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n".to_owned(), "400"),
        ("POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n".to_owned(), "400"),
        // Nobody wants it.
        (format!("POST /nope HTTP/1.1\r\nContent-Length: {mebibyte}\r\n\r\n"), "404"),
        (format!("GET /echo HTTP/1.1\r\nContent-Length: {mebibyte}\r\n\r\n"), "405"),
        (
            format!(
                "POST /nope HTTP/1.1\r\nAuthorization: Bearer wrong\r\nContent-Length: {mebibyte}\r\n\r\n"
            ),
            "401",
        ),
        // It is not known where the next request would begin.
        ("GET /slash HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx".to_owned(), "404"),
        ("garbage\r\n\r\n".to_owned(), "400"),
        (format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(100_000)), "414"),
    ] {
        // What the client has sent already must not cost it the answer.
        let answer = server.exchange(case.as_bytes()).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{case:.60}: {answer:.200}");
        assert!(closes(&answer), "{case:.60}: {answer:.200}");
    }
}

#[tokio::test]
async fn a_small_body_that_nobody_reads_leaves_the_connection_open() {
    let server = start(HttpLimits::default()).await;
    for refused in [
        "POST /nope HTTP/1.1\r\nContent-Length: 4\r\n\r\nbody",
        "POST /nope HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n",
        "POST /echo HTTP/1.1\r\nAuthorization: bearer wrong\r\nContent-Length: 4\r\n\r\nbody",
        "POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n",
    ] {
        let last = "GET /greet?name=you HTTP/1.1\r\nConnection: close\r\n\r\n";
        let answers = server.exchange(format!("{refused}{last}").as_bytes()).await;
        let (first, second) = answers.split_at(answers.rfind("HTTP/1.1 ").unwrap());
        assert!(!closes(first) && !first.is_empty(), "{refused}: {answers}");
        assert!(second.ends_with("hello you"), "{refused}: {answers}");
    }
}

#[tokio::test]
async fn a_raw_hash_is_part_of_the_target() {
    let server = start(HttpLimits::default()).await;
    let answers = server
        .exchange(
            b"GET /greet?name=a#b&more HTTP/1.1\r\n\r\nPOST /echo?x=# HTTP/1.1\r\nContent-Length: 3\r\n\r\n#\r\n\
              GET /greet?name=#c HTTP/1.1\r\nConnection: close\r\n\r\n",
        )
        .await;
    for part in ["hello a#bHTTP/1.1 200 OK", "\n\n#\nHTTP/1.1 200 OK", "hello #c"] {
        assert!(answers.contains(part), "{part}: {answers}");
    }
    assert!(server.request("GET /gre#et?name=a").await.starts_with("HTTP/1.1 404 "));
}

#[tokio::test]
async fn requests_for_a_page_of_another_site_are_refused() {
    let server = start(HttpLimits::default()).await;
    let greet = async |method: &str, headers: &str| {
        let request = format!("{method} /greet?name=a HTTP/1.1\r\n{headers}\r\nConnection: close\r\n\r\n");
        server.exchange(request.as_bytes()).await
    };
    for (method, headers, status) in [
        // Programs: curl, NSQ's own, Prometheus, a probe, one that names no host.
        ("GET", "Host: localhost:4151\r\nUser-Agent: curl/8.5.0\r\nAccept: */*", "200"),
        (
            "GET",
            "Host: 127.0.0.1:4151\r\nUser-Agent: Go-http-client/1.1\r\nAccept: application/vnd.nsq; version=1.0",
            "200",
        ),
        (
            "GET",
            "Host: 10.0.0.7:4151\r\nUser-Agent: Prometheus/3.1.0\r\nAccept: application/openmetrics-text",
            "200",
        ),
        ("GET", "Host: [fd00::7]:4151\r\nUser-Agent: kube-probe/1.31", "200"),
        ("GET", "User-Agent: none", "200"),
        ("GET", "Host: h:1", "200"),
        ("GET", "Host: 127.0.0.1", "200"),
        ("GET", "Host: evil:1", "403"),
        ("GET", "Host: h\r\nOrigin: http://h", "200"),
        ("GET", "Host: h\r\nOrigin: http://evil", "403"),
        ("GET", "Host: h\r\nOrigin: null", "403"),
        ("GET", "Host: h\r\nSec-Fetch-Site: cross-site", "403"),
        (
            "GET",
            "Host: h\r\nSec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document",
            "200",
        ),
        ("OPTIONS", "Host: h\r\nOrigin: http://evil\r\nAccess-Control-Request-Method: POST", "403"),
        ("DELETE", "Host: h\r\nOrigin: http://evil", "403"),
    ] {
        let answer = greet(method, headers).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{method} {headers}: {answer}");
    }
    let answer = greet("GET", "Host: evil").await;
    assert!(answer.contains("--http-allowed-hosts") && answer.contains("HOST_NOT_ALLOWED"), "{answer}");
    let answer = greet("GET", "Host: h\r\nOrigin: http://evil").await;
    assert!(answer.contains("Origin: http://evil") && answer.contains("CROSS_SITE_REQUEST"), "{answer}");
}

#[tokio::test]
async fn bodies_wait_for_memory_and_not_for_ever() {
    let limits = HttpLimits {
        budget: Budget::new(BODY_MAX as usize),
        body_timeout: Duration::from_millis(300),
        ..HttpLimits::default()
    };
    let server = start(limits).await;
    let head = format!("POST /echo HTTP/1.1\r\nConnection: close\r\nContent-Length: {BODY_MAX}\r\n\r\n");
    let mut idle = server.connect().await;
    idle.write_all(head.as_bytes()).await.unwrap();
    // A small one needs no share.
    let small =
        server.exchange(b"POST /echo HTTP/1.1\r\nConnection: close\r\nContent-Length: 1\r\n\r\na").await;
    assert!(small.ends_with("\n\na"), "{small}");
    assert!(rest(&mut idle).await.starts_with("HTTP/1.1 500 "));
    let answer = server.exchange(&[head.as_bytes(), &vec![b'b'; BODY_MAX as usize]].concat()).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "the share was given back: {}", &answer[..60]);
}

#[tokio::test]
async fn a_body_keeps_its_place_until_it_is_dealt_with() {
    let limits = HttpLimits {
        budget: Budget::new(BODY_MAX as usize),
        body_timeout: Duration::from_millis(300),
        ..HttpLimits::default()
    };
    let server = start(limits).await;
    let post = |path| {
        let head = format!("POST {path} HTTP/1.1\r\nConnection: close\r\nContent-Length: {BODY_MAX}\r\n\r\n");
        [head.as_bytes(), &vec![b'b'; BODY_MAX as usize]].concat()
    };
    // The second is the one that may come to its end although all is spent.
    let mut holders = Vec::new();
    for _ in 0..2 {
        let mut holder = server.connect().await;
        holder.write_all(&post("/hold")).await.unwrap();
        server.api.asked.notified().await;
        holders.push(holder);
    }
    let answer = server.exchange(&post("/echo")).await;
    assert!(answer.starts_with("HTTP/1.1 500 "), "there is no memory: {}", &answer[..60]);
    for mut holder in holders {
        server.api.go.notify_one();
        assert!(rest(&mut holder).await.ends_with(&BODY_MAX.to_string()));
    }
    let answer = server.exchange(&post("/echo")).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{}", &answer[..60]);
}

#[tokio::test]
async fn unread_answers_share_the_budget_and_who_holds_them_for_long_is_closed() {
    let limits = HttpLimits { budget: Budget::new(2 * LARGE_BYTES), ..HttpLimits::default() };
    let budget = limits.budget.clone();
    let server = start(limits).await;
    let mut deaf = Vec::new();
    for _ in 0..8 {
        let mut stream = server.connect().await;
        stream.write_all(b"GET /large HTTP/1.1\r\n\r\n").await.unwrap();
        deaf.push(stream);
    }
    let spent = async {
        while !budget.is_spent() {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, spent).await.expect("answers that nobody reads are counted");
    let small = server.exchange(b"GET /greet?name=a HTTP/1.1\r\nConnection: close\r\n\r\n").await;
    assert!(small.ends_with("hello a"), "a small answer needs no share: {small}");
    let large = server.exchange(b"GET /large HTTP/1.1\r\nConnection: close\r\n\r\n").await;
    assert!(large.len() > LARGE_BYTES, "who reads is served: {}", large.len());
    // One more than fits is under way at most.
    assert!(budget.peak() <= 4 * LARGE_BYTES, "{} bytes", budget.peak());
    drop(deaf);
    let given_back = async {
        while budget.used() > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(PATIENCE, given_back).await.expect("all is given back");
}

#[tokio::test]
async fn slow_and_endless_heads_and_idle_connections_are_ended() {
    let limits = HttpLimits {
        head_timeout: Duration::from_millis(100),
        head_bytes_max: 8 * 1024,
        ..HttpLimits::default()
    };
    let server = start(limits).await;
    for beginning in ["", "GET /greet HTTP/1.1\r\nX-", "GET /greet?name=a HTTP/1.1\r\nHost: h\r\n\r\n"] {
        // Ends, whatever is answered.
        server.exchange(beginning.as_bytes()).await;
    }
    let long = format!("GET /greet HTTP/1.1\r\nX-Long: {}\r\n\r\n", "x".repeat(20_000));
    let mut stream = server.connect().await;
    let _ = stream.write_all(long.as_bytes()).await;
    assert!(rest(&mut stream).await.starts_with("HTTP/1.1 431 "));
}

#[tokio::test]
async fn who_takes_no_answer_is_given_up() {
    let limits = HttpLimits { write_timeout: Duration::from_millis(100), ..HttpLimits::default() };
    let server = start(limits).await;
    let mut deaf = server.connect().await;
    deaf.write_all(b"GET /item/large HTTP/1.1\r\n\r\n").await.unwrap();
    // Its connection is closed with bytes unsent, so the server can stop.
    server.stop.send(()).unwrap();
    timeout(Duration::from_secs(4), server.task).await.expect("nobody holds it up").unwrap();
    let mut bytes = Vec::new();
    let _ = deaf.read_to_end(&mut bytes).await;
    assert!(bytes.len() < 64 << 20);
}

#[tokio::test]
async fn one_connection_too_many_is_told() {
    let server = start(HttpLimits { connections_max: 1, ..HttpLimits::default() }).await;
    let mut first = server.connect().await;
    first.write_all(b"GET /slow HTTP/1.1\r\n\r\n").await.unwrap();
    server.api.asked.notified().await;
    let mut second = server.connect().await;
    assert!(rest(&mut second).await.starts_with("HTTP/1.1 503 "));
    server.api.go.notify_one();
    first.write_all(b"GET /greet?name=a HTTP/1.1\r\nConnection: close\r\n\r\n").await.unwrap();
    assert!(rest(&mut first).await.ends_with("hello a"));
}

#[tokio::test]
async fn a_stop_waits_for_requests_and_not_for_idle_connections() {
    let server = start(HttpLimits::default()).await;
    let _idle = server.connect().await;
    let mut busy = server.connect().await;
    busy.write_all(b"GET /slow HTTP/1.1\r\n\r\n").await.unwrap();
    server.api.asked.notified().await;
    server.stop.send(()).unwrap();
    server.api.go.notify_one();
    assert!(rest(&mut busy).await.starts_with("HTTP/1.1 200 OK\n"));
    timeout(PATIENCE, server.task).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_unix_socket_serves_too() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("http.sock");
    let server = start_at(path.to_str().unwrap(), HttpLimits::default()).await;
    let mut stream = UnixStream::connect(&path).await.unwrap();
    // HTTP/1.0, and nothing more to come.
    stream.write_all(b"GET /greet?name=a HTTP/1.0\r\n\r\n").await.unwrap();
    stream.shutdown().await.unwrap();
    assert!(rest(&mut stream).await.ends_with("hello a"));
    server.stop.send(()).unwrap();
    server.task.await.unwrap();
    assert!(!path.exists());
}

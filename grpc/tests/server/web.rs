//! gRPC-Web: calls over HTTP/1 and HTTP/2, as browsers and proxies send them, and pages of other sites.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{Buf, Bytes};
use mq_grpc::v1::{
    AcknowledgeRequest, ListTopicsRequest, PublishRequest, PublishResponse, PullRequest, PullResponse,
};
use prost::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::raw::Raw;
use crate::stack::{Stack, message, soon};

const WEB: &str = "application/grpc-web+proto";
const WEB_TEXT: &str = "application/grpc-web-text+proto";

/// The ways in which a page may call: the version of HTTP, and the content type.
const WAYS: [(u8, &str); 4] = [(1, WEB), (1, WEB_TEXT), (2, WEB), (2, WEB_TEXT)];

/// The answer to a request. As text it is decoded.
struct Answer {
    status: u16,
    head: String,
    body: Bytes,
}

impl Answer {
    /// The message, if there is one, and the trailers behind it.
    fn frames(&self) -> (Option<Bytes>, String) {
        let (mut body, mut message, mut trailers) = (self.body.clone(), None, String::new());
        while body.has_remaining() {
            let (flags, length) = (body.get_u8(), body.get_u32() as usize);
            let frame = body.split_to(length);
            match flags & 0x80 {
                0 => message = Some(frame),
                _ => trailers.push_str(std::str::from_utf8(&frame).unwrap()),
            }
        }
        (message, trailers)
    }

    fn decode<M: Message + Default>(&self) -> M {
        let (message, trailers) = self.frames();
        assert!(self.status == 200 && trailers.contains("grpc-status:0"), "{} {trailers}", self.head);
        M::decode(message.unwrap()).unwrap()
    }
}

/// A frame of gRPC, which gRPC-Web sends alike.
fn frame(request: &impl Message) -> Vec<u8> {
    let mut frame = vec![0];
    frame.extend(u32::try_from(request.encoded_len()).unwrap().to_be_bytes());
    frame.extend(request.encode_to_vec());
    frame
}

/// Takes the chunks of a body apart.
fn joined(mut chunked: &[u8]) -> Bytes {
    let mut body = Vec::new();
    loop {
        let end = chunked.windows(2).position(|pair| pair == b"\r\n").unwrap();
        let length = usize::from_str_radix(std::str::from_utf8(&chunked[..end]).unwrap(), 16).unwrap();
        if length == 0 {
            return body.into();
        }
        body.extend(&chunked[end + 2..end + 2 + length]);
        chunked = &chunked[end + 4 + length..];
    }
}

/// Sends one request with these headers on a connection of its own.
async fn ask(stack: &Stack, line: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    let mut socket = TcpStream::connect(&stack.grpc).await.unwrap();
    let mut head = format!("{line} HTTP/1.1\r\nConnection: close\r\nContent-Length: {}\r\n", body.len());
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    socket.write_all(head.as_bytes()).await.unwrap();
    socket.write_all(body).await.unwrap();
    let mut answer = Vec::new();
    soon("an answer", socket.read_to_end(&mut answer)).await.unwrap();
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
    let head = String::from_utf8(answer[..end].to_vec()).unwrap().to_ascii_lowercase();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let rest = &answer[end + 4..];
    let body = match head.contains("transfer-encoding: chunked") {
        true => joined(rest),
        false => Bytes::copy_from_slice(rest),
    };
    Answer { status, head, body }
}

/// Sends one request over HTTP/2, on a connection of its own.
async fn ask_http_2(stack: &Stack, method: &str, headers: &[(&str, &str)], body: Vec<u8>) -> Answer {
    let raw = Raw::connect(&stack.grpc).await;
    let mut call = raw.post(method, headers).await;
    call.send(body.into(), true).await;
    let (head, body) = call.response().await;
    let lines = head.headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()));
    let text = lines.collect::<Vec<_>>().join("\r\n");
    Answer { status: head.status.as_u16(), head: text, body: body.into() }
}

/// Calls a method in one of the ways.
async fn call(stack: &Stack, (version, kind): (u8, &str), method: &str, request: &impl Message) -> Answer {
    let is_text = kind == WEB_TEXT;
    let mut body = frame(request);
    if is_text {
        body = STANDARD.encode(body).into_bytes();
    }
    let mut answer = match version {
        1 => {
            let headers = [("Host", stack.grpc.as_str()), ("Content-Type", kind), ("Accept", kind)];
            ask(stack, &format!("POST /mq.v1.{method}"), &headers, &body).await
        }
        _ => ask_http_2(stack, method, &[("content-type", kind), ("accept", kind)], body).await,
    };
    assert!(answer.head.contains(kind), "{}", answer.head);
    if is_text {
        // Pieces are padded each for itself.
        answer.body = answer.body.chunks(4).flat_map(|four| STANDARD.decode(four).unwrap()).collect();
    }
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_are_published_pulled_and_finished_in_each_way() {
    for way in WAYS {
        let stack = Stack::start().await;
        let publish = PublishRequest { topic: "t".to_owned(), messages: vec![message("a")] };
        let published: PublishResponse = call(&stack, way, "PublishService/Publish", &publish).await.decode();
        assert_eq!(published.offsets.len(), 1, "{way:?}");
        let (topic, channel) = ("t".to_owned(), "c".to_owned());
        let pull = PullRequest { topic, channel, max_messages: 1, ..PullRequest::default() };
        let pulled: PullResponse = call(&stack, way, "SubscribeService/Pull", &pull).await.decode();
        assert_eq!(&pulled.messages[0].body[..], b"a", "{way:?}");
        let (topic, channel) = ("t".to_owned(), "c".to_owned());
        let finish = vec![pulled.messages[0].token.clone()];
        let finish = AcknowledgeRequest { topic, channel, finish, ..AcknowledgeRequest::default() };
        let finished = call(&stack, way, "SubscribeService/Acknowledge", &finish).await;
        assert!(finished.frames().1.contains("grpc-status:0"), "{way:?}: {}", finished.head);
        let topic = stack.broker.find_topic(&mq_core::TopicName::parse("t").unwrap()).unwrap();
        assert_eq!(topic.channels()[0].stats().finished, 1, "{way:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_comes_with_its_details_in_each_way() {
    let stack = Stack::start().await;
    let request = PublishRequest { topic: "no name".to_owned(), messages: vec![message("a")] };
    for way in WAYS {
        let answer = call(&stack, way, "PublishService/Publish", &request).await;
        let all = format!("{} {}", answer.head, answer.frames().1);
        assert_eq!(answer.status, 200, "{way:?}");
        let has_status = ["grpc-status:3", "grpc-status: 3"].iter().any(|status| all.contains(status));
        assert!(has_status && all.contains("grpc-status-details-bin"), "{way:?}: {all}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn text_that_is_no_base64_is_refused() {
    let stack = Stack::start().await;
    let headers = [("Host", stack.grpc.as_str()), ("Content-Type", WEB_TEXT)];
    let answer = ask(&stack, "POST /mq.v1.AdminService/ListTopics", &headers, b"!!!!").await;
    let all = format!("{} {}", answer.head, String::from_utf8_lossy(&answer.body));
    assert!(answer.status != 200 || !all.contains("grpc-status: 0"), "{all}");
    // The server goes on.
    let listed = call(&stack, (1, WEB_TEXT), "AdminService/ListTopics", &ListTopicsRequest::default()).await;
    assert!(listed.frames().1.contains("grpc-status:0"), "{}", listed.head);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_another_site_or_under_an_unknown_name_is_refused() {
    let stack = Stack::start().await;
    let own = stack.grpc.clone();
    let (same, port) = (format!("http://{own}"), own.rsplit(':').next().unwrap());
    let foreign = format!("rebound.example:{port}");
    let rebound = format!("http://{foreign}");
    let named = format!("broker.example:{port}");
    let body = frame(&ListTopicsRequest::default());
    for (headers, wanted) in [
        (vec![("Host", own.as_str())], 200),
        (vec![("Host", own.as_str()), ("Origin", same.as_str())], 200),
        (vec![("Host", named.as_str())], 200),
        (vec![("Host", own.as_str()), ("Origin", "http://elsewhere.example")], 403),
        (vec![("Host", own.as_str()), ("Origin", "null")], 403),
        (vec![("Host", own.as_str()), ("Sec-Fetch-Site", "cross-site")], 403),
        (vec![("Host", foreign.as_str()), ("Origin", rebound.as_str())], 403),
        (vec![("Host", foreign.as_str())], 403),
    ] {
        let all = [&headers[..], &[("Content-Type", WEB)]].concat();
        let answer = ask(&stack, "POST /mq.v1.AdminService/ListTopics", &all, &body).await;
        assert_eq!(answer.status, wanted, "{headers:?}: {}", answer.head);
        assert_eq!(answer.head.contains("grpc-status: 7"), wanted == 403, "{headers:?}: {}", answer.head);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_another_site_is_refused_over_http_2_too() {
    let stack = Stack::start().await;
    let same = format!("http://{}", stack.grpc);
    for kind in [WEB, WEB_TEXT] {
        for (origin, wanted) in [(same.as_str(), 200), ("http://elsewhere.example", 403)] {
            let body = frame(&ListTopicsRequest::default());
            let body = if kind == WEB { body } else { STANDARD.encode(body).into_bytes() };
            let headers = [("content-type", kind), ("origin", origin)];
            let answer = ask_http_2(&stack, "AdminService/ListTopics", &headers, body).await;
            assert_eq!(answer.status, wanted, "{kind} {origin}: {}", answer.head);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn http_1_serves_grpc_web_alone_and_allows_no_page_anything_beforehand() {
    let stack = Stack::start().await;
    let body = frame(&ListTopicsRequest::default());
    let host = ("Host", stack.grpc.as_str());
    for kind in ["application/grpc", "text/plain", "application/json"] {
        let headers = [host, ("Content-Type", kind)];
        let answer = ask(&stack, "POST /mq.v1.AdminService/ListTopics", &headers, &body).await;
        assert_eq!(answer.status, 400, "{kind}");
    }
    let headers = [host, ("Access-Control-Request-Method", "POST")];
    let answer = ask(&stack, "OPTIONS /mq.v1.AdminService/ListTopics", &headers, b"").await;
    assert!(answer.status == 400 && !answer.head.contains("access-control"), "{}", answer.head);
}

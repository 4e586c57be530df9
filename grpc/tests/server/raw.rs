//! Calls as no stub makes them.
#![allow(unreachable_pub)]

use std::future::poll_fn;

use bytes::Bytes;
use h2::RecvStream;
use h2::client::SendRequest;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tonic::Code;

use crate::stack::soon;

/// A connection of HTTP/2. Dropping it closes it.
pub struct Raw {
    client: SendRequest<Bytes>,
    url: String,
    connection: JoinHandle<()>,
}

impl Raw {
    pub async fn connect(address: &str) -> Self {
        let socket = TcpStream::connect(address).await.unwrap();
        let (client, connection) = h2::client::handshake(socket).await.unwrap();
        let connection = tokio::spawn(async move { drop(connection.await) });
        Self { client, url: format!("http://{address}"), connection }
    }

    /// Begins a call of `method`, such as `PublishService/Publish`, with more `headers`.
    pub async fn call(&self, method: &str, headers: &[(&str, &str)]) -> Call {
        let own = [("content-type", "application/grpc"), ("te", "trailers")];
        self.post(method, &[&own, headers].concat()).await
    }

    /// Begins a request with these headers alone.
    pub async fn post(&self, method: &str, headers: &[(&str, &str)]) -> Call {
        let mut client = self.client.clone().ready().await.unwrap();
        let mut request = hyper::Request::post(format!("{}/mq.v1.{method}", self.url));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (response, stream) = client.send_request(request.body(()).unwrap(), false).unwrap();
        Call { response, stream }
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

/// A call that was begun.
pub struct Call {
    response: h2::client::ResponseFuture,
    stream: h2::SendStream<Bytes>,
}

impl Call {
    /// Sends all of `body`, however long that takes, unless the server ends the call.
    pub async fn send(&mut self, mut body: Bytes, end: bool) {
        while !body.is_empty() {
            self.stream.reserve_capacity(body.len());
            match poll_fn(|cx| self.stream.poll_capacity(cx)).await {
                Some(Ok(room)) => {
                    let piece = body.split_to(room.min(body.len()));
                    self.stream.send_data(piece, end && body.is_empty()).unwrap();
                }
                _ => return,
            }
        }
    }

    /// Cancels the call, as clients do, once it has received `messages`.
    pub async fn cancel_after(self, messages: usize) {
        let Self { response, mut stream } = self;
        let mut body = response.await.unwrap().into_body();
        let mut received = Vec::new();
        while count(&received) < messages {
            let data = body.data().await.expect("the stream goes on").unwrap();
            let _ = body.flow_control().release_capacity(data.len());
            received.extend_from_slice(&data);
        }
        stream.send_reset(h2::Reason::CANCEL);
    }

    /// The whole response: its head and its body.
    pub async fn response(self) -> (hyper::http::response::Parts, Vec<u8>) {
        soon("a response", async {
            let (head, mut body) = self.response.await.unwrap().into_parts();
            let mut all = Vec::new();
            while let Some(data) = body.data().await {
                let data = data.unwrap();
                let _ = body.flow_control().release_capacity(data.len());
                all.extend_from_slice(&data);
            }
            (head, all)
        })
        .await
    }

    /// The code that the call ends with; nothing more is sent.
    pub async fn end(self) -> Code {
        self.failure().await.0
    }

    /// The code that the call ends with, and its text as it is on the wire; nothing more is sent.
    pub async fn failure(self) -> (Code, String) {
        let Self { response, stream } = self;
        let headers = soon("the end of a call", async {
            let (head, mut body) = response.await.unwrap().into_parts();
            match head.headers.contains_key("grpc-status") {
                true => head.headers,
                false => trailers(&mut body).await,
            }
        })
        .await;
        drop(stream);
        let text = headers.get("grpc-message").map_or("", |text| text.to_str().unwrap());
        (Code::from_bytes(headers["grpc-status"].as_bytes()), text.to_owned())
    }
}

async fn trailers(body: &mut RecvStream) -> hyper::HeaderMap {
    while let Some(data) = body.data().await {
        let _ = body.flow_control().release_capacity(data.unwrap().len());
    }
    body.trailers().await.unwrap().expect("trailers")
}

/// The number of whole messages in a response's body.
fn count(mut body: &[u8]) -> usize {
    let mut count = 0;
    while let Some(([_, length @ ..], rest)) = body.split_first_chunk::<5>()
        && let Some(rest) = rest.get(u32::from_be_bytes(*length) as usize..)
    {
        body = rest;
        count += 1;
    }
    count
}

/// A message as it is sent: its flag, its length, itself.
pub fn framed(flag: u8, length: usize, message: &[u8]) -> Bytes {
    let length = u32::try_from(length).unwrap().to_be_bytes();
    [&[flag][..], &length, message].concat().into()
}

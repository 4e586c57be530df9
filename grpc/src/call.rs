//! Rules of every call: its deadline, memory for what it sends, and the text of its failure.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::{Request, Response, StatusCode};
use mq_net::access::Access;
use mq_net::budget::Account;
use tokio::time::{Instant, timeout_at};
use tonic::Status;
use tonic::body::Body;
use tower::Service;

use crate::config::REQUEST_BYTES;
use crate::guarded::bearer;
use crate::input_budget::InputBudget;
use crate::link::{CallPlace, Link, PlacedBody, Unencoded};
use crate::status::Refusal;

/// The beginning of a call's content type.
const GRPC: &[u8] = b"application/grpc";

/// Time by which a deadline comes before tonic's own, which would answer `CANCELLED`.
const EARLY: Duration = Duration::from_millis(2);

/// The time at which a call has to be over: an extension of its request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline(pub(crate) Instant);

/// The services, behind the rules of every call.
#[derive(Clone)]
pub(crate) struct Calls<S> {
    inner: S,
    input: InputBudget,
    access: Option<Arc<Access>>,
}

impl<S> Calls<S> {
    pub(crate) fn new(inner: S, input: InputBudget, access: Option<Arc<Access>>) -> Self {
        Self { inner, input, access }
    }
}

impl<S> Service<Request<Body>> for Calls<S>
where
    S: Service<Request<Body>, Response = Response<Body>> + Clone + Send + 'static,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        if !is_grpc(request.headers()) {
            let mut refused = Response::new(Body::empty());
            *refused.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
            return Box::pin(async { Ok(refused) });
        }
        let link = request.extensions().get::<Arc<Link>>().cloned();
        let Some(link) = link else { return self.placed(request, None) };
        if link.needs_admission() {
            return self.admitted(request, link);
        }
        match link.begin() {
            Ok(place) => self.placed(request, Some((link, place))),
            Err(refusal) => refused(refusal),
        }
    }
}

type Answering<E> = Pin<Box<dyn Future<Output = Result<Response<Body>, E>> + Send>>;

fn refused<E: 'static>(refusal: Refusal) -> Answering<E> {
    Box::pin(async move { Ok(readable(Status::from(refusal).into_http())) })
}

impl<S> Calls<S>
where
    S: Service<Request<Body>, Response = Response<Body>> + Clone + Send + 'static,
    S::Future: Send + 'static,
{
    /// Answers a call that is one too many for a connection on which nobody was admitted, if its own caller
    /// is.
    fn admitted(&mut self, request: Request<Body>, link: Arc<Link>) -> Answering<S::Error> {
        // The clone that is left behind has not been polled for readiness; the one that was takes the call.
        let next = self.clone();
        let mut calls = std::mem::replace(self, next);
        Box::pin(async move {
            let given = request.headers().get(AUTHORIZATION).and_then(|value| bearer(value.as_bytes()));
            let is_admitted = match &calls.access {
                Some(access) => access.caller(given, link.peer()).await.is_ok(),
                None => true,
            };
            if is_admitted {
                link.admit();
            }
            match link.begin() {
                Ok(place) => calls.placed(request, Some((link, place))).await,
                Err(refusal) => refused(refusal).await,
            }
        })
    }

    /// Answers a call that has its place, or needs none.
    fn placed(
        &mut self,
        request: Request<Body>,
        place: Option<(Arc<Link>, CallPlace)>,
    ) -> Answering<S::Error> {
        let deadline =
            timeout(request.headers()).map(|timeout| Instant::now() + timeout.saturating_sub(EARLY));
        let unpacked = match self.unpacked(&request) {
            Ok(unpacked) => unpacked,
            Err(refusal) => return refused(refusal),
        };
        let mut request = request.map(|body| {
            let body = self.input.follow(body);
            match unpacked {
                None => body,
                // Held as long as the decoder may hold what it has unpacked.
                Some(place) => Body::new(body.map_frame(move |frame| {
                    let _held = &place;
                    frame
                })),
            }
        });
        if let Some(deadline) = deadline {
            request.extensions_mut().insert(Deadline(deadline));
        }
        if let Some((link, _)) = &place {
            request.extensions_mut().insert(Arc::clone(link.peer()));
        }
        let answer = self.inner.call(request);
        Box::pin(async move {
            let answer = match deadline {
                None => answer.await,
                Some(deadline) => {
                    let late = |_| Ok(Status::from(Refusal::late()).into_http());
                    timeout_at(deadline, answer).await.unwrap_or_else(late)
                }
            };
            let mut answer = answer.map(readable)?;
            let unencoded = answer.extensions_mut().remove::<Unencoded>();
            Ok(match place {
                Some((_, place)) => answer.map(|body| Body::new(PlacedBody::new(body, place, unencoded))),
                None => answer,
            })
        })
    }
}

impl<S> Calls<S> {
    /// A place for the largest message that a compressed request may unpack to; none for a request that is
    /// not compressed.
    ///
    /// # Errors
    /// There is no room for it.
    fn unpacked(&self, request: &Request<Body>) -> Result<Option<Account>, Refusal> {
        let encoding = request.headers().get("grpc-encoding");
        if encoding.is_none_or(|encoding| encoding == "identity") {
            return Ok(None);
        }
        let publishes = request.uri().path().starts_with("/mq.v1.PublishService/");
        self.input.take(if publishes { self.input.max_message() } else { REQUEST_BYTES })
    }
}

/// Writes the text of a failure so that every client reads it. `#` and `?` need no escape, and Node's client
/// leaves those two escaped where they are.
fn readable(response: Response<Body>) -> Response<Body> {
    let mut response = response.map(|body| {
        Body::new(body.map_frame(|mut frame| {
            if let Some(trailers) = frame.trailers_mut() {
                unescape(trailers);
            }
            frame
        }))
    });
    unescape(response.headers_mut());
    response
}

fn unescape(headers: &mut HeaderMap) {
    let Some(message) = headers.get_mut("grpc-message") else { return };
    let text = message.to_str().unwrap_or_default();
    if text.contains("%23") || text.contains("%3F") {
        let text = text.replace("%23", "#").replace("%3F", "?");
        if let Ok(unescaped) = HeaderValue::try_from(text) {
            *message = unescaped;
        }
    }
}

/// Whether a request says that it is gRPC. A page in a browser can send bytes that look like a call to
/// another site, but not with this content type, unless the server allows it beforehand, which this one never
/// does.
fn is_grpc(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    kind.len() >= GRPC.len() && kind[..GRPC.len()].eq_ignore_ascii_case(GRPC)
}

/// Longest time for a call: up to eight digits and a unit. Any other value counts as none.
fn timeout(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let amount = digits.parse::<u64>().ok().filter(|_| digits.len() <= 8)?;
    Some(match unit {
        "H" => Duration::from_secs(amount * 3_600),
        "M" => Duration::from_secs(amount * 60),
        "S" => Duration::from_secs(amount),
        "m" => Duration::from_millis(amount),
        "u" => Duration::from_micros(amount),
        "n" => Duration::from_nanos(amount),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use mq_net::budget::Budget;

    use super::*;

    #[tokio::test]
    async fn what_does_not_say_that_it_is_grpc_reaches_no_service() {
        let service = tower::service_fn(|_: Request<Body>| async {
            Ok::<_, std::convert::Infallible>(Response::new(Body::empty()))
        });
        let mut calls = Calls::new(service, InputBudget::new(Budget::new(1 << 20), 1 << 20), None);
        for (kind, wanted) in [
            ("application/grpc", StatusCode::OK),
            ("application/grpc+proto", StatusCode::OK),
            ("Application/gRPC", StatusCode::OK),
            ("text/plain", StatusCode::UNSUPPORTED_MEDIA_TYPE),
            ("application/x-www-form-urlencoded", StatusCode::UNSUPPORTED_MEDIA_TYPE),
            ("", StatusCode::UNSUPPORTED_MEDIA_TYPE),
        ] {
            let mut request = Request::new(Body::empty());
            if !kind.is_empty() {
                request.headers_mut().insert(CONTENT_TYPE, kind.parse().unwrap());
            }
            assert_eq!(calls.call(request).await.unwrap().status(), wanted, "{kind}");
        }
    }

    #[test]
    fn a_failure_that_names_an_ephemeral_topic_is_read_by_every_client() {
        let mut headers = HeaderMap::new();
        headers.insert("grpc-message", "topic a%23ephemeral: really%3F 100%25".parse().unwrap());
        unescape(&mut headers);
        assert_eq!(headers["grpc-message"], "topic a#ephemeral: really? 100%25");
    }

    #[test]
    fn timeouts_are_digits_and_a_unit() {
        for (text, wanted) in [
            ("2H", Some(Duration::from_secs(7_200))),
            ("1M", Some(Duration::from_secs(60))),
            ("99999999S", Some(Duration::from_secs(99_999_999))),
            ("5m", Some(Duration::from_millis(5))),
            ("7u", Some(Duration::from_micros(7))),
            ("0n", Some(Duration::ZERO)),
            ("100000000S", None),
            ("5", None),
            ("m", None),
            ("-1m", None),
            ("5x", None),
            ("", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert("grpc-timeout", text.parse().unwrap());
            assert_eq!(timeout(&headers), wanted, "{text}");
        }
    }
}

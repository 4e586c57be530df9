//! What holds for every call: its deadline, and memory for what it sends.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::header::HeaderMap;
use hyper::{Request, Response};
use tokio::time::{Instant, timeout_at};
use tonic::Status;
use tonic::body::Body;
use tower::Service;

use crate::input_budget::InputBudget;
use crate::status::Refusal;

/// By so much a deadline comes before tonic's own, which would say `CANCELLED`.
const EARLY: Duration = Duration::from_millis(2);

/// When a call has to be over: an extension of its request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline(pub(crate) Instant);

/// The services behind it.
#[derive(Clone, Debug)]
pub(crate) struct Calls<S> {
    inner: S,
    input: InputBudget,
}

impl<S> Calls<S> {
    pub(crate) fn new(inner: S, input: InputBudget) -> Self {
        Self { inner, input }
    }
}

impl<S> Service<Request<Body>> for Calls<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let deadline =
            timeout(request.headers()).map(|timeout| Instant::now() + timeout.saturating_sub(EARLY));
        let mut request = request.map(|body| self.input.follow(body));
        if let Some(deadline) = deadline {
            request.extensions_mut().insert(Deadline(deadline));
        }
        let answer = self.inner.call(request);
        Box::pin(async move {
            let Some(deadline) = deadline else { return answer.await };
            let late = |_| Ok(Status::from(Refusal::late()).into_http());
            timeout_at(deadline, answer).await.unwrap_or_else(late)
        })
    }
}

/// How long a call may take: up to eight digits and a unit. What is no such thing is taken for none.
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

    use super::*;

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

//! Reflection, for callers who may use the other services: it has no check of its own.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use hyper::{Request, Response};
use mq_net::access::Access;
use mq_net::http::Peer;
use tonic::Status;
use tonic::body::Body;
use tonic::server::NamedService;
use tower::Service;

use crate::status::Refusal;

/// A service behind a check of its callers' rights.
#[derive(Clone)]
pub(crate) struct Guarded<S> {
    inner: S,
    /// Decides who may use it; `None`: everybody may.
    access: Option<Arc<Access>>,
}

impl<S> Guarded<S> {
    pub(crate) fn new(inner: S, access: Option<Arc<Access>>) -> Self {
        Self { inner, access }
    }
}

impl<S: NamedService> NamedService for Guarded<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<Request<Body>> for Guarded<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        // The clone that is left behind has not been polled for readiness; the one that was takes the call.
        let next = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, next);
        let access = self.access.clone();
        Box::pin(async move {
            if let Some(access) = access {
                let peer = request.extensions().get::<Arc<Peer>>().cloned().unwrap_or_default();
                let given = request.headers().get("authorization").map(|value| value.as_bytes());
                if let Err(denied) = access.caller(given.and_then(bearer), &peer).await {
                    return Ok(Status::from(Refusal::from(denied)).into_http());
                }
            }
            inner.call(request).await
        })
    }
}

/// The secret in the value of `authorization`, if it is of the form `Bearer` and a secret.
pub(crate) fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, secret) = value.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| secret.trim_ascii())
}

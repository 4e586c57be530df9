//! Calls that a browser may have sent: gRPC-Web, over HTTP/1 and HTTP/2. A call with the content type of
//! gRPC itself comes from no page, see `call`.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use hyper::header::CONTENT_TYPE;
use hyper::{Request, Response, StatusCode, Version};
use mq_net::http::{ForeignPage, HostNames, check_page};
use tonic::body::Body;
use tonic::{Code, Status};
use tower::Service;

use crate::link::Link;
use crate::status::Refusal;

/// The beginning of the content type of gRPC-Web.
const GRPC_WEB: &[u8] = b"application/grpc-web";

/// The services, behind a check that refuses calls of other sites' pages.
#[derive(Clone)]
pub(crate) struct WebCalls<S> {
    inner: S,
    /// Names by which a browser on this machine may reach the server; `None` where a secret is asked for.
    hosts: Option<Arc<HostNames>>,
}

impl<S> WebCalls<S> {
    pub(crate) fn new(inner: S, hosts: Option<Arc<HostNames>>) -> Self {
        Self { inner, hosts }
    }

    fn check(&self, request: &Request<Body>) -> Result<(), ForeignPage> {
        let peer = request.extensions().get::<Arc<Link>>().map(|link| Arc::clone(link.peer()));
        let (method, headers) = (request.method(), request.headers());
        let authority = request.uri().authority().map(|authority| authority.as_str());
        check_page(method, headers, authority, &peer.unwrap_or_default(), self.hosts.as_deref())
    }
}

impl<S> Service<Request<Body>> for WebCalls<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
    S::Error: 'static,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        if !may_be_of_a_page(&request) {
            return Box::pin(self.inner.call(request));
        }
        match self.check(&request) {
            Ok(()) => Box::pin(self.inner.call(request)),
            Err(page) => Box::pin(async move { Ok(refused(&page)) }),
        }
    }
}

/// Whether a browser can have sent a request for a page: gRPC's own calls over HTTP/2 it can't.
fn may_be_of_a_page(request: &Request<Body>) -> bool {
    let kind = request.headers().get(CONTENT_TYPE).map_or(&b""[..], |kind| kind.as_bytes());
    let is_web = kind.len() >= GRPC_WEB.len() && kind[..GRPC_WEB.len()].eq_ignore_ascii_case(GRPC_WEB);
    is_web || request.version() != Version::HTTP_2
}

/// HTTP's 403, with the reason where a client of gRPC-Web looks for it.
fn refused(page: &ForeignPage) -> Response<Body> {
    let reason = match page {
        ForeignPage::Site(_) => "CROSS_SITE_REQUEST",
        ForeignPage::Host(_) => "HOST_NOT_ALLOWED",
    };
    let refusal = Refusal::new(Code::PermissionDenied, reason, page.detail());
    let mut response = Status::from(refusal).into_http();
    *response.status_mut() = StatusCode::FORBIDDEN;
    response
}

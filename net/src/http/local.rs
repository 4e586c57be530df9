//! An API of this process, reached without a socket.

use std::convert::Infallible;
use std::sync::{Arc, Weak};
use std::time::Duration;

use hyper::header::{CONNECTION, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{DuplexStream, duplex};

use super::left::LeftBody;
use super::memory::ConnectionMemory;
use super::request::{Peer, Request};
use super::route::Api;
use super::router;
use crate::budget::Budget;

/// Bytes on their way between both ends.
const PIPE_BYTES: usize = 64 * 1024;

/// Longest time for a request's body: it is in memory already.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// A server in this process that requests reach without a socket.
pub trait LocalHttp: Send + Sync {
    /// A connection to it. Its requests count as those of `peer`, with the rights and rules for that one.
    /// Must be called within a runtime.
    fn connect(&self, peer: &Peer) -> DuplexStream;
}

/// An API as a [`LocalHttp`].
pub struct LocalApi<A> {
    /// Weak, since the API may have a site that holds this.
    api: Weak<A>,
    budget: Budget,
}

impl<A: Api> LocalApi<A> {
    /// Serves `api` as long as it is there; what it holds for requests is counted in `budget`.
    pub fn new(api: &Arc<A>, budget: Budget) -> Self {
        Self { api: Arc::downgrade(api), budget }
    }
}

impl<A: Api> LocalHttp for LocalApi<A> {
    fn connect(&self, peer: &Peer) -> DuplexStream {
        let (near, far) = duplex(PIPE_BYTES);
        // The far end of a server that is gone is closed.
        let Some(api) = self.api.upgrade() else { return near };
        let memory = ConnectionMemory::new(&self.budget);
        let peer = Arc::new(peer.clone());
        let service = service_fn(move |request| {
            let (left, memory) = (LeftBody::default(), Arc::clone(&memory));
            let request = Request::new(request, &left, Arc::clone(&peer), Arc::clone(&memory), BODY_TIMEOUT);
            let answer = router::answer(Arc::clone(&api), request);
            Box::pin(async move {
                let mut response = answer.await.into_response(&memory);
                if !left.pass_over(false).await {
                    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                }
                Ok::<_, Infallible>(response)
            })
        });
        // Ends when the other end is dropped.
        tokio::spawn(async move {
            let _ = http1::Builder::new().serve_connection(TokioIo::new(far), service).await;
        });
        near
    }
}

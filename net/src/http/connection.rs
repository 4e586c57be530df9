//! One connection.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;

use hyper::header::{CONNECTION, EXPECT, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::watch;

use super::left::LeftBody;
use super::memory::ConnectionMemory;
use super::request::{Peer, Request};
use super::route::Api;
use super::router;
use super::server::HttpLimits;
use super::target::EscapedTargets;
use super::write_timeout::WriteTimeout;
use crate::accept;
use crate::budget::Closed;
use crate::linger::linger;
use crate::transport::Transport;
use crate::transport::tls::TlsConfig;

/// State that all connections of a server share.
pub(super) struct Shared<A> {
    pub(super) api: Arc<A>,
    pub(super) tls: Option<TlsConfig>,
    pub(super) limits: HttpLimits,
}

/// Serves a connection to its end; once `stop` is true, to the end of the request it is at.
pub(super) async fn serve<A: Api>(
    shared: Arc<Shared<A>>,
    mut transport: Transport,
    address: String,
    mut stop: watch::Receiver<bool>,
) {
    if let Some(tls) = &shared.tls {
        let handshake = tls.accept(transport, &shared.limits.budget);
        let handshake = async { handshake.await.map_err(|(error, _)| error) };
        let Some(encrypted) = accept::handshake("HTTP", &address, handshake).await else { return };
        transport = encrypted;
    }
    let peer = Arc::new(Peer::new(address, &transport));
    let limits = &shared.limits;
    let memory = ConnectionMemory::new(&limits.budget);
    let io = WriteTimeout::new(transport, limits.write_timeout, Arc::clone(&memory));
    let io = EscapedTargets::new(io, limits.budget.beginning());
    let is_last = io.is_last();
    let io = TokioIo::new(io);
    let (state, from, held) = (Arc::clone(&shared), Arc::clone(&peer), Arc::clone(&memory));
    let service = service_fn(move |request| {
        let memory = Arc::clone(&held);
        let (left, is_last) = (LeftBody::default(), Arc::clone(&is_last));
        let waits = request.headers().contains_key(EXPECT);
        let request =
            Request::new(request, &left, Arc::clone(&from), Arc::clone(&memory), state.limits.body_timeout);
        let answer = router::answer(Arc::clone(&state.api), request);
        Box::pin(async move {
            let mut response = answer.await.into_response(&memory);
            // Said in the answer, or the client would send its next request to a connection that ends.
            if !left.pass_over(waits).await || is_last.load(Ordering::Relaxed) {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(response)
        })
    });
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_timeout)
        .max_buf_size(limits.head_bytes_max)
        .half_close(true)
        .serve_connection(io, service);
    let ended = {
        let mut stopped = pin!(async move {
            let _ = stop.wait_for(|stop| *stop).await;
        });
        let mut stopping = false;
        poll_fn(|cx| {
            memory.register(cx);
            if memory.cuts_answer() {
                tracing::debug!(
                    peer = peer.address,
                    "HTTP connection closed with its answer unread: {Closed}"
                );
                return Poll::Ready(Ok(()));
            }
            if !stopping && stopped.as_mut().poll(cx).is_ready() {
                stopping = true;
                Pin::new(&mut connection).graceful_shutdown();
            }
            connection.poll_without_shutdown(cx)
        })
        .await
    };
    if let Err(error) = ended {
        tracing::debug!(peer = peer.address, %error, "HTTP connection ends");
    }
    let mut io = connection.into_parts().io.into_inner();
    linger(&mut io).await;
}

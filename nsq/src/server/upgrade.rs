//! IDENTIFY's negotiation, and what it switches on: TLS, then compression.
//!
//! ```text
//! client    IDENTIFY              handshake
//! server              JSON reply  handshake   OK inside TLS   OK inside the compression
//! ```

use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, timeout};

use super::phase::{End, Phase};
use super::session::Session;
use crate::wire::error::{Code, WireError};
use crate::wire::frame::OK_FRAME;
use crate::wire::identify::{Reply, Request, ms};
use mq_net::accept::HANDSHAKE_TIMEOUT;
use mq_net::transport::Compression;

/// Layers that a client and the server agreed to switch on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Upgrade {
    tls: bool,
    compression: Option<Compression>,
}

impl Session {
    /// The answer to IDENTIFY, and the upgrade that follows it. Layers that are on are not switched on again.
    /// The answer says that there is no deflate where memory lacks for one more.
    pub(super) fn negotiate(&mut self, request: &Request) -> Result<(Reply, Option<Upgrade>), WireError> {
        let shared = Arc::clone(&self.shared);
        let config = &shared.config;
        let compressed = self.transport.is_compressed();
        let tls = request.tls_v1 && self.shared.tls.is_some() && self.transport.is_plain();
        let snappy = request.snappy && config.snappy && !compressed;
        let mut deflate = request.deflate && config.deflate && !compressed;
        if snappy && deflate {
            let text = "cannot enable both deflate and snappy compression";
            return Err(WireError::new(Code::IdentifyFailed, text));
        }
        if deflate {
            self.deflate = self.account.budget().deflate();
            deflate = self.deflate.is_some();
            if !deflate {
                let peer = &self.client.remote_address;
                tracing::warn!(peer, "deflate refused: the memory for it is spent (see --memory-limit)");
            }
        }
        let asked = u8::try_from(request.deflate_level.min(9)).unwrap_or(0);
        let level = if deflate && asked > 0 { asked } else { 6 }.min(config.max_deflate_level);
        let compression = match (snappy, deflate) {
            (true, _) => Some(Compression::Snappy),
            (_, true) => Some(Compression::Deflate(level)),
            _ => None,
        };
        let reply = Reply {
            max_rdy_count: config.max_rdy_count.into(),
            version: config.version.clone(),
            max_msg_timeout: ms(config.max_msg_timeout),
            tls_v1: tls,
            deflate,
            deflate_level: level.into(),
            max_deflate_level: config.max_deflate_level.into(),
            snappy,
            auth_required: self.shared.auth.is_some(),
            topology_region: config.topology_region.clone(),
            topology_zone: config.topology_zone.clone(),
            libmq: self.extension.offer(
                request,
                self.shared.broker.dedup_window(),
                self.shared.limits.max_req_timeout,
            ),
            ..Reply::default()
        };
        let upgrade = (tls || compression.is_some()).then_some(Upgrade { tls, compression });
        Ok((reply.with(&self.settings), upgrade))
    }

    /// Switches on what was agreed on, once the answer to IDENTIFY is out.
    pub(super) async fn upgrade(&mut self, upgrade: Upgrade) -> Result<(), End> {
        // What came behind IDENTIFY, before any of it is on, is nobody's word.
        self.input.clear();
        let client = Arc::clone(&self.client);
        let switched = {
            let mut switching = pin!(timeout(HANDSHAKE_TIMEOUT, self.switch_on(upgrade)));
            poll_fn(|cx| {
                client.signal().register(cx.waker());
                if client.signal().is_stopped() {
                    return Poll::Ready(Err(End::Stopped));
                }
                // One that takes too long has no answer: it may be in the middle of its own.
                switching.as_mut().poll(cx).map(|result| result.map_err(|_| End::Stuck))
            })
            .await?
        };
        match switched {
            Ok(()) => {
                self.phase = Phase::Open;
                self.start_timer(Instant::now());
            }
            // As nsqd does, though it is rarely understood.
            Err(error) => self.fail(WireError::new(Code::IdentifyFailed, format!("IDENTIFY failed {error}"))),
        }
        Ok(())
    }

    async fn switch_on(&mut self, upgrade: Upgrade) -> io::Result<()> {
        if let Some(tls) = self.shared.tls.as_ref().filter(|_| upgrade.tls) {
            match tls.accept(self.transport.take(), self.account.budget()).await {
                Ok(transport) => self.transport = transport,
                Err((error, transport)) => {
                    self.transport = transport;
                    return Err(error);
                }
            }
            if let Some(peer) = self.transport.tls_peer() {
                tracing::debug!(client = self.client.id, ?peer, "TLS");
                self.client.set_tls(peer);
            }
            self.say_ok().await?;
        }
        if let Some(compression) = upgrade.compression {
            self.transport.compress(compression, Vec::new());
            tracing::debug!(client = self.client.id, ?compression, "compression");
            self.client.set_compression(compression);
            self.say_ok().await?;
        }
        Ok(())
    }

    async fn say_ok(&mut self) -> io::Result<()> {
        self.transport.write_all(&OK_FRAME).await?;
        self.transport.flush().await
    }
}

//! Closing a socket so that the other end can read what was sent to it last.

use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::timeout;

/// Longest time for a peer to read the last bytes before what it still sends resets the connection.
pub const LINGER: Duration = Duration::from_secs(1);

/// Bytes discarded at a time, on the stack of the thread: many connections may end at once.
const SINK_BYTES: usize = 4 * 1024;

/// Ends the sending side and discards what the peer sends until it closes, for [`LINGER`] at most: were the
/// socket closed with bytes unread, the peer would lose the last bytes that it was sent.
pub async fn linger(io: &mut (impl AsyncRead + AsyncWrite + Unpin)) {
    let ended = async {
        io.shutdown().await?;
        poll_fn(|cx| {
            loop {
                let mut sink = [MaybeUninit::<u8>::uninit(); SINK_BYTES];
                let mut read = ReadBuf::uninit(&mut sink);
                ready!(Pin::new(&mut *io).poll_read(cx, &mut read))?;
                if read.filled().is_empty() {
                    return Poll::Ready(io::Result::Ok(()));
                }
            }
        })
        .await
    };
    // A peer that takes longer has no use for them.
    let _ = timeout(LINGER, ended).await;
}

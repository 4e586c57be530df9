//! Frames on their way from a session to its connection. The session is polled whether the connection takes
//! any or not: so it goes on reading acknowledgements, and lets others have the messages that it has no room
//! for.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;
use tokio_stream::Stream;
use tonic::Status;

use crate::link::Counted;

/// Frames that wait for the connection: one that it sends, and one behind that.
const FRAMES_MAX: usize = 2;

/// A new outlet: where frames go in, and where they come out.
pub(super) fn outlet<T>() -> (Outlet<T>, Frames<T>) {
    let shared = Arc::new(Mutex::new(Shared {
        frames: VecDeque::new(),
        end: None,
        reader_gone: false,
        reader: None,
        writer: None,
    }));
    (Outlet(Arc::clone(&shared)), Frames(shared))
}

struct Shared<T> {
    /// Each counted while it waits.
    frames: VecDeque<(T, Option<Counted>)>,
    /// There once no more frames come.
    end: Option<Result<(), Status>>,
    reader_gone: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

/// The end that frames go into.
pub(super) struct Outlet<T>(Arc<Mutex<Shared<T>>>);

/// The end that frames come out of. Dropping it ends the session: nobody reads any more.
pub(crate) struct Frames<T>(Arc<Mutex<Shared<T>>>);

/// Whether a frame can go in.
pub(super) enum Room {
    Yes,
    No,
    /// Nobody is there any more.
    Gone,
}

impl<T> Outlet<T> {
    /// Whether there is room. If that changes, `cx` is woken.
    pub(super) fn room(&self, cx: &Context<'_>) -> Room {
        let mut shared = self.0.lock();
        if shared.reader_gone {
            return Room::Gone;
        }
        if !shared.writer.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            shared.writer = Some(cx.waker().clone());
        }
        if shared.frames.len() < FRAMES_MAX { Room::Yes } else { Room::No }
    }

    /// Puts a frame in.
    pub(super) fn put(&self, frame: T, counted: Option<Counted>) {
        let mut shared = self.0.lock();
        shared.frames.push_back((frame, counted));
        let reader = shared.reader.take();
        drop(shared);
        if let Some(reader) = reader {
            reader.wake();
        }
    }

    /// Takes back the frames that the connection has not taken and that `is_wanted` picks.
    pub(super) fn take_unsent(&self, is_wanted: impl Fn(&T) -> bool) -> Vec<T> {
        let mut shared = self.0.lock();
        let frames = std::mem::take(&mut shared.frames);
        let (wanted, others): (VecDeque<_>, _) = frames.into_iter().partition(|(frame, _)| is_wanted(frame));
        shared.frames = others;
        wanted.into_iter().map(|(frame, _)| frame).collect()
    }

    /// No more frames come; the first reason counts.
    pub(super) fn end(&self, end: Result<(), Status>) {
        let mut shared = self.0.lock();
        shared.end.get_or_insert(end);
        let reader = shared.reader.take();
        drop(shared);
        if let Some(reader) = reader {
            reader.wake();
        }
    }
}

impl<T> Drop for Outlet<T> {
    fn drop(&mut self) {
        self.end(Err(Status::internal("the stream was lost")));
    }
}

impl<T> Stream for Frames<T> {
    type Item = Result<T, Status>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut shared = self.0.lock();
        if let Some((frame, _)) = shared.frames.pop_front() {
            let writer = shared.writer.take();
            drop(shared);
            if let Some(writer) = writer {
                writer.wake();
            }
            return Poll::Ready(Some(Ok(frame)));
        }
        match &mut shared.end {
            Some(end) => Poll::Ready(std::mem::replace(end, Ok(())).err().map(Err)),
            None => {
                shared.reader = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl<T> Drop for Frames<T> {
    fn drop(&mut self) {
        let mut shared = self.0.lock();
        shared.reader_gone = true;
        let writer = shared.writer.take();
        drop(shared);
        if let Some(writer) = writer {
            writer.wake();
        }
    }
}

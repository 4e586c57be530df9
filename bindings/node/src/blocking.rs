//! Calls that wait for a disk or a broker, each on a thread of its own: they are rare, and JavaScript's
//! thread never waits.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use libmq::sync::Mutex;
use libmq::{Error, Result};

/// The result of a call on another thread.
pub(crate) struct Blocking<T>(Arc<Mutex<Stage<T>>>);

enum Stage<T> {
    Running(Option<Waker>),
    Done(Result<T>),
    Taken,
}

/// The thread's end of a call. Dropped without a result, as by a panic, it says so.
struct Call<T>(Arc<Mutex<Stage<T>>>);

impl<T> Call<T> {
    fn finish(&self, result: Result<T>) {
        let mut stage = self.0.lock();
        let Stage::Running(waker) = &mut *stage else { return };
        let waker = waker.take();
        *stage = Stage::Done(result);
        drop(stage);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<T> Drop for Call<T> {
    fn drop(&mut self) {
        self.finish(Err(failed("the call ended without a result".to_owned())));
    }
}

fn failed(why: String) -> Error {
    Error::Refused { why, broker: "this process".to_owned(), retry: true }
}

/// Starts `call` on a thread. It runs to its end, also if nobody waits for it any more.
pub(crate) fn blocking<T: Send + 'static>(call: impl FnOnce() -> Result<T> + Send + 'static) -> Blocking<T> {
    let stage = Arc::new(Mutex::new(Stage::Running(None)));
    let own = Call(Arc::clone(&stage));
    let thread = std::thread::Builder::new().name("libmq-node".to_owned());
    // Where no thread can be started, `own` is dropped with the closure, and says that there is no result.
    let _ = thread.spawn(move || own.finish(call()));
    Blocking(stage)
}

impl<T> Future for Blocking<T> {
    type Output = Result<T>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut stage = self.0.lock();
        if let Stage::Running(waker) = &mut *stage {
            *waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        match std::mem::replace(&mut *stage, Stage::Taken) {
            Stage::Done(result) => Poll::Ready(result),
            _ => Poll::Ready(Err(Error::Closed)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;
    use std::task::Wake;

    struct Notice(mpsc::Sender<()>);

    impl Wake for Notice {
        fn wake(self: Arc<Self>) {
            let _ = self.0.send(());
        }
    }

    fn outcome<T>(mut call: Blocking<T>) -> Result<T> {
        let (sender, woken) = mpsc::channel();
        let waker = Waker::from(Arc::new(Notice(sender)));
        loop {
            match Pin::new(&mut call).poll(&mut Context::from_waker(&waker)) {
                Poll::Ready(result) => return result,
                Poll::Pending => woken.recv().expect("the waker is in the call"),
            }
        }
    }

    #[test]
    fn a_call_that_panics_has_an_error_as_its_result() {
        assert_eq!(outcome(blocking(|| Ok(1))), Ok(1));
        let error = outcome(blocking(|| -> Result<u8> { panic!("by this test") })).unwrap_err();
        assert!(error.to_string().contains("without a result"), "{error}");
    }
}

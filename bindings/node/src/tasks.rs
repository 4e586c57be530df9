//! Futures of an environment, polled on JavaScript's thread.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::ready::{ReadyQueue, TaskWaker};

/// A future of the crate `libmq`, which needs no runtime.
pub(crate) type Task<T> = Pin<Box<dyn Future<Output = T>>>;

/// Futures by number. A number that is free again is used again, and with it its waker: a wake-up that comes
/// late polls another future once in vain.
pub(crate) struct Tasks<T> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
    queue: Arc<ReadyQueue>,
}

struct Slot<T> {
    waker: Arc<TaskWaker>,
    task: Option<Task<T>>,
}

impl<T> Tasks<T> {
    pub(crate) fn new(queue: &Arc<ReadyQueue>) -> Self {
        Self { slots: Vec::new(), free: Vec::new(), queue: Arc::clone(queue) }
    }

    /// A number that stays in use until [`Tasks::free`].
    pub(crate) fn reserve(&mut self) -> u32 {
        if let Some(number) = self.free.pop() {
            return number;
        }
        // As many as there is memory for are far below 2^32.
        let number = u32::try_from(self.slots.len()).unwrap_or(u32::MAX);
        self.slots.push(Slot { waker: TaskWaker::new(&self.queue, number), task: None });
        number
    }

    /// Puts a future where there is none, or puts back what was taken.
    pub(crate) fn put(&mut self, number: u32, task: Task<T>) {
        if let Some(slot) = self.slots.get_mut(number as usize) {
            slot.task = Some(task);
        }
    }

    /// Takes a future to poll or to drop it, where nothing is borrowed.
    pub(crate) fn take(&mut self, number: u32) -> Option<(Task<T>, Arc<TaskWaker>)> {
        let slot = self.slots.get_mut(number as usize)?;
        Some((slot.task.take()?, Arc::clone(&slot.waker)))
    }

    /// Lets the number be used again.
    pub(crate) fn free(&mut self, number: u32) {
        self.free.push(number);
    }

    /// Takes all futures, to drop them.
    pub(crate) fn clear(&mut self) -> Vec<Task<T>> {
        self.slots.iter_mut().filter_map(|slot| slot.task.take()).collect()
    }
}

/// Polls a future that was taken. `Err` gives it back: it has to wait.
pub(crate) fn poll<T>(mut task: Task<T>, waker: &Arc<TaskWaker>) -> Result<T, Task<T>> {
    let waker = waker.arm();
    match task.as_mut().poll(&mut Context::from_waker(&waker)) {
        Poll::Ready(output) => Ok(output),
        Poll::Pending => Err(task),
    }
}

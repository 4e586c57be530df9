//! A broker in this process, served to others.

use std::sync::mpsc::sync_channel;

use mq_core::sync::Mutex;
use mq_server::{Addresses, ServedBroker};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::Embedded;
use crate::error::{Error, Result};
use crate::remote::runtime;

/// The listeners of a broker, each until it is stopped.
#[derive(Default)]
pub(super) struct Listeners(Mutex<Vec<(oneshot::Sender<()>, JoinHandle<()>)>>);

impl Listeners {
    /// Stops all, and waits until their clients are gone.
    pub(super) fn stop(&self) {
        let listeners = std::mem::take(&mut *self.0.lock());
        let (stops, tasks): (Vec<_>, Vec<_>) = listeners.into_iter().unzip();
        drop(stops);
        if tasks.is_empty() {
            return;
        }
        let Ok(runtime) = runtime() else { return };
        let (ended, end) = sync_channel::<()>(1);
        runtime.spawn(async move {
            for task in tasks {
                // One that panicked is gone too.
                let _ = task.await;
            }
            drop(ended);
        });
        // It ends by the sender's drop.
        let _ = end.recv();
    }
}

impl Embedded {
    pub(crate) fn serve(&self, flags: &[String]) -> Result<Addresses> {
        let (sender, receiver) = sync_channel(1);
        let (broker, flags) = (self.place.broker.clone(), flags.to_vec());
        let runtime = runtime()?;
        // On the runtime's threads: the caller may be in another one.
        runtime.spawn(async move {
            let _ = sender.send(ServedBroker::bind(broker, &flags).await);
        });
        let bound = receiver.recv().map_err(|_| Error::Closed)?;
        let served = bound.map_err(Error::Invalid)?;
        let addresses = served.addresses();
        let (stop, stopped) = oneshot::channel::<()>();
        let task = runtime.spawn(served.run(async {
            // Dropped is stopped too.
            let _ = stopped.await;
        }));
        self.listeners.0.lock().push((stop, task));
        Ok(addresses)
    }
}

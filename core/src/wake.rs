//! The way to wake whoever waits for the broker.

/// Something that waits for the broker: called when what it waits for may have happened.
/// [`Parker`](crate::Parker) is the one of a caller that blocks.
///
/// Calls must be cheap and never block. They come from any thread and may be spurious.
///
/// ```
/// # use mq_core::{Broker, Options, SubscribeOptions, Wake};
/// # fn main() -> mq_core::Result<()> {
/// # let folder = tempfile::tempdir().unwrap();
/// # let broker = Broker::open(Options { data_path: folder.path().into(), ..Options::default() })?;
/// # use std::sync::Arc;
/// # use std::sync::mpsc::{Sender, channel};
/// struct Notify(Sender<()>);
///
/// impl Wake for Notify {
///     fn wake(&self) {
///         // Nobody may listen any more.
///         let _ = self.0.send(());
///     }
/// }
///
/// let orders = broker.topic(&"orders".parse()?)?;
/// let (billing, _) = orders.channel(&"billing".parse()?, None)?;
/// let (sender, woken) = channel();
/// let mut subscription = billing.subscribe(SubscribeOptions::default(), Arc::new(Notify(sender)))?;
/// subscription.acks().set_credit(1);
/// orders.publish_one(b"one pizza")?.wait(&broker)?;
/// woken.recv().unwrap();
/// # drop(subscription);
/// # broker.close()
/// # }
/// ```
pub trait Wake: Send + Sync {
    /// Makes the waiter check again: something it waits for may have changed.
    fn wake(&self);
}

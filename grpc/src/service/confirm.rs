//! Confirmations that acknowledgements are in the log, as a subscriber asks for them.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use mq_core::{Broker, Channel, Outcome, Result as CoreResult, Ticket, Wake};
use tokio::task::JoinHandle;
use tokio::time::{Sleep, sleep};

use super::blocking;

/// Pause before a failing log is asked again.
pub(super) const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// Confirmations of one subscription: one under way, and the newest of those that were asked for since, which
/// stands for all.
#[derive(Default)]
pub(super) struct Confirm {
    wanted: Option<u64>,
    under_way: Option<(u64, Step)>,
}

/// Steps of one confirmation, each by what it waits for.
enum Step {
    /// The acknowledgements are on their way to the log's queue.
    Queueing(JoinHandle<CoreResult<Ticket>>),
    /// The log has them in its queue and is to write them.
    Queued(Ticket),
    /// The log failed; it is asked again after the pause.
    Pausing(Pin<Box<Sleep>>),
}

impl Confirm {
    /// Asks for all acknowledgements so far to be confirmed as `number`.
    pub(super) fn ask(&mut self, number: u64) {
        self.wanted = Some(number);
    }

    /// The number of a confirmation, once its acknowledgements are in the log. `wake` is woken when the log
    /// has decided.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        broker: &Broker,
        channel: &Arc<Channel>,
        wake: &Arc<dyn Wake>,
    ) -> Poll<u64> {
        loop {
            let Some((number, step)) = &mut self.under_way else {
                let Some(number) = self.wanted.take() else { return Poll::Pending };
                self.under_way = Some((number, Step::Queueing(queue(channel, wake))));
                continue;
            };
            let next = match step {
                Step::Queueing(task) => match Pin::new(task).poll(cx) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Ok(Ok(ticket))) => Step::Queued(ticket),
                    Poll::Ready(_) => Step::Pausing(Box::pin(sleep(RETRY_PAUSE))),
                },
                Step::Queued(ticket) => match broker.outcome(*ticket) {
                    Outcome::Pending => return Poll::Pending,
                    Outcome::Done => {
                        let number = *number;
                        self.under_way = None;
                        return Poll::Ready(number);
                    }
                    // The log keeps it, and writes it later.
                    Outcome::Failed(_) => Step::Pausing(Box::pin(sleep(RETRY_PAUSE))),
                },
                Step::Pausing(pause) => match pause.as_mut().poll(cx) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(()) => Step::Queueing(queue(channel, wake)),
                },
            };
            *step = next;
        }
    }
}

fn queue(channel: &Arc<Channel>, wake: &Arc<dyn Wake>) -> JoinHandle<CoreResult<Ticket>> {
    let (channel, wake) = (Arc::clone(channel), Arc::clone(wake));
    tokio::spawn(blocking(move || channel.log_acknowledged(&wake)))
}

//! The program's end of a consumer.

use std::error::Error;

use super::message::NsqMessage;

/// Reason for which a handler failed: any error. A text becomes one by `?` or `.into()`.
pub type HandlerError = Box<dyn Error + Send + Sync>;

/// A handler of a consumer's messages, called from as many threads as it was added for. Closures are
/// handlers.
///
/// ```
/// use libmq::nsq::{Handler, HandlerError, Message};
///
/// struct Billing;
///
/// impl Handler for Billing {
///     fn handle_message(&self, message: &Message) -> Result<(), HandlerError> {
///         let amount: u32 = std::str::from_utf8(message.body())?.parse()?;
///         println!("{amount}");
///         Ok(())
///     }
///
///     fn log_failed_message(&self, message: &Message) {
///         eprintln!("{} failed {} times", message.id(), message.attempts() - 1);
///     }
/// }
/// ```
pub trait Handler: Send + Sync + 'static {
    /// Handles a message: `Ok` finishes it, an error or a panic returns it to its channel and lets the
    /// consumer back off. Not if the handler answered by itself, or called
    /// [`disable_auto_response`](NsqMessage::disable_auto_response).
    ///
    /// # Errors
    /// Anything that should make the message come again.
    fn handle_message(&self, message: &NsqMessage) -> Result<(), HandlerError>;

    /// Gets a message that was tried [`max_attempts`](super::Config::max_attempts) times, instead of
    /// [`Handler::handle_message`], before the consumer finishes it. Does nothing unless it is written.
    fn log_failed_message(&self, message: &NsqMessage) {
        let _ = message;
    }
}

impl<F> Handler for F
where
    F: Fn(&NsqMessage) -> Result<(), HandlerError> + Send + Sync + 'static,
{
    fn handle_message(&self, message: &NsqMessage) -> Result<(), HandlerError> {
        self(message)
    }
}

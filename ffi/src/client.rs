//! Clients: connecting, publishing, closing.

use std::ffi::{c_char, c_int};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use libmq::{Client, Config, Durability, NewMessage, Receipt};

use crate::boundary::{
    self, Handle, bytes, give, guard, handle, options, outside_callback, put, required, slice, text, wait,
};
use crate::driver::Driver;
use crate::fork::Generation;
use crate::status::{Failure, Outcome, mq_status};
use crate::values::{mq_config, mq_header, mq_publish_options, mq_receipt, mq_span};

/// A client of brokers, or of one in this process. For all threads at once.
pub struct mq_client {
    pub(crate) inner: Client,
    /// Waits on behalf of descriptors of subscriptions.
    pub(crate) waits: Arc<Driver>,
    /// Waits for outcomes of publishes, and reports them.
    pub(crate) outcomes: Arc<Driver>,
    generation: Generation,
}

impl Handle for mq_client {
    fn generation(&self) -> Generation {
        self.generation
    }
}

impl mq_config {
    /// # Safety
    /// The pointers are NULL or texts.
    unsafe fn read(&self) -> Outcome<Config> {
        let mut config = Config::default();
        let set = |to: &mut Duration, ms: u64| {
            if ms != 0 {
                *to = Duration::from_millis(ms);
            }
        };
        set(&mut config.publish_timeout, self.publish_timeout_ms);
        set(&mut config.max_reconnect_delay, self.max_reconnect_delay_ms);
        set(&mut config.lookup_poll_interval, self.lookup_poll_interval_ms);
        if self.max_buffered_bytes != 0 {
            config.max_buffered_bytes = usize::try_from(self.max_buffered_bytes).unwrap_or(usize::MAX);
        }
        let optional = |pointer: *const c_char, name: &str| -> Outcome<Option<String>> {
            if pointer.is_null() {
                return Ok(None);
            }
            // SAFETY: the caller's promise.
            Ok(Some(unsafe { text(pointer, name) }?.to_owned()))
        };
        config.client_id = optional(self.client_id, "client_id")?.unwrap_or_default();
        config.auth_secret = optional(self.auth_secret, "auth_secret")?;
        config.tls_root_ca_file = optional(self.tls_root_ca_file, "tls_root_ca_file")?.map(Into::into);
        config.tls_insecure = self.tls_insecure != 0;
        config.durability = match self.durability {
            0 => None,
            1 => Some(Durability::Memory),
            2 => Some(Durability::Flush),
            3 => Some(Durability::Sync),
            other => return Err(Failure::invalid(format!("durability is {other}: one of mq_durability"))),
        };
        Ok(config)
    }
}

/// Connects to brokers, or opens one in this process, as url says: a folder ("/path", "./path", "mq:PATH"),
/// "mq:memory", or brokers over the network ("mq://host:4150,...", "mqs://...", "mq+lookup://host:4161,...").
/// Those are connected to only when there is something to publish, or a subscription. config may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mq_connect(
    url: *const c_char,
    config: *const mq_config,
    client: *mut *mut mq_client,
) -> mq_status {
    guard(|| {
        let generation = Generation::now();
        // SAFETY: the header's conventions.
        let (url, config) = unsafe { (text(url, "url")?, options(config)?.read()?) };
        required(client, "client")?;
        let inner = libmq::connect_with(url, config)?;
        let waits = Driver::new("libmq-wait");
        let outcomes = Driver::new("libmq-outcome");
        // SAFETY: not NULL, and a place for a pointer.
        unsafe { put(client, give(mq_client { inner, waits, outcomes, generation })) };
        Ok(())
    })
}

/// Messages of a publish. All bodies are copied, into one allocation.
///
/// # Safety
/// The pointers are those of the header's conventions.
pub(crate) unsafe fn new_messages(
    bodies: *const mq_span,
    n: usize,
    publish_options: *const mq_publish_options,
) -> Outcome<Vec<NewMessage>> {
    // SAFETY: the caller's promise.
    let (spans, options) = unsafe { (slice(bodies, n, "bodies")?, options(publish_options)?) };
    let total: usize = spans.iter().fold(0, |sum, span| sum.saturating_add(span.len));
    let mut copied = Vec::new();
    if copied.try_reserve_exact(total).is_err() {
        return Err(Failure::invalid(format!("the bodies have {total} bytes: more than there is memory")));
    }
    for span in spans {
        // SAFETY: the caller's promise.
        copied.extend_from_slice(unsafe { bytes(span, "a body") }?);
    }
    let (all, mut start) = (Bytes::from(copied), 0);
    let next = |span: &mq_span| {
        let body = all.slice(start..start + span.len);
        start += span.len;
        NewMessage::new(body)
    };
    let messages: Vec<NewMessage> = spans.iter().map(next).collect();
    // SAFETY: the caller's promise.
    unsafe { options.apply(messages) }
}

impl mq_publish_options {
    /// # Safety
    /// The pointers are those of the header's conventions.
    unsafe fn apply(&self, mut messages: Vec<NewMessage>) -> Outcome<Vec<NewMessage>> {
        let n = messages.len();
        if self.delay_ms != 0 {
            let delay = Duration::from_millis(self.delay_ms);
            messages = messages.into_iter().map(|message| message.delay(delay)).collect();
        }
        // SAFETY: the caller's promise.
        let id = unsafe { bytes(&self.id, "id") }?;
        if !id.is_empty() && (n != 1 || !self.ids.is_null()) {
            return Err(Failure::invalid(format!("id is for one message, and there are {n}: see ids")));
        }
        // SAFETY: the caller's promise.
        let ids = unsafe { slice(self.ids, if self.ids.is_null() { 0 } else { n }, "ids") }?;
        let ids = ids.iter().chain(std::iter::once(&self.id).filter(|_| !id.is_empty()));
        for (message, id) in messages.iter_mut().zip(ids) {
            // SAFETY: the caller's promise.
            let id = unsafe { bytes(id, "an id") }?;
            if !id.is_empty() {
                *message = std::mem::take(message).id(Bytes::copy_from_slice(id));
            }
        }
        // SAFETY: the caller's promise.
        for mq_header { name, value } in unsafe { slice(self.headers, self.headers_len, "headers") }? {
            // SAFETY: the caller's promise.
            let (name, value) =
                unsafe { (bytes(name, "a header's name")?, bytes(value, "a header's value")?) };
            let name = std::str::from_utf8(name);
            let name = name.map_err(|_| Failure::invalid("a header's name is not UTF-8"))?;
            let value = Bytes::copy_from_slice(value);
            let with = |message: NewMessage| message.header(name, value.clone());
            messages = messages.into_iter().map(with).collect();
        }
        Ok(messages)
    }
}

/// Writes receipts, unless `out` is NULL.
///
/// # Safety
/// `out` is NULL or has a place for each.
pub(crate) unsafe fn put_receipts(out: *mut mq_receipt, receipts: &[Receipt]) {
    if out.is_null() {
        return;
    }
    for (i, receipt) in receipts.iter().enumerate() {
        // SAFETY: the caller's promise.
        unsafe { put(out.add(i), receipt.into()) };
    }
}

/// Publishes n messages as one batch, all or nothing, and waits until a broker has stored them: at most
/// publish_timeout_ms. options may be NULL. Writes n receipts, unless receipts is NULL.
///
/// MQ_STATUS_UNKNOWN if they were sent and not answered. After any other failure they are not stored.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mq_publish(
    client: *mut mq_client,
    topic: *const c_char,
    bodies: *const mq_span,
    n: usize,
    options: *const mq_publish_options,
    receipts: *mut mq_receipt,
) -> mq_status {
    guard(|| {
        // SAFETY: the header's conventions.
        let (client, topic) = unsafe { (handle(client, "client")?, text(topic, "topic")?) };
        // SAFETY: the header's conventions.
        let messages = unsafe { new_messages(bodies, n, options) }?;
        let stored = client.inner.publish_many(topic, messages);
        let stored = stored.map_err(|error| Failure::named(&error, topic, None))?;
        // SAFETY: the header's conventions.
        unsafe { put_receipts(receipts, &stored) };
        Ok(())
    })
}

/// Waits until every publish has its outcome, at most timeout_ms; for ever if negative. MQ_STATUS_TIMEOUT if
/// some have none. Writes how many, unless unfinished is NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mq_client_flush(
    client: *mut mq_client,
    timeout_ms: c_int,
    unfinished: *mut usize,
) -> mq_status {
    guard(|| {
        // SAFETY: the header's conventions.
        let left = unsafe { handle(client, "client") }?.inner.flush(wait(timeout_ms))?;
        if !unfinished.is_null() {
            // SAFETY: not NULL, and a place for a number.
            unsafe { put(unfinished, left) };
        }
        if left > 0 {
            let message = format!("{left} publishes have no outcome yet");
            return Err(Failure { retry: true, ..Failure::new(mq_status::Timeout, message) });
        }
        Ok(())
    })
}

/// Closes a client: refuses what comes from now on, ends its subscriptions, waits up to timeout_ms for the
/// outcome of every publish, for ever if negative, and stops an embedded broker. MQ_STATUS_TIMEOUT if some
/// have no outcome yet; a second call waits for them. MQ_STATUS_WOULD_DEADLOCK within a callback.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mq_client_close(client: *mut mq_client, timeout_ms: c_int) -> mq_status {
    guard(|| {
        // SAFETY: the header's conventions.
        let client = unsafe { handle(client, "client") }?;
        outside_callback("mq_client_close")?;
        Ok(client.inner.close(wait(timeout_ms))?)
    })
}

/// Frees a client. NULL is nothing. What waits to be sent is still sent, without waiting for it, as long as
/// the process runs; an embedded broker stops once its subscriptions are freed too.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mq_client_free(client: *mut mq_client) {
    // SAFETY: the header's conventions.
    unsafe { boundary::free(client) };
}

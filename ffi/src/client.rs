//! Clients: connecting, publishing, closing.

use std::ffi::{c_char, c_int};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use libmq::{
    Borrowed, Client, Config, Durability, IntoMessage, NewMessage, Outgoing, PublishTo, Retry, Stored,
};

use crate::boundary::{
    self, Handle, bytes, give, guard, handle, options, outside_callback, put, required, slice, text, wait,
};
use crate::driver::Driver;
use crate::fork::Generation;
use crate::log::{Feed, Log};
use crate::status::{Failure, Outcome, mq_status};
use crate::values::{mq_config, mq_header, mq_publish_options, mq_receipt, mq_span};

/// A client of brokers, or of one in this process. For all threads at once.
pub struct mq_client {
    /// Follows the connections that publish, if there is a log. First, since it ends before its driver.
    _feed: Option<Feed>,
    pub(crate) inner: Client,
    /// Waits on behalf of descriptors of subscriptions.
    pub(crate) waits: Arc<Driver>,
    /// Waits for outcomes of publishes, and reports them.
    pub(crate) outcomes: Arc<Driver>,
    /// Ends last of all: what is dropped before it may still log.
    pub(crate) log: Option<Arc<Log>>,
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
        if self.memory_limit != 0 {
            config.memory_limit = self.memory_limit;
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
        config.tls_cert_file = optional(self.tls_cert_file, "tls_cert_file")?.map(Into::into);
        config.tls_key_file = optional(self.tls_key_file, "tls_key_file")?.map(Into::into);
        config.user_agent = optional(self.user_agent, "user_agent")?.unwrap_or_default();
        if let Some(compression) = optional(self.compression, "compression")? {
            config.set("compression", &compression)?;
        }
        set(&mut config.heartbeat_interval, self.heartbeat_interval_ms);
        config.publish_to = match self.publish_to {
            0 => PublishTo::One,
            1 => PublishTo::All,
            other => return Err(Failure::invalid(format!("publish_to is {other}: one of mq_publish_to"))),
        };
        config.retry = match self.retry {
            0 => Retry::ById,
            1 => Retry::AtLeastOnce,
            other => return Err(Failure::invalid(format!("retry is {other}: one of mq_retry"))),
        };
        config.extension = self.plain_nsq == 0;
        config.test_clock = self.test_clock != 0;
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
        let (url, given) = unsafe { (text(url, "url")?, options(config)?) };
        // SAFETY: the header's conventions.
        let config = unsafe { given.read() }?;
        required(client, "client")?;
        let log = Log::start(&given)?.map(Arc::new);
        let inner = Log::within(log.as_deref(), || libmq::connect_with(url, config))?;
        let waits = Driver::new("libmq-wait");
        let outcomes = Driver::new("libmq-outcome");
        let feed = log.as_ref().map(|log| log.follow_client(&inner, &waits)).transpose()?;
        let made = mq_client { _feed: feed, inner, waits, outcomes, log, generation };
        // SAFETY: not NULL, and a place for a pointer.
        unsafe { put(client, give(made)) };
        Ok(())
    })
}

/// Messages of a publish, encoded from where the caller has them: one copy of each body.
///
/// # Safety
/// The pointers are those of the header's conventions.
pub(crate) unsafe fn encode(
    bodies: *const mq_span,
    n: usize,
    options: &mq_publish_options,
) -> Outcome<Outgoing> {
    // SAFETY: the caller's promise.
    let spans = unsafe { slice(bodies, n, "bodies") }?;
    if options.is_plain() {
        // SAFETY: the caller's promise.
        let mut bodies = spans.iter().map(|span| unsafe { bytes(span, "a body") });
        return Outgoing::fill(n, |batch| bodies.try_for_each(|body| Ok(body?.append_to(batch)?)));
    }
    // SAFETY: the caller's promise.
    let (like, ids) = unsafe { (options.like()?, options.ids(n)?) };
    let mut ids = ids.iter();
    Outgoing::fill(n, |batch| {
        spans.iter().try_for_each(|span| {
            // SAFETY: the caller's promise.
            let body = unsafe { bytes(span, "a body") }?;
            // SAFETY: the caller's promise.
            let id = ids.next().map(|id| unsafe { bytes(id, "an id") }).transpose()?;
            let id = id.filter(|id| !id.is_empty());
            Ok(Borrowed { body, id, like: &like }.append_to(batch)?)
        })
    })
}

impl mq_publish_options {
    /// Whether the messages have nothing but a body.
    fn is_plain(&self) -> bool {
        self.id.len == 0 && self.ids.is_null() && self.headers_len == 0 && self.delay_ms == 0
    }

    /// The ids of n messages, or none at all.
    ///
    /// # Safety
    /// The pointers are those of the header's conventions.
    unsafe fn ids(&self, n: usize) -> Outcome<&[mq_span]> {
        if self.id.len == 0 {
            // SAFETY: the caller's promise.
            return unsafe { slice(self.ids, if self.ids.is_null() { 0 } else { n }, "ids") };
        }
        if n != 1 || !self.ids.is_null() {
            return Err(Failure::invalid(format!("id is for one message, and there are {n}: see ids")));
        }
        Ok(std::slice::from_ref(&self.id))
    }

    /// A message with the attributes that all have.
    ///
    /// # Safety
    /// The pointers are those of the header's conventions.
    unsafe fn like(&self) -> Outcome<NewMessage> {
        let mut like = NewMessage::default().delay(Duration::from_millis(self.delay_ms));
        // SAFETY: the caller's promise.
        for mq_header { name, value } in unsafe { slice(self.headers, self.headers_len, "headers") }? {
            // SAFETY: the caller's promise.
            let (name, value) =
                unsafe { (bytes(name, "a header's name")?, bytes(value, "a header's value")?) };
            let name = std::str::from_utf8(name);
            let name = name.map_err(|_| Failure::invalid("a header's name is not UTF-8"))?;
            like = like.header(name, Bytes::copy_from_slice(value));
        }
        Ok(like)
    }
}

/// Writes receipts, unless `out` is NULL.
///
/// # Safety
/// `out` is NULL or has a place for each.
pub(crate) unsafe fn put_receipts(out: *mut mq_receipt, stored: &Stored) {
    if out.is_null() {
        return;
    }
    for (i, place) in stored.places().enumerate() {
        // SAFETY: the caller's promise.
        unsafe { put(out.add(i), place.into()) };
    }
}

/// Publishes n messages as one batch, all or nothing, and waits until a broker has stored them: at most
/// publish_timeout_ms, or the options' timeout_ms. options may be NULL. Writes n receipts, unless receipts is
/// NULL.
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
        let given = unsafe { boundary::options(options) }?;
        // SAFETY: the header's conventions.
        let messages = unsafe { encode(bodies, n, &given) }?;
        let stored = match given.timeout_ms {
            0 => client.inner.publish_encoded(topic, Ok(messages), &mut || false),
            ms => {
                let timed = client.inner.with_publish_timeout(Duration::from_millis(ms));
                timed.publish_encoded(topic, Ok(messages), &mut || false)
            }
        };
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
        Ok(Log::within(client.log.as_deref(), || client.inner.close(wait(timeout_ms)))?)
    })
}

/// Frees a client. NULL is nothing. What waits to be sent is still sent, without waiting for it, as long as
/// the process runs; an embedded broker stops once its subscriptions are freed too.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mq_client_free(client: *mut mq_client) {
    // SAFETY: the header's conventions.
    unsafe { boundary::free(client) };
}

#[cfg(test)]
mod tests {
    use super::*;
    use libmq::Compression;

    /// A setting that is not passed on has its default, which none of these is.
    #[test]
    fn every_setting_of_a_program_is_the_clients() {
        // SAFETY: zeros are valid for options.
        let mut given: mq_config = unsafe { std::mem::zeroed() };
        given.publish_timeout_ms = 1;
        given.max_reconnect_delay_ms = 2;
        given.lookup_poll_interval_ms = 3;
        given.heartbeat_interval_ms = 4;
        given.max_buffered_bytes = 5;
        given.memory_limit = 6;
        given.client_id = c"id".as_ptr();
        given.auth_secret = c"secret".as_ptr();
        given.tls_root_ca_file = c"ca".as_ptr();
        given.tls_cert_file = c"cert".as_ptr();
        given.tls_key_file = c"key".as_ptr();
        given.user_agent = c"agent".as_ptr();
        given.compression = c"snappy".as_ptr();
        (given.publish_to, given.retry, given.durability) = (1, 1, 3);
        (given.plain_nsq, given.test_clock, given.tls_insecure) = (1, 1, 1);
        // SAFETY: the texts are there.
        let config = unsafe { given.read() }.unwrap();
        let ms = [
            config.publish_timeout,
            config.max_reconnect_delay,
            config.lookup_poll_interval,
            config.heartbeat_interval,
        ];
        assert_eq!(ms.map(|time| time.as_millis()), [1, 2, 3, 4]);
        assert_eq!((config.max_buffered_bytes, config.memory_limit), (5, 6));
        assert_eq!((&*config.client_id, &*config.user_agent), ("id", "agent"));
        assert_eq!(config.auth_secret.as_deref(), Some("secret"));
        let files = [config.tls_root_ca_file, config.tls_cert_file, config.tls_key_file];
        assert_eq!(files, ["ca", "cert", "key"].map(|file| Some(std::path::PathBuf::from(file))));
        assert_eq!(config.compression, Compression::Snappy);
        assert_eq!((config.publish_to, config.retry), (PublishTo::All, Retry::AtLeastOnce));
        assert_eq!(config.durability, Some(Durability::Sync));
        assert!(!config.extension && config.test_clock && config.tls_insecure);
    }
}

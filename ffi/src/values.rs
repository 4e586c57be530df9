//! Structs that C programs read and write.

use std::ffi::{c_char, c_void};

use crate::batch::mq_batch;
use crate::boundary::SizedOptions;
use crate::status::mq_status;

/// Number of the binary interface. A program runs with every library of the number it was compiled with.
pub const MQ_ABI_VERSION: u32 = 1;

/// Offset in receipts and messages of brokers that do not say it.
pub const MQ_OFFSET_UNKNOWN: u64 = u64::MAX;

/// Bytes that somebody else owns. data may be NULL if len is 0.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct mq_span {
    /// The first byte.
    pub data: *const c_char,
    /// Number of bytes.
    pub len: usize,
}

impl mq_span {
    pub(crate) fn of(bytes: &[u8]) -> Self {
        Self { data: bytes.as_ptr().cast(), len: bytes.len() }
    }
}

/// A header of a message.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct mq_header {
    /// Its name, UTF-8.
    pub name: mq_span,
    /// Its value, any bytes.
    pub value: mq_span,
}

/// A broker's answer for a message that is stored.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct mq_receipt {
    /// The message's place in its topic, or MQ_OFFSET_UNKNOWN.
    pub offset: u64,
    /// Whether it was not stored again, because one with its id was before.
    pub duplicate: bool,
}

impl From<(Option<u64>, bool)> for mq_receipt {
    fn from((offset, duplicate): (Option<u64>, bool)) -> Self {
        Self { offset: offset.unwrap_or(MQ_OFFSET_UNKNOWN), duplicate }
    }
}

/// A message of a batch. Its pointers are valid as long as the batch.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct mq_message {
    /// The body.
    pub body: mq_span,
    /// 1 on the first delivery to this channel. Ends at 65535.
    pub attempts: u16,
    /// Time of its publish, in nanoseconds since 1970.
    pub timestamp_ns: u64,
    /// The id that its broker gave it. NSQ prints it as 16 hexadecimal digits.
    pub id: u64,
    /// Its place in its topic, or MQ_OFFSET_UNKNOWN.
    pub offset: u64,
    /// Its headers, in the order in which they were published.
    pub headers: *const mq_header,
    /// Number of headers.
    pub headers_len: usize,
    /// Its broker: the address or folder, UTF-8.
    pub broker: mq_span,
}

/// An answer, a broker or a lookup server that failed. Its pointers are valid as long as the mq_failures.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct mq_failure {
    /// The kind of the reason.
    pub status: mq_status,
    /// Whether it is about an answer: the message is delivered again then. Else it is about a server, which
    /// is tried again.
    pub has_message: bool,
    /// The id of the message.
    pub message_id: u64,
    /// The broker or lookup server, UTF-8.
    pub broker: mq_span,
    /// The reason, UTF-8.
    pub reason: mq_span,
}

/// Level of topics that an embedded broker creates: what an acknowledged message survives.
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum mq_durability {
    /// MQ_DURABILITY_FLUSH, and MQ_DURABILITY_MEMORY for "mq:memory".
    Default = 0,
    /// Nothing: it may be only in memory.
    Memory = 1,
    /// A kill of the process.
    Flush = 2,
    /// A power loss.
    Sync = 3,
}

/// Choice of the brokers, of several, that get what is published.
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum mq_publish_to {
    /// One at a time, in order; another when it is lost.
    One = 0,
    /// All that are reached: those which are quick or idle get more. In order for each broker.
    All = 1,
}

/// Fate of a message that was sent and not answered when its connection ended.
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum mq_retry {
    /// One with an id is sent again to the same broker, which knows whether it has it. Any other is
    /// MQ_STATUS_UNKNOWN.
    ById = 0,
    /// It is sent again in any case, and may be stored twice.
    AtLeastOnce = 1,
}

/// Weight of a log line.
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum mq_log_level {
    /// Something is lost or refused until somebody acts.
    Error = 1,
    /// Something failed, and is tried again or got around.
    Warning = 2,
    /// Something happened as it should.
    Info = 3,
}

/// A function that takes the log lines of one client, on a thread of the library that only does this, one
/// line at a time. A line is UTF-8 without a line break at its end, and valid during the call. At most 1,000
/// lines wait for a slow function; then the oldest are dropped, and a line says how many.
pub type mq_log_callback =
    Option<unsafe extern "C" fn(user_data: *mut c_void, level: mq_log_level, line: mq_span)>;

/// Settings of a client. A field that is 0 or NULL has its default. Parameters of the URL win.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct mq_config {
    /// sizeof(mq_config).
    pub size: usize,
    /// Bytes of messages that may wait in the client for their outcome. Default 64 MiB.
    pub max_buffered_bytes: u64,
    /// Longest time that a publish which waits takes. Default 30,000.
    pub publish_timeout_ms: u64,
    /// Longest delay before an unreachable broker is tried again. Default 15,000.
    pub max_reconnect_delay_ms: u64,
    /// Interval between questions to the lookup servers. Default 60,000.
    pub lookup_poll_interval_ms: u64,
    /// The client's name in the brokers' statistics. Default: the brokers choose.
    pub client_id: *const c_char,
    /// A secret that brokers ask for. Never printed.
    pub auth_secret: *const c_char,
    /// A PEM file with the certificates that mqs:// trusts. Default: the system's.
    pub tls_root_ca_file: *const c_char,
    /// Not 0: takes any certificate, so whoever is on the way can read and change everything.
    pub tls_insecure: i32,
    /// One of mq_durability.
    pub durability: i32,
    /// A PEM file with the certificate that the client shows to mqs:// brokers, and one with its key. Both or
    /// none.
    pub tls_cert_file: *const c_char,
    /// See tls_cert_file.
    pub tls_key_file: *const c_char,
    /// Compression of connections: "snappy", "deflate", or "deflate-1" to "deflate-9". Default: none.
    pub compression: *const c_char,
    /// The program's name and version in the brokers' statistics. Default: those of libmq.
    pub user_agent: *const c_char,
    /// Interval of the brokers' heartbeats: a connection on which nothing comes for twice as long is made
    /// again. Default 30,000.
    pub heartbeat_interval_ms: u64,
    /// One of mq_publish_to.
    pub publish_to: i32,
    /// One of mq_retry.
    pub retry: i32,
    /// Not 0: speaks NSQ's protocol alone, as with nsqd: no headers, ids, offsets and start positions.
    pub plain_nsq: i32,
    /// Not 0: the time of "mq:memory" stands still but for mq_client_advance.
    pub test_clock: i32,
    /// Takes the log lines of the client and of its embedded broker. NULL: nobody does.
    pub on_log: mq_log_callback,
    /// Passed to on_log.
    pub log_user_data: *mut c_void,
    /// Bytes of memory that an embedded broker fills with messages before it writes those at level memory to
    /// its folder too. Default 256 MiB.
    pub memory_limit: u64,
}

// SAFETY: numbers, pointers and an optional function, for which zero is none.
unsafe impl SizedOptions for mq_config {
    const MIN: usize = 72;
    const NAME: &'static str = "mq_config";
}

/// Settings of a publish: what messages have besides their bodies, and the time there is for it.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct mq_publish_options {
    /// sizeof(mq_publish_options).
    pub size: usize,
    /// Id of the one message of a publish: another with that id is not stored again while the topic remembers
    /// it. Empty: none.
    pub id: mq_span,
    /// Delivers the messages no earlier than so long after the publish.
    pub delay_ms: u64,
    /// Headers of each message, names in UTF-8.
    pub headers: *const mq_header,
    /// Number of headers.
    pub headers_len: usize,
    /// Ids of all messages of the publish, as many as bodies; an empty one is none. NULL: none has one.
    pub ids: *const mq_span,
    /// Longest time that mq_publish waits, instead of the client's publish_timeout_ms; at its end it fails in
    /// the same way. 0: the client's. mq_publish_async takes none: see mq_pending_wait.
    pub timeout_ms: u64,
}

// SAFETY: numbers and pointers only.
unsafe impl SizedOptions for mq_publish_options {
    const MIN: usize = 56;
    const NAME: &'static str = "mq_publish_options";
}

/// The first message of a channel that a subscription creates. A channel that exists stays where it is.
/// nsqd knows only MQ_START_WAITING.
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum mq_start {
    /// The oldest that waits in the topic, which only a topic without channels has; else the next that is
    /// published.
    Waiting = 0,
    /// The oldest that is kept.
    Earliest = 1,
    /// The next that is published.
    Latest = 2,
    /// The first one kept at the offset start_at or after it.
    Offset = 3,
    /// The first one kept that was published at the time start_at, in nanoseconds since 1970, or later.
    Time = 4,
}

/// A function that takes batches, on a thread of the library that only does this for one subscription; the
/// first call may come before mq_subscribe returns. The batch is the function's to free. At the end of the
/// subscription it is called once more, with a status other than MQ_STATUS_OK and no batch, unless
/// mq_subscription_free ended it. mq_last_error has the reason.
pub type mq_batch_callback =
    Option<unsafe extern "C" fn(user_data: *mut c_void, status: mq_status, batch: *mut mq_batch)>;

/// A function that takes the outcome of a publish, on a thread of the library that does so for one client, in
/// no certain order. receipts are n and valid during the call, or NULL unless status is MQ_STATUS_OK.
/// mq_last_error has the reason of a failure.
pub type mq_publish_callback = Option<
    unsafe extern "C" fn(user_data: *mut c_void, status: mq_status, receipts: *const mq_receipt, n: usize),
>;

/// Settings of a subscription. A field that is 0 or NULL has its default.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct mq_subscribe_options {
    /// sizeof(mq_subscribe_options).
    pub size: usize,
    /// Most messages that are here without an answer, over all brokers. Default 200.
    pub max_in_flight: u32,
    /// Most messages of a batch. Default: max_in_flight.
    pub max_batch: u32,
    /// Longest time that a message may be here without an answer before it is delivered again. Default
    /// 60,000.
    pub msg_timeout_ms: u64,
    /// One of mq_start.
    pub start: i32,
    /// The offset or time of start.
    pub start_at: u64,
    /// Takes the batches; mq_subscription_next, _poll and _fd are not for this subscription then. NULL: they
    /// are.
    pub on_batch: mq_batch_callback,
    /// Passed to on_batch.
    pub user_data: *mut c_void,
    /// Percentage of the messages that are delivered here, 1 to 99; a broker of NSQ's drops the others of its
    /// channel. Default: all.
    pub sample_rate: u32,
    /// Most bytes of body and headers that a message may have to come here: a larger one is put aside for
    /// msg_timeout_ms, and then goes to another subscriber of the channel that takes it. Default: any. nsqd
    /// knows only the default.
    pub max_message_bytes: u32,
    /// Most bytes of bodies that are in flight here, over all brokers. Each of these has an equal share, and
    /// sends a single message that is larger when nothing else of it is in flight. Default: any. nsqd knows
    /// only the default.
    pub max_in_flight_bytes: u64,
}

// SAFETY: numbers, pointers and an optional function, for which zero is none.
unsafe impl SizedOptions for mq_subscribe_options {
    const MIN: usize = 56;
    const NAME: &'static str = "mq_subscribe_options";
}

/// Action at a limit of a topic.
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum mq_overflow {
    /// Publishes are refused until less waits.
    Refuse = 0,
    /// The oldest messages that are not in flight are dropped.
    DropOldest = 1,
}

/// Time in mq_topic_settings for a topic that remembers no ids.
pub const MQ_DEDUP_OFF: u64 = u64::MAX;

/// Settings of a topic of an embedded broker.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct mq_topic_settings {
    /// sizeof(mq_topic_settings).
    pub size: usize,
    /// One of mq_durability; MQ_DURABILITY_DEFAULT leaves it as it is.
    pub durability: i32,
    /// One of mq_overflow.
    pub overflow: i32,
    /// Messages that may wait in each channel. 0: any number.
    pub max_messages: u64,
    /// Bytes of messages that may wait in each channel. 0: any number.
    pub max_bytes: u64,
    /// Greatest age of a message that waits. 0: any age.
    pub max_age_ms: u64,
    /// Time that an id is remembered for, or MQ_DEDUP_OFF. 0: as the broker has it.
    pub dedup_window_ms: u64,
    /// Most ids that are remembered. 0: as the broker has it.
    pub dedup_max_ids: u64,
}

// SAFETY: numbers only.
unsafe impl SizedOptions for mq_topic_settings {
    const MIN: usize = 56;
    const NAME: &'static str = "mq_topic_settings";
}

/// Bytes of a text in a struct that holds a topic's name: 64 at most, and a zero byte.
pub const MQ_NAME_SIZE: usize = 70;

/// Settings of a channel of an embedded broker: dead letters, and messages whose consumer was lost.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct mq_channel_settings {
    /// sizeof(mq_channel_settings).
    pub size: usize,
    /// Time for which a message waits that was delivered more than once when its consumer was lost: so much
    /// for each delivery, at most its message timeout. 0 is no wait; 1,000 for a new channel.
    pub redelivery_delay_ms: u64,
    /// Deliveries of one message at most: one that comes back unfinished from so many is a dead letter. 0:
    /// any number.
    pub max_attempts: u16,
    /// The topic that gets dead letters, which is created if it is new: present exactly where max_attempts is
    /// not 0. Empty: none.
    pub dead_letter_topic: [c_char; MQ_NAME_SIZE],
}

// SAFETY: numbers and bytes only.
unsafe impl SizedOptions for mq_channel_settings {
    const MIN: usize = 88;
    const NAME: &'static str = "mq_channel_settings";
}

/// Sizes that programs were compiled with; options may grow. ffi/tests/layout.c has the same numbers.
#[cfg(target_pointer_width = "64")]
const _: () = {
    assert!(size_of::<mq_span>() == 16 && size_of::<mq_header>() == 32);
    assert!(size_of::<mq_receipt>() == 16 && size_of::<mq_message>() == 80);
    assert!(size_of::<mq_failure>() == 48 && size_of::<mq_config>() == 152);
    assert!(size_of::<mq_publish_options>() == 64);
    assert!(size_of::<mq_subscribe_options>() == 72 && size_of::<mq_topic_settings>() == 56);
    assert!(size_of::<mq_channel_settings>() == 88);
};

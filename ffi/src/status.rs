//! Outcomes of calls: their numbers, and the details of the last failure of a thread.

use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char};

use libmq::Error;

/// Outcome of a call. A number keeps its meaning for ever, and new ones come within these ranges: 0 is
/// success, 1 to 99 that nothing is there, 100 to 199 a mistake of the caller, 200 to 299 the state of things
/// in this process, 300 to 399 the broker, 900 to 999 the library itself.
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum mq_status {
    /// Success.
    Ok = 0,
    /// Nothing is there now.
    Empty = 1,
    /// The time of the wait is over. A publish that fails so was never sent.
    Timeout = 2,
    /// The client or subscription is closed. A publish that fails so was never sent.
    Closed = 3,
    /// A URL, setting, message or pointer that is not valid. Nothing was done.
    InvalidArgument = 100,
    /// The name of a topic or channel that is not valid. Nothing was done.
    InvalidName = 101,
    /// The broker or this build can't do it.
    Unsupported = 102,
    /// The call would wait for the callback that makes it.
    WouldDeadlock = 103,
    /// The handle was made before a fork, in the parent process.
    Forked = 104,
    /// The data folder is open elsewhere, or a second time in this process.
    Locked = 200,
    /// The client's buffer has no room: see max_buffered_bytes.
    BufferFull = 201,
    /// The broker refused. A publish that fails so is not stored.
    Refused = 300,
    /// A broker or lookup server can't be reached.
    Unreachable = 301,
    /// A publish was sent and not answered: it may be stored or not.
    Unknown = 302,
    /// A failure that this version has no number for.
    Other = 900,
    /// A bug of the library: the call came to no end.
    Panic = 901,
}

/// All statuses with their names.
const NAMES: [(mq_status, &CStr); 16] = [
    (mq_status::Ok, c"MQ_STATUS_OK"),
    (mq_status::Empty, c"MQ_STATUS_EMPTY"),
    (mq_status::Timeout, c"MQ_STATUS_TIMEOUT"),
    (mq_status::Closed, c"MQ_STATUS_CLOSED"),
    (mq_status::InvalidArgument, c"MQ_STATUS_INVALID_ARGUMENT"),
    (mq_status::InvalidName, c"MQ_STATUS_INVALID_NAME"),
    (mq_status::Unsupported, c"MQ_STATUS_UNSUPPORTED"),
    (mq_status::WouldDeadlock, c"MQ_STATUS_WOULD_DEADLOCK"),
    (mq_status::Forked, c"MQ_STATUS_FORKED"),
    (mq_status::Locked, c"MQ_STATUS_LOCKED"),
    (mq_status::BufferFull, c"MQ_STATUS_BUFFER_FULL"),
    (mq_status::Refused, c"MQ_STATUS_REFUSED"),
    (mq_status::Unreachable, c"MQ_STATUS_UNREACHABLE"),
    (mq_status::Unknown, c"MQ_STATUS_UNKNOWN"),
    (mq_status::Other, c"MQ_STATUS_OTHER"),
    (mq_status::Panic, c"MQ_STATUS_PANIC"),
];

/// Reason why a call does not succeed.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) status: mq_status,
    /// Text for `mq_last_error`; `None` leaves the thread's last error as it is.
    pub(crate) message: Option<String>,
    pub(crate) retry: bool,
}

pub(crate) type Outcome<T = ()> = Result<T, Failure>;

impl Failure {
    pub(crate) fn new(status: mq_status, message: impl Into<String>) -> Self {
        Self { status, message: Some(message.into()), retry: false }
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(mq_status::InvalidArgument, message)
    }

    /// No failure: nothing is there, now or in time.
    pub(crate) fn nothing(status: mq_status) -> Self {
        Self { status, message: None, retry: true }
    }

    /// The system starts no thread, for now.
    pub(crate) fn no_thread(error: std::io::Error) -> Self {
        let message = format!("the system starts no thread: {error}");
        Self { retry: true, ..Self::new(mq_status::Refused, message) }
    }

    /// The failure of a call with these names of topics or channels.
    pub(crate) fn named(error: &Error, topic: &str, channel: Option<&str>) -> Self {
        let failure = Self::from(error);
        let is_bad_topic = mq_core::TopicName::parse(topic).is_err();
        let is_bad_channel = channel.is_some_and(|channel| mq_core::ChannelName::parse(channel).is_err());
        if matches!(error, Error::Invalid(_)) && (is_bad_topic || is_bad_channel) {
            return Self { status: mq_status::InvalidName, ..failure };
        }
        failure
    }
}

impl From<&Error> for Failure {
    fn from(error: &Error) -> Self {
        let status = match error {
            Error::Invalid(_) => mq_status::InvalidArgument,
            Error::Locked { .. } => mq_status::Locked,
            Error::Forked => mq_status::Forked,
            Error::BufferFull => mq_status::BufferFull,
            Error::Timeout(_) => mq_status::Timeout,
            Error::Closed => mq_status::Closed,
            Error::Unsupported { .. } => mq_status::Unsupported,
            Error::Refused { .. } => mq_status::Refused,
            Error::Unknown { .. } => mq_status::Unknown,
            Error::Unreachable { .. } => mq_status::Unreachable,
            _ => mq_status::Other,
        };
        Self { status, message: Some(error.to_string()), retry: error.retry() }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::from(&error)
    }
}

struct LastError {
    message: Option<CString>,
    retry: bool,
}

thread_local! {
    static LAST_ERROR: RefCell<LastError> =
        const { RefCell::new(LastError { message: None, retry: false }) };
}

/// Text as a C string, ended where it has a zero byte.
pub(crate) fn c_string(text: String) -> CString {
    CString::new(text).unwrap_or_else(|error| {
        let end = error.nul_position();
        let mut bytes = error.into_vec();
        bytes.truncate(end);
        CString::new(bytes).unwrap_or_default()
    })
}

/// Notes a failure as the last of this thread.
pub(crate) fn note(failure: Failure) -> mq_status {
    if let Some(message) = failure.message {
        let last = LastError { message: Some(c_string(message)), retry: failure.retry };
        // A thread that is ending has no last error.
        let _ = LAST_ERROR.try_with(|cell| cell.replace(last));
    }
    failure.status
}

/// The text of the last failure of this thread, empty if there was none. Valid until the thread's next
/// failure. MQ_STATUS_EMPTY, and a wait for messages that ends with MQ_STATUS_TIMEOUT, change nothing.
#[unsafe(no_mangle)]
pub extern "C" fn mq_last_error() -> *const c_char {
    let text = |last: &RefCell<LastError>| last.borrow().message.as_ref().map(|message| message.as_ptr());
    LAST_ERROR.try_with(text).ok().flatten().unwrap_or(c"".as_ptr())
}

/// Whether the call that failed last on this thread can succeed later without a change by the caller. Not
/// after MQ_STATUS_UNKNOWN, where it may store a message twice.
#[unsafe(no_mangle)]
pub extern "C" fn mq_last_error_retry() -> bool {
    LAST_ERROR.try_with(|last| last.borrow().retry).unwrap_or(false)
}

/// The name of a status, such as "MQ_STATUS_OK". Valid for ever.
#[unsafe(no_mangle)]
pub extern "C" fn mq_status_name(status: i32) -> *const c_char {
    let found = NAMES.iter().find(|(known, _)| *known as i32 == status);
    found.map_or(c"an unknown status", |(_, name)| name).as_ptr()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The numbers that programs were compiled with.
    #[test]
    fn the_numbers_never_change() {
        let numbers: Vec<i32> = NAMES.iter().map(|(status, _)| *status as i32).collect();
        let released = [0, 1, 2, 3, 100, 101, 102, 103, 104, 200, 201, 300, 301, 302, 900, 901];
        assert_eq!(numbers, released);
    }

    #[test]
    fn a_name_is_that_of_the_header() {
        let header = include_str!("../include/mq.h");
        for (status, name) in NAMES {
            let line = format!("  {} = {},", name.to_str().unwrap(), status as i32);
            assert!(header.contains(&line), "{line}");
        }
    }

    #[test]
    fn a_zero_byte_ends_a_message() {
        assert_eq!(c_string("a\0b".to_owned()).as_c_str(), c"a");
    }

    #[test]
    fn a_bad_name_has_a_status_of_its_own() {
        let error = Error::Invalid("why".to_owned());
        assert_eq!(Failure::named(&error, "t t", None).status, mq_status::InvalidName);
        assert_eq!(Failure::named(&error, "t", Some("c/")).status, mq_status::InvalidName);
        assert_eq!(Failure::named(&error, "t", Some("c")).status, mq_status::InvalidArgument);
        assert_eq!(Failure::named(&Error::Closed, "t t", None).status, mq_status::Closed);
    }
}

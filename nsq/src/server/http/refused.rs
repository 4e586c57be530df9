//! The one map from the core's errors to answers.

use mq_core::{Error, ErrorKind};
use mq_net::http::{Answer, StatusCode};

/// Seconds after which what failed for want of room may be tried again.
const RETRY_AFTER: u32 = 5;

/// The answer to a request that the core refused. nsqd says `EXITING` whatever keeps it from storing a
/// message; here that is said where the topic or the broker closes, and else what is wrong.
pub(super) fn refused(error: &Error) -> Answer {
    let (status, code) = match error.kind() {
        ErrorKind::InvalidName | ErrorKind::InvalidArgument => (StatusCode::BAD_REQUEST, "INVALID_REQUEST"),
        ErrorKind::TooBig => (StatusCode::PAYLOAD_TOO_LARGE, "BODY_TOO_BIG"),
        ErrorKind::NotFound => (StatusCode::NOT_FOUND, "NOT_FOUND"),
        ErrorKind::LimitReached => (StatusCode::SERVICE_UNAVAILABLE, "LIMIT_REACHED"),
        ErrorKind::Closed => (StatusCode::SERVICE_UNAVAILABLE, "EXITING"),
        ErrorKind::Draining => (StatusCode::SERVICE_UNAVAILABLE, "DRAINING"),
        ErrorKind::Full => (StatusCode::SERVICE_UNAVAILABLE, "FULL"),
        ErrorKind::Io | ErrorKind::Locked => (StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE"),
        ErrorKind::Damaged => (StatusCode::INTERNAL_SERVER_ERROR, "DAMAGED"),
        ErrorKind::NotInFlight | ErrorKind::NotOwner | ErrorKind::Version => {
            (StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL_ERROR")
        }
    };
    let answer = Answer::error_with(status, code, &error.to_string());
    if error.is_retryable() { answer.retry_after(RETRY_AFTER) } else { answer }
}

//! The one map from the core's errors to answers.

use mq_core::{Error, ErrorKind};
use mq_net::http::{Answer, StatusCode};

/// Seconds after which what failed for want of room may be tried again.
const RETRY_AFTER: u32 = 5;

/// The answer to a request that the core refused.
pub(super) fn refused(error: &Error) -> Answer {
    let (status, code) = match error.kind() {
        ErrorKind::InvalidName | ErrorKind::InvalidArgument => (StatusCode::BAD_REQUEST, "INVALID_REQUEST"),
        ErrorKind::TooBig => (StatusCode::PAYLOAD_TOO_LARGE, "BODY_TOO_BIG"),
        ErrorKind::NotFound => (StatusCode::NOT_FOUND, "NOT_FOUND"),
        ErrorKind::LimitReached => (StatusCode::SERVICE_UNAVAILABLE, "LIMIT_REACHED"),
        ErrorKind::Closed => (StatusCode::SERVICE_UNAVAILABLE, "EXITING"),
        ErrorKind::Draining => (StatusCode::SERVICE_UNAVAILABLE, "DRAINING"),
        ErrorKind::Full | ErrorKind::Io | ErrorKind::Locked => {
            (StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE")
        }
        ErrorKind::NotInFlight | ErrorKind::NotOwner | ErrorKind::Damaged | ErrorKind::Version => {
            (StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL_ERROR")
        }
    };
    let answer = Answer::error_with(status, code, &error.to_string());
    if error.is_retryable() { answer.retry_after(RETRY_AFTER) } else { answer }
}

/// The answer to messages that the core refused: nsqd has one word for all.
pub(super) fn publish_refused(error: &Error) -> Answer {
    let answer = refused(error);
    if answer.code() == StatusCode::PAYLOAD_TOO_LARGE || error.kind() == ErrorKind::Draining {
        return answer;
    }
    let exiting = Answer::error_with(StatusCode::SERVICE_UNAVAILABLE, "EXITING", &error.to_string());
    if error.is_retryable() { exiting.retry_after(RETRY_AFTER) } else { exiting }
}

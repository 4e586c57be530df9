//! The one map from errors to gRPC's codes, in calls and within streams.

use std::time::Duration;

use mq_core::{Error, ErrorKind};
use mq_net::access::Denied;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::v1::Failure;

/// The domain of the reasons in `google.rpc.ErrorInfo`.
const DOMAIN: &str = "libmq";

/// After how long what failed for want of room may be tried again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The answer to a client whose request is not carried out.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    code: Code,
    reason: &'static str,
    message: String,
    /// The field that breaks a rule.
    field: Option<String>,
    retry: bool,
}

impl Refusal {
    pub(crate) fn new(code: Code, reason: &'static str, message: impl Into<String>) -> Self {
        Self { code, reason, message: message.into(), field: None, retry: false }
    }

    /// `field` breaks a rule, which `message` names.
    pub(crate) fn invalid(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { field: Some(field.into()), ..Self::new(Code::InvalidArgument, "INVALID_ARGUMENT", message) }
    }

    /// The same with the field that it is about, if it is about one and none is named yet.
    pub(crate) fn of(mut self, field: &str) -> Self {
        if self.code == Code::InvalidArgument {
            self.field.get_or_insert_with(|| field.to_owned());
        }
        self
    }

    /// A request that is none: its bytes can't be decoded.
    pub(crate) fn garbage(why: &str) -> Self {
        Self {
            reason: "MALFORMED",
            ..Self::invalid("request", format!("the request can't be decoded: {why}"))
        }
    }

    /// A limit is reached, which may be over soon.
    pub(crate) fn full(message: impl Into<String>) -> Self {
        Self { retry: true, ..Self::new(Code::ResourceExhausted, "FULL", message) }
    }

    /// The call's deadline has passed.
    pub(crate) fn late() -> Self {
        Self::new(Code::DeadlineExceeded, "DEADLINE", "the deadline of the call has passed")
    }

    /// The server stops.
    pub(crate) fn stopping() -> Self {
        Self {
            retry: true,
            ..Self::new(Code::Unavailable, "STOPPING", "the server is stopping: connect to another, or again")
        }
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        let (code, reason) = match error.kind() {
            ErrorKind::InvalidName => (Code::InvalidArgument, "INVALID_NAME"),
            ErrorKind::InvalidArgument => (Code::InvalidArgument, "INVALID_ARGUMENT"),
            ErrorKind::TooBig => (Code::InvalidArgument, "TOO_BIG"),
            ErrorKind::NotFound => (Code::NotFound, "NOT_FOUND"),
            ErrorKind::LimitReached => (Code::ResourceExhausted, "LIMIT_REACHED"),
            ErrorKind::NotInFlight => (Code::FailedPrecondition, "NOT_IN_FLIGHT"),
            ErrorKind::NotOwner => (Code::FailedPrecondition, "NOT_OWNER"),
            ErrorKind::Closed => (Code::Unavailable, "CLOSED"),
            ErrorKind::Full => (Code::ResourceExhausted, "FULL"),
            ErrorKind::Io => (Code::Unavailable, "IO"),
            ErrorKind::Damaged => (Code::DataLoss, "DAMAGED"),
            ErrorKind::Locked => (Code::Unavailable, "LOCKED"),
            ErrorKind::Version => (Code::FailedPrecondition, "VERSION"),
            ErrorKind::Draining => (Code::Unavailable, "DRAINING"),
        };
        Self { retry: error.is_retryable(), ..Self::new(code, reason, error.to_string()) }
    }
}

impl From<Denied> for Refusal {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::Unauthorized => Self::new(
                Code::Unauthenticated,
                "UNAUTHENTICATED",
                "the metadata must have an authorization of the form `Bearer` and a secret that is known here",
            ),
            Denied::Forbidden => {
                Self::new(Code::PermissionDenied, "FORBIDDEN", "the secret does not permit this")
            }
        }
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        let mut details = ErrorDetails::with_error_info(refusal.reason, DOMAIN, []);
        if let Some(field) = refusal.field {
            details.add_bad_request_violation(field, &refusal.message);
        }
        if refusal.retry {
            details.set_retry_info(Some(RETRY_AFTER));
        }
        Self::with_error_details(refusal.code, refusal.message, details)
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        let Refusal { code, reason, message, field, retry } = refusal;
        let retry_after_ms = if retry { RETRY_AFTER.as_millis() as u64 } else { 0 };
        let field = field.unwrap_or_default();
        Self { code: code as u32, message, reason: reason.to_owned(), retry_after_ms, field }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_have_the_codes_that_are_documented() {
        for (kind, code, retries) in [
            (ErrorKind::InvalidName, Code::InvalidArgument, false),
            (ErrorKind::InvalidArgument, Code::InvalidArgument, false),
            (ErrorKind::TooBig, Code::InvalidArgument, false),
            (ErrorKind::NotFound, Code::NotFound, false),
            (ErrorKind::Full, Code::ResourceExhausted, true),
            (ErrorKind::Io, Code::Unavailable, true),
            (ErrorKind::Closed, Code::Unavailable, false),
            (ErrorKind::Draining, Code::Unavailable, false),
            (ErrorKind::Damaged, Code::DataLoss, false),
        ] {
            let refusal = Refusal::from(Error::new(kind, "it is so"));
            let failure = Failure::from(refusal.clone());
            let status = Status::from(refusal);
            assert_eq!((status.code(), failure.code), (code, code as u32), "{kind:?}");
            assert_eq!(status.get_details_retry_info().is_some(), retries, "{kind:?}");
            assert_eq!(failure.retry_after_ms > 0, retries, "{kind:?}");
            let reason = status.get_details_error_info().map(|info| info.reason);
            assert_eq!(reason, Some(failure.reason), "{kind:?}");
        }
    }
}

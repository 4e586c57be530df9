//! Every error NSQ's protocol knows: its code, its text, whether the connection survives it; and the one map
//! from the core's errors to them.

use std::fmt;

use mq_core::{Error, ErrorKind};

use super::quote::quote;

/// An error's code, the first word of an error frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Code {
    /// Unknown command, wrong state, wrong parameters.
    Invalid,
    /// The first four bytes are not the magic.
    BadProtocol,
    /// IDENTIFY's, AUTH's or MPUB's body breaks a rule.
    BadBody,
    /// A topic name breaks the naming rule.
    BadTopic,
    /// A channel name breaks the naming rule.
    BadChannel,
    /// A message breaks a size limit.
    BadMessage,
    /// IDENTIFY asked for what can't be.
    IdentifyFailed,
    /// AUTH at a server that does not ask for authorization.
    AuthDisabled,
    /// A command before AUTH at a server that asks for authorization.
    AuthFirst,
    /// The auth server could not be asked, or gave no valid answer.
    AuthFailed,
    /// The answer to an AUTH can't be sent.
    AuthError,
    /// The client may not do what it asks for.
    Unauthorized,
    /// The broker refused a subscription.
    SubFailed,
    /// The broker refused a message.
    PubFailed,
    /// The broker refused a batch.
    MpubFailed,
    /// The broker refused a deferred message.
    DpubFailed,
    /// The message can't be finished.
    FinFailed,
    /// The message can't be requeued.
    ReqFailed,
    /// The message's deadline can't be moved.
    TouchFailed,
    /// PEEK could not read the topic. libmq's own code, which nsqd lacks.
    PeekFailed,
    /// CONFIRM could not have the acknowledgements written. libmq's own code, which nsqd lacks.
    ConfirmFailed,
}

impl Code {
    /// The code as it is on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Invalid => "E_INVALID",
            Self::BadProtocol => "E_BAD_PROTOCOL",
            Self::BadBody => "E_BAD_BODY",
            Self::BadTopic => "E_BAD_TOPIC",
            Self::BadChannel => "E_BAD_CHANNEL",
            Self::BadMessage => "E_BAD_MESSAGE",
            Self::IdentifyFailed => "E_IDENTIFY_FAILED",
            Self::AuthDisabled => "E_AUTH_DISABLED",
            Self::AuthFirst => "E_AUTH_FIRST",
            Self::AuthFailed => "E_AUTH_FAILED",
            Self::AuthError => "E_AUTH_ERROR",
            Self::Unauthorized => "E_UNAUTHORIZED",
            Self::SubFailed => "E_SUB_FAILED",
            Self::PubFailed => "E_PUB_FAILED",
            Self::MpubFailed => "E_MPUB_FAILED",
            Self::DpubFailed => "E_DPUB_FAILED",
            Self::FinFailed => "E_FIN_FAILED",
            Self::ReqFailed => "E_REQ_FAILED",
            Self::TouchFailed => "E_TOUCH_FAILED",
            Self::PeekFailed => "E_PEEK_FAILED",
            Self::ConfirmFailed => "E_CONFIRM_FAILED",
        }
    }

    /// Whether the server closes the connection after it.
    pub fn is_fatal(self) -> bool {
        !matches!(
            self,
            Self::FinFailed | Self::ReqFailed | Self::TouchFailed | Self::PeekFailed | Self::ConfirmFailed
        )
    }
}

/// An error as a client sees it. Bytes, since it may echo what the client sent.
#[derive(Clone, PartialEq, Eq)]
pub struct WireError {
    code: Code,
    text: Vec<u8>,
    /// Length of the text's own part: the client sent the rest.
    own: usize,
}

impl WireError {
    /// `code` and its description.
    pub fn new(code: Code, text: impl Into<Vec<u8>>) -> Self {
        let text = text.into();
        Self { code, own: text.len(), text }
    }

    /// A description that ends in what the client sent.
    pub(crate) fn echo(code: Code, text: &str, sent: &[u8]) -> Self {
        Self { own: text.len(), ..Self::new(code, [text.as_bytes(), sent].concat()) }
    }

    /// `<command> <noun> name "<name>" is not valid`; MPUB says its code twice, and always has.
    pub(crate) fn bad_name(code: Code, command: &str, noun: &str, name: &[u8]) -> Self {
        let mut text = Vec::new();
        if command == "MPUB" {
            text.extend_from_slice(b"E_BAD_TOPIC ");
        }
        text.extend_from_slice(command.as_bytes());
        text.push(b' ');
        text.extend_from_slice(noun.as_bytes());
        text.extend_from_slice(b" name ");
        quote(&mut text, name);
        text.extend_from_slice(b" is not valid");
        Self::new(code, text)
    }

    /// The error for a publish, a subscription or a peek that the core refused. `command` is the command's
    /// word.
    pub fn refused(code: Code, command: &str, error: &Error) -> Self {
        let reason = reason(error.kind()).map_or_else(|| error.to_string(), str::to_owned);
        Self::new(code, format!("{command} failed {reason}"))
    }

    /// The error for a FIN, REQ or TOUCH of `id` that the core refused.
    pub fn refused_id(code: Code, command: &str, id: &[u8; 16], kind: ErrorKind) -> Self {
        let reason = reason(kind).unwrap_or("failed");
        Self::new(code, [command.as_bytes(), b" ", id, b" failed ", reason.as_bytes()].concat())
    }

    /// Its code.
    pub fn code(&self) -> Code {
        self.code
    }

    /// Its description, without the code.
    pub fn text(&self) -> &[u8] {
        &self.text
    }

    /// The error for a log: without an echo of what the client sent, since a secret in the wrong place may be
    /// in it.
    pub fn without_echo(&self) -> impl fmt::Display {
        let echo = if self.own < self.text.len() { "..." } else { "" };
        format!("{} {}{echo}", self.code.as_str(), self.text[..self.own].escape_ascii())
    }

    /// Appends what an error frame carries: `CODE description`, or the code alone where there is no
    /// description.
    pub fn write_to(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.code.as_str().as_bytes());
        if self.code != Code::BadProtocol {
            out.push(b' ');
            out.extend_from_slice(&self.text);
        }
    }
}

impl fmt::Debug for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.code.as_str(), self.text.escape_ascii())
    }
}

/// NSQ's words for the core's error kinds. `None`: NSQ has none, the error's own text says it.
fn reason(kind: ErrorKind) -> Option<&'static str> {
    match kind {
        ErrorKind::NotInFlight => Some("ID not in flight"),
        ErrorKind::NotOwner => Some("client does not own message"),
        ErrorKind::Closed => Some("exiting"),
        ErrorKind::InvalidName
        | ErrorKind::InvalidArgument
        | ErrorKind::TooBig
        | ErrorKind::NotFound
        | ErrorKind::LimitReached
        | ErrorKind::Full
        | ErrorKind::Io
        | ErrorKind::Damaged
        | ErrorKind::Locked
        | ErrorKind::Version
        | ErrorKind::Draining => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cores_errors_have_nsqs_words() {
        let refused = WireError::refused(Code::PubFailed, "PUB", &Error::new(ErrorKind::Closed, "gone"));
        assert_eq!(refused.to_string(), "E_PUB_FAILED PUB failed exiting");
        let refused = WireError::refused(Code::MpubFailed, "MPUB", &Error::new(ErrorKind::Full, "disk full"));
        assert_eq!(refused.to_string(), "E_MPUB_FAILED MPUB failed disk full");
        let refused =
            WireError::refused_id(Code::FinFailed, "FIN", b"0123456789abcdef", ErrorKind::NotInFlight);
        assert_eq!(refused.to_string(), "E_FIN_FAILED FIN 0123456789abcdef failed ID not in flight");
        assert!(!refused.code().is_fatal());
    }

    #[test]
    fn a_log_gets_no_echo() {
        let error = WireError::echo(Code::Invalid, "invalid command ", b"hush");
        assert_eq!(error.to_string(), "E_INVALID invalid command hush");
        assert_eq!(error.without_echo().to_string(), "E_INVALID invalid command ...");
        let error = WireError::new(Code::Invalid, "AUTH already set");
        assert_eq!(error.without_echo().to_string(), error.to_string());
    }

    #[test]
    fn a_bad_magic_has_no_description() {
        let mut out = Vec::new();
        WireError::new(Code::BadProtocol, "").write_to(&mut out);
        assert_eq!(out, b"E_BAD_PROTOCOL");
    }
}

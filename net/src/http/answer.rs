//! Answers of an HTTP server.

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderName, HeaderValue, LOCATION, RETRY_AFTER, WWW_AUTHENTICATE};
use hyper::{Response, StatusCode};
use serde::Serialize;

use super::memory::ConnectionMemory;
use crate::budget::Turn;

/// NSQ's clients look for it to distinguish its answers from older ones.
const NSQ_CONTENT_TYPE: (HeaderName, HeaderValue) =
    (HeaderName::from_static("x-nsq-content-type"), HeaderValue::from_static("nsq; version=1.0"));

const JSON: HeaderValue = HeaderValue::from_static("application/json; charset=utf-8");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// An answer to a request.
#[derive(Clone, Debug)]
pub struct Answer(Box<Response<Bytes>>);

impl Answer {
    fn new(status: StatusCode, content_type: Option<HeaderValue>, body: impl Into<Bytes>) -> Self {
        let answer = Self(Box::new(Response::new(body.into()))).status(status);
        let answer = answer.with(NSQ_CONTENT_TYPE.0, NSQ_CONTENT_TYPE.1);
        match content_type {
            Some(content_type) => answer.with(CONTENT_TYPE, content_type),
            None => answer,
        }
    }

    /// An empty answer with the status 200.
    pub fn empty() -> Self {
        Self::new(StatusCode::OK, None, Bytes::new())
    }

    /// An answer with a plain text.
    pub fn text(body: impl Into<Bytes>) -> Self {
        Self::new(StatusCode::OK, Some(TEXT), body)
    }

    /// An object.
    pub fn json(value: &impl Serialize) -> Self {
        match serde_json::to_vec(value) {
            Ok(body) => Self::new(StatusCode::OK, Some(JSON), body),
            Err(error) => {
                tracing::error!(%error, "an answer cannot be written as JSON");
                Self::error(StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL_ERROR")
            }
        }
    }

    /// JSON that is written already.
    pub fn raw_json(body: impl Into<Bytes>) -> Self {
        Self::new(StatusCode::OK, Some(JSON), body)
    }

    /// An error: `{"message":"CODE"}`. `code` needs no escapes.
    pub fn error(status: StatusCode, code: &str) -> Self {
        Self::new(status, Some(JSON), format!("{{\"message\":\"{code}\"}}"))
    }

    /// An error with a sentence for people: `{"message":"CODE","detail":"..."}`.
    pub fn error_with(status: StatusCode, code: &str, detail: &str) -> Self {
        #[derive(Serialize)]
        struct Body<'a> {
            message: &'a str,
            detail: &'a str,
        }
        Self::json(&Body { message: code, detail }).status(status)
    }

    /// The request's credentials are missing or wrong.
    pub fn unauthorized() -> Self {
        let answer = Self::error(StatusCode::UNAUTHORIZED, "UNAUTHORIZED");
        answer.with(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))
    }

    /// There is no such path.
    pub fn not_found() -> Self {
        Self::error(StatusCode::NOT_FOUND, "NOT_FOUND")
    }

    /// The path's other methods are `allow`.
    pub(super) fn method_not_allowed(allow: &str) -> Self {
        Self::error(StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED").allow(allow)
    }

    /// The answer to OPTIONS.
    pub(super) fn options(allow: &str) -> Self {
        Self::empty().plain().allow(allow)
    }

    /// The path is right but for its case or a slash at its end.
    pub fn redirect(status: StatusCode, location: &str) -> Self {
        match HeaderValue::from_str(location) {
            Ok(location) => Self::new(status, None, Bytes::new()).plain().with(LOCATION, location),
            Err(_) => Self::not_found(),
        }
    }

    /// The answer with another status.
    #[must_use]
    pub fn status(mut self, status: StatusCode) -> Self {
        *self.0.status_mut() = status;
        self
    }

    /// The answer with another content type.
    #[must_use]
    pub fn content_type(self, content_type: &'static str) -> Self {
        self.with(CONTENT_TYPE, HeaderValue::from_static(content_type))
    }

    /// The answer without the header that marks NSQ's answers.
    #[must_use]
    pub fn plain(mut self) -> Self {
        self.0.headers_mut().remove(NSQ_CONTENT_TYPE.0);
        self
    }

    /// The answer with the advice to try again after `seconds`.
    #[must_use]
    pub fn retry_after(self, seconds: u32) -> Self {
        self.with(RETRY_AFTER, seconds.into())
    }

    fn allow(self, allow: &str) -> Self {
        match HeaderValue::from_str(allow) {
            Ok(allow) => self.with(ALLOW, allow),
            Err(_) => self,
        }
    }

    /// The answer with a header; nothing changes if `value` can't be one.
    #[must_use]
    pub fn header(self, name: HeaderName, value: &str) -> Self {
        match HeaderValue::from_str(value) {
            Ok(value) => self.with(name, value),
            Err(_) => self,
        }
    }

    fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.headers_mut().insert(name, value);
        self
    }

    /// Its status.
    pub fn code(&self) -> StatusCode {
        self.0.status()
    }

    /// Its body.
    pub fn body(&self) -> &[u8] {
        self.0.body()
    }

    /// The answer, made up in `turn`: the turn lasts until the body is counted.
    #[must_use]
    pub fn made_in(mut self, turn: Option<Turn>) -> Self {
        if let Some(turn) = turn {
            self.0.extensions_mut().insert(turn);
        }
        self
    }

    /// Its response, the body counted in `memory` until it is written.
    pub(super) fn into_response(self, memory: &Arc<ConnectionMemory>) -> Response<Full<Bytes>> {
        let mut response = self.0.map(|body| Full::new(memory.count_answer(body)));
        response.extensions_mut().remove::<Turn>();
        response
    }
}

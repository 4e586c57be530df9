//! From a request to its route, as nsqd's router does it.

use std::collections::BTreeSet;
use std::sync::Arc;

use hyper::{Method, StatusCode};

use super::answer::Answer;
use super::browser;
use super::request::Request;
use super::route::{Api, Route};

/// Outcome of a search for a path and a method.
enum Found<A: 'static> {
    Route(&'static Route<A>),
    /// The path has other methods, listed as the header `Allow` does.
    OtherMethods(String),
    /// The path is meant to be this one.
    Elsewhere(String),
    Nothing,
}

/// Answers a request.
pub(super) async fn answer<A: Api>(api: Arc<A>, mut request: Request) -> Answer {
    if let Err(page) = browser::check(&request, api.hosts()) {
        tracing::warn!(peer = request.peer().address, "HTTP request refused: {}", page.detail());
        return page.into();
    }
    match api.site(&request) {
        Ok(Some(site)) => return site.answer(request).await,
        Ok(None) => {}
        Err(refused) => return refused,
    }
    let found = find::<A>(request.method(), request.path());
    let route = match &found {
        Found::Route(route) => Some(*route),
        _ => None,
    };
    if let Some(route) = route {
        request.set_route(route.parameters, route.matches(request.path()).unwrap_or_default().to_owned());
    }
    if let Err(refused) = api.admit(route, &mut request).await {
        return refused;
    }
    match found {
        Found::Route(route) => {
            let answer = (route.handler)(api, request).await;
            debug_assert!(
                answer.code() == StatusCode::OK || route.statuses.contains(&answer.code()),
                "{} {} does not declare {}",
                route.method,
                route.path,
                answer.code(),
            );
            answer
        }
        Found::OtherMethods(allow) if request.method() == Method::OPTIONS => Answer::options(&allow),
        Found::OtherMethods(allow) => Answer::method_not_allowed(&allow),
        Found::Elsewhere(path) => {
            let status = match *request.method() {
                Method::GET => StatusCode::MOVED_PERMANENTLY,
                _ => StatusCode::TEMPORARY_REDIRECT,
            };
            let query = request.query_text();
            let separator = if query.is_empty() { "" } else { "?" };
            Answer::redirect(status, &format!("{path}{separator}{query}"))
        }
        Found::Nothing => Answer::not_found(),
    }
}

fn find<A: Api>(method: &Method, path: &str) -> Found<A> {
    let of_path = || A::ROUTES.iter().filter(|route| route.matches(path).is_some());
    if let Some(route) = of_path().find(|route| route.method == *method) {
        return Found::Route(route);
    }
    if method == Method::OPTIONS && path == "*" {
        return Found::OtherMethods(allow(A::ROUTES.iter().map(|route| &route.method)));
    }
    let allowed = allow(of_path().map(|route| &route.method));
    if !allowed.is_empty() {
        return Found::OtherMethods(allowed);
    }
    let mut of_method = A::ROUTES.iter().filter(|route| route.method == *method);
    let meant = of_method.find(|route| parts(route.path).eq_ignore_ascii_case(&parts(path)));
    meant.map_or(Found::Nothing, |route| Found::Elsewhere(route.path.to_owned()))
}

/// A path without the slashes that divide nothing.
fn parts(path: &str) -> String {
    path.split('/').filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/")
}

/// The methods, and OPTIONS where there are any, sorted.
fn allow<'a>(methods: impl Iterator<Item = &'a Method>) -> String {
    let mut methods: BTreeSet<&str> = methods.map(Method::as_str).collect();
    if methods.is_empty() {
        return String::new();
    }
    methods.insert("OPTIONS");
    methods.into_iter().collect::<Vec<_>>().join(", ")
}

//! Answers to the page's script, below `data/`.

use std::sync::Arc;

use mq_net::http::{Answer, Method, Request, StatusCode, header};
use mq_net::secret::Secret;
use serde::Deserialize;
use serde_json::json;

use crate::admin::Admin;
use crate::change::Change;
use crate::fleet::Seen;
use crate::notify::Origin;
use crate::sessions::Named;
use crate::viewer::Viewer;
use crate::{audit, fleet, views};

/// Largest body of a request: a test message in base64.
const BODY_BYTES_MAX: u64 = 2 * 1024 * 1024;
/// Seconds between two requests of the page.
const POLL_SECONDS: u32 = 3;
/// Seconds somebody waits who tried too many tokens.
const RETRY_AFTER: u32 = 60;

/// Answers a request for `path`, which is below `data/`.
pub(crate) async fn answer(admin: &Arc<Admin>, path: &str, request: Request) -> Result<Answer, Answer> {
    let method = request.method().clone();
    if method == Method::POST && !is_json(&request) {
        let detail = "the body must be JSON, and Content-Type say so: application/json";
        return Err(Answer::error_with(StatusCode::UNSUPPORTED_MEDIA_TYPE, "INVALID_REQUEST", detail));
    }
    match (method, path) {
        (Method::GET, "me") => Ok(me(admin, &request).await),
        (Method::POST, "login") => login(admin, request).await,
        (Method::POST, "logout") => {
            let cookie = admin.sessions.close(&request, &admin.settings.base);
            Ok(Answer::json(&json!({"message": ""})).header(header::SET_COOKIE, &cookie))
        }
        (Method::POST, "action") => action(admin, request).await,
        (Method::GET, view) => look(admin, view, request).await,
        (_, _) => Err(Answer::error(StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED")),
    }
}

/// A form of another page can't send JSON.
fn is_json(request: &Request) -> bool {
    let kind = request.headers().get(header::CONTENT_TYPE).map(|kind| kind.as_bytes()).unwrap_or_default();
    let kind = kind.split(|byte| *byte == b';').next().unwrap_or_default();
    kind.trim_ascii().eq_ignore_ascii_case(b"application/json")
}

async fn me(admin: &Admin, request: &Request) -> Answer {
    let viewer = Viewer::of(admin, request).await;
    if let Ok(viewer) = &viewer {
        viewer.prepare(admin);
    }
    let login = match (&admin.settings.access, &viewer) {
        (Some(access), Ok(_)) if !access.is_open() => "in",
        (_, Ok(_)) => "none",
        (_, Err(_)) => "needed",
    };
    Answer::json(&json!({
        "login": login,
        "mode": admin.settings.mode.name(),
        "version": admin.settings.version,
        "name": admin.settings.name,
        "can_peek": viewer.is_ok(),
        "read_only": viewer.is_ok_and(|viewer| !viewer.may_change),
        "poll_seconds": POLL_SECONDS,
    }))
}

async fn login(admin: &Admin, request: Request) -> Result<Answer, Answer> {
    #[derive(Deserialize)]
    struct Login {
        token: String,
    }
    let Some(access) = admin.settings.access.as_ref().filter(|access| !access.is_open()) else {
        return Ok(Answer::json(&json!({"message": ""})));
    };
    // All who come by one proxy together have some more tries than one: what it says of them may be made up.
    let proxy = crate::viewer::ip_of(request.peer());
    let client = crate::viewer::forwarded(admin, &request).map(|ip| format!("{ip} by {proxy}"));
    let from = crate::viewer::origin(admin, &request);
    let may_try = match &client {
        Some(client) => admin.sessions.may_try(client) && admin.sessions.may_try_by(&proxy),
        None => admin.sessions.may_try(&proxy),
    };
    if !may_try {
        let detail = "too many wrong tokens: wait a minute";
        return Err(
            Answer::error_with(StatusCode::TOO_MANY_REQUESTS, "TOO_MANY", detail).retry_after(RETRY_AFTER)
        );
    }
    let peer = request.peer().clone();
    // The request is gone once its body is read.
    let named = Named::of(&request, &admin.settings.base);
    let body = request.body(64 * 1024).await.map_err(|error| error.answer("BODY_TOO_BIG"))?;
    let login: Login =
        serde_json::from_slice(&body).map_err(|_| views::invalid("{\"token\":\"...\"} is wanted"))?;
    let token: Secret<Arc<[u8]>> = Secret::new(login.token.trim().as_bytes().into());
    match access.caller(Some(token.expose()), &peer).await {
        Ok(caller) => {
            audit::login(caller.name().unwrap_or("anyone"), &from, true);
            let cookie = admin.sessions.open(token, &named);
            let cookie =
                cookie.ok_or_else(|| Answer::error(StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL_ERROR"))?;
            Ok(Answer::json(&json!({"message": ""})).header(header::SET_COOKIE, &cookie))
        }
        Err(_) => {
            audit::login("nobody", &from, false);
            admin.sessions.failed(&proxy);
            client.iter().for_each(|client| admin.sessions.failed(client));
            Err(Answer::error_with(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", "the token is not known"))
        }
    }
}

async fn look(admin: &Arc<Admin>, view: &str, request: Request) -> Result<Answer, Answer> {
    let viewer = Viewer::of(admin, &request).await?;
    let request = request.declaring(views::PARAMETERS);
    let query = request.query()?;
    let call = &viewer.call;
    let named =
        |name: &str| query.get_some(name).ok_or_else(|| views::invalid(&format!("{name} is missing")));
    if !matches!(
        view,
        "overview" | "topics" | "topic" | "channel" | "nodes" | "node" | "lookup" | "history" | "peek"
    ) {
        return Err(Answer::not_found());
    }
    let seen = match query.get("partial") {
        Some("1") => viewer.seen(admin).await?,
        _ => Seen { snapshot: viewer.snapshot(admin).await?, reading: None },
    };
    let Seen { snapshot, reading } = seen;
    match view {
        "overview" => Ok(views::overview(&snapshot, reading)),
        "topics" => views::topics(&snapshot, &query, reading),
        "nodes" => views::nodes(&snapshot, &query, reading),
        // The numbers of one topic or channel would be wrong: they lack the other nodes'.
        _ if reading.is_some() => Ok(views::later(&snapshot, reading)),
        "topic" => views::topic(&snapshot, call, named("topic")?).await,
        "channel" => views::channel(&snapshot, call, named("topic")?, named("channel")?).await,
        "node" => views::node(&snapshot, &query, named("node")?),
        "lookup" => Ok(views::lookup(&snapshot, &fleet::inactive(&snapshot, call).await)),
        "history" => views::history(&admin.fleet, viewer.key(admin), snapshot, call, &query).await,
        _ => {
            let answer = views::peek(&snapshot, call, &query).await;
            let outcome = answer.as_ref().map_or_else(Answer::code, Answer::code);
            let [topic, channel, node] = ["topic", "channel", "node"].map(|name| query.get(name));
            audit::peek(&viewer, topic, channel, node, outcome);
            answer
        }
    }
}

async fn action(admin: &Arc<Admin>, request: Request) -> Result<Answer, Answer> {
    let viewer = Viewer::of(admin, &request).await?;
    let origin = Origin::of(&request, &viewer, false);
    let body = request.body(BODY_BYTES_MAX).await.map_err(|error| error.answer("BODY_TOO_BIG"))?;
    let wanted: Change = serde_json::from_slice(&body)
        .map_err(|error| views::invalid(&format!("the body can't be read: {error}")))?;
    drop(body);
    let done = admin.act(&viewer, &wanted, &origin).await?;
    Ok(done.answer())
}

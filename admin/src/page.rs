//! The files of the page in `admin/page/`: part of a release's program, read from disk by debug builds.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use mq_net::http::{Answer, Request, StatusCode, header};
use rust_embed::{EmbeddedFile, RustEmbed};
use sha2::{Digest, Sha256};

#[derive(RustEmbed)]
#[folder = "page/"]
struct Files;

/// The one inline script that there is.
const IMPORT_MAP: &str = "<script type=\"importmap\">";

/// The file at `path` below the page, if there is one.
pub(crate) fn file(path: &str, request: &Request) -> Option<Answer> {
    let name = if path.is_empty() { "index.html" } else { path };
    let file = Files::get(name)?;
    let etag = format!("\"{}\"", hex(&file.metadata.sha256_hash()));
    let known =
        request.headers().get(header::IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == etag.as_bytes());
    let answer = match known {
        true => Answer::empty().status(StatusCode::NOT_MODIFIED),
        false => Answer::text(file.data.into_owned()).content_type(content_type(name)),
    };
    Some(answer.header(header::ETAG, &etag).header(header::CACHE_CONTROL, "no-cache"))
}

/// The answer with the headers that every answer of the page has.
pub(crate) fn secured(answer: Answer) -> Answer {
    let hash = Files::get("index.html").and_then(|index| import_map_hash(&index)).unwrap_or_default();
    let policy = format!(
        "default-src 'none'; script-src 'self'{hash}; style-src 'self'; img-src 'self' data:; \
         connect-src 'self'; font-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
    );
    answer
        .plain()
        .header(header::CONTENT_SECURITY_POLICY, &policy)
        .header(header::X_CONTENT_TYPE_OPTIONS, "nosniff")
        .header(header::X_FRAME_OPTIONS, "DENY")
        .header(header::REFERRER_POLICY, "no-referrer")
}

/// ` 'sha256-...'` of the import map.
fn import_map_hash(index: &EmbeddedFile) -> Option<String> {
    let text = std::str::from_utf8(&index.data).ok()?;
    let (_, rest) = text.split_once(IMPORT_MAP)?;
    let (map, _) = rest.split_once("</script>")?;
    Some(format!(" 'sha256-{}'", STANDARD.encode(Sha256::digest(map))))
}

fn content_type(name: &str) -> &'static str {
    match name.rsplit_once('.').map_or("", |(_, extension)| extension) {
        "html" => "text/html; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "woff2" => "font/woff2",
        "json" => "application/json; charset=utf-8",
        _ => "text/plain; charset=utf-8",
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

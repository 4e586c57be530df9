//! A page in a real browser can neither use nor read the broker. Without a chromium on the path this says so
//! and passes.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;

use mq_tests::{Broker, PATIENCE, mq};
use tempfile::TempDir;

/// The calls that the page tries, one after the other, and the outcome of each.
const PAGE: &str = r#"<!doctype html><title>page</title><iframe name="sink"></iframe><script>
const results = [];
async function attempt(name, path, options) {
  try {
    const answer = await fetch("http://BROKER" + path, options);
    results.push(name + ":" + answer.type + (answer.type == "opaque" ? "" : " " + await answer.text()));
  } catch (error) {
    results.push(name + ":failed");
  }
}
(async () => {
  const post = (body) => ({ method: "POST", mode: "no-cors", headers: { "Content-Type": "text/plain" }, body });
  await attempt("delete", "/topic/delete?topic=t", post(""));
  await attempt("publish", "/pub?topic=t", post("from a page"));
  await attempt("create", "/topic/create?topic=made", post(""));
  await attempt("drain", "/drain", post(""));
  await attempt("put", "/config/log_level", { method: "PUT", body: "debug" });
  await attempt("read", "/stats?format=json", {});
  const form = document.createElement("form");
  form.method = "POST"; form.action = "http://BROKER/topic/empty?topic=t"; form.target = "sink";
  document.body.append(form); form.submit();
  const image = new Image();
  await new Promise((done) => { image.onerror = image.onload = done; image.src = "http://BROKER/stats"; });
  await fetch("/done", { method: "POST", body: results.join("\n") });
})();
</script>"#;

/// A chromium that shows `url`; `None`, and a line that says so, where there is none.
fn browse(profile: &TempDir, url: &str, more: &[&str]) -> Option<Child> {
    for name in ["chromium", "chromium-browser", "google-chrome"] {
        let started = Command::new(name)
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"])
            .args(["--disable-quic", "--disable-dev-shm-usage", "--no-first-run"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .args(more)
            .arg(url)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        if let Ok(browser) = started {
            return Some(browser);
        }
    }
    println!("skipped: no chromium on the path");
    None
}

/// Serves the page to whoever asks. Gives where, and what the page says at its end.
fn serve(page: String) -> (String, mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (done, heard) = mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            // A browser opens connections that it never uses.
            let (page, done) = (page.clone(), done.clone());
            std::thread::spawn(move || answer(stream.unwrap(), &page, &done));
        }
    });
    (address, heard)
}

fn answer(mut stream: TcpStream, page: &str, done: &mpsc::Sender<String>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let (mut line, mut length) = (String::new(), 0);
    let _ = reader.read_line(&mut line);
    loop {
        let mut header = String::new();
        match reader.read_line(&mut header) {
            Ok(1..) if !header.trim().is_empty() => {}
            _ => break,
        }
        if let Some(value) = header.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    let _ = reader.read_exact(&mut body);
    if line.starts_with("POST /done") {
        let _ = done.send(String::from_utf8(body).unwrap());
    }
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\n";
    let _ = write!(stream, "{head}Content-Length: {}\r\n\r\n{page}", page.len());
}

#[test]
fn a_page_can_neither_use_nor_read_the_broker_and_its_user_can() {
    let broker = Broker::start();
    let topics = |args: &[&str]| {
        let all = [&["topics"], args, &["--http-address", broker.http_address()]].concat();
        String::from_utf8(mq(&all).ok()).unwrap()
    };
    topics(&["create", "t"]);
    let (site, heard) = serve(PAGE.replace("BROKER", broker.http_address()));
    let profile = TempDir::new().unwrap();
    let Some(mut browser) = browse(&profile, &format!("http://{site}/"), &["--remote-debugging-port=0"])
    else {
        return;
    };
    let results = heard.recv_timeout(PATIENCE);
    let _ = browser.kill();
    let _ = browser.wait();
    let results = results.expect("the page comes to its end");
    // The page sees of a simple request that it was answered, and of no other.
    for (name, became) in [
        ("delete", "opaque"),
        ("publish", "opaque"),
        ("create", "opaque"),
        ("drain", "opaque"),
        ("put", "failed"),
        ("read", "failed"),
    ] {
        assert!(results.lines().any(|line| line == format!("{name}:{became}")), "{name}: {results}");
    }
    assert_eq!(topics(&["list"]), "t  depth 0\n", "nothing was done");
    assert!(broker.stderr().contains("for a page of another site"), "{}", broker.stderr());

    // Who types the address sees the page of statistics; by a name that somebody made lead here, nobody does.
    let port = broker.http_address().rsplit_once(':').unwrap().1;
    let shown = |host: &str| {
        let profile = TempDir::new().unwrap();
        let more = ["--host-resolver-rules=MAP rebound.example 127.0.0.1", "--dump-dom"];
        let browser = browse(&profile, &format!("http://{host}:{port}/stats"), &more).unwrap();
        String::from_utf8(browser.wait_with_output().unwrap().stdout).unwrap()
    };
    let page = shown("127.0.0.1");
    assert!(page.contains("Health: OK"), "{page}");
    let page = shown("rebound.example");
    assert!(page.contains("HOST_NOT_ALLOWED") && !page.contains("Health"), "{page}");
}

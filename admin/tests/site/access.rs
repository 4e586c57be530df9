//! Rights to look and to change, and where tokens go.

use std::sync::Arc;

use mq_admin::{Admin, Alone, Credentials, NsqadminSettings, Settings};
use mq_net::access::{Access, HttpTokens};
use mq_net::budget::Budget;
use mq_net::http::{HostNames, LocalApi, LocalHttp, Peer, send};
use mq_net::secret::Secret;
use mq_nsq::server::Config;
use parking_lot::Mutex;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::common::{Lookup, Node, call, fleet, get, page, post};

const JSON: (&str, &str) = ("Content-Type", "application/json");

#[tokio::test]
async fn a_token_opens_a_session_and_never_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tokens");
    std::fs::write(&file, "first\nhush-hush\n").unwrap();
    let node = Node::start_with(Some(file)).await;
    let at = &node.http;
    assert_eq!(call(at, "GET", "/admin/", &[], "").await.status, 200, "the page itself has no secret");
    assert_eq!(get(at, "/admin/data/me").await["login"], "needed");
    assert_eq!(call(at, "GET", "/admin/data/overview", &[], "").await.status, 401);
    let create = json!({"action": "create_topic", "topic": "t"});
    assert_eq!(post(at, "/admin/data/action", &create).await.status, 401);
    assert_eq!(post(at, "/admin/data/login", &json!({"token": "third"})).await.status, 401);
    let login = post(at, "/admin/data/login", &json!({"token": "hush-hush"})).await;
    assert_eq!(login.status, 200);
    let cookie = login.header("set-cookie").to_owned();
    assert!(cookie.contains("; HttpOnly; SameSite=Strict") && cookie.contains("; Path=/admin/;"), "{cookie}");
    assert!(!cookie.contains("hush-hush"), "{cookie}");
    let cookie = cookie.split(';').next().unwrap();
    let with = [("Cookie", cookie), JSON];
    let me = call(at, "GET", "/admin/data/me", &with, "").await;
    assert_eq!(me.json()["login"], "in");
    assert!(!String::from_utf8_lossy(&me.body).contains("hush-hush"));
    let created = call(at, "POST", "/admin/data/action", &with, &create.to_string()).await;
    assert_eq!(created.status, 200, "{created:?}");
    assert_eq!(call(at, "GET", "/admin/data/topics", &with, "").await.json()["total"], 1);
    let bearer = [("Authorization", "Bearer first")];
    assert_eq!(call(at, "GET", "/admin/data/topics", &bearer, "").await.status, 200);
    assert_eq!(call(at, "POST", "/admin/data/logout", &with, "{}").await.status, 200);
    assert_eq!(call(at, "GET", "/admin/data/topics", &with, "").await.status, 401);
}

#[tokio::test]
async fn who_guesses_tokens_has_to_wait() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tokens");
    std::fs::write(&file, "right").unwrap();
    let node = Node::start_with(Some(file)).await;
    for _ in 0..10 {
        assert_eq!(post(&node.http, "/admin/data/login", &json!({"token": "wrong"})).await.status, 401);
    }
    let reply = post(&node.http, "/admin/data/login", &json!({"token": "right"})).await;
    assert_eq!((reply.status, reply.header("retry-after")), (429, "60"));
}

/// A page of its own that asks for the token `right`.
async fn asking(proxies: &[&str]) -> (String, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tokens");
    std::fs::write(&file, "right").unwrap();
    let tokens = HttpTokens::load(&file).unwrap();
    let nsqadmin = NsqadminSettings {
        acl_http_proxies: proxies.iter().map(|range| range.parse().unwrap()).collect(),
        ..NsqadminSettings::default()
    };
    let access = Some(Arc::new(Access::new(Some(tokens), None)));
    (page(Settings { access, nsqadmin, ..fleet(&[], &["127.0.0.1:1"]) }).await, folder)
}

#[tokio::test]
async fn behind_a_named_proxy_who_guesses_waits_alone_and_never_longer_than_all_together_may_try() {
    let (at, _folder) = asking(&["127.0.0.0/8"]).await;
    let login = async |from: &str, token: &str| {
        let body = json!({"token": token}).to_string();
        call(&at, "POST", "/data/login", &[JSON, ("X-Forwarded-For", from)], &body).await.status
    };
    for _ in 0..10 {
        assert_eq!(login("10.0.0.66", "wrong").await, 401);
    }
    assert_eq!(login("10.0.0.66", "right").await, 429);
    assert_eq!(login("9.9.9.9, 10.0.0.66", "right").await, 429, "what stands before is anybody's word");
    assert_eq!(login("10.0.0.66, 127.0.0.2", "right").await, 429, "a proxy behind a proxy");
    assert_eq!(login("10.0.0.7", "right").await, 200);
    // Another address each time: what a proxy that passes on anything would let somebody write.
    for n in 10..100 {
        assert_eq!(login(&format!("10.1.0.{n}"), "wrong").await, 401, "{n}");
    }
    assert_eq!(login("10.1.1.1", "right").await, 429);
}

#[tokio::test]
async fn a_forwarded_address_is_ignored_where_no_proxy_is_named() {
    let (at, _folder) = asking(&[]).await;
    for n in 0..10 {
        let from = format!("10.0.0.{n}");
        let body = json!({"token": "wrong"}).to_string();
        let reply = call(&at, "POST", "/data/login", &[JSON, ("X-Forwarded-For", &from)], &body).await;
        assert_eq!(reply.status, 401);
    }
    let body = json!({"token": "right"}).to_string();
    let reply = call(&at, "POST", "/data/login", &[JSON, ("X-Forwarded-For", "10.0.1.1")], &body).await;
    assert_eq!(reply.status, 429);
}

#[tokio::test]
async fn a_page_on_a_port_of_its_own_is_for_no_other_site_and_by_no_other_name_with_a_token_and_without() {
    let node = Node::start().await;
    let token = Credentials::Own(Some(Secret::new(Arc::from(&b"hush-hush"[..]))));
    let none = page(fleet(&[], &[&node.http])).await;
    let own = page(Settings { credentials: token, ..fleet(&[], &[&node.http]) }).await;
    let (asked, _folder) = asking(&[]).await;
    let body = json!({"action": "create_topic", "topic": "t"}).to_string();
    for at in [&none, &own, &asked] {
        for header in [
            ("Origin", "http://evil.example"),
            ("Origin", "null"),
            ("Sec-Fetch-Site", "cross-site"),
            ("Sec-Fetch-Site", "same-site"),
        ] {
            let reply = call(at, "POST", "/data/action", &[header, JSON], &body).await;
            assert_eq!(reply.status, 403, "{at} {header:?}");
            assert_eq!(call(at, "GET", "/data/overview", &[header], "").await.status, 403, "{at} {header:?}");
        }
        // A name of somebody's that leads here.
        let rebound =
            [("Host", "evil.example"), ("Origin", "http://evil.example"), ("Sec-Fetch-Site", "same-origin")];
        let mut headers = rebound.to_vec();
        headers.push(JSON);
        let reply = call(at, "POST", "/data/action", &headers, &body).await;
        // Where a token is asked for, the other name has no cookie of ours.
        assert_eq!(reply.status, if at == &asked { 401 } else { 403 }, "{at}: {reply:?}");
        let looked = call(at, "GET", "/data/overview", &rebound, "").await;
        assert_eq!(looked.status, if at == &asked { 401 } else { 403 }, "{at}: {looked:?}");
    }
    assert_eq!(get(&node.http, "/stats?format=json").await["topics"], json!([]), "nobody touched it");
}

#[tokio::test]
async fn a_page_that_lends_its_token_is_reached_by_names_that_are_named_from_elsewhere_too() {
    let lent = Credentials::Own(Some(Secret::new(Arc::from(&b"hush-hush"[..]))));
    for (credentials, host, status) in [
        (lent.clone(), "evil.example", 403),
        (lent.clone(), "page.example:4171", 200),
        (lent, "10.0.0.1:4171", 200),
        (Credentials::Own(None), "evil.example", 200),
    ] {
        let settings = Settings { credentials, ..fleet(&[], &["127.0.0.1:1"]) };
        let page = Alone::new(Admin::new(settings), HostNames::new(["page.example"]));
        let elsewhere = Peer { address: "10.0.0.9:5".to_owned(), tls: None, is_on_loopback: false };
        let stream = LocalApi::new(&page, Budget::default()).connect(&elsewhere);
        let request = hyper::Request::builder().uri("/data/me").header("Host", host).body("").unwrap();
        let (answered, _) = send(stream, request, 1 << 20).await.unwrap();
        assert_eq!(answered.as_u16(), status, "{host}");
    }
}

#[tokio::test]
async fn pages_of_other_sites_can_do_nothing() {
    let node = Node::start().await;
    let body = json!({"action": "create_topic", "topic": "t"}).to_string();
    for (header, status) in [
        (("Origin", "http://evil.example"), 403),
        (("Sec-Fetch-Site", "cross-site"), 403),
        (("Sec-Fetch-Site", "same-site"), 403),
        (("Host", "evil.example"), 403),
        (("Sec-Fetch-Site", "same-origin"), 200),
    ] {
        let reply = call(&node.http, "POST", "/admin/data/action", &[header, JSON], &body).await;
        assert_eq!(reply.status, status, "{header:?}");
    }
    for kind in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"] {
        let reply = call(&node.http, "POST", "/admin/data/action", &[("Content-Type", kind)], &body).await;
        assert_eq!(reply.status, 415, "{kind}");
    }
}

/// A server that answers everything with a redirect, and notes what it was sent.
pub(crate) async fn trap() -> (String, Arc<Mutex<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let heard = Arc::new(Mutex::new(String::new()));
    let note = Arc::clone(&heard);
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut buffer = [0; 8192];
            let read = stream.read(&mut buffer).await.unwrap_or_default();
            note.lock().push_str(&String::from_utf8_lossy(&buffer[..read]));
            let answer = "HTTP/1.1 302 Found\r\nLocation: /secret\r\nContent-Length: 0\r\n\r\n";
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    (address, heard)
}

#[tokio::test]
async fn a_token_goes_to_no_address_that_a_lookup_server_reports() {
    let (lookup, (learned, heard)) = (Lookup::start().await, trap().await);
    let (named, heard_named) = trap().await;
    lookup.register(&learned, &["t"]);
    let token = Secret::new(Arc::from(&b"hush-hush"[..]));
    let settings =
        Settings { credentials: Credentials::Own(Some(token)), ..fleet(&[&lookup.http], &[&named]) };
    let at = page(settings).await;
    let nodes = get(&at, "/data/nodes").await;
    assert_eq!(nodes["nodes"].as_array().unwrap().len(), 2);
    let row = |id: &str| {
        nodes["nodes"].as_array().unwrap().iter().find(|node| node["node"] == *id).unwrap().clone()
    };
    assert_eq!((&row(&learned)["reachable"], &row(&learned)["configured"]), (&json!(false), &json!(false)));
    assert_eq!(row(&named)["configured"], true);
    let (heard, heard_named) = (heard.lock().clone(), heard_named.lock().clone());
    assert!(heard.contains("GET /stats?") && !heard.contains("hush-hush"), "{heard}");
    assert!(!heard.contains("/secret"), "no redirect is followed: {heard}");
    assert!(heard_named.contains("Bearer hush-hush"), "{heard_named}");
}

/// An auth server that grants everything to the secret `all`, and to others the topic of that name.
async fn auth_server() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                request.push(stream.read_u8().await.unwrap());
            }
            let request = String::from_utf8(request).unwrap();
            let secret = request.split("secret=").nth(1).unwrap().split(['&', ' ']).next().unwrap();
            let topic = if secret == "all" { ".*" } else { secret };
            let grant = json!({"topic": topic, "channels": [".*"], "permissions": ["subscribe", "publish"]});
            let body = json!({"ttl": 3600, "identity": secret, "authorizations": [grant]}).to_string();
            let head =
                format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
            let _ = stream.write_all((head + &body).as_bytes()).await;
        }
    });
    address
}

#[tokio::test]
async fn viewers_with_different_tokens_share_no_picture_of_the_fleet() {
    let rules = Config { auth_http_addresses: vec![auth_server().await], ..Config::default() };
    let node = Node::start_as(rules).await;
    let ask = async |token: &str, method: &str, path: &str| {
        let bearer = format!("Bearer {token}");
        call(&node.http, method, path, &[("Authorization", &bearer)], "").await
    };
    for topic in ["red", "blue"] {
        let created = ask("all", "POST", &format!("/topic/create?topic={topic}")).await;
        assert_eq!(created.status, 200, "{created:?}");
    }
    // Twice: the second time each has a picture already.
    for _ in 0..2 {
        for (token, seen) in [("all", vec!["blue", "red"]), ("red", vec!["red"]), ("blue", vec!["blue"])] {
            let page = ask(token, "GET", "/admin/data/topics").await.json();
            let rows = page["topics"].as_array().unwrap_or_else(|| panic!("{page}"));
            let mut names: Vec<_> = rows.iter().map(|row| row["topic"].as_str().unwrap()).collect();
            names.sort_unstable();
            assert_eq!(names, seen, "{token}");
        }
    }
}

#[tokio::test]
async fn a_proxys_word_for_a_user_counts_only_from_proxies_that_are_named() {
    let node = Node::start().await;
    let settings = |proxies: &str| Settings {
        nsqadmin: NsqadminSettings {
            admin_users: vec!["ann".to_owned()],
            acl_http_proxies: vec![proxies.parse().unwrap()],
            ..NsqadminSettings::default()
        },
        ..fleet(&[], &[&node.http])
    };
    let body = json!({"action": "create_topic", "topic": "t"}).to_string();
    let (near, far) = (page(settings("127.0.0.0/8")).await, page(settings("10.0.0.0/8")).await);
    for (at, user, status) in [(&near, "ann", 200), (&near, "bob", 403), (&far, "ann", 403)] {
        let headers = [JSON, ("X-Forwarded-User", user)];
        assert_eq!(call(at, "POST", "/data/action", &headers, &body).await.status, status, "{user}");
    }
    assert_eq!(call(&near, "POST", "/data/action", &[JSON], &body).await.status, 403);
    assert_eq!(get(&near, "/data/me").await["read_only"], true);
    assert_eq!(get(&near, "/data/overview").await["warnings"], json!([]), "to look is for all");
}

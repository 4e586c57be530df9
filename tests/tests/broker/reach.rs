//! Every command reaches every broker: over TLS with certificates on both ends, with AUTH and tokens, by unix
//! sockets.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;

use mq_tests::{Broker, Finished, mq, mq_with_input, signal, start, until};
use tempfile::TempDir;

/// Files of a broker and its clients, by the names they have in the folder.
struct Files(TempDir);

impl Files {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        for name in ["server", "client"] {
            let made = rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()]);
            let made = made.unwrap();
            std::fs::write(folder.path().join(format!("{name}.pem")), made.cert.pem()).unwrap();
            let key = made.signing_key.serialize_pem();
            std::fs::write(folder.path().join(format!("{name}.key")), key).unwrap();
        }
        std::fs::write(folder.path().join("token"), "\u{feff}hush\n").unwrap();
        std::fs::write(folder.path().join("wrong"), "guess\n").unwrap();
        Self(folder)
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    /// The flags of a client that the broker lets in.
    fn flags(&self) -> Vec<String> {
        vec![
            format!("--tls-ca={}", self.path("server.pem")),
            format!("--tls-cert={}", self.path("client.pem")),
            format!("--tls-key={}", self.path("client.key")),
            format!("--auth-token-file={}", self.path("token")),
        ]
    }
}

/// An auth server that lets who has the secret do everything, and nobody else anything. Gives its address.
fn auth_server() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = [0; 4096];
            let read = stream.read(&mut request).unwrap();
            let knows = String::from_utf8_lossy(&request[..read]).contains("secret=hush");
            let all = r#"{"ttl":60,"identity":"me","authorizations":[{"topic":".*","channels":[".*"],"permissions":["publish","subscribe"]}]}"#;
            let (status, body) = if knows { ("200 OK", all) } else { ("403 Forbidden", "{}") };
            let length = body.len();
            let head = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
            let _ = stream.write_all(format!("{head}{body}").as_bytes());
        }
    });
    address
}

/// The lines that `mq archive` writes of a topic, once there are so many.
fn archived(topic: &str, flags: &[&str], lines: usize) -> String {
    let folder = TempDir::new().unwrap();
    let out = folder.path().to_str().unwrap();
    let fixed = ["archive", "--topic", topic, "--output-dir", out, "--sync-interval", "50ms"];
    let mut archive = start(&[&fixed[..], flags].concat());
    let text = until("the archive", || {
        assert!(archive.try_wait().unwrap().is_none(), "it ended");
        let file = std::fs::read_dir(folder.path()).unwrap().next()?.unwrap().path();
        // The archive gives a file its last name when it begins to write.
        let text = std::fs::read_to_string(file).ok()?;
        (text.lines().count() == lines).then_some(text)
    });
    signal(archive.id(), 15);
    let output = archive.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    text
}

#[test]
fn a_broker_with_tls_client_certificates_and_auth_is_reached_by_every_command() {
    let files = Files::new();
    let auth = auth_server();
    let [cert, key, token] = ["server.pem", "server.key", "token"].map(|name| files.path(name));
    let https = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let broker = Broker::start_with_https(
        &https,
        &[
            &format!("--tls-cert={cert}"),
            &format!("--tls-key={key}"),
            "--tls-required=tcp-https",
            "--tls-client-auth-policy=require",
            &format!("--auth-http-address={auth}"),
            &format!("--http-auth-token-file={token}"),
        ],
    );
    let flags = files.flags();
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let run = |args: &[&str], input: &[u8], flags: &[&str]| -> Finished {
        mq_with_input(&[args, flags].concat(), input)
    };
    let tcp = ["--tcp-address", broker.address()];
    let url = format!("https://{https}");
    let http = ["--http-address", url.as_str()];
    run(&[&["pub", "--topic", "t"][..], &tcp].concat(), b"1\n2\n", &flags).ok();
    let with_header = [&["pub", "--topic", "t", "--header", "a=b", "3"][..], &tcp].concat();
    run(&with_header, b"", &flags).ok();
    let tail = [&["tail", "--topic", "t", "--channel", "c", "-n", "1"][..], &tcp].concat();
    assert_eq!(run(&tail, b"", &flags).ok(), b"1\n");
    let stat = [&["stat", "--once", "--json"][..], &http].concat();
    assert!(String::from_utf8(run(&stat, b"", &flags).ok()).unwrap().contains("\"depth\":2"));
    let list = [&["topics"][..], &http].concat();
    assert!(String::from_utf8(run(&list, b"", &flags).ok()).unwrap().contains("t  depth 0"));
    for args in [&["status"][..], &["top", "--once"]] {
        run(&[args, &http].concat(), b"", &flags).ok();
    }
    run(&[&["ping"][..], &tcp, &http].concat(), b"", &flags).ok();
    // It may have something to say of what it reached.
    let found = run(&[&["doctor"][..], &tcp, &http].concat(), b"", &flags);
    let found = String::from_utf8(found.stdout).unwrap();
    assert!(found.contains("speaks NSQ's protocol") && found.contains("is healthy"), "{found}");
    assert!(found.contains("its certificate is accepted here, and valid until 4096-01-01"), "{found}");
    assert!(found.contains("its clock is that of this machine"), "over TLS too: {found}");
    let of_fleet = ["doctor", "--nsqd-http-address", url.as_str()];
    let found = String::from_utf8(run(&of_fleet, b"", &flags).stdout).unwrap();
    assert!(found.contains(&format!("broker {https} answers")), "{found}");
    let untrusted: Vec<_> = flags.iter().filter(|flag| !flag.starts_with("--tls-ca")).copied().collect();
    let found = run(&[&["doctor"][..], &tcp, &http].concat(), b"", &untrusted);
    let found = String::from_utf8(found.stdout).unwrap();
    assert!(found.contains("nobody whom this machine trusts has signed its certificate"), "{found}");
    let named: Vec<_> = flags.iter().copied().chain(["--tls-server-name=other.example"]).collect();
    let found = run(&[&["doctor"][..], &tcp, &http].concat(), b"", &named);
    let found = String::from_utf8(found.stdout).unwrap();
    assert!(found.contains("its certificate has another name"), "{found}");
    run(&[&["peek", "--topic", "t"][..], &http].concat(), b"", &flags).ok();
    run(&[&["bench", "publish", "-n", "1", "--topic", "b"][..], &tcp].concat(), b"", &flags).ok();
    run(&[&["pub", "--topic", "u"][..], &tcp].concat(), b"4\n5\n", &flags).ok();
    assert_eq!(archived("u", &[&tcp[..], &flags].concat(), 2), "4\n5\n");
    // Without what the broker asks for, each says what is missing.
    let without =
        |out: &str| -> Vec<&str> { flags.iter().filter(|flag| !flag.starts_with(out)).copied().collect() };
    for (args, flags, word) in [
        (&tail, vec![], "--tls"),
        (&tail, without("--auth"), "--auth-token-file"),
        (&list, without("--auth"), "--auth-token-file"),
        (&tail, without("--tls-ca"), "certificate"),
        (&list, without("--tls-ca"), "certificate"),
    ] {
        let complaint = run(args, b"", &flags).failed();
        assert!(complaint.contains(word), "{args:?} {flags:?}: {complaint}");
    }
    let wrong = [without("--auth"), vec!["--auth-token-file"]].concat();
    let wrong_file = files.path("wrong");
    let wrong = [&wrong[..], &[&wrong_file]].concat();
    for args in [&tail, &list] {
        let complaint = run(args, b"", &wrong).failed();
        assert!(complaint.contains("--auth-token-file"), "{complaint}");
    }
    run(&[&["drain", "--timeout", "0s"][..], &http].concat(), b"", &flags);
}

#[test]
fn a_broker_on_unix_sockets_is_reached() {
    let folder = TempDir::new().unwrap();
    let socket = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (tcp, http) = (socket("tcp.sock"), socket("http.sock"));
    let _broker = Broker::start_at([&tcp, &http, "127.0.0.1:0"], &[]);
    mq(&["pub", "--topic", "t", "--tcp-address", &tcp, "hello"]).ok();
    assert_eq!(mq(&["tail", "--topic", "t", "--tcp-address", &tcp, "-n", "1"]).ok(), b"hello\n");
    assert_eq!(mq(&["topics", "--http-address", &http]).ok(), b"t  depth 1\n");
    assert!(Path::new(&tcp).exists());
    let status = String::from_utf8(mq(&["status", "--http-address", &http]).ok()).unwrap();
    assert!(status.contains("tcp on a unix socket"), "{status}");
    for command in ["ping", "doctor"] {
        mq(&[command, "--tcp-address", &tcp, "--http-address", &http]).ok();
    }
    mq(&["top", "--once", "--http-address", &http]).ok();
    mq(&["peek", "--topic", "t", "--http-address", &http]).ok();
    assert_eq!(archived("t", &["--tcp-address", &tcp], 1), "hello\n");
    // By the name of the archive's channel: another would get what is published from now on.
    assert_eq!(archived("t", &["--url", &format!("mq+unix:{tcp}"), "--channel", "b"], 0), "");
}

#[test]
fn an_error_says_what_would_be_right() {
    let broker = Broker::start();
    let empty = TempDir::new().unwrap();
    let file = empty.path().join("file");
    std::fs::write(&file, "").unwrap();
    let https = format!("https://{}", broker.http_address());
    let (etc, file) = (empty.path().to_str().unwrap(), file.to_str().unwrap());
    for (args, words) in [
        (&["pub", "--topic", "t", "--tcp-address", "localhost"][..], &["host:port"][..]),
        (&["tail", "--topic", "t", "--tcp-address", broker.http_address()], &["HTTP or gRPC port"]),
        (&["tail", "--topic", "t", "--tcp-address", broker.grpc_address()], &["gRPC port"]),
        (&["topics", "--http-address", "localhost"], &["host:port"]),
        (&["topics", "--http-address", &https], &["nobody speaks TLS"]),
        (&["tail", "--topic", "t", "--tcp-address", &https], &["host:port"]),
        (&["serve", "--tcp-address", &https], &["host:port"]),
        (&["topics", "--http-address", broker.address()], &["its HTTP port is another"]),
        (&["serve", "--tcp-address=127.0.0.1:0", "--data-path", file], &["is a file", "folder"]),
        (&["serve", "--memory-limit=1"], &["--memory-limit"]),
        (&["serve", "--max-disk-bytes=1MiB"], &["--max-disk-bytes", "512"]),
        (&["serve", "--dedup-window=999h"], &["--dedup-window", "168h"]),
        (&["serve", "--dedup-max-ids=99999999"], &["--dedup-max-ids", "10000000"]),
    ] {
        let finished = mq(args);
        assert!(!finished.status.success(), "{args:?}");
        for word in words {
            assert!(finished.stderr.contains(word), "{args:?}: {}", finished.stderr);
        }
    }
    for command in ["inspect", "repair"] {
        let finished = mq(&[command, "--data-path", etc]);
        assert_eq!(finished.status.code(), Some(2), "{}", finished.stderr);
        assert!(finished.stderr.contains("no broker's data"), "{}", finished.stderr);
    }
}

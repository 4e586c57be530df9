//! Steps of the tests: tools by either make, a web server that notes what it gets.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};

use mq_tests::{Broker, binary, mq_with_input, until};

/// A tool under NSQ's name.
pub(crate) struct Tool {
    program: PathBuf,
    _folder: Option<tempfile::TempDir>,
}

/// The tool of that name by `mq`, and NSQ's own where it is there: `cargo xtask test` builds it.
pub(crate) fn tools(name: &str) -> Vec<Tool> {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join(name);
    std::os::unix::fs::symlink(binary(), &program).unwrap();
    let mut tools = vec![Tool { program, _folder: Some(folder) }];
    match std::env::var_os("MQ_PEERS").map(|peers| Path::new(&peers).join(name)).filter(|path| path.is_file())
    {
        Some(program) => tools.push(Tool { program, _folder: None }),
        None => println!("without NSQ's own {name}; `cargo xtask test rust` installs it where Go is present"),
    }
    tools
}

impl Tool {
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs it to its end with `input`.
    pub(crate) fn run(&self, args: &[&str], input: &[u8]) -> Output {
        let mut child = self.command(args).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let input = input.to_vec();
        // One that fails early reads nothing.
        let feeder = std::thread::spawn(move || drop(stdin.write_all(&input)));
        let output = child.wait_with_output().unwrap();
        feeder.join().unwrap();
        output
    }

    /// Starts it, to be stopped by [`Running::stop`].
    pub(crate) fn start(&self, args: &[&str]) -> Running {
        Running(self.command(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }

    /// Whether it is `mq`, which does what NSQ's own gets wrong.
    pub(crate) fn is_ours(&self) -> bool {
        self._folder.is_some()
    }
}

/// A tool that runs. Killed when dropped.
pub(crate) struct Running(pub(crate) Child);

impl Running {
    /// Ends it as a supervisor does, and gives its exit status.
    pub(crate) fn stop(mut self) -> Option<i32> {
        mq_tests::signal(self.0.id(), 15);
        until("the tool to end", || self.0.try_wait().unwrap()).code()
    }

    pub(crate) fn hang_up(&self) {
        mq_tests::signal(self.0.id(), 1);
    }

    /// Waits until it ends by itself, and gives its exit status.
    pub(crate) fn ended(mut self) -> Option<i32> {
        until("the tool to end", || self.0.try_wait().unwrap()).code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Publishes each line.
pub(crate) fn publish(broker: &Broker, topic: &str, lines: &str) {
    mq_with_input(&["pub", "--topic", topic, "--tcp-address", broker.address()], lines.as_bytes()).ok();
}

/// The statistics of a channel; null while there is none.
fn channel(broker: &Broker, topic: &str, channel: &str) -> serde_json::Value {
    let query = format!("/stats?format=json&topic={topic}&channel={channel}");
    let stats = get(broker.http_address(), &query);
    let stats: serde_json::Value = serde_json::from_str(&stats).unwrap_or_default();
    stats["topics"][0]["channels"][0].clone()
}

/// A number of a channel; 0 while there is none.
pub(crate) fn number(broker: &Broker, topic: &str, channel_name: &str, field: &str) -> u64 {
    channel(broker, topic, channel_name)[field].as_u64().unwrap_or(0)
}

/// Messages that the channel has got and not finished, of one moment.
pub(crate) fn unfinished(broker: &Broker, topic: &str, channel_name: &str) -> u64 {
    unfinished_in(&channel(broker, topic, channel_name))
}

fn unfinished_in(channel: &serde_json::Value) -> u64 {
    ["depth", "in_flight_count", "deferred_count"].iter().filter_map(|field| channel[*field].as_u64()).sum()
}

/// Waits until the channel has got `count` messages and all are finished.
pub(crate) fn until_finished(broker: &Broker, topic: &str, channel_name: &str, count: u64) {
    until("all messages to be finished", || {
        let channel = channel(broker, topic, channel_name);
        let has_come = channel["message_count"].as_u64().is_some_and(|arrived| arrived >= count);
        (has_come && unfinished_in(&channel) == 0).then_some(())
    });
}

fn get(address: &str, path: &str) -> String {
    let mut socket = TcpStream::connect(address).unwrap();
    write!(socket, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n").unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default()
}

/// A request as a web server got it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Request {
    /// Method and target.
    pub(crate) line: String,
    /// Those that a tool chooses: lower case names.
    pub(crate) headers: Vec<String>,
    pub(crate) body: String,
}

/// A web server that notes its requests.
pub(crate) struct Web {
    pub(crate) address: String,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Web {
    /// A server whose answer to a request `status` gives.
    pub(crate) fn start(status: impl Fn(&Request) -> u16 + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (noted, status) = (Arc::clone(&requests), Arc::new(status));
        std::thread::spawn(move || {
            for socket in listener.incoming().map_while(Result::ok) {
                let (noted, status) = (Arc::clone(&noted), Arc::clone(&status));
                std::thread::spawn(move || serve(socket, &noted, &*status));
            }
        });
        Self { address, requests }
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        let mut requests = self.requests.lock().unwrap().clone();
        requests.sort();
        requests
    }

    pub(crate) fn until(&self, count: usize) -> Vec<Request> {
        until("requests", || Some(self.requests()).filter(|requests| requests.len() >= count))
    }
}

/// Answers requests until the connection ends.
fn serve(socket: TcpStream, noted: &Mutex<Vec<Request>>, status: &dyn Fn(&Request) -> u16) -> Option<()> {
    let mut reader = BufReader::new(socket.try_clone().ok()?);
    let mut writer = socket;
    loop {
        let (mut line, mut headers, mut length) = (String::new(), Vec::new(), 0);
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        loop {
            let mut header = String::new();
            reader.read_line(&mut header).ok()?;
            let Some((name, value)) = header.trim_end().split_once(':') else { break };
            let (name, value) = (name.to_ascii_lowercase(), value.trim());
            match name.as_str() {
                "content-length" => length = value.parse().ok()?,
                "content-type" | "user-agent" | "x-test" | "mq-header-trace" => {
                    headers.push(format!("{name}: {value}"))
                }
                _ => {}
            }
        }
        headers.sort();
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        let line = line.trim_end().trim_end_matches(" HTTP/1.1").to_owned();
        let request = Request { line, headers, body: String::from_utf8_lossy(&body).into_owned() };
        let status = status(&request);
        noted.lock().unwrap().push(request);
        write!(writer, "HTTP/1.1 {status} X\r\nContent-Length: 2\r\n\r\nok").ok()?;
    }
}

/// The address of an HTTP API whose answer to a path, without its query, `answer` gives; 404 if it gives
/// none.
pub(crate) fn api(answer: impl Fn(&str) -> Option<String> + Send + Sync + 'static) -> String {
    dated_api(None, answer)
}

/// The same, whose clock says `date`.
pub(crate) fn dated_api(
    date: Option<&'static str>,
    answer: impl Fn(&str) -> Option<String> + Send + Sync + 'static,
) -> String {
    token_api(date, move |path, _| answer(path))
}

/// The same, where `answer` is also given whether the request shows a token.
pub(crate) fn token_api(
    date: Option<&'static str>,
    answer: impl Fn(&str, bool) -> Option<String> + Send + Sync + 'static,
) -> String {
    let date = date.map(|date| format!("\r\nDate: {date}")).unwrap_or_default();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for mut socket in listener.incoming().map_while(Result::ok) {
            let mut reader = BufReader::new(socket.try_clone().unwrap());
            let mut lines = (&mut reader).lines().map_while(Result::ok).take_while(|line| !line.is_empty());
            let first = lines.next().unwrap_or_default();
            let headers: Vec<_> = lines.map(|line| line.to_ascii_lowercase()).collect();
            let has_token = headers.iter().any(|line| line.starts_with("authorization:"));
            let target = first.split(' ').nth(1).unwrap_or_default();
            let (status, body) = match answer(target.split('?').next().unwrap_or_default(), has_token) {
                Some(body) => (200, body),
                None => (404, "{\"message\":\"NOT_FOUND\"}".to_owned()),
            };
            let head =
                format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\nConnection: close{date}", body.len());
            // One that has gone does not wait for it.
            let _ = write!(socket, "{head}\r\n\r\n{body}");
        }
    });
    address
}

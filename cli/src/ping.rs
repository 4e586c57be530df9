//! `mq ping`: whether a broker answers, on which ports, and how fast.

use std::io::Write;
use std::time::{Duration, Instant};

use mq_bench::broker_flags::{HttpAddressFlag, TcpFlags};
use mq_nsq::client::Connection;
use mq_server::config::units;
use serde::Serialize;
use tokio::time::timeout;

use crate::brokers::asked::Asked;
use crate::stdout::stdout;
use crate::{Outcome, runtime};

/// Exit statuses, for the help.
pub(crate) const EXIT_CODES: &str = "Exit status: 0 if every port that was asked answered, 1 if one did not.";

/// Flags of `mq ping`.
#[derive(clap::Args)]
pub(crate) struct Ping {
    #[command(flatten)]
    broker: TcpFlags,
    #[command(flatten)]
    http: HttpAddressFlag,
    /// Longest time for an answer
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = units::duration)]
    timeout: Duration,
    /// Each answer as a JSON object
    #[arg(long)]
    json: bool,
}

/// An answer of a port, or what came instead.
#[derive(Serialize)]
struct Answer {
    port: &'static str,
    address: String,
    ok: bool,
    ms: f64,
    detail: String,
}

/// Asks the ports that the flags name, or both where they name none.
pub(crate) fn run(options: Ping) -> Outcome {
    let asked = Asked::of(&options.broker, &options.http);
    let answers = runtime()?.block_on(ask(&options, asked))?;
    let mut out = stdout();
    for answer in &answers {
        // Who reads it may have seen enough.
        let _ = match options.json {
            true => serde_json::to_writer(&mut out, answer).map_err(Into::into).and_then(|()| writeln!(out)),
            false if answer.ok => {
                writeln!(out, "{} {} {:.1} ms {}", answer.port, answer.address, answer.ms, answer.detail)
            }
            false => writeln!(out, "{} {}", answer.port, answer.detail),
        };
    }
    if let Some(left_out) = asked.left_out() {
        // A closed stderr changes nothing about the answers.
        let _ = writeln!(std::io::stderr(), "mq ping: {left_out}");
    }
    Ok(u8::from(answers.iter().any(|answer| !answer.ok)))
}

async fn ask(options: &Ping, asked: Asked) -> Result<Vec<Answer>, String> {
    let mut answers = Vec::new();
    if asked.tcp {
        let identify = options.broker.identify()?;
        let connect = async {
            let connection = Connection::connect(options.broker.address(), identify).await;
            let connection = connection.map_err(|error| options.broker.explain(&error))?;
            let version = connection.server_version().to_owned();
            // Its end is not the question.
            let _ = connection.close().await;
            Ok(format!("version {version}"))
        };
        answers.push(measured("tcp", options.broker.address(), options.timeout, connect).await);
    }
    if asked.http {
        let http = options.http.with(&options.broker);
        let admin = http.admin()?.with_timeout(options.timeout);
        let health = async {
            let health = admin.get("/ping", &[]).await.map_err(|error| http.explain(&error))?;
            Ok(String::from_utf8_lossy(&health).into_owned())
        };
        answers.push(measured("http", http.address(), options.timeout, health).await);
    }
    Ok(answers)
}

async fn measured(
    port: &'static str,
    address: &str,
    longest: Duration,
    ask: impl Future<Output = Result<String, String>>,
) -> Answer {
    let began = Instant::now();
    let late = || Err(format!("{address}: no answer within {longest:?}"));
    let answer = timeout(longest, ask).await.unwrap_or_else(|_| late());
    let (ok, detail) = answer.map_or_else(|error| (false, error), |detail| (true, detail));
    Answer { port, address: address.to_owned(), ok, ms: began.elapsed().as_secs_f64() * 1000.0, detail }
}

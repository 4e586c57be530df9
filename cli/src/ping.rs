//! `mq ping`: whether a broker answers, on which ports, and how fast.

use std::io::Write;
use std::time::{Duration, Instant};

use mq_bench::broker_flags::{HttpAddressFlag, TcpFlags};
use mq_nsq::client::Connection;
use mq_server::config::units;
use serde::Serialize;
use tokio::time::timeout;

use crate::stdout::stdout;
use crate::{Outcome, runtime};

/// Exit statuses, for the help.
pub(crate) const EXIT_CODES: &str = "Exit status: 0 if every port answered, 1 if one did not.";

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

/// Asks both ports.
pub(crate) fn run(options: Ping) -> Outcome {
    runtime()?.block_on(async {
        let (identify, http) = (options.broker.identify()?, options.http.with(&options.broker));
        let admin = http.admin()?.with_timeout(options.timeout);
        let connect = async {
            let connection = Connection::connect(options.broker.address(), identify).await;
            let connection = connection.map_err(|error| options.broker.explain(&error))?;
            let version = connection.server_version().to_owned();
            // Its end is not the question.
            let _ = connection.close().await;
            Ok(format!("version {version}"))
        };
        let tcp = measured("tcp", options.broker.address(), options.timeout, connect).await;
        let ask = async {
            let health = admin.get("/ping", &[]).await.map_err(|error| http.explain(&error))?;
            Ok(String::from_utf8_lossy(&health).into_owned())
        };
        let http = measured("http", http.address(), options.timeout, ask).await;
        let mut out = stdout();
        for answer in [&tcp, &http] {
            // Who reads it may have seen enough.
            let _ = match options.json {
                true => {
                    serde_json::to_writer(&mut out, answer).map_err(Into::into).and_then(|()| writeln!(out))
                }
                false if answer.ok => {
                    writeln!(out, "{} {} {:.1} ms {}", answer.port, answer.address, answer.ms, answer.detail)
                }
                false => writeln!(out, "{} {}", answer.port, answer.detail),
            };
        }
        Ok(u8::from(!tcp.ok || !http.ok))
    })
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

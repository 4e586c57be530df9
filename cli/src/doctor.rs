//! `mq doctor`: whether all is well with a broker, said in words, with what to do.
//!
//! - `finding`: one thing seen; `checks`: from what a broker says to findings, pure; `server`: one broker,
//!   and all of a fleet; `clock`, `certificate`: its time, and what it shows over HTTPS; `assessment`: what
//!   the admin page says of topics, channels, brokers and lookup servers

mod assessment;
mod certificate;
mod checks;
mod clock;
mod finding;
mod server;

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::time::Duration;

use mq_bench::broker_flags::{HttpAddressFlag, HttpFlags, TcpFlags};
use mq_bench::plain_words::without_codes;
use mq_net::transport::Transport;
use mq_nsq::client::{Admin, AdminError, Connection};
use tokio::time::timeout;

use crate::brokers::asked::Asked;
use crate::fleet::FleetFlags;
use crate::stats::Info;
use crate::stdout::stdout;
use crate::{Outcome, runtime};
use checks::Lookup;
use finding::{Finding, Grade};
use server::Server;

/// Exit statuses, for the help.
pub(crate) const EXIT_CODES: &str =
    "Exit status: 0 if all is well, 1 if something is to be done, 2 if nobody answered.";

/// Longest wait for one answer.
const ANSWER: Duration = Duration::from_secs(5);

/// Flags of `mq doctor`.
#[derive(clap::Args)]
pub(crate) struct Doctor {
    #[command(flatten)]
    broker: TcpFlags,
    #[command(flatten)]
    http: HttpAddressFlag,
    #[command(flatten)]
    fleet: FleetFlags,
    /// Data folder of a broker on this machine, whose disk is looked at too
    #[arg(long, value_name = "FOLDER")]
    data_path: Option<PathBuf>,
    /// Each finding as a JSON object
    #[arg(long)]
    json: bool,
}

/// Looks, and prints what it found.
pub(crate) fn run(options: Doctor) -> Outcome {
    let Seen { findings, has_answer } = runtime()?.block_on(examine(&options))?;
    let mut out = stdout();
    let is_colourful =
        io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    for finding in &findings {
        // Who reads it may have seen enough.
        let _ = match options.json {
            true => serde_json::to_writer(&mut out, finding).map_err(Into::into).and_then(|()| writeln!(out)),
            false => out.write_all(finding.show(is_colourful).as_bytes()),
        };
    }
    Ok(match has_answer {
        true => u8::from(findings.iter().any(|finding| finding.grade > Grade::Note)),
        false => 2,
    })
}

/// All that was seen.
#[derive(Default)]
struct Seen {
    findings: Vec<Finding>,
    /// Whether any port of any server answered.
    has_answer: bool,
}

impl Seen {
    fn add(&mut self, findings: impl IntoIterator<Item = Finding>) {
        self.findings.extend(findings);
    }
}

async fn examine(options: &Doctor) -> Result<Seen, String> {
    let http = options.http.with(&options.broker);
    let server = Server::of(&http)?;
    let mut seen = Seen::default();
    // A fleet takes the place of the broker on this machine, unless that is named too.
    let is_one = !options.fleet.is_given() || options.broker.is_given() || options.http.is_given();
    let info = if is_one { one(options, &http, &server, &mut seen).await? } else { None };
    let servers = lookups(options, &http, info.as_ref().map(|_| &server.admin)).await?;
    let assessed = assessment::assess(&http, info.as_ref().map(|_| http.address()), &options.fleet).await?;
    seen.has_answer |= !assessed.brokers.is_empty() || !assessed.lookups.is_empty();
    let others = assessed.brokers.iter().filter(|broker| info.is_none() || *broker != http.address());
    seen.add(server::of_fleet(&http, &options.fleet, others).await?);
    if let Some(info) = &info {
        seen.add(checks::address(info, !servers.is_empty()));
    }
    seen.add(checks::lookups(info.as_ref(), &servers));
    if !assessed.brokers.is_empty() {
        seen.add(assessment::findings(&assessed));
    }
    if let Some(folder) = &options.data_path {
        let disk = rustix::fs::statvfs(folder);
        let disk = disk.map_err(|error| format!("--data-path {}: {error}", folder.display()))?;
        let bytes = |blocks: u64| blocks.saturating_mul(disk.f_frsize);
        seen.add([checks::disk(bytes(disk.f_bavail), bytes(disk.f_blocks), disk.f_favail)]);
    }
    Ok(seen)
}

/// Looks at one broker through the ports that the flags name.
async fn one(
    options: &Doctor,
    http: &HttpFlags,
    server: &Server,
    seen: &mut Seen,
) -> Result<Option<Info>, String> {
    let asked = Asked::of(&options.broker, &options.http);
    if asked.tcp {
        let tcp = tcp(options).await?;
        seen.has_answer |= tcp.grade == Grade::Ok;
        seen.add([tcp]);
    }
    seen.add(asked.left_out().map(Finding::note));
    if !asked.http {
        return Ok(None);
    }
    let info = match server.info().await {
        Ok(info) => info,
        Err(error) => {
            // A refusal is an answer.
            seen.has_answer |= matches!(error, AdminError::Refused { .. });
            seen.add([checks::http(http, &error)]);
            return Ok(None);
        }
    };
    seen.has_answer = true;
    seen.add([Finding::ok(format!("http {} answers", http.address()))]);
    if asked.tcp {
        seen.add(checks::is_one_broker(options.broker.address(), http.address(), &info));
    }
    if let Some(given) = &options.data_path {
        let path = server.admin.get("/config/data_path", &[]).await.unwrap_or_default();
        seen.add(checks::folder(given, &String::from_utf8_lossy(&path)));
    }
    seen.add(server.findings(&info).await);
    Ok(Some(info))
}

async fn tcp(options: &Doctor) -> Result<Finding, String> {
    let (identify, address) = (options.broker.identify()?, options.broker.address());
    let late = || Err(format!("{address}: no answer within {ANSWER:?}"));
    let connected = timeout(ANSWER, Connection::connect(address, identify)).await;
    let connected = connected.map(|connected| connected.map_err(|error| options.broker.explain(&error)));
    Ok(match connected.unwrap_or_else(|_| late()) {
        Ok(connection) => {
            // Its end is not the question.
            let _ = connection.close().await;
            Finding::ok(format!("tcp {address} speaks NSQ's protocol"))
        }
        Err(error) if error.contains("speaks HTTP") => {
            Finding::bad(format!("tcp {error}"), "give --tcp-address the broker's TCP port")
        }
        Err(error) => certificate::refused(&format!("tcp {address}"), &error).unwrap_or_else(|| {
            Finding::bad(format!("tcp {error}"), "start a broker there, or give --tcp-address")
        }),
    })
}

/// The lookup servers that the broker registers at, and those of the flags.
async fn lookups(options: &Doctor, http: &HttpFlags, broker: Option<&Admin>) -> Result<Vec<Lookup>, String> {
    let mut servers = Vec::new();
    let named = match broker {
        Some(admin) => admin.get("/config/nsqlookupd_tcp_addresses", &[]).await.unwrap_or_default(),
        None => Vec::new(),
    };
    for address in serde_json::from_slice::<Option<Vec<String>>>(&named).ok().flatten().unwrap_or_default() {
        let connected = timeout(ANSWER, Transport::connect(&address)).await;
        let is_reached = matches!(connected, Ok(Ok(_)));
        servers.push(Lookup::Tcp { address, is_reached });
    }
    for server in &options.fleet.lookupd_http_address {
        let address = server.as_str().to_owned();
        let nodes = http.admin_at(server)?.with_timeout(ANSWER).get("/nodes", &[]).await;
        let nodes = nodes.map_err(|error| without_codes(&error.to_string()));
        let nodes = nodes.and_then(|json| serde_json::from_slice(&json).map_err(|error| error.to_string()));
        servers.push(Lookup::Http { address, nodes });
    }
    Ok(servers)
}

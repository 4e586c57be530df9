//! `mq doctor`: whether all is well with a broker, said in words, with what to do.
//!
//! - `finding`: one thing seen; `checks`: from what a broker says to findings, pure; `clock`: its time

mod checks;
mod clock;
mod finding;

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::time::Duration;

use mq_bench::broker_flags::{HttpAddressFlag, TcpFlags};
use mq_net::transport::Transport;
use mq_nsq::client::{Admin, Connection};
use tokio::time::timeout;

use crate::brokers::nsq_flags::bare;
use crate::stats::{self, Info, Metrics};
use crate::{Outcome, runtime};
use checks::Lookup;
use finding::{Finding, Grade};

/// Exit statuses, for the help.
pub(crate) const EXIT_CODES: &str =
    "Exit status: 0 if all is well, 1 if something is to be done, 2 if it could not be looked at.";

/// Longest wait for one answer.
const ANSWER: Duration = Duration::from_secs(5);

/// Flags of `mq doctor`.
#[derive(clap::Args)]
pub(crate) struct Doctor {
    #[command(flatten)]
    broker: TcpFlags,
    #[command(flatten)]
    http: HttpAddressFlag,
    /// HTTP address of a lookup server that should name the broker; several by giving the flag again
    #[arg(long, value_name = "ADDRESS")]
    lookupd_http_address: Vec<String>,
    /// Data folder of a broker on this machine, whose disk is looked at too
    #[arg(long, value_name = "FOLDER")]
    data_path: Option<PathBuf>,
    /// Each finding as a JSON object
    #[arg(long)]
    json: bool,
}

/// Looks, and prints what it found.
pub(crate) fn run(options: Doctor) -> Outcome {
    let findings = runtime()?.block_on(examine(&options))?;
    let mut out = io::stdout().lock();
    let is_colourful = out.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    for finding in &findings {
        // Who reads it may have seen enough.
        let _ = match options.json {
            true => serde_json::to_writer(&mut out, finding).map_err(Into::into).and_then(|()| writeln!(out)),
            false => out.write_all(finding.show(is_colourful).as_bytes()),
        };
    }
    Ok(u8::from(findings.iter().any(|finding| finding.grade > Grade::Ok)))
}

async fn examine(options: &Doctor) -> Result<Vec<Finding>, String> {
    let http = options.http.with(&options.broker);
    let admin = http.admin()?.with_timeout(ANSWER);
    let mut findings = vec![tcp(options).await?];
    let info: Result<Info, String> = stats::get(&http, &admin, "/info", &[]).await;
    let info = match info {
        Ok(info) => {
            findings.push(Finding::ok(format!("http {} answers", http.address())));
            Some(info)
        }
        Err(error) => {
            let todo = "give --http-address, and --auth-token-file if it asks for a token";
            findings.push(Finding::bad(format!("http {error}"), todo));
            None
        }
    };
    let servers = lookups(options, &admin).await;
    if let Some(info) = &info {
        let metrics = Metrics::get(&admin).await;
        findings.extend(checks::version(info, &metrics, env!("CARGO_PKG_VERSION")));
        findings.extend(clock::check(&http).await);
        findings.extend(checks::room(&metrics));
        match stats::all(&http, &admin).await {
            Ok(stats) => findings.extend(checks::topics(&stats)),
            Err(error) => findings.push(Finding::bad(error, "see the broker's log")),
        }
        findings.extend(checks::address(info, !servers.is_empty()));
    }
    findings.extend(checks::lookups(info.as_ref(), &servers));
    if let Some(folder) = &options.data_path {
        let disk = rustix::fs::statvfs(folder);
        let disk = disk.map_err(|error| format!("--data-path {}: {error}", folder.display()))?;
        let bytes = |blocks: u64| blocks.saturating_mul(disk.f_frsize);
        findings.push(checks::disk(bytes(disk.f_bavail), bytes(disk.f_blocks), disk.f_favail));
    }
    Ok(findings)
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
        Err(error) => Finding::bad(format!("tcp {error}"), "start a broker there, or give --tcp-address"),
    })
}

/// The lookup servers that the broker registers at, and those of the flags.
async fn lookups(options: &Doctor, admin: &Admin) -> Vec<Lookup> {
    let mut servers = Vec::new();
    let named = admin.get("/config/nsqlookupd_tcp_addresses", &[]).await.unwrap_or_default();
    for address in serde_json::from_slice::<Option<Vec<String>>>(&named).ok().flatten().unwrap_or_default() {
        let connected = timeout(ANSWER, Transport::connect(&address)).await;
        let is_reached = matches!(connected, Ok(Ok(_)));
        servers.push(Lookup::Tcp { address, is_reached });
    }
    for address in &options.lookupd_http_address {
        let address = bare(address);
        let nodes = Admin::new(&address, None).with_timeout(ANSWER).get("/nodes", &[]).await;
        let nodes = nodes.map_err(|error| error.to_string());
        let nodes = nodes.and_then(|json| serde_json::from_slice(&json).map_err(|error| error.to_string()));
        servers.push(Lookup::Http { address, nodes });
    }
    servers
}

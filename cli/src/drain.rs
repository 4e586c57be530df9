//! `mq drain`: empties a broker and stops it.

use std::cell::Cell;
use std::convert::Infallible;
use std::io::Write;
use std::time::Duration;

use mq_nsq::client::{Admin, AdminError};
use mq_server::config::units;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep, timeout_at};

use crate::Outcome;
use crate::runtime;
use crate::stdout::stdout;
use crate::words::count;
use mq_bench::broker_flags::HttpFlags;

/// Interval between two looks at how far the drain is.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);
/// Time for the broker's answer after the time for the drain is over.
const ANSWER: Duration = Duration::from_secs(30);
/// Interval between two looks at a broker that stops.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Longest time from the end of a drain to the end of the process: the time for what it writes then.
const STOP: Duration = Duration::from_secs(60);

/// Flags of `mq drain`.
#[derive(clap::Args)]
pub(crate) struct Drain {
    #[command(flatten)]
    http: HttpFlags,
    /// Longest time for the broker to become empty; it stops then in any case, and keeps what is left
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = units::duration)]
    timeout: Duration,
    /// Each line as a JSON object on stdout: messages that are left, and whether the broker has stopped
    #[arg(long)]
    json: bool,
}

/// A line in JSON.
#[derive(Serialize)]
struct Line {
    messages: u64,
    stopped: bool,
}

/// An answer about a drain.
#[derive(Deserialize)]
struct Status {
    /// Messages that are not finished.
    messages: u64,
}

/// Drains the broker and waits until its process has ended. Success only if nothing is left.
pub(crate) fn run(options: Drain) -> Outcome {
    runtime()?.block_on(drain(&options))
}

async fn drain(options: &Drain) -> Outcome {
    let admin = options.http.admin()?;
    let before = admin.get("/info", &[]).await.map_err(|error| options.http.explain(&error))?;
    let last = Cell::new(None);
    let asked = tokio::select! {
        left = ask(options, &admin) => left,
        never = show_progress(&admin, &last, options.json) => match never {},
    };
    let left = match asked {
        Ok(left) => left,
        Err(AdminError::NoAnswer(error)) if !admin.is_reachable().await => {
            return Err(format!(
                "the broker has ended before the drain was over, and did not stop cleanly ({error}): {}; the next \
                 start shows what is in its data folder",
                match last.get() {
                    Some(left) => format!("{} last seen", count(left, "message was", "messages were")),
                    None => "nothing is known of what is left".to_owned(),
                }
            ));
        }
        Err(error) => return Err(options.http.explain(&error)),
    };
    until_gone(options, &admin, &before).await?;
    if options.json {
        print(left, true);
    }
    match left {
        0 => {
            if !options.json {
                say("nothing is left, and the broker has stopped");
            }
            Ok(0)
        }
        _ => Err(format!(
            "the broker has stopped, and {} in its data folder",
            count(left, "message is left", "messages are left")
        )),
    }
}

/// Asks for the drain, waits until it is over, and gives the number of messages left.
async fn ask(options: &Drain, admin: &Admin) -> Result<u64, AdminError> {
    let patient = admin.clone().with_timeout(options.timeout.saturating_add(ANSWER));
    let timeout = options.timeout.as_millis().to_string();
    let query = [("timeout", timeout.as_str()), ("wait", "true")];
    let answer = patient.post("/drain", &query).await?;
    let status: Result<Status, _> = serde_json::from_slice(&answer);
    status.map(|status| status.messages).map_err(|error| AdminError::NoAnswer(format!("/drain: {error}")))
}

/// Says now and then how many messages are left, where that has changed. The number is in `last` too.
async fn show_progress(admin: &Admin, last: &Cell<Option<u64>>, is_json: bool) -> Infallible {
    loop {
        sleep(PROGRESS_EVERY).await;
        // An answer that does not come is missed by the one who asked for the drain.
        let Ok(json) = admin.get("/drain", &[]).await else { continue };
        let Ok(status) = serde_json::from_slice::<Status>(&json) else { continue };
        if last.replace(Some(status.messages)) != Some(status.messages) {
            match is_json {
                true => print(status.messages, false),
                false => say(&format!("{} left", count(status.messages, "message is", "messages are"))),
            }
        }
    }
}

/// Waits until the broker's process has ended: until then it keeps the port, and answers nobody there in the
/// end.
async fn until_gone(options: &Drain, admin: &Admin, before: &[u8]) -> Result<(), String> {
    let deadline = Instant::now() + STOP;
    let gone = async {
        // Another may have taken its place.
        loop {
            match admin.get("/info", &[]).await {
                Ok(now) if now != before => return,
                Ok(_) => {}
                Err(_) if !admin.is_reachable().await => return,
                Err(_) => {}
            }
            sleep(LOOK_EVERY).await;
        }
    };
    timeout_at(deadline, gone).await.map_err(|_| {
        format!("{}: the broker has not ended {STOP:?} after the drain was over", options.http.address())
    })
}

/// Writes a line of JSON to stdout, which may be closed.
fn print(messages: u64, stopped: bool) {
    let mut out = stdout();
    let line = serde_json::to_writer(&mut out, &Line { messages, stopped });
    let _ = line.map_err(std::io::Error::from).and_then(|()| writeln!(out));
}

/// Writes a line of progress to stderr, where nobody has to read it.
fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "mq drain: {text}");
}

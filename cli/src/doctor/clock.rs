//! The broker's clock beside this machine's.

use std::time::Duration;

use jiff::{Timestamp, fmt::rfc2822};
use mq_net::transport::Transport;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::ANSWER;
use super::finding::Finding;

/// A difference below this is none: the broker's answer has whole seconds.
const SKEW_MAX: Duration = Duration::from_secs(3);
/// Bytes of an answer that are read: its head.
const HEAD_MAX: usize = 4096;

/// Compares the clocks, by an answer on a new connection. Nothing where it has no time.
pub(super) async fn check(connection: Transport) -> Option<Finding> {
    let head = timeout(ANSWER, head(connection)).await.ok()?.ok()?;
    judge(date(&head)?, Timestamp::now())
}

async fn head(mut transport: Transport) -> std::io::Result<String> {
    transport.write_all(b"GET /ping HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await?;
    transport.flush().await?;
    let mut head = Vec::new();
    transport.take(HEAD_MAX as u64).read_to_end(&mut head).await?;
    Ok(String::from_utf8_lossy(&head).into_owned())
}

/// The time that the head of an answer has.
fn date(head: &str) -> Option<Timestamp> {
    let line = head.lines().find(|line| line.to_ascii_lowercase().starts_with("date:"))?;
    rfc2822::DateTimeParser::new().parse_timestamp(line.get(5..)?.trim()).ok()
}

fn judge(broker: Timestamp, here: Timestamp) -> Option<Finding> {
    let skew = Duration::try_from(broker.duration_since(here).abs()).ok()?;
    if skew <= SKEW_MAX {
        return Some(Finding::ok("its clock is that of this machine, within 3 s"));
    }
    let way = if broker > here { "ahead of" } else { "behind" };
    let what = format!("its clock is {} s {way} this machine's", skew.as_secs());
    Some(Finding::warn(what, "synchronise both machines: message times, ages and TLS depend on it"))
}

#[cfg(test)]
mod tests {
    use super::super::finding::Grade;
    use super::*;

    #[test]
    fn a_clock_that_is_off_is_noticed() {
        let head = "HTTP/1.1 200 OK\r\nDate: Sat, 28 Nov 2026 02:57:39 GMT\r\n\r\nOK";
        let broker = date(head).unwrap();
        let at = |seconds: i64| {
            judge(broker, Timestamp::from_second(broker.as_second() + seconds).unwrap()).unwrap()
        };
        assert_eq!((at(3).grade, at(-3).grade), (Grade::Ok, Grade::Ok));
        assert_eq!((at(4).grade, at(-4).grade), (Grade::Warn, Grade::Warn));
        assert!(at(9).what.contains("9 s behind") && at(-9).what.contains("9 s ahead"));
        assert_eq!(date("HTTP/1.1 200 OK\r\n\r\n"), None);
    }
}

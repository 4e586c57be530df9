//! The admin page's findings, with the commands that help.

use std::sync::Arc;
use std::time::Duration;

use mq_admin::{Assessment, Credentials, Finding as Trouble, Kind, Mode, Settings, Severity};
use mq_bench::broker_flags::{HttpAddress, HttpFlags};
use mq_bench::plain_words::without_codes;
use mq_net::secret::Secret;

use super::ANSWER;
use super::finding::{Finding, Grade};
use crate::fleet::FleetFlags;

/// Troubles that are named one by one; the others are counted.
const NAMED_MAX: usize = 20;
/// Longest wait for a connection.
const CONNECT: Duration = Duration::from_secs(2);

/// Looks at the broker at `one`, if there is one, and at those of the flags.
pub(super) async fn assess(
    http: &HttpFlags,
    one: Option<&str>,
    fleet: &FleetFlags,
) -> Result<Assessment, String> {
    let names = |addresses: &[HttpAddress]| -> Vec<String> {
        addresses.iter().map(|address| address.as_str().to_owned()).collect()
    };
    let mut nodes = names(&fleet.nsqd_http_address);
    nodes.extend(one.filter(|one| !nodes.iter().any(|node| node == one)).map(str::to_owned));
    let https = |addresses: &[HttpAddress]| addresses.iter().any(HttpAddress::is_https);
    let https = http.is_https() || https(&fleet.nsqd_http_address) || https(&fleet.lookupd_http_address);
    let token = http.token().read()?.map(|token| Secret::new(Arc::from(token)));
    Ok(mq_admin::assess(Settings {
        nodes,
        lookups: names(&fleet.lookupd_http_address),
        tls: http.tls(https)?,
        credentials: Credentials::Own(token),
        connect_timeout: CONNECT,
        request_timeout: ANSWER,
        ..Settings::new(Mode::Fleet, "mq doctor", "/")
    })
    .await)
}

/// The findings, worst first; one that says so where nothing is wrong.
pub(super) fn findings(assessed: &Assessment) -> Vec<Finding> {
    // Lookup servers are asked by the doctor itself.
    let troubles = || assessed.findings.iter().filter(|trouble| trouble.kind != Kind::LookupUnreachable);
    let mut findings = Vec::new();
    let who = if assessed.brokers.len() == 1 { "it is healthy" } else { "they are healthy" };
    if !troubles().any(|trouble| matches!(trouble.kind, Kind::Unhealthy | Kind::Damage)) {
        findings.push(Finding::ok(who));
    }
    if troubles().all(|trouble| trouble.topic.is_none() || trouble.severity == Severity::Notice) {
        findings.push(Finding::ok("no topic or channel is in trouble"));
    }
    findings.extend(troubles().take(NAMED_MAX).map(finding));
    let more: Vec<_> = troubles().skip(NAMED_MAX).collect();
    if let Some(worst) = more.first() {
        findings.push(Finding {
            topic: None,
            channel: None,
            node: None,
            what: format!("and {} more like these", more.len()),
            todo: Some("the admin page lists all".to_owned()),
            ..finding(worst)
        });
    }
    findings
}

fn finding(trouble: &Trouble) -> Finding {
    Finding {
        grade: match trouble.severity {
            Severity::Critical => Grade::Bad,
            Severity::Warning => Grade::Warn,
            Severity::Notice => Grade::Note,
        },
        what: without_codes(&trouble.text),
        todo: Some(todo(trouble)),
        topic: trouble.topic.clone(),
        channel: trouble.channel.clone(),
        node: trouble.node.clone(),
    }
}

/// The page's advice, and the command that follows it.
fn todo(trouble: &Trouble) -> String {
    let help = trouble.help;
    let place = match (&trouble.topic, &trouble.channel) {
        (Some(topic), Some(channel)) => format!("{topic} --channel {channel}"),
        (Some(topic), None) => topic.clone(),
        _ => String::new(),
    };
    match trouble.kind {
        Kind::Paused => format!("{help}: mq topics unpause {place}"),
        Kind::NoConsumers => format!("{help}: mq topics delete {place}"),
        Kind::Requeueing | Kind::TimingOut => format!("{help}: mq peek --topic {place}"),
        Kind::Unauthorized if help.contains("this page") => {
            "--auth-token-file names a file with a token that the broker knows".to_owned()
        }
        _ => help.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trouble(kind: Kind, severity: Severity, topic: Option<&str>) -> Trouble {
        Trouble {
            severity,
            kind,
            topic: topic.map(str::to_owned),
            channel: topic.map(|_| "c".to_owned()),
            node: None,
            since: None,
            text: "it is so (os error 111)".to_owned(),
            help: "do this",
            depth: None,
        }
    }

    fn of(findings: Vec<Trouble>) -> Vec<Finding> {
        super::findings(&Assessment { findings, brokers: vec!["a:1".to_owned()], lookups: Vec::new() })
    }

    #[test]
    fn the_pages_severity_is_the_grade_and_the_command_stands_with_the_advice() {
        let found = of(vec![
            trouble(Kind::Pinned, Severity::Critical, Some("t")),
            trouble(Kind::Paused, Severity::Warning, Some("t")),
            trouble(Kind::Restarted, Severity::Notice, None),
            trouble(Kind::LookupUnreachable, Severity::Critical, None),
        ]);
        let grades: Vec<_> = found.iter().map(|finding| finding.grade).collect();
        assert_eq!(grades, [Grade::Ok, Grade::Bad, Grade::Warn, Grade::Note]);
        assert_eq!((found[1].what.as_str(), found[1].channel.as_deref()), ("it is so", Some("c")));
        assert_eq!(found[2].todo.as_deref(), Some("do this: mq topics unpause t --channel c"));
    }

    #[test]
    fn a_broker_without_trouble_is_said_to_be_well() {
        let whats: Vec<_> = of(Vec::new()).into_iter().map(|finding| finding.what).collect();
        assert_eq!(whats, ["it is healthy", "no topic or channel is in trouble"]);
        let sick = of(vec![trouble(Kind::Unhealthy, Severity::Critical, None)]);
        assert!(sick.iter().all(|finding| finding.what != "it is healthy"));
    }

    #[test]
    fn many_troubles_are_counted() {
        let many = (0..25).map(|_| trouble(Kind::Slow, Severity::Warning, Some("t"))).collect();
        let found = of(many);
        assert_eq!((found.len(), found[21].what.as_str()), (22, "and 5 more like these"));
        assert_eq!((found[21].grade, &found[21].topic), (Grade::Warn, &None));
    }
}

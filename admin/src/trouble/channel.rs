//! The rules of a channel.

use std::sync::Arc;

use super::words::{count, counted, finished, rate, time};
use crate::finding::{Finding, Kind, Severity};
use crate::snapshot::Numbers;
use crate::upstream::answers::Client;

/// Messages that nobody takes from which on it is urgent.
const MANY: u64 = 1000;
/// Seconds for which messages wait before it is a finding: a burst is no trouble.
const PATIENCE: f64 = 60.0;
/// Share of finished messages beyond which timeouts and requeues are findings.
const TIMED_OUT_SHARE: f64 = 0.01;
const REQUEUED_SHARE: f64 = 0.1;
/// Messages from which on a difference between nodes is a finding.
const SKEW_DEPTH_MIN: u64 = 100;
/// Seconds after which a client that finished nothing is stuck.
const STUCK_SECONDS: f64 = 60.0;

/// All that is known of a channel.
pub(crate) struct ChannelFacts<'a> {
    pub(crate) topic: &'a str,
    pub(crate) channel: &'a str,
    pub(crate) numbers: &'a Numbers,
    pub(crate) clients: u64,
    pub(crate) by_node: &'a [(Arc<str>, Numbers)],
    /// Its clients, where somebody asked for them.
    pub(crate) listed: Option<&'a [ClientFacts]>,
    /// Seconds since 1970.
    pub(crate) now: f64,
}

/// A client of a channel.
#[derive(Clone, Debug, Default)]
pub(crate) struct ClientFacts {
    /// `client_id` at its address.
    pub(crate) name: String,
    /// The broker that it is connected to.
    pub(crate) node: String,
    pub(crate) ready: u64,
    pub(crate) in_flight: u64,
    pub(crate) finished: u64,
    pub(crate) requeued: u64,
    /// Seconds since 1970.
    pub(crate) connected_at: u64,
}

impl ClientFacts {
    pub(crate) fn new(node: &str, client: &Client) -> Self {
        Self {
            node: node.to_owned(),
            name: format!("{} at {}", client.client_id, client.remote_address),
            ready: client.ready_count,
            in_flight: client.in_flight_count,
            finished: client.finish_count,
            requeued: client.requeue_count,
            connected_at: client.connect_ts,
        }
    }
}

impl ChannelFacts<'_> {
    /// All that is wrong with it: why its messages wait, if they do, and what else shows.
    pub(crate) fn find(&self) -> Vec<Finding> {
        let returned: Vec<Finding> = self.timing_out().into_iter().chain(self.requeueing()).collect();
        // Where more comes back than is finished, that is why the rest waits: more consumers would not help.
        let says_why = |finding: &Finding| finding.severity == Severity::Critical;
        let is_of_pace = |finding: &Finding| matches!(finding.kind, Kind::Pinned | Kind::Slow);
        let waits = self.waits().filter(|waits| !is_of_pace(waits) || !returned.iter().any(says_why));
        let mut findings: Vec<Finding> = waits.into_iter().collect();
        findings.extend(self.stuck());
        findings.extend(returned);
        findings.extend(self.skew());
        for finding in &mut findings {
            finding.topic = Some(self.topic.to_owned());
            finding.channel = Some(self.channel.to_owned());
            finding.depth = Some(self.numbers.depth);
            finding.since = finding.since.or(self.numbers.behind_since);
        }
        findings
    }

    fn name(&self) -> String {
        format!("{} / {}", self.topic, self.channel)
    }

    /// Seconds for which messages wait without a pause.
    fn waiting(&self) -> Option<f64> {
        self.numbers.behind_since.map(|since| (self.now - since as f64).max(0.0))
    }

    /// The end of a sentence: `, for 6 minutes`; `, for at least 6 minutes` if the broker started then.
    fn for_time(&self) -> String {
        let known = self.waiting().filter(|waiting| *waiting >= 1.0);
        let least = if self.numbers.is_behind_longer { "at least " } else { "" };
        known.map(|waiting| format!(", for {least}{}", time(waiting))).unwrap_or_default()
    }

    /// The end of a sentence that says why messages wait: `; 40 messages wait, for 6 minutes`.
    fn behind(&self, is_why: bool) -> String {
        match self.numbers.depth {
            depth if is_why && depth > 0 => {
                format!("; {} wait{}", counted(depth, "message"), self.for_time())
            }
            _ => String::new(),
        }
    }

    /// Whether more comes than goes.
    fn grows(&self) -> bool {
        self.numbers.growth.is_some_and(|growth| growth > 0.05)
    }

    fn waits(&self) -> Option<Finding> {
        let Numbers { depth, paused, .. } = *self.numbers;
        if depth == 0 {
            return None;
        }
        let (name, has) = (self.name(), counted(depth, "message"));
        let since = self.for_time();
        if paused {
            let text = format!("{name} is paused and has {has}{since}");
            return Some(Finding::new(
                Severity::Warning,
                Kind::Paused,
                text,
                "unpause it when its consumers may go on",
            ));
        }
        if self.clients == 0 {
            let urgent = depth >= MANY || self.grows();
            let severity = if urgent { Severity::Critical } else { Severity::Warning };
            let text = format!("{name} has {has} and no consumer{since}");
            let help = "start a consumer, or delete the channel if nobody needs it";
            return Some(Finding::new(severity, Kind::NoConsumers, text, help));
        }
        // A burst passes: the broker says since when messages wait without a pause, if it keeps that.
        let is_known = self.numbers.growth.is_some();
        if self.waiting().map_or(is_known, |waiting| waiting < PATIENCE) {
            return None;
        }
        self.pinned(&name, &has).or_else(|| self.slow(&name, &has))
    }

    /// All consumers hold as many messages as they take, or take none.
    fn pinned(&self, name: &str, has: &str) -> Option<Finding> {
        // Consumers of nodes where nothing waits could take no more.
        let waits_on = |node: &str| {
            let numbers = self.by_node.iter().find(|(id, _)| **id == *node).map(|(_, numbers)| numbers);
            numbers.is_none_or(|numbers| numbers.depth > 0)
        };
        let listed: Vec<_> = self.listed?.iter().filter(|client| waits_on(&client.node)).collect();
        let many = match listed.len() {
            0 => return None,
            1 => None,
            many => Some(count(many as u64)),
        };
        if listed.iter().all(|client| client.ready == 0) {
            let who = match many {
                None => "its only consumer asks for none".to_owned(),
                Some(many) => format!("none of its {many} consumers asks for any"),
            };
            let text = format!("{name} has {has}, and {who}{}", self.for_time());
            let help = "the consumers have set RDY to 0: they back off after errors, or wait for something";
            return Some(Finding::new(Severity::Critical, Kind::Pinned, text, help));
        }
        if !listed.iter().all(|client| client.in_flight >= client.ready) {
            return None;
        }
        let held: u64 = listed.iter().map(|client| client.in_flight).sum();
        let who = match many {
            None => format!("its only consumer holds as many as it takes, {}", count(held)),
            Some(many) => format!("its {many} consumers hold as many as they take, {} in all", count(held)),
        };
        let text = format!("{name} has {has}: {who}{}", self.for_time());
        let severity = if self.grows() { Severity::Critical } else { Severity::Warning };
        Some(Finding::new(
            severity,
            Kind::Pinned,
            text,
            "they are the limit: add consumers, or raise their max in flight",
        ))
    }

    /// More comes than goes, or it has stood still for long.
    fn slow(&self, name: &str, has: &str) -> Option<Finding> {
        let numbers = self.numbers;
        let rates = numbers.published_rate.zip(numbers.finished_rate);
        let (severity, text) = match (rates, numbers.growth) {
            (Some((arrives, finishes)), Some(growth)) if growth > 0.05 => {
                let text = format!(
                    "{name} falls behind: {} messages/s come, {}; {has} wait{}",
                    rate(arrives),
                    finished(finishes),
                    self.for_time()
                );
                (Severity::Critical, text)
            }
            (_, Some(growth)) if growth < -0.05 => {
                let empty = numbers.drain_seconds.map(|left| format!("; empty in about {}", time(left)));
                (Severity::Notice, format!("{name} catches up: {has} wait{}", empty.unwrap_or_default()))
            }
            (Some((_, finishes)), _) if finishes < 0.01 => {
                (Severity::Critical, format!("{name} has {has} and finishes none{}", self.for_time()))
            }
            (Some(_), _) => {
                (Severity::Warning, format!("{name} stays behind: {has} wait{}", self.for_time()))
            }
            // Nobody knows whether it grows.
            (None, _) if numbers.depth >= MANY => (Severity::Warning, format!("{name} has {has} that wait")),
            (None, _) => return None,
        };
        Some(Finding::new(severity, Kind::Slow, text, "add consumers, or make them faster"))
    }

    /// One consumer holds messages and finishes none, while others do.
    fn stuck(&self) -> Option<Finding> {
        let listed = self.listed?;
        let is_stuck = |client: &&ClientFacts| {
            let age = self.now - client.connected_at as f64;
            client.in_flight > 0 && client.finished == 0 && client.requeued == 0 && age > STUCK_SECONDS
        };
        let others_go_on = listed.iter().any(|client| client.finished > 0);
        let stuck = listed.iter().filter(is_stuck).max_by_key(|client| client.in_flight)?;
        others_go_on.then(|| {
            let text = format!(
                "{}: {} holds {} and has finished none since it connected",
                self.name(),
                stuck.name,
                counted(stuck.in_flight, "message")
            );
            Finding::new(
                Severity::Warning,
                Kind::StuckClient,
                text,
                "restart that consumer: its messages go to the others",
            )
        })
    }

    fn timing_out(&self) -> Option<Finding> {
        let (timed_out, done) = self.numbers.timed_out_rate.zip(self.numbers.finished_rate)?;
        (timed_out > 0.0 && timed_out >= done * TIMED_OUT_SHARE).then(|| {
            let text = format!(
                "{}: {} messages/s time out, {}{}",
                self.name(),
                rate(timed_out),
                finished(done),
                self.behind(timed_out > done)
            );
            let severity = if timed_out > done { Severity::Critical } else { Severity::Warning };
            let help = "consumers take longer than their message timeout: raise it, have them TOUCH, or lower their max in flight";
            Finding::new(severity, Kind::TimingOut, text, help)
        })
    }

    fn requeueing(&self) -> Option<Finding> {
        let (requeued, done) = self.numbers.requeued_rate.zip(self.numbers.finished_rate)?;
        (requeued > 0.0 && requeued >= done * REQUEUED_SHARE).then(|| {
            let text = format!(
                "{}: {} messages/s are requeued, {}{}",
                self.name(),
                rate(requeued),
                finished(done),
                self.behind(requeued > done)
            );
            let severity = if requeued > done { Severity::Critical } else { Severity::Warning };
            Finding::new(
                severity,
                Kind::Requeueing,
                text,
                "consumers fail: look at their logs, and peek at the messages",
            )
        })
    }

    /// One node has nearly all that waits.
    fn skew(&self) -> Option<Finding> {
        let total = self.numbers.depth;
        if self.by_node.len() < 2 || total < SKEW_DEPTH_MIN || self.clients == 0 || self.numbers.paused {
            return None;
        }
        let (node, numbers) = self.by_node.iter().max_by_key(|(_, numbers)| numbers.depth)?;
        // With as many clients as any node it just gets more, and there are too few consumers.
        let lacks_clients = self.by_node.iter().any(|(_, other)| other.clients > numbers.clients);
        (lacks_clients && numbers.depth > total / 10 * 8).then(|| {
            let text = format!(
                "{}: {} of {} wait on {node}",
                self.name(),
                count(numbers.depth),
                counted(total, "message")
            );
            let help = "see whether all consumers are connected to that node";
            Finding::new(Severity::Notice, Kind::Skew, text, help).at_node(node)
        })
    }
}

//! Topics by a pattern, as lookup servers name them.

use std::collections::BTreeSet;
use std::time::Duration;

use mq_nsq::client::Admin;
use regex::Regex;
use serde::Deserialize;

/// Topics to look for.
pub(super) struct Discovery {
    servers: Vec<String>,
    pattern: Regex,
    timeout: Duration,
    /// Interval between two looks.
    pub(super) every: Duration,
}

#[derive(Deserialize)]
struct Topics {
    topics: Vec<String>,
}

impl Discovery {
    /// The topics to begin with, and those to look for. A pattern chooses among `topics` too.
    pub(super) fn choose(
        topics: Vec<String>,
        pattern: Option<&str>,
        servers: &[String],
        every: Duration,
    ) -> Result<(Vec<String>, Option<Self>), String> {
        let Some(pattern) = pattern.filter(|pattern| !pattern.is_empty()) else {
            return match topics.is_empty() {
                true => Err("--topic or --topic-pattern required".to_owned()),
                false => Ok((topics, None)),
            };
        };
        let pattern = Regex::new(pattern).map_err(|error| format!("--topic-pattern: {error}"))?;
        if !topics.is_empty() {
            let chosen: Vec<_> = topics.into_iter().filter(|topic| pattern.is_match(topic)).collect();
            return match chosen.is_empty() {
                true => Err(format!("--topic-pattern {pattern} matches none of the topics given")),
                false => Ok((chosen, None)),
            };
        }
        if servers.is_empty() {
            return Err("--topic-pattern needs lookup servers, or --topic beside it".to_owned());
        }
        let every = every.max(Duration::from_millis(100));
        let servers = servers.to_vec();
        Ok((topics, Some(Self { servers, pattern, timeout: Duration::from_secs(10), every })))
    }

    /// The same with another longest time for an answer.
    pub(super) fn with_timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// The topics that there are now and match.
    ///
    /// # Errors
    /// If no server answers.
    pub(super) async fn topics(&self) -> Result<BTreeSet<String>, String> {
        let (mut found, mut failures) = (BTreeSet::new(), Vec::new());
        for server in &self.servers {
            let answer = Admin::new(server, None).with_timeout(self.timeout).get("/topics", &[]).await;
            let answer = answer.map_err(|error| error.to_string()).and_then(|answer| {
                serde_json::from_slice::<Topics>(&answer).map_err(|error| error.to_string())
            });
            match answer {
                Ok(Topics { topics }) => {
                    found.extend(topics.into_iter().filter(|topic| self.pattern.is_match(topic)));
                }
                Err(error) => failures.push(format!("{server}: {error}")),
            }
        }
        match failures.len() == self.servers.len() {
            true => Err(format!("could not retrieve topic list: {}", failures.join("; "))),
            false => Ok(found),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choose(
        topics: &[&str],
        pattern: Option<&str>,
        servers: &[&str],
    ) -> Result<(Vec<String>, bool), String> {
        let own = |texts: &[&str]| texts.iter().map(ToString::to_string).collect::<Vec<_>>();
        let chosen = Discovery::choose(own(topics), pattern, &own(servers), Duration::from_secs(1))?;
        Ok((chosen.0, chosen.1.is_some()))
    }

    #[test]
    fn a_pattern_chooses_among_topics_or_looks_for_them() {
        assert_eq!(choose(&["a", "b"], None, &[]).unwrap(), (vec!["a".to_owned(), "b".to_owned()], false));
        assert_eq!(choose(&["log.a", "b"], Some("log"), &[]).unwrap(), (vec!["log.a".to_owned()], false));
        assert_eq!(choose(&[], Some("^log"), &["l:1"]).unwrap(), (Vec::new(), true));
        for (topics, pattern, servers) in [
            (&[][..], None, &["l:1"][..]),
            (&["b"], Some("log"), &[]),
            (&[], Some("log"), &[]),
            (&[], Some("("), &["l:1"]),
        ] {
            assert!(choose(topics, pattern, servers).is_err(), "{topics:?} {pattern:?}");
        }
    }
}

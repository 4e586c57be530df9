//! Topics, channels and pauses of the nsqd that had a data folder before, from its `nsqd.dat`: taken over at
//! the first start on the folder. Its messages are not.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use mq_core::{Broker, ChannelName, TopicName};
use serde_json::Value;

/// Name of the file in which nsqd keeps them.
const FILE_NAME: &str = "nsqd.dat";
/// Name of the file that a folder has from a broker's first start on.
const MANIFEST_NAME: &str = "manifest";
/// Largest file that is read, 64 MiB: some hundred thousand channels.
const BYTES_MAX: u64 = 64 << 20;

/// Contents of the file, in a folder that no broker of libmq has used yet.
pub(crate) struct NsqdMetadata(Value);

/// Number of topics and channels that were taken over, and of those that could not be.
#[derive(Debug, Default, PartialEq, Eq)]
struct Taken {
    topics: u64,
    channels: u64,
    refused: u64,
}

impl NsqdMetadata {
    /// Reads the file, if this is the first start on the folder and there is one. A file that can't be read
    /// has a warning: nsqd's clients make their topics and channels anew then.
    pub(crate) fn read(folder: &Path) -> Option<Self> {
        if folder.join(MANIFEST_NAME).exists() {
            return None;
        }
        let path = folder.join(FILE_NAME);
        // A link or a pipe could be anything.
        if !path.symlink_metadata().is_ok_and(|metadata| metadata.is_file()) {
            return None;
        }
        match Self::parse(&path) {
            Ok(metadata) => Some(metadata),
            Err(error) => {
                tracing::warn!(
                    "topics, channels and pauses of {} are not taken over: {error}",
                    path.display()
                );
                None
            }
        }
    }

    fn parse(path: &Path) -> Result<Self, String> {
        let mut text = String::new();
        let file = File::open(path).map_err(|error| error.to_string())?;
        file.take(BYTES_MAX).read_to_string(&mut text).map_err(|error| error.to_string())?;
        let json: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
        match json.get("topics") {
            Some(Value::Array(_) | Value::Null) => Ok(Self(json)),
            _ => Err("it has no list of topics".to_owned()),
        }
    }

    /// Creates the topics and channels, paused where nsqd's were. The log says how many.
    pub(crate) fn take_over(&self, broker: &Broker) {
        let mut taken = Taken::default();
        for topic in list(&self.0, "topics") {
            self.take_topic(broker, topic, &mut taken);
        }
        let Taken { topics, channels, refused } = taken;
        tracing::info!(topics, channels, "topics, channels and pauses of nsqd's {FILE_NAME} taken over");
        if refused > 0 {
            tracing::warn!(refused, "topics and channels of nsqd's {FILE_NAME} were not taken over");
        }
    }

    fn take_topic(&self, broker: &Broker, entry: &Value, taken: &mut Taken) {
        let topic = TopicName::parse(name(entry)).ok().and_then(|name| broker.topic(&name).ok());
        let Some(topic) = topic else {
            taken.refused += 1;
            return;
        };
        taken.topics += 1;
        if is_paused(entry) && topic.pause().is_err() {
            taken.refused += 1;
        }
        for entry in list(entry, "channels") {
            let channel = ChannelName::parse(name(entry)).ok();
            let channel = channel.and_then(|name| topic.channel(&name, None).ok());
            let done = channel.is_some_and(|(channel, _)| !is_paused(entry) || channel.pause().is_ok());
            *if done { &mut taken.channels } else { &mut taken.refused } += 1;
        }
    }
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    // nsqd writes `null` for an empty list.
    value.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn name(entry: &Value) -> &str {
    entry.get("name").and_then(Value::as_str).unwrap_or_default()
}

fn is_paused(entry: &Value) -> bool {
    entry.get("paused").and_then(Value::as_bool).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use mq_core::Options;

    use super::*;

    fn open(folder: &Path) -> Broker {
        Broker::open(Options { data_path: folder.to_owned(), ..Options::default() }).unwrap()
    }

    /// All topics and channels with whether they are paused.
    fn shown(broker: &Broker) -> Vec<String> {
        let mut out = Vec::new();
        for topic in broker.topics() {
            out.push(format!("{} {}", topic.name().as_str(), topic.stats().paused));
            for channel in topic.channels() {
                let stats = channel.stats();
                out.push(format!("{}/{} {}", topic.name().as_str(), channel.name().as_str(), stats.paused));
            }
        }
        out
    }

    #[test]
    fn topics_channels_and_pauses_are_taken_over_at_the_first_start_only() {
        let folder = tempfile::tempdir().unwrap();
        let json = r#"{"topics":[
            {"name":"a","paused":true,"channels":null},
            {"name":"b","paused":false,"channels":[{"name":"c","paused":true},{"name":"d","paused":false},
                {"name":"no name","paused":false}]},
            {"name":"/","paused":false,"channels":null}],"version":"1.3.0"}"#;
        std::fs::write(folder.path().join(FILE_NAME), json).unwrap();
        let metadata = NsqdMetadata::read(folder.path()).unwrap();
        let broker = open(folder.path());
        metadata.take_over(&broker);
        let expected = ["a true", "b false", "b/c true", "b/d false"];
        assert_eq!(shown(&broker), expected);
        broker.close().unwrap();
        assert!(NsqdMetadata::read(folder.path()).is_none(), "the folder is libmq's now");
        assert_eq!(shown(&open(folder.path())), expected);
    }

    #[test]
    fn a_file_that_is_none_of_nsqds_is_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        assert!(NsqdMetadata::read(folder.path()).is_none());
        for text in ["", "{", "[]", "{\"topics\":3}"] {
            std::fs::write(folder.path().join(FILE_NAME), text).unwrap();
            assert!(NsqdMetadata::read(folder.path()).is_none(), "{text}");
        }
        std::fs::write(folder.path().join(FILE_NAME), "{\"topics\":null}").unwrap();
        assert!(NsqdMetadata::read(folder.path()).is_some());
    }
}

//! A change that somebody asks for: what, and to what.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

/// The kind of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) enum Action {
    CreateTopic,
    CreateChannel,
    DeleteTopic,
    DeleteChannel,
    EmptyTopic,
    EmptyChannel,
    PauseTopic,
    PauseChannel,
    UnpauseTopic,
    UnpauseChannel,
    ConfigureTopic,
    ConfigureChannel,
    Publish,
    DropMessage,
    RequeueMessage,
    Tombstone,
    Drain,
}

/// Names of the page's requests and of the audit log.
const NAMES: [(&str, Action); 17] = [
    ("create_topic", Action::CreateTopic),
    ("create_channel", Action::CreateChannel),
    ("delete_topic", Action::DeleteTopic),
    ("delete_channel", Action::DeleteChannel),
    ("empty_topic", Action::EmptyTopic),
    ("empty_channel", Action::EmptyChannel),
    ("pause_topic", Action::PauseTopic),
    ("pause_channel", Action::PauseChannel),
    ("unpause_topic", Action::UnpauseTopic),
    ("unpause_channel", Action::UnpauseChannel),
    ("configure_topic", Action::ConfigureTopic),
    ("configure_channel", Action::ConfigureChannel),
    ("publish", Action::Publish),
    ("drop_message", Action::DropMessage),
    ("requeue_message", Action::RequeueMessage),
    ("tombstone", Action::Tombstone),
    ("drain", Action::Drain),
];

impl Action {
    pub(crate) fn named(name: &str) -> Option<Self> {
        NAMES.iter().find(|(each, _)| *each == name).map(|(_, action)| *action)
    }

    pub(crate) fn name(self) -> &'static str {
        NAMES.iter().find(|(_, each)| *each == self).map(|(name, _)| *name).unwrap_or_default()
    }
}

impl TryFrom<String> for Action {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        Self::named(&name).ok_or_else(|| {
            let names: Vec<_> = NAMES.iter().map(|(name, _)| *name).collect();
            format!("there is no action {name:?}, but {}", names.join(", "))
        })
    }
}

/// A change, as the page asks for it.
#[derive(Debug, Deserialize)]
pub(crate) struct Change {
    pub(crate) action: Action,
    pub(crate) topic: Option<String>,
    pub(crate) channel: Option<String>,
    pub(crate) node: Option<String>,
    /// A message's id, where the change is to one.
    pub(crate) message: Option<String>,
    pub(crate) timeout_seconds: Option<u64>,
    pub(crate) body: Option<String>,
    pub(crate) base64: Option<String>,
    #[serde(default)]
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) defer_ms: Option<u64>,
    pub(crate) settings: Option<Value>,
}

impl Change {
    /// A change that needs no more than to say where.
    pub(crate) fn new(
        action: Action,
        topic: Option<String>,
        channel: Option<String>,
        node: Option<String>,
    ) -> Self {
        Self {
            action,
            topic,
            channel,
            node,
            message: None,
            timeout_seconds: None,
            body: None,
            base64: None,
            headers: BTreeMap::new(),
            defer_ms: None,
            settings: None,
        }
    }
}

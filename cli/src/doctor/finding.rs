//! One thing that was seen.

use serde::Serialize;

use crate::words::printable;

/// Gravity of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Grade {
    Ok,
    /// Good to know.
    Note,
    /// Something to look at.
    Warn,
    /// Something does not work.
    Bad,
}

/// A thing that was seen, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    pub(super) grade: Grade,
    pub(super) what: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) todo: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) topic: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) channel: Option<String>,
    /// The server that it is about, where there are several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) node: Option<String>,
}

impl Finding {
    pub(super) fn ok(what: impl Into<String>) -> Self {
        Self { grade: Grade::Ok, what: what.into(), todo: None, topic: None, channel: None, node: None }
    }

    pub(super) fn note(what: impl Into<String>) -> Self {
        Self { grade: Grade::Note, ..Self::ok(what) }
    }

    pub(super) fn warn(what: impl Into<String>, todo: impl Into<String>) -> Self {
        Self { grade: Grade::Warn, todo: Some(todo.into()), ..Self::ok(what) }
    }

    pub(super) fn bad(what: impl Into<String>, todo: impl Into<String>) -> Self {
        Self { grade: Grade::Bad, todo: Some(todo.into()), ..Self::ok(what) }
    }

    /// A line, and one below it with what to do.
    pub(super) fn show(&self, is_colourful: bool) -> String {
        let (word, colour) = match self.grade {
            Grade::Ok => ("ok  ", 32),
            Grade::Note => ("note", 36),
            Grade::Warn => ("warn", 33),
            Grade::Bad => ("bad ", 31),
        };
        let word = if is_colourful { format!("\x1b[{colour}m{word}\x1b[0m") } else { word.to_owned() };
        let todo = self.todo.as_ref().map(|todo| format!("      → {}\n", printable(todo)));
        format!("{word}  {}\n{}", printable(&self.what), todo.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_says_what_to_do_below_it() {
        let finding = Finding::bad("the disk\n is full", "free some");
        assert_eq!(finding.show(false), "bad   the disk\\n is full\n      → free some\n");
        assert_eq!(Finding::ok("fine").show(true), "\x1b[32mok  \x1b[0m  fine\n");
        assert!(Grade::Bad > Grade::Warn && Grade::Warn > Grade::Note && Grade::Note > Grade::Ok);
    }
}

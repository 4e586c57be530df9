//! Holds docs/configuration.md against the settings.

use crate::config::settings::{Effect, Schema};
use crate::config::value::flag;
use crate::invoked_as::InvokedAs;

/// Checks that the document lists the settings of `schema` as they are. `drop_in`: whose defaults stand
/// beside ours.
pub(crate) fn check(schema: &Schema, drop_in: InvokedAs) {
    let document = include_str!("../../../docs/configuration.md");
    let (serve, rest) = document.split_once("\n## Settings of `mq lookup`\n").expect("its part");
    let (lookup, admin) = rest.split_once("\n## Settings of `mq admin`\n").expect("its part");
    let section = match drop_in {
        InvokedAs::Nsqlookupd => lookup,
        InvokedAs::Nsqadmin => admin,
        InvokedAs::Mq | InvokedAs::Nsqd => serve,
    };
    let table = table(schema, drop_in);
    let missing: Vec<_> = table.lines().filter(|line| !section.contains(line)).collect();
    assert!(missing.is_empty(), "docs/configuration.md lacks these lines:\n{}", missing.join("\n"));
    let rows = section.lines().filter(|line| line.starts_with("| `--")).count();
    assert_eq!(rows, schema.settings.len(), "docs/configuration.md has settings that are none");
}

/// The lines as they must be.
fn table(schema: &Schema, drop_in: InvokedAs) -> String {
    let code = |text: &str| if text.is_empty() { "none".to_owned() } else { format!("`{text}`") };
    let name = match drop_in {
        InvokedAs::Nsqlookupd => "nsqlookupd",
        InvokedAs::Nsqadmin => "nsqadmin",
        InvokedAs::Mq | InvokedAs::Nsqd => "nsqd",
    };
    let mut out = String::new();
    for setting in schema.settings {
        let (ours, theirs) = (setting.default(InvokedAs::Mq), setting.default(drop_in));
        let defaults =
            if ours == theirs { code(ours) } else { format!("{}; as {name} {}", code(ours), code(theirs)) };
        let meaning = match setting.effect {
            Effect::Full => setting.help().to_owned(),
            Effect::None(instead) => format!("{}. No effect: {instead}", setting.help()),
            Effect::Later => format!("{}. Not served yet", setting.help()),
        };
        out += &format!(
            "| `--{}` | {defaults} | `{}` | `{}` | {meaning} |\n",
            flag(setting.key),
            schema.variable(setting.key),
            setting.file_key,
        );
    }
    out
}

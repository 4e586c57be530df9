//! Names of files. Pure, but for the host's name.

/// The revision of the name, which grows where the name is taken.
pub(super) const REV: &str = "<REV>";
/// The time in the name.
pub(super) const DATETIME: &str = "<DATETIME>";

/// Names that a file's name may have in angle brackets, and those of a host's.
pub(super) const FILENAME_TOKENS: [&str; 5] = ["<TOPIC>", "<HOST>", "<PID>", DATETIME, REV];
pub(super) const HOST_TOKENS: [&str; 2] = ["<SHORT_HOST>", "<HOSTNAME>"];

/// Checks that all names in angle brackets of `format` are known: another would be in each file's name.
pub(super) fn check_tokens(flag: &str, format: &str, known: &[&str]) -> Result<(), String> {
    let is_name = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    for (at, _) in format.match_indices('<') {
        let Some((name, _)) = format[at + 1..].split_once('>').filter(|(name, _)| is_name(name)) else {
            continue;
        };
        if !known.contains(&format!("<{name}>").as_str()) {
            return Err(format!("{flag} has <{name}>, which is not known: there are {}", known.join(", ")));
        }
    }
    Ok(())
}

/// The name of this host.
pub(super) struct Host(String);

impl Host {
    /// The name that the system says.
    pub(super) fn of_system() -> Self {
        Self(rustix::system::uname().nodename().to_string_lossy().into_owned())
    }

    /// The name to show, by a format.
    pub(super) fn identifier(&self, format: &str) -> String {
        let short = self.0.split('.').next().unwrap_or_default();
        format.replace("<SHORT_HOST>", short).replace("<HOSTNAME>", &self.0)
    }
}

/// Format of the names of all topics.
#[derive(Clone)]
pub(super) struct Template {
    pub(super) filename: String,
    /// Form of the time.
    pub(super) datetime: String,
    pub(super) host: String,
    /// Whether names have a revision: where files must not be appended to.
    pub(super) has_rev: bool,
    pub(super) gzip: bool,
}

impl Template {
    /// Checks that names can differ where they must.
    pub(super) fn check(&self) -> Result<(), String> {
        if self.has_rev && !self.filename.contains(REV) {
            return Err(
                "missing <REV> in --filename-format when gzip, rotation, or work dir enabled: two files would \
                 have one name"
                    .to_owned(),
            );
        }
        let path = std::path::Path::new(&self.filename);
        let is_inside = path.components().all(|part| matches!(part, std::path::Component::Normal(_)));
        if is_inside && !self.filename.ends_with('/') {
            return Ok(());
        }
        Err(format!("--filename-format is {:?}: a path inside the output folder, without ..", self.filename))
    }

    /// The names of a topic's files, but for their time and revision.
    pub(super) fn of_topic(&self, topic: &str) -> String {
        let rev = if self.has_rev { REV } else { "" };
        let mut name = self.filename.replace(REV, rev);
        for (token, value) in
            [("<TOPIC>", topic), ("<HOST>", &self.host), ("<PID>", &std::process::id().to_string())]
        {
            name = name.replace(token, value);
        }
        if self.gzip && !name.ends_with(".gz") {
            name.push_str(".gz");
        }
        name
    }
}

/// A name with its revision.
pub(super) fn with_rev(name: &str, rev: u32) -> String {
    name.replace(REV, &format!("-{rev:06}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template(filename: &str, has_rev: bool, gzip: bool) -> Template {
        let (filename, datetime) = (filename.to_owned(), "%Y".to_owned());
        Template { filename, datetime, host: "box".to_owned(), has_rev, gzip }
    }

    #[test]
    fn a_name_is_made_of_its_parts() {
        let name = "<TOPIC>.<HOST><REV>.<DATETIME>.log";
        assert_eq!(template(name, false, false).of_topic("t"), "t.box.<DATETIME>.log");
        let with = template(name, true, true).of_topic("t");
        assert_eq!(with, "t.box<REV>.<DATETIME>.log.gz");
        assert_eq!(with_rev(&with, 7), "t.box-000007.<DATETIME>.log.gz");
        assert_eq!(template("<TOPIC><REV>.gz", true, true).of_topic("t"), "t<REV>.gz");
        assert_eq!(template("<PID>", false, false).of_topic("t"), std::process::id().to_string());
    }

    #[test]
    fn a_name_without_a_revision_or_outside_the_folder_is_refused() {
        assert!(template("<TOPIC>", true, false).check().unwrap_err().contains("<REV>"));
        template("a/<TOPIC>", false, false).check().unwrap();
        for outside in ["../<TOPIC>", "/<TOPIC>", "a/", ""] {
            assert!(template(outside, false, false).check().is_err() || outside.is_empty(), "{outside}");
        }
    }

    #[test]
    fn a_name_that_is_not_known_is_refused() {
        let of = |format| check_tokens("--filename-format", format, &FILENAME_TOKENS);
        for fine in ["<TOPIC>.<HOST><REV>.<DATETIME>.<PID>", "a<b", "a<b c>", "><"] {
            assert_eq!(of(fine), Ok(()), "{fine}");
        }
        for wrong in ["<TOPIC>.<NOPE>.log", "<topic>", "<<TOPICS>"] {
            assert!(of(wrong).unwrap_err().contains("<TOPIC>, <HOST>"), "{wrong}");
        }
    }

    #[test]
    fn a_host_has_a_short_name() {
        let host = Host("web-1.example.org".to_owned());
        assert_eq!(host.identifier("<SHORT_HOST>_<HOSTNAME>"), "web-1_web-1.example.org");
    }
}

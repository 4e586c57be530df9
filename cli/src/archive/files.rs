//! The files of a topic: opened, written, synced, closed and moved to where they are complete.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use flate2::Compression;
use flate2::write::GzEncoder;
use jiff::Zoned;

use super::filename::{DATETIME, Template, with_rev};
use super::record::Format;
use super::rotation::{Limits, Reason};
use super::strftime::strftime;
use crate::log::Log;
use mq_bench::plain_words::without_codes;

/// Settings of the files of all topics.
#[derive(Clone)]
pub(super) struct Settings {
    pub(super) output_dir: PathBuf,
    pub(super) work_dir: PathBuf,
    pub(super) template: Template,
    pub(super) format: Format,
    /// The level, if files are compressed.
    pub(super) gzip: Option<u32>,
    pub(super) limits: Limits,
}

/// Makes the folders, and checks that files can be written in the one and moved to the other.
pub(super) fn check_folders(output_dir: &Path, work_dir: &Path) -> Result<(), String> {
    let probe = format!(".mq-archive-{}", std::process::id());
    let of = |flag: &str, folder: &Path, error: io::Error| {
        let error = without_codes(&error.to_string());
        format!("{flag} {}: {error}: it must be a folder that this user can write to", folder.display())
    };
    let write = |flag: &str, folder: &Path| -> Result<PathBuf, String> {
        let path = folder.join(&probe);
        // Left by one that had the same process id.
        let removed = || match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        };
        let written = make_folder(&path).and_then(|()| removed()).and_then(|()| File::create_new(&path));
        written.map(|_| path.clone()).map_err(|error| of(flag, folder, error))
    };
    let output = write("--output-dir", output_dir)?;
    // It was written a moment ago.
    let _ = fs::remove_file(&output);
    if work_dir == output_dir {
        return Ok(());
    }
    let work = write("--work-dir", work_dir)?;
    let linked = fs::hard_link(&work, &output);
    let _ = (fs::remove_file(&work), fs::remove_file(&output));
    match linked {
        Ok(()) => Ok(()),
        // Two paths of one folder.
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(error) if error.kind() == ErrorKind::CrossesDevices => Err(format!(
            "--work-dir {} is on another file system than --output-dir {}: complete files could not be moved there; \
             give a folder on the same one",
            work_dir.display(),
            output_dir.display()
        )),
        Err(error) => Err(of("--work-dir", work_dir, error)),
    }
}

/// Files of one topic: at most one is open.
pub(super) struct Files {
    settings: Arc<Settings>,
    log: Log,
    /// Names of the topic's files, but for their time and revision.
    template: String,
    out: Option<Open>,
    /// Name of the last file, but for its revision.
    filename: String,
    rev: u32,
    /// The last name asked for and its second.
    named: (i64, String),
}

struct Open {
    file: Sink,
    path: PathBuf,
    opened: Instant,
    /// Bytes before compression, and those that were there.
    size: u64,
}

/// A file, compressed or not.
enum Sink {
    Plain(File),
    /// A member is begun with its first byte, and ended by a sync: what is synced can be read.
    Gzip {
        file: File,
        level: u32,
        member: Option<Box<GzEncoder<File>>>,
        is_empty: bool,
    },
}

impl Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Plain(file) => file.write_all(bytes),
            Self::Gzip { file, level, member, is_empty } => {
                *is_empty = false;
                let member = match member {
                    Some(member) => member,
                    None => {
                        let level = Compression::new(*level);
                        member.insert(Box::new(GzEncoder::new(file.try_clone()?, level)))
                    }
                };
                member.write_all(bytes)
            }
        }
    }

    fn sync(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(file) => file.sync_data(),
            Self::Gzip { file, member, .. } => {
                if let Some(member) = member.take() {
                    member.finish()?;
                }
                file.sync_data()
            }
        }
    }

    fn close(mut self) -> io::Result<()> {
        // A compressed file of nothing has a member too, or nobody could read it.
        if let Self::Gzip { is_empty: true, .. } = self {
            self.write(&[])?;
        }
        self.sync()
    }
}

impl Files {
    pub(super) fn new(topic: &str, settings: Arc<Settings>, log: Log) -> Self {
        let template = settings.template.of_topic(topic);
        let named = (i64::MIN, String::new());
        Self { settings, log, template, out: None, filename: String::new(), rev: 0, named }
    }

    /// Whether a file is open.
    pub(super) fn is_open(&self) -> bool {
        self.out.is_some()
    }

    /// The reason to open a new file before more is written, if there is one: there is none open, or it has
    /// ended.
    pub(super) fn needs_rotation(&mut self, now: &Zoned) -> bool {
        let name = self.name(now);
        let Some(out) = &self.out else { return true };
        let reason = self.settings.limits.reason(name == self.filename, out.opened.elapsed(), out.size);
        if let Some(reason) = &reason {
            match reason {
                Reason::Name => self.log.info(format_args!("{reason} {}", shown(&name))),
                _ => self.log.info(format_args!("{}: {reason}", out.path.display())),
            }
        }
        reason.is_some()
    }

    /// Closes the file that is open, and opens the next.
    pub(super) fn rotate(&mut self, now: &Zoned) -> io::Result<()> {
        self.close()?;
        let name = self.name(now);
        self.rev = if name == self.filename { self.rev + 1 } else { 0 };
        self.filename = name;
        loop {
            if let Some(out) = self.open()? {
                self.log.info(format_args!("opening {}", out.path.display()));
                self.out = Some(out);
                return Ok(());
            }
            self.rev = self.rev.checked_add(1).ok_or_else(|| io::Error::other("no revision is left"))?;
        }
    }

    /// Opens the file of this revision; `None` if its name is taken.
    fn open(&self) -> io::Result<Option<Open>> {
        let settings = &self.settings;
        let name = with_rev(&self.filename, self.rev);
        let path = settings.work_dir.join(&name);
        make_folder(&path)?;
        if settings.work_dir != settings.output_dir {
            let complete = settings.output_dir.join(&name);
            make_folder(&complete)?;
            if exists(&complete)? {
                self.log.warn(format_args!("output file already exists: {}", complete.display()));
                return Ok(None);
            }
        }
        let is_new = settings.gzip.is_some() || !settings.limits.age.is_zero();
        let mut how = OpenOptions::new();
        how.write(true).create(true).create_new(is_new).append(!is_new);
        let file = match how.open(&path) {
            Ok(file) => file,
            Err(error) if is_new && error.kind() == ErrorKind::AlreadyExists => {
                self.log.warn(format_args!("working file already exists: {}", path.display()));
                return Ok(None);
            }
            Err(error) => return Err(about("cannot open", &path, &error)),
        };
        let size = file.metadata().map_err(|error| about("cannot stat", &path, &error))?.len();
        if settings.limits.is_full(size) {
            self.log.info(format_args!("{}: {}", path.display(), Reason::Size(size)));
            return Ok(None);
        }
        // A file whose name is lost with the power is lost itself.
        sync_folder(&path)?;
        let file = match settings.gzip {
            None => Sink::Plain(file),
            Some(level) => Sink::Gzip { file, level, member: None, is_empty: true },
        };
        Ok(Some(Open { file, path, opened: Instant::now(), size }))
    }

    /// Writes a record to the file that is open.
    pub(super) fn write(&mut self, record: &[u8]) -> io::Result<()> {
        let Some(out) = &mut self.out else { return Err(io::Error::other("no file is open")) };
        out.file.write(record).map_err(|error| about("cannot write to", &out.path, &error))?;
        out.size += record.len() as u64;
        Ok(())
    }

    /// Returns once all that was written is on disk.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        let Some(out) = &mut self.out else { return Ok(()) };
        out.file.sync().map_err(|error| about("cannot fsync", &out.path, &error))
    }

    /// Closes the file that is open: all of it is on disk, and in the output folder.
    pub(super) fn close(&mut self) -> io::Result<()> {
        let Some(Open { file, path, .. }) = self.out.take() else { return Ok(()) };
        file.close().map_err(|error| about("cannot fsync", &path, &error))?;
        if self.settings.work_dir == self.settings.output_dir {
            return Ok(());
        }
        let mut rev = self.rev;
        loop {
            let complete = self.settings.output_dir.join(with_rev(&self.filename, rev));
            match fs::hard_link(&path, &complete) {
                Ok(()) => {
                    sync_folder(&complete)?;
                    fs::remove_file(&path).map_err(|error| about("cannot remove", &path, &error))?;
                    self.log.info(format_args!("moved {} to {}", path.display(), complete.display()));
                    return Ok(());
                }
                // Never over another file.
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                    self.log.warn(format_args!("destination file already exists: {}", complete.display()));
                    rev = rev.checked_add(1).ok_or_else(|| io::Error::other("no revision is left"))?;
                }
                Err(error) if error.kind() == ErrorKind::CrossesDevices => {
                    let what = "the work folder must be on the file system of the output folder";
                    return Err(io::Error::other(format!("cannot move {}: {what}", path.display())));
                }
                Err(error) => return Err(about("cannot move to", &complete, &error)),
            }
        }
    }

    /// The name that a file has now, but for its revision.
    fn name(&mut self, now: &Zoned) -> String {
        let second = now.timestamp().as_second();
        if self.named.0 != second {
            let datetime = strftime(&self.settings.template.datetime, now);
            self.named = (second, self.template.replace(DATETIME, &datetime));
        }
        self.named.1.clone()
    }
}

/// A name for people, without its token.
fn shown(name: &str) -> String {
    name.replace(super::filename::REV, "")
}

fn about(what: &str, path: &Path, error: &io::Error) -> io::Error {
    io::Error::other(format!("{what} {}: {error}", path.display()))
}

fn exists(path: &Path) -> io::Result<bool> {
    path.try_exists().map_err(|error| about("cannot stat", path, &error))
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

fn make_folder(path: &Path) -> io::Result<()> {
    let folder = folder_of(path);
    if folder.is_dir() {
        return Ok(());
    }
    let made = DirBuilder::new().recursive(true).mode(0o770).create(folder);
    made.map_err(|error| about("cannot create", folder, &error))?;
    sync_folder(folder)
}

fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = folder_of(path);
    let synced = File::open(folder).and_then(|folder| folder.sync_all());
    synced.map_err(|error| about("cannot fsync", folder, &error))
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::time::Duration;

    use flate2::read::MultiGzDecoder;

    use super::*;
    use crate::log::Level;

    struct Archive {
        folder: tempfile::TempDir,
        settings: Settings,
    }

    impl Archive {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let template = Template {
                filename: "<TOPIC><REV>.<DATETIME>.log".to_owned(),
                datetime: "%H".to_owned(),
                host: "box".to_owned(),
                has_rev: true,
                gzip: false,
            };
            let output_dir = folder.path().join("out");
            let settings = Settings {
                work_dir: output_dir.clone(),
                output_dir,
                template,
                format: Format::Lines,
                gzip: None,
                limits: Limits::default(),
            };
            Self { folder, settings }
        }

        fn files(&self) -> Files {
            Files::new("t", Arc::new(self.settings.clone()), Log::dated("", Level::Fatal))
        }

        fn read(&self, name: &str) -> String {
            fs::read_to_string(self.settings.output_dir.join(name)).unwrap()
        }
    }

    fn at(hour: u8) -> Zoned {
        format!("2026-03-07T{hour:02}:00:00+00:00[+00:00]").parse().unwrap()
    }

    fn put(files: &mut Files, now: &Zoned, text: &str) {
        if files.needs_rotation(now) {
            files.rotate(now).unwrap();
        }
        files.write(text.as_bytes()).unwrap();
    }

    #[test]
    fn a_file_ends_with_its_hour_and_goes_on_after_a_hang_up() {
        let mut archive = Archive::new();
        archive.settings.template.has_rev = false;
        let mut files = archive.files();
        put(&mut files, &at(1), "a");
        files.close().unwrap();
        put(&mut files, &at(1), "b");
        put(&mut files, &at(2), "c");
        files.close().unwrap();
        assert_eq!((archive.read("t.01.log"), archive.read("t.02.log")), ("ab".to_owned(), "c".to_owned()));
    }

    #[test]
    fn a_large_file_gets_a_successor_and_a_taken_name_is_never_overwritten() {
        let mut archive = Archive::new();
        archive.settings.limits = Limits { size: 3, age: Duration::ZERO };
        let mut files = archive.files();
        for text in ["abcd", "ef", "gh", "ij"] {
            put(&mut files, &at(1), text);
        }
        files.close().unwrap();
        assert_eq!(archive.read("t-000000.01.log"), "abcd");
        assert_eq!(archive.read("t-000001.01.log"), "efgh");
        assert_eq!(archive.read("t-000002.01.log"), "ij");
        // Another archive goes on in the first that has room.
        let mut other = archive.files();
        put(&mut other, &at(1), "kl");
        other.close().unwrap();
        assert_eq!(archive.read("t-000002.01.log"), "ijkl");
        archive.settings.limits.age = Duration::from_secs(60);
        let mut new = archive.files();
        put(&mut new, &at(1), "new");
        new.close().unwrap();
        assert_eq!(archive.read("t-000003.01.log"), "new");
    }

    #[test]
    fn a_file_is_moved_when_it_is_complete_and_to_the_next_name_if_its_is_taken() {
        let mut archive = Archive::new();
        archive.settings.work_dir = archive.folder.path().join("work");
        let mut files = archive.files();
        for round in ["one", "two"] {
            put(&mut files, &at(1), round);
            assert!(files.is_open());
            // Closed twice, as by a hang-up and the end.
            files.close().unwrap();
            files.close().unwrap();
        }
        put(&mut files, &at(1), "three");
        let taken = archive.settings.output_dir.join("t-000002.01.log");
        fs::write(&taken, "other").unwrap();
        files.close().unwrap();
        assert_eq!(archive.read("t-000000.01.log"), "one");
        assert_eq!(archive.read("t-000001.01.log"), "two");
        assert_eq!(archive.read("t-000002.01.log"), "other");
        assert_eq!(archive.read("t-000003.01.log"), "three");
        assert_eq!(fs::read_dir(&archive.settings.work_dir).unwrap().count(), 0);
    }

    #[test]
    fn what_was_synced_is_whole_members_and_an_empty_file_has_one() {
        let mut archive = Archive::new();
        (archive.settings.gzip, archive.settings.template.gzip) = (Some(6), true);
        let unpacked = |name: &str| {
            let file = File::open(archive.settings.output_dir.join(name)).unwrap();
            let mut text = String::new();
            MultiGzDecoder::new(file).read_to_string(&mut text).map(|_| text)
        };
        let mut files = archive.files();
        put(&mut files, &at(1), "one ");
        files.sync().unwrap();
        assert_eq!(unpacked("t-000000.01.log.gz").unwrap(), "one ");
        files.write(b"two").unwrap();
        files.close().unwrap();
        assert_eq!(unpacked("t-000000.01.log.gz").unwrap(), "one two");
        files.rotate(&at(1)).unwrap();
        files.close().unwrap();
        assert_eq!(unpacked("t-000001.01.log.gz").unwrap(), "");
        assert!(fs::metadata(archive.settings.output_dir.join("t-000001.01.log.gz")).unwrap().len() > 0);
    }
}

//! Flags of `mq archive` and of `nsq_to_file`.

use std::path::PathBuf;
use std::time::Duration;

use libmq::{Client, SubscribeOptions};
use mq_server::config::units;

use super::Job;
use super::discovery::Discovery;
use super::filename::{FILENAME_TOKENS, HOST_TOKENS, Host, Template, check_tokens};
use super::files::{Settings, check_folders};
use super::record::Format;
use super::rotation::Limits;
use crate::brokers::Brokers;
use crate::brokers::nsq_flags::{NsqSource, Source};
use crate::go_flags;
use crate::log::{Level, Log};

/// Longest interval of fsync: messages are in flight as long, and brokers allow 15 minutes.
const SYNC_INTERVAL_MAX: Duration = Duration::from_secs(7 * 60 + 30);
/// Longest time of a message in flight unless the interval of fsync needs a longer one.
const MSG_TIMEOUT: Duration = Duration::from_secs(60);

/// Flags of `mq archive`.
#[derive(clap::Args)]
pub(crate) struct Archive {
    #[command(flatten)]
    brokers: Brokers,
    /// Topic to archive; several by giving the flag again
    #[arg(long, value_name = "TOPIC")]
    topic: Vec<String>,
    /// Archive the topics whose whole name matches; with mq+lookup:// those that are created later too
    #[arg(long, value_name = "REGEX")]
    topic_pattern: Option<String>,
    /// Channel to consume, one for each archive
    #[arg(long, value_name = "CHANNEL", default_value = "archive")]
    channel: String,
    /// Folder of the files; made if there is none
    #[arg(long, value_name = "FOLDER", default_value = ".")]
    output_dir: PathBuf,
    /// Folder of files that are not complete, on the same file system; the output folder without it
    #[arg(long, value_name = "FOLDER")]
    work_dir: Option<PathBuf>,
    /// Name of a file, with <TOPIC>, <HOST>, <PID>, <DATETIME> and <REV>, which grows by one where the
    /// name is taken
    #[arg(long, value_name = "FORMAT", default_value = "<TOPIC>.<HOST><REV>.<DATETIME>.log")]
    filename_format: String,
    /// Form of <DATETIME>, in local time; a file ends when it changes
    #[arg(long, value_name = "STRFTIME", default_value = "%Y-%m-%d_%H")]
    datetime_format: String,
    /// Form of <HOST>, with <SHORT_HOST> and <HOSTNAME>
    #[arg(long, value_name = "FORMAT", default_value = "<SHORT_HOST>")]
    host_identifier: String,
    /// Form of a message in a file
    #[arg(long, value_enum, default_value_t = Format::Lines)]
    format: Format,
    /// Compress files with gzip
    #[arg(long)]
    gzip: bool,
    /// Level of compression: 1 is quick, 9 is small
    #[arg(long, value_name = "LEVEL", default_value_t = 6, value_parser = clap::value_parser!(u32).range(1..=9))]
    gzip_level: u32,
    /// Begin a new file when one is larger, before compression; 0: never
    #[arg(long, value_name = "SIZE", default_value = "0", value_parser = size)]
    rotate_size: u64,
    /// Begin a new file when one is older; 0: never
    #[arg(long, value_name = "TIME", default_value = "0", value_parser = units::duration)]
    rotate_interval: Duration,
    /// Begin a file only when there is a message for it
    #[arg(long)]
    skip_empty_files: bool,
    /// Longest time until messages are on disk and finished
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = units::duration)]
    sync_interval: Duration,
    /// Interval between two looks for new topics
    #[arg(long, value_name = "TIME", default_value = "1m", value_parser = units::duration)]
    topic_refresh: Duration,
    /// Messages written at most until they are on disk and finished
    #[arg(long, value_name = "COUNT", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    max_in_flight: u32,
}

fn size(text: &str) -> Result<u64, String> {
    units::parse_size(text).ok_or_else(|| format!("it must be {}", units::SIZE_FORM))
}

impl Archive {
    /// Checks the flags, and opens the client.
    pub(super) fn job(self) -> Result<Job, String> {
        let client = self.brokers.connect("mq-archive")?;
        let work_dir = self.work_dir.unwrap_or_else(|| self.output_dir.clone());
        let limits = Limits { size: self.rotate_size, age: self.rotate_interval };
        let has_rev = self.gzip || limits.rotates() || work_dir != self.output_dir;
        let template = Template {
            filename: self.filename_format,
            datetime: self.datetime_format,
            host: Host::of_system().identifier(&self.host_identifier),
            has_rev,
            gzip: self.gzip,
        };
        template.check()?;
        check_tokens("--filename-format", &template.filename, &FILENAME_TOKENS)?;
        check_tokens("--host-identifier", &self.host_identifier, &HOST_TOKENS)?;
        // Of the whole name: half a name that matches is a surprise.
        let pattern = self.topic_pattern.map(|pattern| format!("^(?:{pattern})$"));
        let servers = self.brokers.lookup_servers();
        let (topics, discovery) =
            Discovery::choose(self.topic, pattern.as_deref(), &servers, self.topic_refresh)?;
        let start = self.brokers.start();
        let options =
            SubscribeOptions { max_in_flight: self.max_in_flight, start, ..SubscribeOptions::default() };
        let options = patient(options, self.sync_interval)?;
        check_folders(&self.output_dir, &work_dir)?;
        Ok(Job {
            client,
            options,
            channel: self.channel,
            topics,
            discovery,
            settings: Settings {
                output_dir: self.output_dir,
                work_dir,
                template,
                format: self.format,
                gzip: self.gzip.then_some(self.gzip_level),
                limits,
            },
            sync_interval: self.sync_interval,
            skip_empty_files: self.skip_empty_files,
            log: Log::new("mq archive"),
        })
    }
}

/// Flags of `nsq_to_file`.
#[derive(clap::Args)]
pub(crate) struct NsqToFile {
    #[command(flatten)]
    source: NsqSource,
    /// Topic to archive (may be given multiple times)
    #[arg(long, value_name = "TOPIC")]
    topic: Vec<String>,
    /// Only topics with a match of this pattern in their name
    #[arg(long, value_name = "REGEX")]
    topic_pattern: Option<String>,
    /// Interval between two looks for new topics
    #[arg(long, value_name = "TIME", default_value = "1m", value_parser = go_flags::duration)]
    topic_refresh: Duration,
    /// Channel to consume
    #[arg(long, value_name = "CHANNEL", default_value = "nsq_to_file")]
    channel: String,
    /// Messages written at most until they are on disk and finished
    #[arg(long, value_name = "COUNT", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    max_in_flight: u32,
    /// Folder of the files
    #[arg(long, value_name = "FOLDER", default_value = "/tmp")]
    output_dir: PathBuf,
    /// Folder of files that are not complete
    #[arg(long, value_name = "FOLDER")]
    work_dir: Option<PathBuf>,
    /// Name of a file, with <TOPIC>, <HOST>, <PID>, <DATETIME> and <REV>
    #[arg(long, value_name = "FORMAT", default_value = "<TOPIC>.<HOST><REV>.<DATETIME>.log")]
    filename_format: String,
    /// Form of <DATETIME>
    #[arg(long, value_name = "STRFTIME", default_value = "%Y-%m-%d_%H")]
    datetime_format: String,
    /// Form of <HOST>, with <SHORT_HOST> and <HOSTNAME>
    #[arg(long, value_name = "FORMAT", default_value = "")]
    host_identifier: String,
    /// Compress files with gzip
    #[arg(long, value_parser = go_flags::boolean, num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true")]
    gzip: bool,
    /// Level of compression
    #[arg(long, value_name = "LEVEL", default_value_t = 6)]
    gzip_level: u32,
    /// Begin a new file when one is larger; 0: never
    #[arg(long, value_name = "BYTES", default_value_t = 0)]
    rotate_size: u64,
    /// Begin a new file when one is older; 0: never
    #[arg(long, value_name = "TIME", default_value = "0", value_parser = go_flags::duration)]
    rotate_interval: Duration,
    /// Begin a file only when there is a message for it
    #[arg(long, value_parser = go_flags::boolean, num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true")]
    skip_empty_files: bool,
    /// Longest time until messages are on disk and finished
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = go_flags::duration)]
    sync_interval: Duration,
    /// Longest time to connect to a lookup server
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = go_flags::positive_duration)]
    http_client_connect_timeout: Duration,
    /// Longest time for a lookup server's answer
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = go_flags::positive_duration)]
    http_client_request_timeout: Duration,
    /// Lines of the log from this level on
    #[arg(long, value_enum, default_value_t = Level::Info, ignore_case = true)]
    log_level: Level,
    /// Beginning of each line of the log
    #[arg(long, value_name = "TEXT", default_value = "[nsq_to_file] ")]
    log_prefix: String,
}

impl NsqToFile {
    /// Checks what the flags name together.
    pub(super) fn check(&self) -> Result<(), String> {
        if self.topic.is_empty() && self.topic_pattern.is_none() {
            return Err("--topic or --topic-pattern required".to_owned());
        }
        if !(1..=9).contains(&self.gzip_level) {
            return Err(format!("invalid --gzip-level value ({}), should be 1-9", self.gzip_level));
        }
        if self.channel.is_empty() {
            return Err("--channel is required".to_owned());
        }
        if self.topic.is_empty() && self.source.lookup_servers().is_empty() {
            return Err("--lookupd-http-address must be specified when no --topic specified".to_owned());
        }
        Ok(())
    }

    pub(super) async fn connect(&self) -> Result<Source, String> {
        self.source.connect("nsq_to_file", self.max_in_flight).await
    }

    /// The job, once the brokers are reached.
    pub(super) fn job(self, client: Client, options: SubscribeOptions) -> Result<Job, String> {
        let servers = self.source.lookup_servers();
        let work_dir = self.work_dir.filter(|folder| !folder.as_os_str().is_empty());
        let work_dir = work_dir.unwrap_or_else(|| self.output_dir.clone());
        let limits = Limits { size: self.rotate_size, age: self.rotate_interval };
        let identifier = match self.host_identifier.as_str() {
            "" => "<SHORT_HOST>",
            other => other,
        };
        let template = Template {
            filename: self.filename_format,
            datetime: self.datetime_format,
            host: Host::of_system().identifier(identifier),
            has_rev: self.gzip || limits.rotates() || work_dir != self.output_dir,
            gzip: self.gzip,
        };
        template.check()?;
        let timeout = self.http_client_connect_timeout + self.http_client_request_timeout;
        let pattern = self.topic_pattern.as_deref();
        let (topics, discovery) = Discovery::choose(self.topic, pattern, &servers, self.topic_refresh)?;
        Ok(Job {
            client,
            options: patient(options, self.sync_interval)?,
            channel: self.channel,
            topics,
            discovery: discovery.map(|discovery| discovery.with_timeout(timeout)),
            settings: Settings {
                output_dir: self.output_dir,
                work_dir,
                template,
                format: Format::Lines,
                gzip: self.gzip.then_some(self.gzip_level),
                limits,
            },
            sync_interval: self.sync_interval,
            skip_empty_files: self.skip_empty_files,
            log: Log::dated(&self.log_prefix, self.log_level),
        })
    }
}

/// Options under which a message may wait for the next fsync without coming again.
fn patient(mut options: SubscribeOptions, sync_interval: Duration) -> Result<SubscribeOptions, String> {
    if sync_interval.is_zero() || sync_interval > SYNC_INTERVAL_MAX {
        return Err(format!("--sync-interval is {sync_interval:?}: more than 0, at most 7m30s"));
    }
    if options.msg_timeout < 2 * sync_interval {
        options.msg_timeout = (2 * sync_interval).max(MSG_TIMEOUT);
    }
    Ok(options)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_may_be_in_flight_for_two_intervals_of_fsync() {
        let of = |seconds| {
            patient(SubscribeOptions::default(), Duration::from_secs(seconds))
                .map(|o| o.msg_timeout.as_secs())
        };
        assert_eq!((of(1), of(30), of(60), of(450)), (Ok(60), Ok(60), Ok(120), Ok(900)));
        assert!(of(0).is_err() && of(451).unwrap_err().contains("7m30s"));
    }
}

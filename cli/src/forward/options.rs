//! Flags of `mq forward`, of `nsq_to_http` and of `nsq_to_nsq`.

use std::path::PathBuf;
use std::time::Duration;

use hyper::Method;
use libmq::{Config, SubscribeOptions};
use mq_bench::broker_flags::Token;
use mq_core::{ChannelName, TopicName};
use mq_nsq::client::{ClientTls, ClientTlsOptions};
use mq_server::config::units;

use super::destination::{Destination, ToBrokers};
use super::filter::Filter;
use super::http::{Requests, Web, headers};
use super::pool::Mode;
use super::{Job, Retry};
use crate::brokers::nsq_flags::{NsqSource, Source, producer};
use crate::brokers::options::Consumer;
use crate::brokers::{Brokers, broker_addresses, user_agent};
use crate::go_flags;
use crate::log::Log;

/// Form of the bodies of POSTs unless another is given.
const CONTENT_TYPE: &str = "application/octet-stream";
/// Longest wait of nsq_to_nsq for a destination's answer.
const ANSWER: Duration = Duration::from_secs(5);

/// Flags of `mq forward`.
#[derive(clap::Args)]
pub(crate) struct Forward {
    #[command(flatten)]
    brokers: Brokers,
    /// Topic to forward; several by giving the flag again
    #[arg(long, required = true, value_name = "TOPIC", value_parser = topic)]
    topic: Vec<String>,
    /// Channel to consume, one for each destination
    #[arg(long, value_name = "CHANNEL", default_value = "forward", value_parser = channel)]
    channel: String,
    /// Destination: http:// or https:// for a web server, mq://host:port or mqs:// for brokers; several by
    /// giving the flag again
    #[arg(long, required = true, value_name = "URL")]
    to: Vec<String>,
    /// Topic at the destination; the message's without it
    #[arg(long, value_name = "TOPIC", value_parser = topic)]
    to_topic: Option<String>,
    /// File whose first line is the secret to show to the destination's brokers
    #[arg(long, value_name = "FILE")]
    to_auth_token_file: Option<PathBuf>,
    /// PEM file of the roots that a destination's certificate must chain to; the system's without it
    #[arg(long, value_name = "FILE")]
    to_tls_ca: Option<PathBuf>,
    /// Send GETs, with the message in place of the %s of the URL, instead of POSTs
    #[arg(long)]
    get: bool,
    /// Choice among several destinations
    #[arg(long, value_enum, default_value_t = Mode::Hostpool)]
    mode: Mode,
    /// Messages on their way at a time, of each topic
    #[arg(long, value_name = "COUNT", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    concurrency: u32,
    /// Messages in flight at most, of each topic
    #[arg(long, value_name = "COUNT", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    max_in_flight: u32,
    /// Share of the messages that go on, 0 to 1; the others are finished
    #[arg(long, value_name = "SHARE", default_value_t = 1.0, value_parser = share)]
    sample: f64,
    /// Form of the bodies of POSTs
    #[arg(long, value_name = "TYPE", default_value = CONTENT_TYPE)]
    content_type: String,
    /// Header of each request, 'Key: value'; several by giving the flag again
    #[arg(long, value_name = "HEADER")]
    header: Vec<String>,
    /// Longest time to connect to a web server
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = go_flags::positive_duration)]
    connect_timeout: Duration,
    /// Longest time until a destination has taken a message
    #[arg(long, value_name = "TIME", default_value = "20s", value_parser = go_flags::positive_duration)]
    timeout: Duration,
    /// Drop messages that are no JSON object with this field
    #[arg(long, value_name = "NAME")]
    require_field: Option<String>,
    /// Drop messages whose required field has another value; requeue those without it
    #[arg(long, value_name = "VALUE", requires = "require_field")]
    require_value: Option<String>,
    /// Send only this field of JSON objects; several by giving the flag again
    #[arg(long, value_name = "NAME")]
    only_field: Vec<String>,
    /// Leave headers out, as for brokers that know none; without it a web server gets them as Mq-Header-NAME
    #[arg(long)]
    drop_headers: bool,
    /// Deliveries of one message at most: one that fails as often is given up with the last failure, that is
    /// finished, and gone unless --give-up-topic keeps it; 0: any number
    #[arg(long, value_name = "COUNT", default_value_t = 0)]
    max_attempts: u16,
    /// Topic that messages are published to when they are given up, at the brokers they come from
    #[arg(long, value_name = "TOPIC", value_parser = topic)]
    give_up_topic: Option<String>,
    /// Delay before a message that failed comes again, times its attempts, at most 15m
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = units::duration)]
    requeue_delay: Duration,
    /// Longest pause after failures; 0: none
    #[arg(long, value_name = "TIME", default_value = "2m", value_parser = units::duration)]
    max_backoff: Duration,
    /// Print how long deliveries took after so many; 0: never
    #[arg(long, value_name = "COUNT", default_value_t = 0)]
    status_every: usize,
}

fn topic(text: &str) -> Result<String, String> {
    TopicName::parse(text).map(|name| name.to_string()).map_err(|error| error.to_string())
}

fn channel(text: &str) -> Result<String, String> {
    ChannelName::parse(text).map(|name| name.to_string()).map_err(|error| error.to_string())
}

fn share(text: &str) -> Result<f64, String> {
    let share = text.parse().ok().filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| "it must be between 0.0 and 1.0".to_owned())
}

fn tls(root_ca_file: Option<PathBuf>) -> Result<ClientTls, String> {
    let options = ClientTlsOptions { root_ca_file, ..ClientTlsOptions::default() };
    ClientTls::load(&options).map_err(|error| format!("TLS: {error}"))
}

impl Forward {
    /// Refuses to publish to where it consumes: each message would come again for ever.
    fn check_for_circles(&self) -> Result<(), String> {
        let sources = broker_addresses(&self.brokers.url());
        for to in &self.to {
            let destinations = broker_addresses(to);
            let Some(same) = destinations.iter().find(|address| sources.contains(address)) else { continue };
            let is_circle = |topic: &&String| self.to_topic.as_ref().is_none_or(|to| to == *topic);
            if let Some(topic) = self.topic.iter().find(is_circle) {
                return Err(format!(
                    "--to names the broker {same}, from which topic {topic} comes: it would be forwarded to itself \
                     for ever; give another --to-topic"
                ));
            }
        }
        match &self.give_up_topic {
            Some(given_up) if self.topic.contains(given_up) => Err(format!(
                "--give-up-topic is {given_up}, which is forwarded: what is given up would come again for ever"
            )),
            _ => Ok(()),
        }
    }

    /// Checks the flags, and opens the clients.
    pub(super) fn job(self) -> Result<Job, String> {
        self.check_for_circles()?;
        if self.give_up_topic.is_some() && self.max_attempts == 0 {
            return Err("--give-up-topic needs --max-attempts: without it nothing is given up".to_owned());
        }
        let mut config = Config { user_agent: user_agent("mq-forward"), ..Config::default() };
        config.tls_root_ca_file.clone_from(&self.to_tls_ca);
        if let Some(secret) = Token::of_file(self.to_auth_token_file).read()? {
            let secret = String::from_utf8(secret);
            config.auth_secret = Some(secret.map_err(|_| "--to-auth-token-file: not UTF-8".to_owned())?);
        }
        let mut requests = Requests {
            method: if self.get { Method::GET } else { Method::POST },
            headers: headers(&self.header, &user_agent("mq-forward"))?,
            connect_timeout: self.connect_timeout,
            timeout: self.timeout,
            tls: None,
        };
        if self.to.iter().any(|url| url.starts_with("https://")) {
            requests.tls = Some(tls(self.to_tls_ca)?);
        }
        if !self.get {
            requests.content_type(&self.content_type)?;
        }
        let destination = |url: &String| -> Result<Destination, String> {
            if url.starts_with("http://") || url.starts_with("https://") {
                return Web::new(url, requests.clone()).map(|web| Destination::Web(Box::new(web)));
            }
            let of_brokers = ["mq://", "mqs://", "mq+lookup://", "mqs+lookup://", "mq+unix:", "mqs+unix:"];
            if !of_brokers.iter().any(|scheme| url.starts_with(scheme)) {
                return Err(format!(
                    "--to {url}: it must begin with http://, https:// or {}",
                    of_brokers.join(", ")
                ));
            }
            let client =
                libmq::connect_with(url, config.clone()).map_err(|error| format!("--to: {error}"))?;
            let name = url.split('?').next().unwrap_or_default().to_owned();
            Ok(Destination::Brokers(ToBrokers { name, client, timeout: self.timeout }))
        };
        let destinations = self.to.iter().map(destination).collect::<Result<_, _>>()?;
        Ok(Job {
            client: self.brokers.connect("mq-forward")?,
            options: SubscribeOptions {
                max_in_flight: self.max_in_flight,
                start: self.brokers.start(),
                ..SubscribeOptions::default()
            },
            channel: self.channel,
            topics: self.topic,
            to_topic: self.to_topic,
            destinations,
            mode: self.mode,
            concurrency: self.concurrency as usize,
            sample: self.sample,
            filter: Filter { field: self.require_field, value: self.require_value, only: self.only_field },
            has_headers: !self.drop_headers,
            retry: Retry {
                max_attempts: self.max_attempts,
                ends_with_last_failure: true,
                delay: self.requeue_delay,
                delay_max: Duration::from_secs(15 * 60),
                backoff_unit: Duration::from_secs(1),
                backoff_max: self.max_backoff,
            },
            give_up_topic: self.give_up_topic,
            status_every: self.status_every,
            log: Log::new("mq forward"),
        })
    }
}

/// Flags of `nsq_to_http`.
#[derive(clap::Args)]
pub(crate) struct NsqToHttp {
    #[command(flatten)]
    source: NsqSource,
    /// Topic to consume
    #[arg(long, value_name = "TOPIC", default_value = "")]
    topic: String,
    /// Channel to consume
    #[arg(long, value_name = "CHANNEL", default_value = "nsq_to_http")]
    channel: String,
    /// URL of GETs, with %s for the message (may be given multiple times)
    #[arg(long, value_name = "URL")]
    get: Vec<String>,
    /// URL of POSTs, whose body is the message (may be given multiple times)
    #[arg(long, value_name = "URL")]
    post: Vec<String>,
    /// Choice among several URLs
    #[arg(long, value_enum, default_value_t = Mode::Hostpool)]
    mode: Mode,
    /// Messages in flight at most
    #[arg(long, value_name = "COUNT", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    max_in_flight: u32,
    /// Requests at a time
    #[arg(long, value_name = "COUNT", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    n: u32,
    /// Share of the messages that are sent; the others are finished
    #[arg(long, value_name = "SHARE", default_value_t = 1.0)]
    sample: f64,
    /// Form of the bodies of POSTs
    #[arg(long, value_name = "TYPE", default_value = CONTENT_TYPE)]
    content_type: String,
    /// Header of each request, 'Key: value' (may be given multiple times)
    #[arg(long, value_name = "HEADER")]
    header: Vec<String>,
    /// Longest time to connect
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = go_flags::positive_duration)]
    http_client_connect_timeout: Duration,
    /// Longest time of a request
    #[arg(long, value_name = "TIME", default_value = "20s", value_parser = go_flags::positive_duration)]
    http_client_request_timeout: Duration,
    /// Requests between two status lines; 0: none
    #[arg(long, value_name = "COUNT", default_value_t = 250)]
    status_every: usize,
}

impl NsqToHttp {
    /// Checks the flags, and reaches the brokers.
    pub(super) async fn job(self) -> Result<Job, String> {
        let mut requests = Requests {
            method: if self.get.is_empty() { Method::POST } else { Method::GET },
            headers: headers(&self.header, "nsq_to_http v1.3.0")?,
            connect_timeout: self.http_client_connect_timeout,
            timeout: self.http_client_request_timeout,
            tls: None,
        };
        if self.topic.is_empty() || self.channel.is_empty() {
            return Err("--topic and --channel are required".to_owned());
        }
        if self.content_type != CONTENT_TYPE && self.post.is_empty() {
            return Err("--content-type only used with --post".to_owned());
        }
        if self.content_type.is_empty() {
            return Err("--content-type requires a value when used".to_owned());
        }
        if !(0.0..=1.0).contains(&self.sample) {
            return Err("--sample must be between 0.0 and 1.0".to_owned());
        }
        let urls = match (self.get.as_slice(), self.post.as_slice()) {
            ([], []) => return Err("--get or --post required".to_owned()),
            ([_, ..], [_, ..]) => return Err("use --get or --post not both".to_owned()),
            ([], urls) => {
                requests.content_type(&self.content_type)?;
                urls
            }
            (urls, _) => urls,
        };
        if urls.iter().any(|url| url.starts_with("https://")) {
            requests.tls = Some(tls(None)?);
        }
        let web = |url: &String| Web::new(url, requests.clone()).map(|web| Destination::Web(Box::new(web)));
        let destinations = urls.iter().map(web).collect::<Result<_, _>>()?;
        let source = self.source.connect("nsq_to_http", self.max_in_flight).await?;
        Ok(Job {
            channel: self.channel,
            topics: vec![self.topic],
            mode: self.mode,
            concurrency: self.n as usize,
            sample: self.sample,
            status_every: self.status_every,
            ..of_nsq("nsq_to_http", source, destinations)
        })
    }
}

/// Flags of `nsq_to_nsq`.
#[derive(clap::Args)]
pub(crate) struct NsqToNsq {
    #[command(flatten)]
    source: NsqSource,
    /// Topic to consume (may be given multiple times)
    #[arg(long, value_name = "TOPIC", value_parser = topic)]
    topic: Vec<String>,
    /// Channel to consume
    #[arg(long, value_name = "CHANNEL", default_value = "nsq_to_nsq", value_parser = channel)]
    channel: String,
    /// TCP address of an nsqd to publish to (may be given multiple times)
    #[arg(long, value_name = "ADDRESS")]
    destination_nsqd_tcp_address: Vec<String>,
    /// Topic at the destination; the message's without it
    #[arg(long, value_name = "TOPIC", value_parser = topic)]
    destination_topic: Option<String>,
    /// Choice among several destinations
    #[arg(long, value_enum, default_value_t = Mode::Hostpool)]
    mode: Mode,
    /// Messages in flight at most
    #[arg(long, value_name = "COUNT", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    max_in_flight: u32,
    /// Pass only JSON messages with this field
    #[arg(long, value_name = "NAME", default_value = "")]
    require_json_field: String,
    /// Pass only messages whose required field has this value
    #[arg(long, value_name = "VALUE", default_value = "")]
    require_json_value: String,
    /// Pass only this field of JSON messages (may be given multiple times)
    #[arg(long, value_name = "NAME")]
    whitelist_json_field: Vec<String>,
    /// Option of the producers: name,value (may be given multiple times)
    #[arg(long, value_name = "NAME,VALUE")]
    producer_opt: Vec<String>,
    /// Messages between two status lines; 0: none
    #[arg(long, value_name = "COUNT", default_value_t = 250)]
    status_every: usize,
}

impl NsqToNsq {
    /// Checks the flags, and reaches the brokers.
    pub(super) async fn job(self) -> Result<Job, String> {
        if self.topic.is_empty() {
            return Err("--topic and --channel are required".to_owned());
        }
        if self.destination_nsqd_tcp_address.is_empty() {
            return Err("--destination-nsqd-tcp-address required".to_owned());
        }
        let brokers = |address: &String| {
            let client = producer("nsq_to_nsq", address, &self.producer_opt)?;
            Ok::<_, String>(Destination::Brokers(ToBrokers {
                name: address.clone(),
                client,
                timeout: ANSWER,
            }))
        };
        let destinations = self.destination_nsqd_tcp_address.iter().map(brokers).collect::<Result<_, _>>()?;
        let source = self.source.connect("nsq_to_nsq", self.max_in_flight).await?;
        let some = |text: String| (!text.is_empty()).then_some(text);
        Ok(Job {
            channel: self.channel,
            topics: self.topic,
            to_topic: self.destination_topic,
            mode: self.mode,
            concurrency: self.max_in_flight as usize,
            filter: Filter {
                field: some(self.require_json_field),
                value: some(self.require_json_value),
                only: self.whitelist_json_field,
            },
            status_every: self.status_every,
            ..of_nsq("nsq_to_nsq", source, destinations)
        })
    }
}

/// The part that NSQ's tools have in common.
fn of_nsq(tool: &str, source: Source, destinations: Vec<Destination>) -> Job {
    let Consumer { max_attempts, requeue_delay, requeue_delay_max, backoff_unit, backoff_max, .. } =
        source.consumer;
    Job {
        client: source.client,
        options: source.options,
        channel: String::new(),
        topics: Vec::new(),
        to_topic: None,
        destinations,
        mode: Mode::Hostpool,
        concurrency: 1,
        sample: 1.0,
        filter: Filter::default(),
        has_headers: false,
        retry: Retry {
            max_attempts,
            ends_with_last_failure: false,
            delay: requeue_delay,
            delay_max: requeue_delay_max,
            backoff_unit,
            backoff_max,
        },
        give_up_topic: None,
        status_every: 0,
        log: Log::new(tool),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_is_not_forwarded_to_itself() {
        use clap::{Args, FromArgMatches};
        let error = |arguments: &[&str]| {
            let flags = ["mq", "--url", "mq://127.0.0.1:1,b:2", "--topic", "t", "--topic", "u"];
            let command = Forward::augment_args(clap::Command::new("mq"));
            let matches = command.get_matches_from(flags.iter().chain(arguments));
            Forward::from_arg_matches(&matches).unwrap().check_for_circles().err()
        };
        for circle in [
            &["--to", "mq://localhost:1"][..],
            &["--to", "http://a/", "--to", "mqs://c:3,b:2", "--to-topic", "u"],
            &["--to", "http://a/", "--max-attempts", "1", "--give-up-topic", "u"],
        ] {
            assert!(error(circle).unwrap().contains("for ever"), "{circle:?}");
        }
        for fine in
            [&["--to", "mq://b:3"][..], &["--to", "mq://b:2", "--to-topic", "v"], &["--to", "http://b:2/"]]
        {
            assert_eq!(error(fine), None, "{fine:?}");
        }
    }

    #[test]
    fn a_share_is_between_nothing_and_all() {
        assert_eq!((share("0"), share("1.0"), share("0.25")), (Ok(0.0), Ok(1.0), Ok(0.25)));
        for wrong in ["-0.1", "1.1", "NaN", "half"] {
            assert!(share(wrong).is_err(), "{wrong}");
        }
    }
}

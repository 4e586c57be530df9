//! The list of settings: each declared once, with what nsqd calls it and what its default is there.

use std::path::PathBuf;
use std::time::Duration;

use mq_nsq::server::OptionValue;

use crate::config::sources::Sources;
use crate::config::value::list::{AuthServer, Experiment, Fraction, HostName, List, Peer};
use crate::config::value::word::{AuthMethod, CertificatePolicy, TlsRequired, TlsVersion};
use crate::config::value::{
    Address, LogFormat, LogLevel, MaybeAddress, MaybePath, NodeId, Size, Value, WireSize,
};
use crate::invoked_as::InvokedAs;

/// One setting as far as its type does not matter.
pub(crate) struct Setting {
    /// Name of the field; the flag has dashes for underscores.
    pub(crate) key: &'static str,
    /// Name in the file: the same but for some of nsqd's.
    pub(crate) file_key: &'static str,
    pub(crate) help: &'static str,
    pub(crate) default: &'static str,
    /// Default under nsqd's name, where that differs.
    pub(crate) nsqd_default: Option<&'static str>,
    pub(crate) form: &'static str,
    pub(crate) switch: bool,
    pub(crate) list: bool,
    /// A text as `/config` answers it, if it is a value of its type.
    pub(crate) show: fn(&str) -> Option<OptionValue>,
    pub(crate) effect: Effect,
}

/// Effect of giving a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// The effect that its help describes.
    Full,
    /// Ignored for good: the text says what applies instead.
    None(&'static str),
    /// Ignored so far.
    Later,
}

/// The settings of one command.
pub(crate) struct Schema {
    /// All of them, those without effect last.
    pub(crate) settings: &'static [Setting],
    /// Prefix of its environment variables.
    pub(crate) prefix: &'static str,
    /// The command that lists them.
    pub(crate) help: &'static str,
}

impl Schema {
    /// The environment variable of the setting `key`.
    pub(crate) fn variable(&self, key: &str) -> String {
        format!("{}{}", self.prefix, key.to_ascii_uppercase())
    }
}

/// `mq serve`'s.
pub(crate) const SERVE: Schema = Schema { settings: SETTINGS, prefix: "MQ_", help: "mq serve --help" };

impl Setting {
    pub(crate) fn help(&self) -> &'static str {
        self.help.trim()
    }

    pub(crate) fn default(&self, invoked_as: InvokedAs) -> &'static str {
        match (invoked_as, self.nsqd_default) {
            (InvokedAs::Nsqd | InvokedAs::Nsqlookupd | InvokedAs::Nsqadmin, Some(default)) => default,
            _ => self.default,
        }
    }
}

macro_rules! or {
    ($default:expr) => {
        $default
    };
    ($default:expr, $other:expr) => {
        $other
    };
}

/// Declares `Config` and `SETTINGS` from one list. Defaults are written as a user would, and read the same
/// way. A setting without effect has no field; its value is checked all the same.
macro_rules! settings {
    (
        $(#[doc = $what:literal])+;
        $($(#[doc = $help:literal])+ $key:ident $(/ $file:literal)?: $type:ty = $default:literal $(, nsqd $nsqd:literal)?;)+
        ---
        $($(#[doc = $nhelp:literal])+ $nkey:ident $(/ $nfile:literal)?: $ntype:ty = $ndefault:literal $(, nsqd $nnsqd:literal)? => $effect:expr;)+
    ) => {
        $(#[doc = $what])+
        #[derive(Clone, Debug)]
        pub(crate) struct Config {
            $($(#[doc = $help])+ pub(crate) $key: $type,)+
        }

        /// All settings, those without effect last.
        pub(crate) const SETTINGS: &[Setting] = &[
            $(Setting {
                key: stringify!($key),
                file_key: $crate::config::settings::or!(stringify!($key) $(, $file)?),
                help: concat!($($help),+),
                default: $default,
                nsqd_default: $crate::config::settings::or!(None $(, Some($nsqd))?),
                form: <$type as Value>::FORM,
                switch: <$type as Value>::SWITCH,
                list: <$type as Value>::LIST,
                show: |text| <$type as Value>::parse(text).map(|value| value.show()),
                effect: Effect::Full,
            },)+
            $(Setting {
                key: stringify!($nkey),
                file_key: $crate::config::settings::or!(stringify!($nkey) $(, $nfile)?),
                help: concat!($($nhelp),+),
                default: $ndefault,
                nsqd_default: $crate::config::settings::or!(None $(, Some($nnsqd))?),
                form: <$ntype as Value>::FORM,
                switch: <$ntype as Value>::SWITCH,
                list: <$ntype as Value>::LIST,
                show: |text| <$ntype as Value>::parse(text).map(|value| value.show()),
                effect: $effect,
            },)+
        ];

        impl Config {
            pub(crate) fn from_sources(sources: &Sources<'_>) -> Result<Self, String> {
                Ok(Self { $($key: sources.read(stringify!($key))?,)+ })
            }
        }
    };
}

pub(crate) use {or, settings};

settings! {
    /// Settings of `mq serve`.
    ;

    /// Address for NSQ clients: host:port, or the path of a unix socket
    tcp_address: Address = "127.0.0.1:4150", nsqd "0.0.0.0:4150";
    /// Address of the HTTP API; empty = not served
    http_address: MaybeAddress = "127.0.0.1:4151", nsqd "0.0.0.0:4151";
    /// Address of the HTTP API over TLS, given --tls-cert; empty = not served
    https_address: MaybeAddress = "127.0.0.1:4152", nsqd "0.0.0.0:4152";
    /// Address of gRPC, over TLS given --tls-cert; empty = not served
    grpc_address: MaybeAddress = "127.0.0.1:4155", nsqd "";
    /// Most streams of a gRPC connection at a time, 16 before a call was admitted on it; one more is refused
    grpc_max_streams: u32 = "256";
    /// Silence of a gRPC connection after which the server pings it
    grpc_keepalive_interval: Duration = "30s";
    /// Longest wait for the answer to that ping; then the connection is closed
    grpc_keepalive_timeout: Duration = "10s";
    /// File of the tokens, one a line, of which HTTP and gRPC requests must show one (Authorization: Bearer),
    /// all but /ping
    http_auth_token_file: MaybePath = "";
    /// Names in a request's Host by which clients on this machine may reach HTTP without a token, beside IP
    /// addresses, localhost, the host's name and --broadcast-address
    http_allowed_hosts: List<HostName> = "";
    /// Serves the admin page under /admin/ of the HTTP API, to whom may use that
    admin: bool = "true", nsqd "false";
    /// Address of a port of its own for the admin page; empty = none
    admin_address: MaybeAddress = "";
    /// Name that others reach this broker by; empty = the address it listens on, or the host's name
    broadcast_address: String = "";
    /// HTTP port that others reach it at; 0 = the real one
    broadcast_http_port: u16 = "0";
    /// gRPC port that others reach it at; 0 = the real one
    broadcast_grpc_port: u16 = "0";
    /// Data folder; created if it does not exist
    data_path: PathBuf = "mq-data", nsqd ".";
    /// Memory for messages. Beyond it they are only on disk, and so are written ones beyond a quarter of it,
    /// at most 256MiB
    memory_limit: Size = "256MiB";
    /// Meaning of OK for a new topic's messages: in memory (memory), written to the operating system (flush),
    /// or fsync'd (sync)
    durability: mq_core::Durability = "flush";
    /// Most bytes of the log's files. Beyond it publishes are refused, or drop the oldest messages of topics
    /// set to that; 0 = no limit, else at least 512MiB
    max_disk_bytes: Size = "0";
    /// Delay of an fsync that level sync waits for, to cover more messages with it; for disks with a slow
    /// fsync; at most 10s
    sync_wait: Duration = "0s";
    /// Time a topic remembers the ids that publishers give messages, so that one sent again is stored once;
    /// 0s = not at all, at most 168h
    dedup_window: Duration = "2m";
    /// Most ids a topic remembers: the newest; at most 10000000
    dedup_max_ids: u64 = "100000";
    /// Part of every message id, different on each broker of a cluster; auto = from the host's name
    node_id / "id": NodeId = "auto";
    /// Newest messages an ephemeral channel keeps, fewer where they would take more than a sixteenth of
    /// --memory-limit; other channels keep all, in memory as far as --memory-limit goes
    mem_queue_size: u64 = "10000";
    /// Time a consumer has to finish a message before it is delivered again
    msg_timeout: Duration = "60s";
    /// Longest such time a consumer may ask for, and reach by TOUCH
    max_msg_timeout: Duration = "15m";
    /// Longest delay of a requeue or a deferred publish; a longer REQ is cut to it, as by nsqd, all else is
    /// refused
    max_req_timeout: Duration = "1h";
    /// Largest message
    max_msg_size: WireSize = "1048576";
    /// Largest body of one command (MPUB)
    max_body_size: WireSize = "5242880";
    /// Most messages a consumer may have in flight (RDY)
    max_rdy_count: u32 = "2500";
    /// Longest interval between heartbeats a client may ask for
    max_heartbeat_interval: Duration = "60s";
    /// Largest output buffer a client may ask for
    max_output_buffer_size: WireSize = "65536";
    /// Shortest time a client may ask its output to be buffered for
    min_output_buffer_timeout: Duration = "25ms";
    /// Longest such time
    max_output_buffer_timeout: Duration = "30s";
    /// Most consumers of a channel; 0 = any number
    max_channel_consumers: u64 = "0";
    /// PEM file of the server's certificate and the intermediate ones
    tls_cert: MaybePath = "";
    /// PEM file of the certificate's private key
    tls_key: MaybePath = "";
    /// PEM file of the roots that certificates of clients and auth servers are verified against
    tls_root_ca_file: MaybePath = "";
    /// Client certificates: require any, or require-verify one signed by a root; either makes TLS required
    tls_client_auth_policy: CertificatePolicy = "";
    /// Refuses clients without TLS; tcp-https leaves plain HTTP open
    tls_required: TlsRequired = "false";
    /// Lowest version of TLS, with clients and with auth servers
    tls_min_version: TlsVersion = "tls1.2", nsqd "tls1.0";
    /// Lets clients use deflate
    deflate: bool = "true";
    /// Highest level of deflate a client may ask for, 1 to 9
    max_deflate_level: u32 = "6";
    /// Lets clients use snappy
    snappy: bool = "true";
    /// Auth servers that decide what a client may do; with any, clients must AUTH
    auth_http_address / "auth_http_addresses": List<AuthServer> = "";
    /// HTTP method of requests to auth servers: get or post
    auth_http_request_method: AuthMethod = "get";
    /// Longest time to connect to an auth server
    http_client_connect_timeout: Duration = "2s";
    /// Longest time for an auth server's answer
    http_client_request_timeout: Duration = "5s";
    /// Region shown to clients
    topology_region: String = "";
    /// Zone in the region, shown to clients
    topology_zone: String = "";
    /// Lookup servers to register at: host:port; dns:host:port for one at each address of the name; srv:name
    /// for those DNS lists under a service
    lookupd_tcp_address / "nsqlookupd_tcp_addresses": List<Peer> = "";
    /// TCP port that others reach this broker at; 0 = the real one
    broadcast_tcp_port: u16 = "0";
    /// Runs a lookup server in this process too, and registers at it
    lookup: bool = "false";
    /// Address where brokers register at it
    lookup_tcp_address: Address = "127.0.0.1:4160";
    /// Address of its HTTP API
    lookup_http_address: Address = "127.0.0.1:4161";
    /// Gives each channel metrics of its own; otherwise a topic's channels are summed
    metrics_per_channel: bool = "true";
    /// statsd server to push statistics to: host:port; empty = none
    statsd_address: MaybeAddress = "";
    /// Prefix of the statistics' names; %s is the broadcast address and HTTP port
    statsd_prefix: String = "nsq.%s";
    /// Interval between pushes of statistics
    statsd_interval: Duration = "60s";
    /// Pushes statistics of the process's memory too
    statsd_mem_stats: bool = "true";
    /// Largest UDP packet of statistics, in bytes
    statsd_udp_packet_size: u64 = "508";
    /// Leaves ephemeral topics and channels out of the statistics
    statsd_exclude_ephemeral: bool = "false";
    /// Percentiles of the time from publish to finish, for /stats and statsd
    e2e_processing_latency_percentile / "e2e_processing_latency_percentiles": List<Fraction> = "";
    /// Window of time they are computed over
    e2e_processing_latency_window_time: Duration = "10m";
    /// Least severe log lines to write: trace, debug, info, warn, error
    log_level: LogLevel = "info";
    /// Prefix of each line of a text log
    log_prefix: String = "", nsqd "[nsqd] ";
    /// Form of log lines on stderr: text, or one JSON object a line (json)
    log_format: LogFormat = "text";
    ---
    /// nsqd: the disk is synced after this many messages
    sync_every: u64 = "2500" => Effect::None("the disk is synced every second; --durability says what OK means");
    /// nsqd: the disk is synced after this time
    sync_timeout: Duration = "2s" => Effect::None("the disk is synced every second; --durability says what OK means");
    /// nsqd: size of a file of a disk queue
    max_bytes_per_file: u64 = "104857600" => Effect::None("all topics share one log of 64 MiB files, removed when consumed");
    /// nsqd: channels looked at in a round
    queue_scan_selection_count: u64 = "20" => Effect::None("every timeout and delay has a timer: nothing is scanned");
    /// nsqd: most threads that look at channels
    queue_scan_worker_pool_max: u64 = "4" => Effect::None("every timeout and delay has a timer: nothing is scanned");
    /// nsqd: time a client's output is buffered unless it asks for another
    output_buffer_timeout: Duration = "250ms" => Effect::None("output is sent as soon as nothing more is ready, a flow of single messages every millisecond or two");
    /// nsqd: no effect there either
    verbose: bool = "false" => Effect::None("--log-level debug writes more");
    /// nsqd: the old name of node-id, no effect there either
    worker_id: u64 = "0" => Effect::None("--node-id is the setting to use");
    /// nsqd: experiments to take part in
    enable_experiment: List<Experiment> = "" => Effect::Later;
}

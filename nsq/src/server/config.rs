//! Settings of a server at its start.

use std::path::PathBuf;
use std::time::Duration;

use super::auth::AuthMethod;
use super::drain::Drain;
use super::options::Options;
use super::statsd::StatsdConfig;
use crate::wire::Limits;
use crate::wire::identify::Bounds;
use mq_net::budget::Budget;
use mq_net::transport::tls::{TlsOptions, TlsVersion};

/// The version of NSQ that a server's clients can take it for.
pub const NSQ_VERSION: &str = "1.3.0";

/// Limits and names of a server. The defaults are nsqd's, but for the address, which is loopback.
#[derive(Clone, Debug)]
pub struct Config {
    /// `host:port`, `:port` for all interfaces, or the path of a unix socket. Port 0 takes a free one.
    pub tcp_address: String,
    /// The version of nsqd that clients see: some take a feature for missing by it.
    pub version: String,
    /// Largest message body in bytes.
    pub max_msg_size: u32,
    /// Largest body of a command in bytes: all messages of an MPUB with their lengths.
    pub max_body_size: u32,
    /// Longest time in flight for clients that do not choose one.
    pub msg_timeout: Duration,
    /// The longest a client may choose.
    pub max_msg_timeout: Duration,
    /// Longest delay of a requeued or deferred message.
    pub max_req_timeout: Duration,
    /// Most messages in flight at one connection.
    pub max_rdy_count: u32,
    /// Longest heartbeat interval a client may choose.
    pub max_heartbeat_interval: Duration,
    /// Shortest output buffer timeout a client may choose.
    pub min_output_buffer_timeout: Duration,
    /// Longest output buffer timeout a client may choose.
    pub max_output_buffer_timeout: Duration,
    /// Largest output buffer a client may choose, in bytes.
    pub max_output_buffer_size: u32,
    /// TLS for clients that ask for it, or for all. `None`: for nobody.
    pub tls: Option<TlsOptions>,
    /// Whether clients may ask for snappy.
    pub snappy: bool,
    /// Whether clients may ask for deflate.
    pub deflate: bool,
    /// Highest compression level of deflate: 1 to 9.
    pub max_deflate_level: u8,
    /// The region that clients see.
    pub topology_region: String,
    /// The zone in the region that clients see.
    pub topology_zone: String,
    /// Auth servers: `host:port`, or a URL with the path to ask at. With any, clients have to AUTH first.
    pub auth_http_addresses: Vec<String>,
    /// HTTP method of requests to auth servers.
    pub auth_http_request_method: AuthMethod,
    /// Longest wait for a connection to an auth server.
    pub http_client_connect_timeout: Duration,
    /// Longest time of one request to the auth servers in all.
    pub http_client_request_timeout: Duration,
    /// Certificates of auth servers to trust in addition to the system's, PEM.
    pub tls_root_ca_file: Option<PathBuf>,
    /// The lowest version of TLS with auth servers.
    pub tls_min_version: TlsVersion,
    /// Address of HTTP, in the form of `tcp_address`. `None` if it is not served.
    pub http_address: Option<String>,
    /// Address of HTTPS, given TLS, in the form of `tcp_address`. `None` if it is not served.
    pub https_address: Option<String>,
    /// File of the tokens that HTTP requests have to show. `None`: they need none, unless there are auth
    /// servers.
    pub http_auth_token_file: Option<PathBuf>,
    /// Names by which HTTP clients on this machine may reach the server where it asks for no secret, beside
    /// IP addresses, `localhost`, `hostname` and `broadcast_address`.
    pub http_allowed_hosts: Vec<String>,
    /// The name of this host.
    pub hostname: String,
    /// The name that others reach this host by.
    pub broadcast_address: String,
    /// The HTTP port that others reach it at; 0 for the real one.
    pub broadcast_http_port: u16,
    /// Percentiles of the time from publish to finish to compute, above 0 and up to 1. None: it is not
    /// measured for it.
    pub latency_percentiles: Vec<f64>,
    /// The time they are computed over.
    pub latency_window: Duration,
    /// Whether each channel has metrics of its own. If not, those of a topic's channels are added up.
    pub metrics_per_channel: bool,
    /// Statistics to be pushed. `None`: none.
    pub statsd: Option<StatsdConfig>,
    /// Options that `/config` shows and changes.
    pub options: Options,
    /// Receiver of `/drain`.
    pub drain: Drain,
    /// The longest a publish that makes a new topic waits for the lookup servers to know the topic.
    pub announce_wait: Duration,
    /// Most connections at a time: an idle one costs some 3 KiB. One more gets an error and is closed.
    pub max_connections: usize,
    /// Memory for what is held for clients, in and out, over TCP and HTTP. Where it is spent, those in the
    /// middle of a large command and those that do not read wait, and who held much for long is closed.
    pub budget: Budget,
    /// Longest time for sessions to answer the commands they have read when the server stops.
    pub shutdown_timeout: Duration,
}

impl Default for Config {
    fn default() -> Self {
        let limits = Limits::default();
        let bounds = Bounds::default();
        Self {
            tcp_address: "127.0.0.1:4150".to_owned(),
            version: NSQ_VERSION.to_owned(),
            max_msg_size: limits.max_msg_size,
            max_body_size: limits.max_body_size,
            msg_timeout: Duration::from_secs(60),
            max_msg_timeout: bounds.max_msg_timeout,
            max_req_timeout: limits.max_req_timeout,
            max_rdy_count: limits.max_rdy_count,
            max_heartbeat_interval: bounds.max_heartbeat_interval,
            min_output_buffer_timeout: bounds.min_output_buffer_timeout,
            max_output_buffer_timeout: bounds.max_output_buffer_timeout,
            max_output_buffer_size: bounds.max_output_buffer_size,
            tls: None,
            snappy: true,
            deflate: true,
            max_deflate_level: 6,
            topology_region: String::new(),
            topology_zone: String::new(),
            auth_http_addresses: Vec::new(),
            auth_http_request_method: AuthMethod::Get,
            http_client_connect_timeout: Duration::from_secs(2),
            http_client_request_timeout: Duration::from_secs(5),
            tls_root_ca_file: None,
            tls_min_version: TlsVersion::default(),
            http_address: None,
            https_address: None,
            http_auth_token_file: None,
            http_allowed_hosts: Vec::new(),
            hostname: String::new(),
            broadcast_address: String::new(),
            broadcast_http_port: 0,
            latency_percentiles: Vec::new(),
            latency_window: Duration::from_secs(600),
            metrics_per_channel: true,
            statsd: None,
            options: Options::default(),
            drain: Drain::default(),
            // Some round trips in a data centre, and little enough for a publisher not to notice.
            announce_wait: Duration::from_millis(5),
            max_connections: 65_536,
            budget: Budget::default(),
            shutdown_timeout: Duration::from_secs(5),
        }
    }
}

impl Config {
    pub(super) fn limits(&self) -> Limits {
        Limits {
            max_msg_size: self.max_msg_size,
            max_body_size: self.max_body_size,
            max_req_timeout: self.max_req_timeout,
            max_rdy_count: self.max_rdy_count,
        }
    }

    pub(super) fn bounds(&self) -> Bounds {
        Bounds {
            max_heartbeat_interval: self.max_heartbeat_interval,
            min_output_buffer_timeout: self.min_output_buffer_timeout,
            max_output_buffer_timeout: self.max_output_buffer_timeout,
            max_output_buffer_size: self.max_output_buffer_size,
            max_msg_timeout: self.max_msg_timeout,
        }
    }
}

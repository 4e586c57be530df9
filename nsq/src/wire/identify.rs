//! IDENTIFY: what a client asks for, what of it is in bounds, and the answer.

use std::fmt;
use std::time::Duration;

use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::error::{Code, WireError};
use super::extension::Offer;

/// IDENTIFY's JSON. A missing or `null` key has its zero value; unknown keys are ignored; keys match in any
/// case, as in Go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// The client's short name, for stats only.
    pub client_id: String,
    /// The client's host, for stats only.
    pub hostname: String,
    /// The client's library and version, for stats only.
    pub user_agent: String,
    /// Whether to answer with JSON, and to start TLS and compression at all.
    pub feature_negotiation: bool,
    /// Milliseconds; -1: none, 0: the default.
    pub heartbeat_interval: i64,
    /// Bytes; -1: no buffer, 0: the default.
    pub output_buffer_size: i64,
    /// Milliseconds; -1: none, 0: the default.
    pub output_buffer_timeout: i64,
    /// Asks for TLS.
    pub tls_v1: bool,
    /// Asks for snappy.
    pub snappy: bool,
    /// Asks for deflate.
    pub deflate: bool,
    /// Used if above 0.
    pub deflate_level: i64,
    /// Percent of the messages to be sent; 0: all.
    pub sample_rate: i32,
    /// Milliseconds; 0: the default.
    pub msg_timeout: i64,
    /// The client's region.
    pub topology_region: String,
    /// The client's zone in its region.
    pub topology_zone: String,
    /// Features of libmq's extension that the client knows.
    pub libmq: Vec<String>,
}

impl Request {
    /// Parses IDENTIFY's body.
    ///
    /// # Errors
    /// The error to answer with if it is no JSON object, or a known key has a value of the wrong type.
    pub fn parse(body: &[u8]) -> Result<Self, WireError> {
        // Go replaces what is not UTF-8 instead of refusing it.
        serde_json::from_str::<Option<Self>>(&String::from_utf8_lossy(body))
            .map(Option::unwrap_or_default)
            .map_err(|_| bad_body("failed to decode JSON body".to_owned()))
    }
}

impl<'de> Deserialize<'de> for Request {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(RequestVisitor)
    }
}

struct RequestVisitor;

impl<'de> Visitor<'de> for RequestVisitor {
    type Value = Request;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Request, A::Error> {
        /// `null` leaves a value as it is.
        fn set<'de, T: Deserialize<'de>, A: MapAccess<'de>>(map: &mut A, to: &mut T) -> Result<(), A::Error> {
            if let Some(value) = map.next_value()? {
                *to = value;
            }
            Ok(())
        }

        let mut request = Request::default();
        while let Some(mut key) = map.next_key::<String>()? {
            key.make_ascii_lowercase();
            match key.as_str() {
                "client_id" => set(&mut map, &mut request.client_id)?,
                "hostname" => set(&mut map, &mut request.hostname)?,
                "user_agent" => set(&mut map, &mut request.user_agent)?,
                "feature_negotiation" => set(&mut map, &mut request.feature_negotiation)?,
                "heartbeat_interval" => set(&mut map, &mut request.heartbeat_interval)?,
                "output_buffer_size" => set(&mut map, &mut request.output_buffer_size)?,
                "output_buffer_timeout" => set(&mut map, &mut request.output_buffer_timeout)?,
                "tls_v1" => set(&mut map, &mut request.tls_v1)?,
                "snappy" => set(&mut map, &mut request.snappy)?,
                "deflate" => set(&mut map, &mut request.deflate)?,
                "deflate_level" => set(&mut map, &mut request.deflate_level)?,
                "sample_rate" => set(&mut map, &mut request.sample_rate)?,
                "msg_timeout" => set(&mut map, &mut request.msg_timeout)?,
                "topology_region" => set(&mut map, &mut request.topology_region)?,
                "topology_zone" => set(&mut map, &mut request.topology_zone)?,
                "libmq" => request.libmq = features(&map.next_value()?),
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(request)
    }
}

/// The features in the value of `libmq`. What is no list of names has none: an answer without an offer is one
/// that every client has to understand.
fn features(value: &serde_json::Value) -> Vec<String> {
    let names = value.as_array().into_iter().flatten();
    names.filter_map(|name| name.as_str().map(str::to_owned)).collect()
}

/// Bounds of a client's choices. The defaults are nsqd's.
#[derive(Clone, Debug)]
pub struct Bounds {
    /// Longest heartbeat interval: 60 s.
    pub max_heartbeat_interval: Duration,
    /// Shortest output buffer timeout: 25 ms.
    pub min_output_buffer_timeout: Duration,
    /// Longest output buffer timeout: 30 s.
    pub max_output_buffer_timeout: Duration,
    /// Largest output buffer: 64 KiB.
    pub max_output_buffer_size: u32,
    /// Longest message timeout: 15 min.
    pub max_msg_timeout: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            max_heartbeat_interval: Duration::from_secs(60),
            min_output_buffer_timeout: Duration::from_millis(25),
            max_output_buffer_timeout: Duration::from_secs(30),
            max_output_buffer_size: 64 * 1024,
            max_msg_timeout: Duration::from_secs(15 * 60),
        }
    }
}

/// The interval between heartbeats where the client does not choose.
pub const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(30);

const HEARTBEAT_INTERVAL_MIN_MS: i64 = 1000;
const OUTPUT_BUFFER_SIZE_MIN: i64 = 64;
const MSG_TIMEOUT_MIN_MS: i64 = 1000;

/// Settings in force on a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `None`: no heartbeats, no deadlines, and no SUB.
    pub heartbeat_interval: Option<Duration>,
    /// Bytes; 1: unbuffered.
    pub output_buffer_size: u32,
    /// Zero: none. An upper bound only: libmq writes when nothing more is ready.
    pub output_buffer_timeout: Duration,
    /// Percent of the messages to be sent; 0: all.
    pub sample_rate: u8,
    /// Longest time of a message in flight.
    pub msg_timeout: Duration,
}

impl Settings {
    /// Settings before IDENTIFY, with the server's message timeout.
    pub fn new(msg_timeout: Duration) -> Self {
        Self {
            heartbeat_interval: Some(HEARTBEAT_INTERVAL),
            output_buffer_size: 16 * 1024,
            output_buffer_timeout: Duration::from_millis(250),
            sample_rate: 0,
            msg_timeout,
        }
    }

    /// Takes over what `request` asks for.
    ///
    /// # Errors
    /// The error to answer with for the first value out of its bounds; what comes before it is taken over.
    pub fn apply(&mut self, request: &Request, bounds: &Bounds) -> Result<(), WireError> {
        self.heartbeat_interval = match request.heartbeat_interval {
            -1 => None,
            0 => self.heartbeat_interval,
            n if (HEARTBEAT_INTERVAL_MIN_MS..=ms(bounds.max_heartbeat_interval)).contains(&n) => {
                Some(duration(n))
            }
            n => return Err(out_of_bounds("heartbeat interval", n)),
        };

        let timeouts = ms(bounds.min_output_buffer_timeout)..=ms(bounds.max_output_buffer_timeout);
        self.output_buffer_timeout = match request.output_buffer_timeout {
            -1 => Duration::ZERO,
            0 => self.output_buffer_timeout,
            n if timeouts.contains(&n) => duration(n),
            n => return Err(out_of_bounds("output buffer timeout", n)),
        };

        let sizes = OUTPUT_BUFFER_SIZE_MIN..=i64::from(bounds.max_output_buffer_size);
        match request.output_buffer_size {
            -1 => {
                self.output_buffer_size = 1;
                self.output_buffer_timeout = Duration::ZERO;
            }
            0 => {}
            n => match u32::try_from(n) {
                Ok(size) if sizes.contains(&n) => self.output_buffer_size = size,
                _ => return Err(out_of_bounds("output buffer size", n)),
            },
        }

        self.sample_rate = match u8::try_from(request.sample_rate) {
            Ok(rate @ 0..=99) => rate,
            _ => return Err(out_of_bounds("sample rate", request.sample_rate.into())),
        };

        self.msg_timeout = match request.msg_timeout {
            0 => self.msg_timeout,
            n if (MSG_TIMEOUT_MIN_MS..=ms(bounds.max_msg_timeout)).contains(&n) => duration(n),
            n => return Err(out_of_bounds("msg timeout", n)),
        };
        Ok(())
    }
}

/// The answer to a client that asked for feature negotiation. The order of the keys is nsqd's, and the JSON
/// is compact: clients look at its first byte.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Reply {
    /// Largest RDY.
    pub max_rdy_count: i64,
    /// The server's version.
    pub version: String,
    /// Milliseconds.
    pub max_msg_timeout: i64,
    /// Milliseconds, what holds for this connection.
    pub msg_timeout: i64,
    /// Whether TLS starts now.
    pub tls_v1: bool,
    /// Whether deflate starts now.
    pub deflate: bool,
    /// The level deflate has or would have.
    pub deflate_level: i64,
    /// The highest level.
    pub max_deflate_level: i64,
    /// Whether snappy starts now.
    pub snappy: bool,
    /// Sample rate of this connection, in percent; 0 is all.
    pub sample_rate: i64,
    /// Whether AUTH must follow.
    pub auth_required: bool,
    /// Bytes, what holds for this connection.
    pub output_buffer_size: i64,
    /// Milliseconds, what holds for this connection.
    pub output_buffer_timeout: i64,
    /// The server's region.
    pub topology_region: String,
    /// The server's zone in its region.
    pub topology_zone: String,
    /// The extension's offer; `None` for clients that do not ask for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub libmq: Option<Offer>,
}

impl Reply {
    /// Puts in what holds for a connection.
    pub fn with(self, settings: &Settings) -> Self {
        Self {
            msg_timeout: ms(settings.msg_timeout),
            sample_rate: settings.sample_rate.into(),
            output_buffer_size: settings.output_buffer_size.into(),
            output_buffer_timeout: ms(settings.output_buffer_timeout),
            ..self
        }
    }
}

/// Whole milliseconds, as the protocol counts.
pub(crate) fn ms(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

fn duration(ms: i64) -> Duration {
    Duration::from_millis(ms.unsigned_abs())
}

fn out_of_bounds(what: &str, n: i64) -> WireError {
    bad_body(format!("{what} ({n}) is invalid"))
}

fn bad_body(text: String) -> WireError {
    WireError::new(Code::BadBody, format!("IDENTIFY {text}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn apply(json: &str) -> Result<Settings, String> {
        let mut settings = Settings::new(Duration::from_secs(60));
        let request = Request::parse(json.as_bytes()).map_err(|e| e.to_string())?;
        settings.apply(&request, &Bounds::default()).map_err(|e| e.to_string())?;
        Ok(settings)
    }

    #[test]
    fn keys_match_in_any_case_and_null_is_nothing() {
        let request = Request::parse(
            br#" {"Client_ID":"a","HOSTNAME":"b\u00e4","feature_Negotiation":true,"short_id":[{"x":1}],
                "user_agent":null,"deflate_level":3,"sample_rate":7,"long_id":"z","topology_zone":"z"} "#,
        )
        .unwrap();
        let want = Request {
            client_id: "a".into(),
            hostname: "b\u{e4}".into(),
            feature_negotiation: true,
            deflate_level: 3,
            sample_rate: 7,
            topology_zone: "z".into(),
            ..Request::default()
        };
        assert_eq!(request, want);
        assert_eq!(Request::parse(b"null"), Ok(Request::default()));
    }

    #[test]
    fn a_value_of_libmq_that_is_no_list_of_names_has_no_features() {
        let features =
            |value: &str| Request::parse(format!("{{\"libmq\":{value}}}").as_bytes()).unwrap().libmq;
        assert_eq!(features(r#"["messages",1,"more"]"#), ["messages", "more"]);
        for value in ["true", "\"messages\"", "7", "null", "{\"messages\":{}}", "[[\"messages\"]]"] {
            assert!(features(value).is_empty(), "{value}");
        }
    }

    #[test]
    fn what_is_no_json_of_the_right_types_is_refused() {
        let deep = "[".repeat(100_000);
        for bad in [
            "",
            "{",
            "[]",
            "1",
            "\"x\"",
            "{} {}",
            r#"{"client_id":1}"#,
            r#"{"heartbeat_interval":"1000"}"#,
            r#"{"heartbeat_interval":1000.0}"#,
            r#"{"heartbeat_interval":1e3}"#,
            r#"{"heartbeat_interval":9223372036854775808}"#,
            r#"{"sample_rate":2147483648}"#,
            r#"{"tls_v1":1}"#,
            &deep,
        ] {
            let error = Request::parse(bad.as_bytes()).unwrap_err().to_string();
            assert_eq!(error, "E_BAD_BODY IDENTIFY failed to decode JSON body", "{bad:.40}");
        }
    }

    #[test]
    fn bounds_are_nsqds() {
        let defaults = Settings::new(Duration::from_secs(60));
        assert_eq!(apply("{}"), Ok(defaults.clone()));
        let zeros =
            r#"{"heartbeat_interval":0,"output_buffer_size":0,"output_buffer_timeout":0,"msg_timeout":0}"#;
        assert_eq!(apply(zeros), Ok(defaults.clone()));
        for good in [
            r#"{"heartbeat_interval":1000}"#,
            r#"{"heartbeat_interval":60000}"#,
            r#"{"output_buffer_timeout":25}"#,
            r#"{"output_buffer_timeout":30000}"#,
            r#"{"output_buffer_size":64}"#,
            r#"{"output_buffer_size":65536}"#,
            r#"{"sample_rate":99}"#,
            r#"{"msg_timeout":1000}"#,
            r#"{"msg_timeout":900000}"#,
        ] {
            assert!(apply(good).is_ok(), "{good}");
        }
        let none = apply(r#"{"heartbeat_interval":-1,"output_buffer_size":-1,"output_buffer_timeout":5000}"#)
            .unwrap();
        assert_eq!(
            none,
            Settings {
                heartbeat_interval: None,
                output_buffer_size: 1,
                output_buffer_timeout: Duration::ZERO,
                ..defaults
            }
        );
    }

    #[test]
    fn out_of_bounds_is_refused_in_nsqds_words_and_order() {
        for (json, want) in [
            (r#"{"heartbeat_interval":999}"#, "heartbeat interval (999)"),
            (r#"{"heartbeat_interval":60001}"#, "heartbeat interval (60001)"),
            (r#"{"heartbeat_interval":-2,"sample_rate":-1}"#, "heartbeat interval (-2)"),
            (r#"{"output_buffer_timeout":24,"output_buffer_size":1}"#, "output buffer timeout (24)"),
            (r#"{"output_buffer_timeout":30001}"#, "output buffer timeout (30001)"),
            (r#"{"output_buffer_size":63,"sample_rate":100}"#, "output buffer size (63)"),
            (r#"{"output_buffer_size":65537}"#, "output buffer size (65537)"),
            (r#"{"output_buffer_size":4294967360}"#, "output buffer size (4294967360)"),
            (r#"{"sample_rate":100,"msg_timeout":1}"#, "sample rate (100)"),
            (r#"{"sample_rate":-1}"#, "sample rate (-1)"),
            (r#"{"msg_timeout":-1}"#, "msg timeout (-1)"),
            (r#"{"msg_timeout":999}"#, "msg timeout (999)"),
            (r#"{"msg_timeout":900001}"#, "msg timeout (900001)"),
        ] {
            assert_eq!(apply(json), Err(format!("E_BAD_BODY IDENTIFY {want} is invalid")), "{json}");
        }
    }

    #[test]
    fn the_reply_is_nsqds_to_the_byte() {
        let reply = Reply {
            max_rdy_count: 2500,
            version: "1.3.0".into(),
            max_msg_timeout: 900_000,
            deflate_level: 6,
            max_deflate_level: 6,
            ..Reply::default()
        };
        let json = serde_json::to_string(&reply.with(&Settings::new(Duration::from_secs(60)))).unwrap();
        assert_eq!(
            json,
            r#"{"max_rdy_count":2500,"version":"1.3.0","max_msg_timeout":900000,"msg_timeout":60000,"tls_v1":false,"deflate":false,"deflate_level":6,"max_deflate_level":6,"snappy":false,"sample_rate":0,"auth_required":false,"output_buffer_size":16384,"output_buffer_timeout":250,"topology_region":"","topology_zone":""}"#
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_request_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = Request::parse(&bytes);
        }
    }
}

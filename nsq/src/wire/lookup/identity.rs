//! Descriptions that both ends give of themselves.

use std::fmt;

use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::wire::error::{Code, WireError};

/// A broker's description of itself in IDENTIFY.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct BrokerIdentity {
    /// Its version.
    pub version: String,
    /// The port of its TCP protocol.
    pub tcp_port: u16,
    /// The port of its HTTP API.
    pub http_port: u16,
    /// The port of its gRPC services, which NSQ's programs neither say nor heed; 0 if there are none.
    #[serde(skip_serializing_if = "is_zero")]
    pub grpc_port: u16,
    /// Its host's name.
    pub hostname: String,
    /// Host by which consumers reach it.
    pub broadcast_address: String,
    /// The zone in its region, or empty.
    pub topology_zone: String,
    /// Its region, or empty.
    pub topology_region: String,
}

impl BrokerIdentity {
    /// Parses IDENTIFY's body. What is missing or `null` has its zero value; unknown keys are ignored; keys
    /// match in any case, as in Go.
    ///
    /// # Errors
    /// The error to answer with if it is no JSON object, a known key has a value of the wrong type, an
    /// address, a port or the version is missing, or a port is none.
    pub fn parse(body: &[u8]) -> Result<Self, WireError> {
        let bad_body = |text: String| WireError::new(Code::BadBody, text);
        // Go replaces what is not UTF-8 instead of refusing it.
        let said = serde_json::from_str::<Option<Said>>(&String::from_utf8_lossy(body))
            .map_err(|_| bad_body("IDENTIFY failed to decode JSON body".to_owned()))?
            .unwrap_or_default();
        let Said { mut peer, tcp_port, http_port, grpc_port } = said;
        if peer.broadcast_address.is_empty() || tcp_port == 0 || http_port == 0 || peer.version.is_empty() {
            return Err(bad_body("IDENTIFY missing fields".to_owned()));
        }
        let port = |port: i64| {
            u16::try_from(port).map_err(|_| bad_body(format!("IDENTIFY port {port} is not 1 to 65535")))
        };
        (peer.tcp_port, peer.http_port) = (port(tcp_port)?, port(http_port)?);
        peer.grpc_port = port(grpc_port)?;
        Ok(peer)
    }

    /// IDENTIFY's body.
    pub fn to_json(&self) -> String {
        // Strings and numbers always are JSON.
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// A lookup server's description of itself in its answer to IDENTIFY. Clients need the address and the HTTP
/// port to ask it for channels. In the order of nsqlookupd's answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Identity {
    /// Host by which it is reached.
    pub broadcast_address: String,
    /// Its host's name.
    pub hostname: String,
    /// The port of its HTTP API.
    pub http_port: u16,
    /// The port of its TCP protocol.
    pub tcp_port: u16,
    /// Its version.
    pub version: String,
}

impl Identity {
    /// The answer's data.
    pub fn to_json(&self) -> String {
        // Strings and numbers always are JSON.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Parses the answer's data; `None` if it is something else.
    pub fn parse(data: &[u8]) -> Option<Self> {
        serde_json::from_slice(data).ok()
    }
}

/// A [`BrokerIdentity`] whose ports are not checked yet.
#[derive(Default)]
struct Said {
    peer: BrokerIdentity,
    tcp_port: i64,
    http_port: i64,
    grpc_port: i64,
}

fn is_zero(port: &u16) -> bool {
    *port == 0
}

impl<'de> Deserialize<'de> for Said {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(SaidVisitor)
    }
}

struct SaidVisitor;

impl<'de> Visitor<'de> for SaidVisitor {
    type Value = Said;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Said, A::Error> {
        /// `null` leaves a value as it is.
        fn set<'de, T: Deserialize<'de>, A: MapAccess<'de>>(map: &mut A, to: &mut T) -> Result<(), A::Error> {
            if let Some(value) = map.next_value()? {
                *to = value;
            }
            Ok(())
        }

        let mut said = Said::default();
        while let Some(mut key) = map.next_key::<String>()? {
            key.make_ascii_lowercase();
            match key.as_str() {
                "version" => set(&mut map, &mut said.peer.version)?,
                "tcp_port" => set(&mut map, &mut said.tcp_port)?,
                "http_port" => set(&mut map, &mut said.http_port)?,
                "grpc_port" => set(&mut map, &mut said.grpc_port)?,
                "hostname" => set(&mut map, &mut said.peer.hostname)?,
                "broadcast_address" => set(&mut map, &mut said.peer.broadcast_address)?,
                "topology_zone" => set(&mut map, &mut said.peer.topology_zone)?,
                "topology_region" => set(&mut map, &mut said.peer.topology_region)?,
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(said)
    }
}

//! A broker that registers itself.

use std::fmt;
use std::sync::Arc;

/// A producer's connection: never used again while the registry lives.
pub type ProducerId = u64;

/// The identity that a broker gives.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Producer {
    /// The other end of its connection, `ip:port`.
    pub remote_address: String,
    /// Its host's name.
    pub hostname: String,
    /// The address at which consumers reach it.
    pub broadcast_address: String,
    /// The port of its TCP protocol.
    pub tcp_port: u16,
    /// The port of its HTTP API.
    pub http_port: u16,
    /// The port of its gRPC services; 0 if it has none, or did not say.
    pub grpc_port: u16,
    /// Its version.
    pub version: String,
    /// The zone in its region, or empty.
    pub topology_zone: String,
    /// Its region, or empty.
    pub topology_region: String,
}

impl Producer {
    /// Its name in tombstones.
    pub fn node(&self) -> Node {
        Node::new(&self.broadcast_address, self.http_port)
    }
}

/// A broker as administrators name it: its broadcast address and HTTP port. An IPv6 address is the same with
/// and without brackets.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Node(Arc<str>);

impl Node {
    /// The node of an address and a port.
    pub fn new(address: &str, http_port: u16) -> Self {
        Self(format!("{}:{http_port}", bare(address)).into())
    }

    /// The node that `text` names, as `address:port`. What is no such name is no node's.
    pub fn parse(text: &str) -> Self {
        match text.rsplit_once(':') {
            Some((address, port)) => Self(format!("{}:{port}", bare(address)).into()),
            None => Self(text.into()),
        }
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn bare(address: &str) -> &str {
    address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_node_has_one_name() {
        let node = Node::new("::1", 4151);
        for text in ["::1:4151", "[::1]:4151"] {
            assert_eq!(Node::parse(text), node, "{text}");
        }
        assert_eq!(Node::new("[::1]", 4151), node);
        assert_ne!(Node::parse("::1:4152"), node);
        assert_eq!(Node::parse("host:4151"), Node::new("host", 4151));
        assert_ne!(Node::parse("host"), Node::new("host", 4151));
    }
}

//! Servers that DNS lists under the name of a service (SRV records, RFC 2782).

use std::io;

use hickory_resolver::TokioResolver;
use hickory_resolver::proto::rr::RData;

/// The `host:port` of each server listed under `name`, sorted. Priorities and weights don't count: a broker
/// registers at all of them.
///
/// # Errors
/// If the system's resolver is not to be found, or knows no such name.
pub(super) async fn servers(name: &str) -> io::Result<Vec<String>> {
    // Made anew each time: its configuration may have changed, and what it could remember is as old as its
    // last use.
    let resolver = TokioResolver::builder_tokio().and_then(|builder| builder.build());
    look_up(&resolver.map_err(io::Error::other)?, name).await
}

async fn look_up(resolver: &TokioResolver, name: &str) -> io::Result<Vec<String>> {
    // Without the last dot it would be looked for in the machine's own domain too.
    let full = format!("{}.", name.trim_end_matches('.'));
    let found = resolver.srv_lookup(full).await.map_err(io::Error::other)?;
    let server = |data: &RData| match data {
        // A target of "." says that the service is not to be had here.
        RData::SRV(srv) if !srv.target.is_root() && srv.port != 0 => {
            let host = srv.target.to_utf8();
            Some(format!("{}:{}", host.trim_end_matches('.'), srv.port))
        }
        _ => None,
    };
    let mut all: Vec<String> = found.answers().iter().filter_map(|record| server(&record.data)).collect();
    all.sort();
    all.dedup();
    Ok(all)
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
    use hickory_resolver::net::runtime::TokioRuntimeProvider;
    use hickory_resolver::proto::op::{Message, MessageType, ResponseCode};
    use hickory_resolver::proto::rr::rdata::SRV;
    use hickory_resolver::proto::rr::{Name, Record};
    use tokio::net::UdpSocket;

    use super::*;

    /// Answers every question for `name` with `records`, and every other with "no such name". Gives a
    /// resolver that asks it.
    async fn resolver_of(name: &'static str, records: Vec<SRV>) -> TokioResolver {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let mut way = ConnectionConfig::udp();
        way.port = socket.local_addr().unwrap().port();
        tokio::spawn(async move {
            let mut buffer = [0; 1024];
            loop {
                let (len, from) = socket.recv_from(&mut buffer).await.unwrap();
                let mut message = Message::from_vec(&buffer[..len]).unwrap();
                message.metadata.message_type = MessageType::Response;
                let asked = message.queries[0].name().clone();
                if asked == Name::from_ascii(name).unwrap() {
                    let records = records.iter().cloned();
                    message.answers.extend(
                        records.map(|record| Record::from_rdata(asked.clone(), 60, RData::SRV(record))),
                    );
                } else {
                    message.metadata.response_code = ResponseCode::NXDomain;
                }
                socket.send_to(&message.to_vec().unwrap(), from).await.unwrap();
            }
        });
        let server = NameServerConfig::new(IpAddr::V4(Ipv4Addr::LOCALHOST), true, vec![way]);
        let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
        TokioResolver::builder_with_config(config, TokioRuntimeProvider::default()).build().unwrap()
    }

    fn record(port: u16, target: &str) -> SRV {
        SRV::new(1, 10, port, Name::from_ascii(target).unwrap())
    }

    #[tokio::test]
    async fn each_server_of_a_service_is_found() {
        let records = vec![
            record(4160, "two.example.org."),
            record(5160, "one.example.org."),
            record(4160, "two.example.org."),
            record(0, "."),
        ];
        let resolver = resolver_of("_nsqlookupd._tcp.example.org.", records).await;
        for name in ["_nsqlookupd._tcp.example.org", "_nsqlookupd._tcp.example.org."] {
            let servers = look_up(&resolver, name).await.unwrap();
            assert_eq!(servers, ["one.example.org:5160", "two.example.org:4160"]);
        }
        assert!(look_up(&resolver, "_other._tcp.example.org").await.is_err());
    }
}

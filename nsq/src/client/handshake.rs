//! The first words of a connection: IDENTIFY, TLS, compression, AUTH and libmq's extension.

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::Identify;
use super::error::Error;
use crate::wire::MAGIC;
use crate::wire::extension::{self, MESSAGES};
use crate::wire::frame::{self, Frame, OK};
use crate::wire::identify::{Reply, ms};
use mq_net::transport::{Compression, Transport};

/// A connection on which all that `identify` asks for is switched on.
pub(super) struct Opened {
    pub(super) transport: Transport,
    /// Bytes that came behind the last answer.
    pub(super) input: BytesMut,
    /// The server's description of itself.
    pub(super) server: Reply,
    pub(super) is_extended: bool,
}

/// Connects to `host:port` or the path of a unix socket, and says what `identify` says.
pub(super) async fn open(address: &str, identify: Identify) -> Result<Opened, Error> {
    let mut transport = Transport::connect_from(identify.local_address, address).await?;
    let mut json = serde_json::json!({
        "client_id": identify.client_id,
        "hostname": identify.hostname,
        "user_agent": concat!("mq/", env!("CARGO_PKG_VERSION")),
        "feature_negotiation": true,
        "heartbeat_interval": identify.heartbeat_interval.map_or(0, ms),
        "msg_timeout": identify.msg_timeout.map_or(0, ms),
        "sample_rate": identify.sample_rate,
        "tls_v1": identify.tls.is_some(),
        "snappy": identify.snappy,
        "deflate": identify.deflate.is_some(),
        "deflate_level": identify.deflate.unwrap_or(0),
    });
    if !identify.user_agent.is_empty() {
        json["user_agent"] = identify.user_agent.into();
    }
    // -1 is the server's word for none.
    if let Some(size) = identify.output_buffer_size {
        json["output_buffer_size"] = if size == 0 { (-1).into() } else { size.into() };
    }
    if let Some(timeout) = identify.output_buffer_timeout {
        json["output_buffer_timeout"] = if timeout.is_zero() { (-1).into() } else { ms(timeout).into() };
    }
    for (key, value) in
        [("topology_region", identify.topology_region), ("topology_zone", identify.topology_zone)]
    {
        if !value.is_empty() {
            json[key] = value.into();
        }
    }
    if identify.extension {
        json["libmq"] = serde_json::json!([MESSAGES]);
    }
    let json = json.to_string();
    let mut hello = [&MAGIC[..], b"IDENTIFY\n"].concat();
    put_body(&mut hello, json.as_bytes());
    transport.write_all(&hello).await?;

    let mut input = BytesMut::new();
    let server = match read_response(&mut transport, &mut input).await?.as_slice() {
        OK => Reply::default(),
        json => serde_json::from_slice(json)
            .map_err(|error| Error::Protocol(format!("IDENTIFY's answer: {error}")))?,
    };
    if let Some(tls) = &identify.tls {
        if !server.tls_v1 {
            return Err(Error::Protocol("the server has no TLS".to_owned()));
        }
        // Nothing from outside TLS may be taken for something from inside.
        if !input.is_empty() {
            return Err(Error::unexpected("more than an answer to IDENTIFY"));
        }
        transport = tls.connect(transport, address).await?;
        confirm(&mut transport, &mut input).await?;
    }
    let compression = match &server {
        Reply { snappy: true, .. } => Some(Compression::Snappy),
        Reply { deflate: true, deflate_level, .. } => {
            Some(Compression::Deflate(u8::try_from(*deflate_level).unwrap_or(6)))
        }
        _ => None,
    };
    if let Some(compression) = compression {
        // The server does not wait between its answer and the first compressed bytes.
        transport.compress(compression, input.split().to_vec());
        confirm(&mut transport, &mut input).await?;
    }
    if let (Some(secret), true) = (&identify.auth_secret, server.auth_required) {
        let mut auth = b"AUTH\n".to_vec();
        put_body(&mut auth, secret.expose());
        transport.write_all(&auth).await?;
        transport.flush().await?;
        // Its answer says who the client is taken for.
        read_response(&mut transport, &mut input).await?;
    }
    let offer = server.libmq.as_ref().filter(|offer| offer.has_messages());
    let is_extended = identify.extension && offer.is_some();
    if let Some(offer) = offer.filter(|_| is_extended) {
        upgrade(&mut transport, &mut input, offer)
            .await
            .map_err(|error| Error::NotUpgraded(error.to_string()))?;
    }
    Ok(Opened { transport, input, server, is_extended })
}

/// Switches the extension on.
async fn upgrade(
    transport: &mut Transport,
    input: &mut BytesMut,
    offer: &extension::Offer,
) -> Result<(), Error> {
    transport.write_all(format!("UPGRADE {} {MESSAGES}\n", offer.nonce).as_bytes()).await?;
    transport.flush().await?;
    confirm(transport, input).await
}

/// Waits for the server to say that it switched something on.
async fn confirm(transport: &mut Transport, input: &mut BytesMut) -> Result<(), Error> {
    match read_response(transport, input).await?.as_slice() {
        OK => Ok(()),
        other => Err(Error::unexpected(&format!("the response {}", other.escape_ascii()))),
    }
}

/// Waits for a response.
async fn read_response(transport: &mut Transport, input: &mut BytesMut) -> Result<Vec<u8>, Error> {
    loop {
        if let Some(other) = other_protocol(input) {
            return Err(Error::Protocol(format!("the server speaks {other}")));
        }
        if let Ok((frame, consumed)) = frame::decode(input)? {
            let data = match frame {
                Frame::Response(data) => data.to_vec(),
                Frame::Error(data) => return Err(Error::server(data)),
                Frame::Message(_) => return Err(Error::unexpected("a message")),
            };
            let _ = input.split_to(consumed);
            return Ok(data);
        }
        if transport.read_buf(input).await? == 0 {
            return Err(Error::Closed);
        }
    }
}

/// The protocol that the first bytes of a server's answer belong to, if it is not NSQ's.
fn other_protocol(input: &[u8]) -> Option<&'static str> {
    // HTTP/2 begins with SETTINGS: a length of 3 bytes, the type 4, no flags, stream 0. As a frame of NSQ's
    // it would be kilobytes long and never end.
    const SETTINGS: [u8; 6] = [4, 0, 0, 0, 0, 0];
    if input.starts_with(b"HTTP/") {
        Some("HTTP: is this its HTTP or gRPC port?")
    } else if input.get(3..9) == Some(&SETTINGS) {
        Some("HTTP/2: is this its gRPC port?")
    } else if input.starts_with(b"\x15\x03") {
        Some("TLS from the first byte on: is this its HTTPS port?")
    } else {
        None
    }
}

fn put_body(out: &mut Vec<u8>, body: &[u8]) {
    out.extend_from_slice(&u32::try_from(body.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend_from_slice(body);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answers_of_other_protocols_are_known() {
        for (input, name) in [
            (&b"HTTP/1.1 400 Bad Request\r\n"[..], "HTTP or gRPC port"),
            (b"\0\0\x24\x04\0\0\0\0\0\0\x02", "gRPC port"),
            (b"\x15\x03\x03\0\x02\x02\x46", "HTTPS port"),
        ] {
            let other = other_protocol(input);
            assert!(other.is_some_and(|other| other.contains(name)), "{input:?}: {other:?}");
        }
        for input in [&b""[..], b"\0\0\0\x06\0\0\0\0OK", b"\0\0\x01\x20\0\0\0\0{", b"\0\0\0\x04\0\0\0\0"] {
            assert_eq!(other_protocol(input), None, "{input:?}");
        }
    }
}

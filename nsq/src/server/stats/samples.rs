//! Numbers with everything there can be, and with as little as possible: for the test of their description.

use serde_json::Value;

use super::memory::Memory;
use super::model::{ChannelEntry, ClientEntry, LatencyEntry, Percentile, PubCount, Stats, TopicEntry};

pub(in crate::server) fn full() -> Value {
    let percentiles = Some(vec![Percentile { quantile: 0.5, value: 1 }]);
    stats(
        ClientEntry {
            authed: true,
            auth_identity: "i".to_owned(),
            auth_identity_url: "u".to_owned(),
            pub_counts: vec![PubCount { topic: "t".to_owned(), count: 1 }],
            ..client()
        },
        LatencyEntry { count: 1, percentiles },
        Some(Memory::default()),
        true,
    )
}

pub(in crate::server) fn bare() -> Value {
    stats(client(), LatencyEntry::default(), None, false)
}

fn stats(client: ClientEntry, latency: LatencyEntry, memory: Option<Memory>, full: bool) -> Value {
    let channel = ChannelEntry {
        channel_name: "c".to_owned(),
        depth: 0,
        backend_depth: 0,
        in_flight_count: 0,
        deferred_count: 0,
        message_count: 0,
        requeue_count: 0,
        timeout_count: 0,
        client_count: 0,
        clients: full.then(|| vec![client.clone()]),
        paused: false,
        e2e_processing_latency: latency.clone(),
        oversized_count: u64::from(full),
        dead_letter_count: u64::from(full),
        finished: 0,
        skipped: 0,
        bytes: 0,
        memory: 0,
        latency: Default::default(),
    };
    let topic = TopicEntry {
        topic_name: "t".to_owned(),
        channels: vec![channel],
        depth: 0,
        backend_depth: 0,
        message_count: 0,
        message_bytes: 0,
        paused: false,
        e2e_processing_latency: latency,
        damage: full.then(|| "some".to_owned()),
        bytes: 0,
        skipped: 0,
        duplicates: 0,
        dedup_ids: 0,
        dedup_evicted: 0,
    };
    let stats = Stats {
        version: "1".to_owned(),
        health: "OK".to_owned(),
        draining: full,
        start_time: 0,
        topics: Some(vec![topic]),
        memory,
        producers: Some(vec![client]),
    };
    serde_json::to_value(stats).unwrap()
}

fn client() -> ClientEntry {
    ClientEntry {
        client_id: String::new(),
        hostname: String::new(),
        version: "V2",
        remote_address: String::new(),
        state: 0,
        ready_count: 0,
        in_flight_count: 0,
        message_count: 0,
        finish_count: 0,
        requeue_count: 0,
        connect_ts: 0,
        sample_rate: 0,
        deflate: false,
        snappy: false,
        user_agent: String::new(),
        authed: false,
        auth_identity: String::new(),
        auth_identity_url: String::new(),
        topology_zone: String::new(),
        topology_region: String::new(),
        pub_counts: Vec::new(),
        tls: false,
        tls_cipher_suite: String::new(),
        tls_version: "",
        tls_negotiated_protocol: "",
        tls_negotiated_protocol_is_mutual: false,
    }
}

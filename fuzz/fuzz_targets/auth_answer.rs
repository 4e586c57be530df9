//! Any bytes as an auth server's answer, and any expressions in a good one: refused, or a clear yes or no.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mq_nsq::server::answer_permits;

fuzz_target!(|input: (Vec<u8>, String, String, String, String)| {
    let (bytes, topic_pattern, channel_pattern, topic, channel) = input;
    answer_permits(&bytes, &topic, &channel);
    let authorization = serde_json::json!({
        "topic": topic_pattern, "channels": [channel_pattern], "permissions": ["subscribe"],
    });
    let answer = serde_json::json!({ "ttl": 1, "authorizations": [authorization] });
    let permits = answer_permits(answer.to_string().as_bytes(), &topic, &channel);
    if topic_pattern.is_empty() && channel_pattern == ".*" {
        assert!(permits, "both match anything");
    }
    let nothing = serde_json::json!({ "ttl": 0, "authorizations": [authorization] });
    assert!(!answer_permits(nothing.to_string().as_bytes(), &topic, &channel));
});

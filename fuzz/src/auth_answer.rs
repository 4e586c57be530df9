//! Answers of auth servers.

use mq_nsq::server::answer_permits;

/// Any bytes as an auth server's answer, and any patterns in a valid one: refused, or a clear yes or no.
///
/// The input is five texts with a zero byte between them: the answer, the patterns of topic and channel, and
/// the names of topic and channel.
pub fn auth_answer(input: &[u8]) {
    let mut texts = input.splitn(5, |byte| *byte == 0);
    let answer = texts.next().unwrap_or_default();
    let [topic_pattern, channel_pattern, topic, channel] =
        std::array::from_fn(|_| String::from_utf8_lossy(texts.next().unwrap_or_default()));
    answer_permits(answer, &topic, &channel);
    let authorization = serde_json::json!({
        "topic": topic_pattern, "channels": [channel_pattern], "permissions": ["subscribe"],
    });
    let answer = serde_json::json!({ "ttl": 1, "authorizations": [authorization] });
    let permits = answer_permits(answer.to_string().as_bytes(), &topic, &channel);
    if topic_pattern.is_empty() && channel_pattern == ".*" {
        assert!(permits, "both match anything");
    }
    let expired = serde_json::json!({ "ttl": 0, "authorizations": [authorization] });
    assert!(!answer_permits(expired.to_string().as_bytes(), &topic, &channel));
}

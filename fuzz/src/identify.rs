//! IDENTIFY, NSQ's negotiation.

use std::time::Duration;

use mq_nsq::wire::identify::{Bounds, Reply, Request, Settings};

/// Any bytes as bodies of IDENTIFY, one after the other on a connection: each is refused, or the settings and
/// the answer stay within the bounds.
///
/// The bodies have a zero byte between them.
pub fn identify(input: &[u8]) {
    let bounds = Bounds::default();
    let mut settings = Settings::new(Duration::from_secs(60));
    for body in input.split(|byte| *byte == 0) {
        let Ok(request) = Request::parse(body) else { continue };
        // Values before a refused one are taken over, so the bounds must hold after an error too.
        let _ = settings.apply(&request, &bounds);
        let second = Duration::from_secs(1);
        let interval = settings.heartbeat_interval.unwrap_or(second);
        assert!((second..=bounds.max_heartbeat_interval).contains(&interval));
        assert!(settings.output_buffer_timeout <= bounds.max_output_buffer_timeout);
        assert!((1..=bounds.max_output_buffer_size).contains(&settings.output_buffer_size));
        assert!(settings.sample_rate <= 99);
        assert!((second..=bounds.max_msg_timeout).contains(&settings.msg_timeout));
        let reply = Reply { version: request.user_agent, ..Reply::default() }.with(&settings);
        let json = serde_json::to_vec(&reply).unwrap();
        assert!(json.starts_with(b"{\""), "clients look at the first byte");
        assert_eq!(serde_json::from_slice::<Reply>(&json).unwrap(), reply);
    }
}

//! Statistics pushed by statsd's protocol, as nsqd names and times them.

use std::collections::HashMap;
use std::fmt::Display;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{UdpSocket, lookup_host};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep, timeout};

use super::stats::{LatencyEntry, Memory, Selection, Stats, StatsCollector};

/// Longest wait for the resolution of the address.
const RESOLVE: Duration = Duration::from_secs(1);

/// The packets of a push are spread over the interval but for this much.
const REST: Duration = Duration::from_secs(1);

const EPHEMERAL: &str = "#ephemeral";

/// Settings of the push: figures, address, interval. The defaults are nsqd's.
#[derive(Clone, Debug)]
pub struct StatsdConfig {
    /// `host:port`, over UDP.
    pub address: String,
    /// Prefix of each name; `%s` is the broadcast address and HTTP port, and a dot is added. May be empty.
    pub prefix: String,
    /// Time between pushes.
    pub interval: Duration,
    /// Whether the process's memory is pushed.
    pub mem_stats: bool,
    /// Largest packet in bytes. A longer line goes alone.
    pub udp_packet_size: usize,
    /// Whether ephemeral topics and channels are left out.
    pub exclude_ephemeral: bool,
}

impl Default for StatsdConfig {
    fn default() -> Self {
        Self {
            address: "127.0.0.1:8125".to_owned(),
            prefix: "nsq.%s".to_owned(),
            interval: Duration::from_secs(60),
            mem_stats: true,
            udp_packet_size: 508,
            exclude_ephemeral: false,
        }
    }
}

/// The prefix of each name; `host` and `port` are those by which others reach this server.
pub(super) fn prefix(prefix: &str, host: &str, port: i32) -> String {
    // As Go joins them.
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    let key = format!("{host}:{port}").replace(['.', ':'], "_");
    let prefix = prefix.replace("%s", &key);
    if prefix.is_empty() || prefix.ends_with('.') { prefix } else { prefix + "." }
}

/// Pushes until `stop` is true.
pub(super) async fn push(
    collector: StatsCollector,
    config: StatsdConfig,
    prefix: String,
    mut stop: watch::Receiver<bool>,
) {
    let mut counts = Counts::default();
    let mut ticks = interval_at(Instant::now() + config.interval, config.interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            _ = ticks.tick() => {}
        }
        let selection = Selection { memory: config.mem_stats, ..Selection::default() };
        let stats = collector.stats(selection, |_| true);
        let lines = counts.lines(&stats, &prefix, config.exclude_ephemeral);
        let packets = packets(&lines, config.udp_packet_size);
        let spread = config.interval.saturating_sub(REST);
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            sent = send(&config.address, &packets, spread) => {
                if let Err(error) = sent {
                    tracing::warn!(address = config.address, %error, "statistics were not sent to statsd");
                }
            }
        }
    }
}

async fn send(address: &str, packets: &[String], spread: Duration) -> io::Result<()> {
    let address = timeout(RESOLVE, lookup_host(address)).await??.next();
    let address =
        address.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the host has no address"))?;
    let local: SocketAddr = if address.is_ipv4() { ([0; 4], 0).into() } else { ([0u16; 8], 0).into() };
    let socket = UdpSocket::bind(local).await?;
    let pause = spread / u32::try_from(packets.len().max(1)).unwrap_or(u32::MAX);
    for packet in packets {
        socket.send_to(packet.as_bytes(), address).await?;
        sleep(pause).await;
    }
    Ok(())
}

/// Whole lines in packets of at most `bytes_max`; a longer line goes alone.
fn packets(lines: &[String], bytes_max: usize) -> Vec<String> {
    let mut packets: Vec<String> = Vec::new();
    for line in lines {
        match packets.last_mut() {
            Some(packet) if packet.len() + line.len() <= bytes_max => packet.push_str(line),
            _ => packets.push(line.clone()),
        }
    }
    packets
}

/// Counts as they were pushed last: counters are pushed as increases.
#[derive(Debug, Default)]
struct Counts {
    topics: HashMap<String, [u64; 2]>,
    /// Last counters of each channel, by `topic:channel`.
    channels: HashMap<String, [u64; 3]>,
    gc_runs: u64,
}

impl Counts {
    fn lines(&mut self, stats: &Stats, prefix: &str, exclude_ephemeral: bool) -> Vec<String> {
        let mut lines = Lines { prefix, lines: Vec::new() };
        let excluded = |name: &str| exclude_ephemeral && name.ends_with(EPHEMERAL);
        let (mut topics, mut channels) = (HashMap::new(), HashMap::new());
        for topic in stats.topics.iter().flatten().filter(|topic| !excluded(&topic.topic_name)) {
            let counts = [topic.message_count, topic.message_bytes];
            let added = added(counts, self.topics.get(&topic.topic_name));
            topics.insert(topic.topic_name.clone(), counts);
            let of = |key: &str| format!("topic.{}.{key}", topic.topic_name);
            lines.count(of("message_count"), added[0]);
            lines.count(of("message_bytes"), added[1]);
            lines.gauge(of("depth"), topic.depth);
            lines.gauge(of("backend_depth"), topic.backend_depth);
            lines.latency(&of("e2e_processing_latency"), &topic.e2e_processing_latency);
            for channel in topic.channels.iter().filter(|channel| !excluded(&channel.channel_name)) {
                let name = format!("{}:{}", topic.topic_name, channel.channel_name);
                let counts = [channel.message_count, channel.requeue_count, channel.timeout_count];
                let added = self::added(counts, self.channels.get(&name));
                channels.insert(name, counts);
                let of = |key: &str| of(&format!("channel.{}.{key}", channel.channel_name));
                lines.count(of("message_count"), added[0]);
                lines.gauge(of("depth"), channel.depth);
                lines.gauge(of("backend_depth"), channel.backend_depth);
                lines.gauge(of("in_flight_count"), channel.in_flight_count);
                lines.gauge(of("deferred_count"), channel.deferred_count);
                lines.count(of("requeue_count"), added[1]);
                lines.count(of("timeout_count"), added[2]);
                lines.gauge(of("clients"), channel.client_count);
                lines.latency(&of("e2e_processing_latency"), &channel.e2e_processing_latency);
            }
        }
        if let Some(memory) = &stats.memory {
            lines.memory(memory, memory.gc_total_runs - self.gc_runs);
            self.gc_runs = memory.gc_total_runs;
        }
        (self.topics, self.channels) = (topics, channels);
        lines.lines
    }
}

/// Increase of each counter. A counter that fell belongs to a re-created topic or channel and counts from 0.
fn added<const N: usize>(counts: [u64; N], last: Option<&[u64; N]>) -> [u64; N] {
    match last {
        Some(last) if counts.iter().zip(last).all(|(now, last)| now >= last) => {
            std::array::from_fn(|at| counts[at] - last[at])
        }
        _ => counts,
    }
}

struct Lines<'a> {
    prefix: &'a str,
    lines: Vec<String>,
}

impl Lines<'_> {
    fn count(&mut self, key: impl Display, value: u64) {
        self.lines.push(format!("{}{key}:{value}|c\n", self.prefix));
    }

    fn gauge(&mut self, key: impl Display, value: u64) {
        self.lines.push(format!("{}{key}:{value}|g\n", self.prefix));
    }

    fn latency(&mut self, key: &str, latency: &LatencyEntry) {
        for percentile in latency.percentiles.iter().flatten() {
            self.gauge(format_args!("{key}_{:.0}", percentile.quantile * 100.0), percentile.value);
        }
    }

    fn memory(&mut self, memory: &Memory, gc_runs: u64) {
        for (key, value) in [
            ("heap_objects", memory.heap_objects),
            ("heap_idle_bytes", memory.heap_idle_bytes),
            ("heap_in_use_bytes", memory.heap_in_use_bytes),
            ("heap_released_bytes", memory.heap_released_bytes),
            ("gc_pause_usec_100", memory.gc_pause_usec_100),
            ("gc_pause_usec_99", memory.gc_pause_usec_99),
            ("gc_pause_usec_95", memory.gc_pause_usec_95),
            ("next_gc_bytes", memory.next_gc_bytes),
        ] {
            self.gauge(format_args!("mem.{key}"), value);
        }
        self.count("mem.gc_runs", gc_runs);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_are_nsqds() {
        assert_eq!(prefix("nsq.%s", "a.host", 4151), "nsq.a_host_4151.");
        assert_eq!(prefix("mine.", "a.host", 4151), "mine.");
        assert_eq!(prefix("", "a.host", 4151), "");
        assert_eq!(prefix("%s", "::1", 1), "[__1]_1.");
    }

    #[test]
    fn packets_hold_whole_lines() {
        let lines = ["aaaa\n", "bbb\n", "c\n", "dddddddddddddddd\n", "e\n"].map(str::to_owned);
        assert_eq!(packets(&lines, 10), ["aaaa\nbbb\n", "c\n", "dddddddddddddddd\n", "e\n"]);
        assert!(packets(&[], 10).is_empty());
    }

    #[test]
    fn counters_are_what_was_added() {
        assert_eq!(added([5, 6], None), [5, 6]);
        assert_eq!(added([5, 6], Some(&[5, 4])), [0, 2]);
        assert_eq!(added([5, 6], Some(&[9, 1])), [5, 6], "created anew");
    }
}

//! The numbers for people, laid out as nsqd does.

use std::fmt;
use std::fmt::Write;
use std::time::Duration;

use super::model::{ClientEntry, LatencyEntry, Stats};
use super::time::{duration, human, rfc3339};

impl Stats {
    /// The page; `now` is in seconds since 1970.
    pub(in crate::server) fn text(&self, uptime: Duration, now: u64) -> String {
        let mut out = String::new();
        // Strings take all that is written.
        let _ = self.write_text(&mut out, uptime, now);
        out
    }

    fn write_text(&self, out: &mut String, uptime: Duration, now: u64) -> fmt::Result {
        writeln!(out, "nsqd v{} (built w/libmq)", self.version)?;
        writeln!(out, "start_time {}", rfc3339(self.start_time))?;
        writeln!(out, "uptime {}", duration(uptime))?;
        writeln!(out, "\nHealth: {}", self.health)?;
        if self.draining {
            writeln!(out, "Draining: publishes are refused")?;
        }
        if let Some(memory) = &self.memory {
            writeln!(out, "\nMemory:")?;
            for (name, value) in [
                ("heap_objects", memory.heap_objects),
                ("heap_idle_bytes", memory.heap_idle_bytes),
                ("heap_in_use_bytes", memory.heap_in_use_bytes),
                ("heap_released_bytes", memory.heap_released_bytes),
                ("gc_pause_usec_100", memory.gc_pause_usec_100),
                ("gc_pause_usec_99", memory.gc_pause_usec_99),
                ("gc_pause_usec_95", memory.gc_pause_usec_95),
                ("next_gc_bytes", memory.next_gc_bytes),
                ("gc_total_runs", memory.gc_total_runs),
            ] {
                writeln!(out, "   {name:<25}\t{value}")?;
            }
        }
        let topics = self.topics.as_deref().unwrap_or_default();
        let header = if topics.is_empty() { "\nTopics: None\n" } else { "\nTopics:" };
        out.push_str(header);
        for topic in topics {
            let paused = if topic.paused { "*P " } else { "   " };
            writeln!(
                out,
                "\n{paused}[{:<15}] depth: {:<5} be-depth: {:<5} msgs: {:<8} e2e%: {}",
                topic.topic_name,
                topic.depth,
                topic.backend_depth,
                topic.message_count,
                topic.e2e_processing_latency,
            )?;
            if let Some(damage) = &topic.damage {
                writeln!(out, "      stopped for damage: {damage}")?;
            }
            for channel in &topic.channels {
                let paused = if channel.paused { "   *P " } else { "      " };
                writeln!(
                    out,
                    "{paused}[{:<25}] depth: {:<5} be-depth: {:<5} inflt: {:<4} def: {:<4} re-q: {:<5} \
                     timeout: {:<5} msgs: {:<8} e2e%: {}",
                    channel.channel_name,
                    channel.depth,
                    channel.backend_depth,
                    channel.in_flight_count,
                    channel.deferred_count,
                    channel.requeue_count,
                    channel.timeout_count,
                    channel.message_count,
                    channel.e2e_processing_latency,
                )?;
                if channel.oversized_count > 0 {
                    writeln!(out, "        too large for a consumer: {} times", channel.oversized_count)?;
                }
                if channel.dead_letter_count > 0 {
                    writeln!(out, "        dead letters: {}", channel.dead_letter_count)?;
                }
                for client in channel.clients.iter().flatten() {
                    write!(out, "        ")?;
                    client.write_text(out, now)?;
                }
            }
        }
        match &self.producers {
            None => writeln!(out, "\nProducers: None"),
            Some(producers) => {
                writeln!(out, "\nProducers:")?;
                for producer in producers {
                    write!(out, "   ")?;
                    producer.write_text(out, now)?;
                }
                Ok(())
            }
        }
    }
}

impl ClientEntry {
    fn write_text(&self, out: &mut String, now: u64) -> fmt::Result {
        let port = self.remote_address.rsplit_once(':').map_or("", |(_, port)| port);
        let id = format!("{}:{port} {}", self.hostname, self.user_agent);
        write!(out, "[{} {id:<21}] ", self.version)?;
        if self.pub_counts.is_empty() {
            write!(
                out,
                "state: {} inflt: {:<4} rdy: {:<4} fin: {:<8} re-q: {:<8} msgs: {:<8}",
                self.state,
                self.in_flight_count,
                self.ready_count,
                self.finish_count,
                self.requeue_count,
                self.message_count,
            )?;
        } else {
            let total: u64 = self.pub_counts.iter().map(|count| count.count).sum();
            let counts = self.pub_counts.iter().map(|count| format!("{}={}", count.topic, count.count));
            write!(out, "msgs: {total:<8} topics: {}", counts.collect::<Vec<_>>().join(","))?;
        }
        let connected = Duration::from_secs(now.saturating_sub(self.connect_ts));
        writeln!(out, " connected: {}", duration(connected))
    }
}

impl fmt::Display for LatencyEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let values = self.percentiles.iter().flatten().map(|percentile| human(percentile.value));
        f.write_str(&values.collect::<Vec<_>>().join(", "))
    }
}

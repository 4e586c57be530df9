//! The process's memory, in the fields that nsqd's garbage collector fills.

use serde::Serialize;

/// Memory of the process, in nsqd's fields. Those of a garbage collector are 0: there is none here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(in crate::server) struct Memory {
    pub(in crate::server) heap_objects: u64,
    pub(in crate::server) heap_idle_bytes: u64,
    /// Resident memory of the process, where the system has it, else the memory for messages.
    pub(in crate::server) heap_in_use_bytes: u64,
    pub(in crate::server) heap_released_bytes: u64,
    pub(in crate::server) gc_pause_usec_100: u64,
    pub(in crate::server) gc_pause_usec_99: u64,
    pub(in crate::server) gc_pause_usec_95: u64,
    pub(in crate::server) next_gc_bytes: u64,
    pub(in crate::server) gc_total_runs: u64,
}

impl Memory {
    /// Takes the figures of now. `messages` is the broker's memory for messages, in bytes.
    pub(in crate::server) fn now(messages: u64) -> Self {
        Self { heap_in_use_bytes: resident().unwrap_or(messages), ..Self::default() }
    }
}

/// Bytes of the process that are in memory.
fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

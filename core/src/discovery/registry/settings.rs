//! Settings of the registry.

/// Lifetimes of entries and bounds of their numbers. Times in nanoseconds. The defaults keep a full registry
/// within some hundred MB.
#[derive(Clone, Debug)]
pub struct Settings {
    /// A producer that has not been heard of for longer is left out of answers. Default 300 s.
    pub inactive_after: u64,
    /// Time for which a tombstone hides a producer from a topic's lookups. Default 45 s.
    pub tombstone_lifetime: u64,
    /// Time for which a topic or channel without a producer is remembered. Default 24 h.
    pub idle_lifetime: u64,
    /// Producers at a time. Default 10,000.
    pub max_producers: usize,
    /// Topics and channels, counted together. Default 500,000.
    pub max_keys: usize,
    /// Topics and channels of one producer, counted together. Default 250,000.
    pub max_per_producer: usize,
    /// Topics and channels of all producers, counted together. Default 4,000,000.
    pub max_registrations: usize,
}

impl Default for Settings {
    fn default() -> Self {
        const SECOND: u64 = 1_000_000_000;
        Self {
            inactive_after: 300 * SECOND,
            tombstone_lifetime: 45 * SECOND,
            idle_lifetime: 24 * 3_600 * SECOND,
            max_producers: 10_000,
            max_keys: 500_000,
            max_per_producer: 250_000,
            max_registrations: 4_000_000,
        }
    }
}

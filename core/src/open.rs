//! Opening: from the files of a data folder to running topics.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32};

use crate::store::format::log_pos::LogPos;
use crate::sync::Mutex;

use crate::blocks::{self, Blocks};
use crate::channel::Delta;
use crate::clock::Clock;
use crate::config::{Options, StoreSizes};
use crate::dirty::Dirty;
use crate::error::Result;
use crate::io_pool::IoPool;
use crate::latency::Measuring;
use crate::parker::Parker;
use crate::shared::{MaintenanceState, Shared};
use crate::store::disk::Disk;
use crate::store::format::range_set::RangeSet;
use crate::store::log::Log;
use crate::store::memory::chunk::Pool;
use crate::store::open::recovery::{self, Recovered};
use crate::timers::Timers;
use crate::topic::{OnDisk, Topic, TopicDamage};
use crate::watch::Watch;

impl Shared {
    /// Recovers what is in the folder. The errors are those of [`Broker::open`](crate::Broker::open).
    pub(crate) fn open(
        disk: Arc<dyn Disk>,
        clock: Arc<dyn Clock>,
        sizes: StoreSizes,
        options: Options,
    ) -> Result<Arc<Self>> {
        options.check(&sizes)?;
        let Recovered { replay, catalog, opened, clean_stop, damage } = recovery::recover(&disk)?;
        let log_thread = Arc::new(Parker::default());
        let position = opened.manifest.checkpoint.map_or(LogPos(0), |(_, position)| position);
        let log = Log::new(disk.clone(), catalog.clone(), sizes.file_bytes, opened, log_thread.clone());
        for place in &damage.places {
            tracing::error!("damage in the data folder: {place}");
        }
        let shared = Arc::new(Self {
            pool: Pool::new(options.memory_limit, sizes.chunk_bytes),
            blocks: Mutex::new(Blocks::new(replay.next_block, clock.wall(), sizes.blocks)),
            timers: Timers::default(),
            dirty: Dirty::new(log_thread),
            measuring: Measuring::default(),
            maintenance: Mutex::new(MaintenanceState {
                checkpoint_at: position,
                checkpoint_bytes: 0,
                delta: Delta::default(),
            }),
            io: IoPool::default(),
            cleaner_thread: Parker::default(),
            watch: Watch::default(),
            registry: Mutex::default(),
            next_topic: AtomicU32::new(replay.next_topic.0.max(1)),
            next_channel: AtomicU32::new(replay.next_channel.0.max(1)),
            ages: AtomicBool::new(replay.topics.values().any(|topic| !topic.limits.max_age.is_zero())),
            any_damage: AtomicBool::new(damage.all_topics || !damage.topics.is_empty()),
            closed: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
            draining: AtomicBool::new(false),
            damage: damage.places.clone(),
            clean_stop,
            options,
            sizes,
            clock,
            disk,
            catalog,
            log,
        });
        blocks::reserve(&shared.blocks, 1, &shared.log, shared.clock.wall())?;
        if let Err(error) = shared.log.take_reserve() {
            tracing::error!("publishes are refused until there is room on the disk: {error}");
        }
        let mut volumes = shared.catalog.volumes();
        for (&no, stored) in &replay.topics {
            let channels: Vec<_> =
                replay.channels.iter().filter(|(_, c)| c.topic == no).map(|(no, c)| (*no, c)).collect();
            let ranges = damage.topics.get(&no);
            let stopped = damage.all_topics || ranges.is_some();
            let damaged: Vec<_> = ranges.into_iter().flat_map(RangeSet::iter).collect();
            let why = stopped.then(|| TopicDamage::found(damaged.iter().copied()));
            let topic = Topic::recovered(
                no,
                stored,
                &channels,
                clean_stop,
                why,
                OnDisk { bytes: volumes.remove(&no).unwrap_or_default(), ids: replay.ids.of(no), damaged },
                &shared,
            )?;
            shared.registry.lock().insert(topic);
        }
        Ok(shared)
    }
}

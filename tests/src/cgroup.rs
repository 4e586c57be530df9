//! A memory cgroup around a process, where this user may make one.

use std::fs;
use std::path::{Path, PathBuf};

/// Files of the two versions: the folder to make one in, the limit, the peak.
const VERSIONS: [(&str, &str, &str); 2] = [
    ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.max_usage_in_bytes"),
    ("/sys/fs/cgroup", "memory.max", "memory.peak"),
];

/// A memory cgroup. Removed when it is dropped, which must be after its process has ended.
#[derive(Debug)]
pub struct Cgroup {
    path: PathBuf,
    peak: PathBuf,
}

impl Cgroup {
    /// Makes one of `bytes` and moves a process into it. What the process has already stays outside.
    ///
    /// # Errors
    /// The reason why none can be made here.
    pub fn around(process: u32, bytes: u64) -> Result<Self, String> {
        let mut reasons = Vec::new();
        for (folder, limit, peak) in VERSIONS {
            let path = Path::new(folder).join(format!("mq-tests-{process}"));
            if let Err(error) = fs::create_dir(&path) {
                reasons.push(format!("{}: {error}", path.display()));
                continue;
            }
            let cgroup = Self { peak: path.join(peak), path };
            let write = |name: &str, value: u64| {
                let file = cgroup.path.join(name);
                // Made by the system, or not at all: without the controller there is no such file.
                let mut options = fs::OpenOptions::new();
                let opened = options.write(true).open(&file);
                opened
                    .and_then(|mut file| std::io::Write::write_all(&mut file, value.to_string().as_bytes()))
                    .map_err(|error| format!("{}: {error}", file.display()))
            };
            match write(limit, bytes).and_then(|()| write("cgroup.procs", process.into())) {
                Ok(()) => return Ok(cgroup),
                Err(reason) => reasons.push(reason),
            }
        }
        Err(reasons.join("; "))
    }

    /// The most memory that the process had in it, pages of files and of the kernel included.
    pub fn peak(&self) -> Option<u64> {
        fs::read_to_string(&self.peak).ok()?.trim().parse().ok()
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // One that stays is empty and harmless.
        let _ = fs::remove_dir(&self.path);
    }
}

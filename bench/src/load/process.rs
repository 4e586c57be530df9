//! CPU and memory of a process on this machine, from `/proc`.

use std::fs;
use std::net::ToSocketAddrs;
use std::process;

use serde::Serialize;

/// A running process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Process(u32);

/// CPU seconds so far.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Cpu {
    pub(crate) user_s: f64,
    pub(crate) system_s: f64,
}

/// Bytes that are resident.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Memory {
    pub(crate) now: u64,
    /// The most since the process began.
    pub(crate) peak: u64,
}

impl Process {
    /// # Errors
    /// If there is no such process, or no `/proc`.
    pub(crate) fn new(pid: u32) -> Result<Self, String> {
        let process = Self(pid);
        process.cpu()?;
        Ok(process)
    }

    /// The process of this user that listens at `address`, if it is on this machine.
    pub(crate) fn listening_at(address: &str) -> Option<Self> {
        let inode = listening_inode(address)?;
        let socket = format!("socket:[{inode}]");
        let is_its = |pid: &u32| {
            let files = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
            files
                .into_iter()
                .any(|file| fs::read_link(file.path()).is_ok_and(|to| to.as_os_str() == &*socket))
        };
        let folders = fs::read_dir("/proc").ok()?.flatten();
        let mut pids = folders.filter_map(|folder| folder.file_name().to_str()?.parse::<u32>().ok());
        pids.find(is_its).and_then(|pid| Self::new(pid).ok())
    }

    /// This one: the load.
    pub(crate) fn own() -> Self {
        Self(process::id())
    }

    pub(crate) fn cpu(self) -> Result<Cpu, String> {
        let path = format!("/proc/{}/stat", self.0);
        let stat = read(&path)?;
        // The name, in parentheses, may hold anything.
        let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        let mut times = fields.split_ascii_whitespace().skip(11).map(str::parse::<u64>);
        let (Some(Ok(user)), Some(Ok(system))) = (times.next(), times.next()) else {
            return Err(format!("{path}: no CPU times in it"));
        };
        let hertz = rustix::param::clock_ticks_per_second() as f64;
        Ok(Cpu { user_s: user as f64 / hertz, system_s: system as f64 / hertz })
    }

    /// CPU seconds of the threads there are now, to the nanosecond: for a process that does next to nothing.
    pub(crate) fn fine_cpu_s(self) -> Option<f64> {
        let mut nanos = 0_u64;
        for task in fs::read_dir(format!("/proc/{}/task", self.0)).ok()? {
            let path = task.ok()?.path().join("schedstat");
            // A thread that has just ended is none of those there are.
            let Ok(text) = fs::read_to_string(path) else { continue };
            nanos += text.split_ascii_whitespace().next()?.parse::<u64>().ok()?;
        }
        Some(nanos as f64 / 1e9)
    }

    /// Bytes read from files so far; 0 where the system does not say it.
    pub(crate) fn read_bytes(self) -> u64 {
        let io = fs::read_to_string(format!("/proc/{}/io", self.0)).unwrap_or_default();
        let line = io.lines().find_map(|line| line.strip_prefix("rchar: "));
        line.and_then(|bytes| bytes.parse().ok()).unwrap_or(0)
    }

    pub(crate) fn memory(self) -> Result<Memory, String> {
        let status = read(&format!("/proc/{}/status", self.0))?;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_ascii_whitespace().next()?.parse::<u64>().ok()
        };
        Ok(Memory { now: field("VmRSS:").unwrap_or(0) * 1024, peak: field("VmHWM:").unwrap_or(0) * 1024 })
    }
}

/// CPU seconds that all the machine's processors were busy so far; `None` where there is no `/proc`.
pub(crate) fn machine_busy_s() -> Option<f64> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    let fields = stat.lines().next()?.strip_prefix("cpu ")?;
    let ticks: Vec<u64> = fields.split_ascii_whitespace().filter_map(|field| field.parse().ok()).collect();
    // user, nice, system, idle, iowait, irq, softirq
    let busy: u64 = [0, 1, 2, 5, 6].iter().filter_map(|at| ticks.get(*at)).sum();
    Some(busy as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// The inode of the socket that listens at `address` on this machine, as the system's tables have it.
fn listening_inode(address: &str) -> Option<String> {
    if address.contains('/') {
        let table = read("/proc/net/unix").ok()?;
        // Num RefCount Protocol Flags Type St Inode Path; the flag is that it listens.
        return table.lines().find_map(|line| {
            let fields: Vec<_> = line.split_ascii_whitespace().collect();
            let (flags, inode, path) = (fields.get(3)?, fields.get(6)?, fields.get(7)?);
            let is_it = *path == address
                || std::path::Path::new(path).canonicalize().ok()?
                    == std::path::Path::new(address).canonicalize().ok()?;
            (*flags == "00010000" && is_it).then(|| (*inode).to_owned())
        });
    }
    let wanted: Vec<_> =
        address.to_socket_addrs().ok()?.filter(|address| address.ip().is_loopback()).collect();
    let port = wanted.first()?.port();
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|path| read(path).unwrap_or_default());
    tables.iter().flat_map(|table| table.lines()).find_map(|line| {
        // sl local_address rem_address st tx:rx tr:when retrnsmt uid timeout inode; state 0A is LISTEN.
        let fields: Vec<_> = line.split_ascii_whitespace().collect();
        let (local, state, inode) = (fields.get(1)?, fields.get(3)?, fields.get(9)?);
        let (_, local_port) = local.rsplit_once(':')?;
        let is_it = u16::from_str_radix(local_port, 16).is_ok_and(|local| local == port);
        (*state == "0A" && is_it).then(|| (*inode).to_owned())
    })
}

fn read(path: &str) -> Result<String, String> {
    fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))
}

impl Cpu {
    pub(crate) fn total_s(self) -> f64 {
        self.user_s + self.system_s
    }
}

impl std::ops::Sub for Cpu {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self { user_s: self.user_s - earlier.user_s, system_s: self.system_s - earlier.system_s }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_process_says_what_it_uses() {
        let own = Process::new(process::id()).unwrap();
        let before = own.fine_cpu_s().unwrap();
        let mut sum = 0_u64;
        while own.cpu().unwrap().total_s() < 0.02 {
            sum = (0..100_000).fold(sum, |sum, n| sum.wrapping_mul(31).wrapping_add(n));
        }
        assert!(own.fine_cpu_s().unwrap() > before, "{sum}");
        let memory = own.memory().unwrap();
        assert!(memory.now > 0 && memory.peak >= memory.now);
        assert!(machine_busy_s().unwrap() > 0.0);
        let read = own.read_bytes();
        fs::read("/proc/self/exe").unwrap();
        assert!(own.read_bytes() > read + 100_000);
        let error = Process::new(u32::MAX).unwrap_err();
        assert!(error.contains("/proc/4294967295/stat"), "{error}");
    }
}

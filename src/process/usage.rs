//! What a process has used, as the kernel tells it in `/proc`.

use std::collections::HashMap;
use std::io;

use procfs::{Current as _, ProcError, ProcResult, Uptime};

use super::ProcessId;

/// What a process has used and uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Milliseconds of processor time since it started.
    pub cpu_ms: u64,
    /// Milliseconds since it started.
    pub age_ms: u64,
    /// Resident memory in bytes.
    pub resident_bytes: u64,
    /// Resident memory in bytes, where shared memory counts in parts; none where the kernel does not
    /// tell.
    pub proportional_bytes: Option<u64>,
}

/// What this very process has used; none when it is gone or its pid is somebody else's.
///
/// # Errors
/// When `/proc` cannot be read.
pub fn usage(id: ProcessId) -> io::Result<Option<Usage>> {
    match read(id) {
        Ok(usage) => Ok(usage),
        Err(ProcError::NotFound(_)) => Ok(None),
        // How the kernel says that a process has ended while it was being read.
        Err(ProcError::Io(error, _)) if error.raw_os_error() == Some(nix::libc::ESRCH) => Ok(None),
        Err(error) => Err(io::Error::other(error)),
    }
}

fn read(id: ProcessId) -> ProcResult<Option<Usage>> {
    let process = procfs::process::Process::new(id.pid)?;
    let stat = process.stat()?;
    if stat.starttime != id.start_ticks {
        return Ok(None);
    }
    let ticks = |ticks: u64| ticks.saturating_mul(1000) / procfs::ticks_per_second();
    let up = Uptime::current()?.uptime_duration().as_millis();
    let up = u64::try_from(up).unwrap_or(u64::MAX);
    // Not every kernel has it, and it is denied for programs that changed their user.
    let rollup = process.smaps_rollup().ok();
    let proportional = rollup.and_then(|rollup| {
        let maps = rollup.memory_map_rollup;
        let sums = maps.iter().filter_map(|map| map.extension.map.get("Pss"));
        sums.copied().reduce(u64::saturating_add)
    });
    Ok(Some(Usage {
        cpu_ms: ticks(stat.utime.saturating_add(stat.stime)),
        age_ms: up.saturating_sub(ticks(stat.starttime)),
        resident_bytes: stat.rss.saturating_mul(procfs::page_size()),
        proportional_bytes: proportional,
    }))
}

/// How often the threads of a process have slept, by thread. Each sleep ended with a wake-up, but that
/// of a thread that sleeps now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sleeps(HashMap<i32, u64>);

impl Sleeps {
    /// Those of a process until now.
    ///
    /// # Errors
    /// When there is no such process, or `/proc` cannot be read.
    pub fn of(pid: i32) -> io::Result<Self> {
        Self::read(pid).map_err(io::Error::other)
    }

    fn read(pid: i32) -> ProcResult<Self> {
        let mut sleeps = HashMap::new();
        for task in procfs::process::Process::new(pid)?.tasks()? {
            // A thread that ends while it is being read sleeps no more.
            let Ok(task) = task else { continue };
            let Ok(status) = task.status() else { continue };
            sleeps.insert(task.tid, status.voluntary_ctxt_switches.unwrap_or(0));
        }
        Ok(Self(sleeps))
    }

    /// How many there have been since an earlier reading, in threads that are there now.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> u64 {
        let before = |thread: &i32| earlier.0.get(thread).copied().unwrap_or(0);
        self.0.iter().map(|(thread, count)| count.saturating_sub(before(thread))).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::Process;

    #[tokio::test]
    async fn a_process_is_measured_and_nobody_else() {
        let own = i32::try_from(std::process::id()).expect("a pid");
        let own = Process::open_any(own).expect("opens").expect("lives").id();
        let used = usage(own).expect("reads").expect("lives");
        assert!(used.resident_bytes > 1 << 20, "{used:?}");
        assert!(used.proportional_bytes.is_some_and(|bytes| bytes <= used.resident_bytes));
        let another = ProcessId { start_ticks: own.start_ticks + 1, ..own };
        assert_eq!(usage(another).expect("reads"), None);
        let gone = ProcessId { pid: i32::MAX, start_ticks: 1 };
        assert_eq!(usage(gone).expect("reads"), None);
    }

    #[test]
    fn sleeps_are_counted_by_thread() {
        let own = i32::try_from(std::process::id()).expect("a pid");
        let before = Sleeps::of(own).expect("reads");
        let (go, wait) = std::sync::mpsc::sync_channel::<()>(0);
        let sleeper = std::thread::spawn(move || {
            for () in &wait {}
            Sleeps::of(own).expect("reads")
        });
        for _ in 0..20 {
            // With room for nothing, each is only sent when the other thread waits for it.
            go.send(()).expect("it listens");
        }
        drop(go);
        let after = sleeper.join().expect("no panic");
        assert!(after.since(&before) > 0, "{before:?} {after:?}");
        assert_eq!(before.since(&before), 0);
        assert!(Sleeps::of(i32::MAX).is_err());
    }
}

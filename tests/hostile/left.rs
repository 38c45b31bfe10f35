//! What a process has: to see that nothing is left of a run.

use std::fs;

/// What this process has, as numbers.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Had {
    /// Open descriptors.
    pub(crate) descriptors: usize,
    /// Processes below it.
    pub(crate) children: usize,
    /// Resident memory in bytes.
    pub(crate) resident: usize,
}

/// Looks at this process.
pub(crate) fn look() -> Had {
    let tasks = fs::read_dir("/proc/self/task").expect("there");
    let children = tasks.filter_map(|task| {
        // A thread may end while its folder is looked at.
        let children = fs::read_to_string(task.ok()?.path().join("children")).ok()?;
        Some(children.split_whitespace().count())
    });
    let pages = fs::read_to_string("/proc/self/statm").expect("there");
    let pages = pages.split_whitespace().nth(1).and_then(|pages| pages.parse::<usize>().ok());
    Had {
        children: children.sum(),
        // The folder itself is open while it is read.
        descriptors: fs::read_dir("/proc/self/fd").expect("there").count(),
        resident: pages.expect("a number") * 4096,
    }
}

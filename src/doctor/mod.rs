//! Checks of the host that belong to no other module: tools and room.
//!
//! A check looks and says; it changes nothing. What belongs to a module (the monitor, networks, hooks,
//! images) is checked by that module, and the daemon puts the rows together.

use std::path::Path;
use std::time::Duration;

use crate::process::Tool;
use crate::size::Size;
use crate::wire::rpc::{Check, Verdict};

/// A tool says its version at once.
const DEADLINE: Duration = Duration::from_secs(10);

/// Room for a few VMs: below it a check warns.
const ROOM: u64 = 5 << 30;

/// Memory for one VM of the default size and its monitor, in bytes.
pub const MEMORY: u64 = 768 << 20;

/// A check that passed.
#[must_use]
pub fn pass(name: &str, found: impl Into<String>) -> Check {
    Check { name: name.to_owned(), verdict: Verdict::Pass, found: found.into(), hint: None }
}

/// A check that did not pass, with what to do.
#[must_use]
pub fn problem(verdict: Verdict, name: &str, found: impl Into<String>, hint: &str) -> Check {
    Check { name: name.to_owned(), verdict, found: found.into(), hint: Some(hint.to_owned()) }
}

/// git, which reads repositories.
pub async fn git() -> Check {
    match Tool::new("git").arg("--version").deadline(DEADLINE).run().await {
        Ok(version) => pass("git", String::from_utf8_lossy(&version).trim()),
        Err(error) => problem(Verdict::Fail, "git", error.to_string(), "install git"),
    }
}

/// mke2fs, which makes disks.
pub async fn mke2fs() -> Check {
    // It prints its version on stderr, so a shell-free way to see it is `e2fsck -V` failing or not; the
    // tool itself is what matters.
    match Tool::new("mke2fs").args(["-n", "-F", "/dev/null", "1024"]).deadline(DEADLINE).run().await
    {
        Ok(_) => pass("mke2fs", "makes file systems"),
        Err(crate::process::ToolError::Start { source, .. }) => problem(
            Verdict::Fail,
            "mke2fs",
            format!("cannot be run: {source}"),
            "install e2fsprogs, or add /usr/sbin to PATH",
        ),
        Err(_) => pass("mke2fs", "is there"),
    }
}

/// Room on the file system of the daemon's folder; with less than `least` the check fails.
#[must_use]
pub fn room(home: &Path, least: Size) -> Check {
    let name = "disk space";
    match rustix::fs::statvfs(home) {
        Err(error) => problem(
            Verdict::Fail,
            name,
            format!("cannot look at `{}`: {error}", home.display()),
            "set COVE_HOME to a folder of yours",
        ),
        Ok(there) => {
            let free = there.f_bavail * there.f_frsize;
            let found = format!("{} free for `{}`", shown(free), home.display());
            if free < least.bytes() {
                let found = format!("{found}, and {least} must be (`vm.keep_free`)");
                problem(Verdict::Fail, name, found, "make room there")
            } else if free < ROOM {
                problem(Verdict::Warn, name, found, "make room there")
            } else {
                pass(name, found)
            }
        }
    }
}

/// Folders of VMs that no database knew, if there are any.
#[must_use]
pub fn lost(folder: &Path) -> Option<Check> {
    let count = std::fs::read_dir(folder).map_or(0, Iterator::count);
    let found = format!("{count} in `{}`, which no VM has", folder.display());
    let hint = "they were set aside when the database did not know them: take what you need from their \
                disks, then remove them";
    (count > 0).then(|| problem(Verdict::Warn, "lost disks", found, hint))
}

/// Memory for a VM that wants so many bytes. What is in use now may be given back, so too little of it is
/// warned of; what the host does not have at all is refused where VMs are made and changed.
#[must_use]
pub fn memory(wanted: u64) -> Check {
    use procfs::Current as _;
    let name = "memory";
    let Some(available) = procfs::Meminfo::current().ok().and_then(|memory| memory.mem_available)
    else {
        return problem(Verdict::Warn, name, "/proc/meminfo cannot be read", "look at /proc");
    };
    if wanted > available {
        let found = format!("{} available, little for a VM", shown(available));
        let hint = "end something, or make VMs with less --memory";
        problem(Verdict::Warn, name, found, hint)
    } else {
        pass(name, format!("{} available", shown(available)))
    }
}

/// A size for a reader: whole GiB where there are many, whole MiB where there are few.
fn shown(bytes: u64) -> String {
    let shift = if bytes >= 10 << 30 { 30 } else { 20 };
    Size::from_bytes(bytes >> shift << shift).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_row_that_is_no_pass_says_what_to_do() {
        let here = std::env::temp_dir();
        let least = Size::from_bytes(1);
        let rows = [
            git().await,
            mke2fs().await,
            room(&here, least),
            room(Path::new("/nowhere"), least),
            memory(MEMORY),
        ];
        for row in rows {
            assert_eq!(row.verdict == Verdict::Pass, row.hint.is_none(), "{row:?}");
            assert!(!row.found.is_empty(), "{row:?}");
        }
        assert_eq!(room(Path::new("/nowhere"), least).verdict, Verdict::Fail);
        assert!(lost(Path::new("/nowhere")).is_none());
        let some = lost(Path::new("/")).expect("there is something");
        assert!(some.verdict == Verdict::Warn && some.hint.is_some(), "{some:?}");
        let little = memory(1 << 60);
        assert!(little.verdict == Verdict::Warn && little.hint.is_some(), "{little:?}");
    }
}

//! How files that have just come are known again: they lie where nobody looks for them yet, so that whoever changes
//! one does so later, and its time of change tells.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

use super::lasting_token;
use crate::wire::survey::Seen;

/// About the step of the clock by which the kernel dates changes.
const STEP: Duration = Duration::from_millis(5);

/// For how many steps is waited.
const STEPS: usize = 20;

/// Records of all that is no folder in a tree that has come and is not in its place yet, but for what is in its
/// `.git`. None when times cannot tell what is changed from now on: then it is read again, as without them. Blocks.
///
/// # Errors
/// When the tree cannot be read.
pub fn arrived(tree: BorrowedFd<'_>) -> io::Result<Vec<u8>> {
    let root = PathBuf::from(format!("/proc/self/fd/{}", tree.as_raw_fd()));
    let (mut records, mut last) = (Vec::new(), (0, 0));
    let mut to_read = vec![PathBuf::new()];
    while let Some(folder) = to_read.pop() {
        for entry in fs::read_dir(root.join(&folder))? {
            let entry = entry?;
            let path = folder.join(entry.file_name());
            if entry.file_type()?.is_dir() {
                if path != Path::new(".git") {
                    to_read.push(path);
                }
                continue;
            }
            let metadata = entry.metadata()?;
            let changed = (metadata.ctime(), metadata.ctime_nsec());
            last = last.max(changed);
            let token = lasting_token(metadata.ino(), changed, metadata.len());
            let path = path.into_os_string().into_vec();
            Seen::Same { token, path }.write(&mut records);
        }
    }
    if is_past(last)? { Ok(records) } else { Ok(Vec::new()) }
}

/// Waits until a change would have a later time than this one, in seconds and nanoseconds. It never does while the
/// clock stands behind it, as when it was set back.
fn is_past(last: (i64, i64)) -> io::Result<bool> {
    for _ in 0..STEPS {
        let now = clock_gettime(ClockId::CLOCK_REALTIME_COARSE)?;
        if (now.tv_sec(), now.tv_nsec()) > last {
            return Ok(true);
        }
        thread::sleep(STEP);
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::agent::survey::{Listed, look};
    use crate::wire::survey::{EntryKind, Known, Token};

    fn known(token: &Token, kind: EntryKind, path: &[u8]) -> Known {
        // Of no content: whoever reads the file sees something else.
        let (token, object, path) = (token.clone(), "0".repeat(40), path.to_vec());
        Known { token, kind, object, went_in: true, path }
    }

    #[test]
    fn what_has_come_is_known_again_until_it_is_changed() {
        let tree = tempfile::tempdir().expect("a folder");
        let at = |path: &str| tree.path().join(path);
        fs::create_dir_all(at(".git/objects")).expect("made");
        fs::create_dir_all(at("deep/er")).expect("made");
        for path in [".git/config", "one", "deep/er/two"] {
            fs::write(at(path), "text").expect("written");
        }
        symlink("nowhere", at("link")).expect("linked");
        let opened = fs::File::open(tree.path()).expect("opened");
        let records = arrived(opened.as_fd()).expect("reads");
        // Within a step of the clock, by somebody who finds it at once; as long as before.
        fs::write(at("one"), "TEXT").expect("written");
        let mut seen: Vec<_> = Seen::read_all(&records).expect("records");
        seen.sort_by_key(|seen| match seen {
            Seen::Same { path, .. }
            | Seen::Changed { path, .. }
            | Seen::Absent { path, .. }
            | Seen::Unseen { path, .. }
            | Seen::Nested { path } => path.clone(),
        });
        let kinds = [EntryKind::File, EntryKind::Link, EntryKind::File];
        let known = seen.iter().zip(kinds).map(|(seen, kind)| match seen {
            Seen::Same { token, path } => known(token, kind, path),
            other => panic!("{other:?}"),
        });
        let known: Vec<Known> = known.collect();
        let paths: Vec<&[u8]> = known.iter().map(|known| &known.path[..]).collect();
        assert_eq!(paths, [&b"deep/er/two"[..], b"link", b"one"]);
        // A token holds for files that were not changed just now.
        thread::sleep(crate::agent::survey::RACY);
        let look = look(tree.path(), known, Listed::default()).expect("looks");
        let seen = Seen::read_all(&look.records).expect("records");
        assert!(
            matches!(&seen[..], [Seen::Same { .. }, Seen::Same { .. }, Seen::Changed { .. }]),
            "{seen:?}"
        );
    }

    #[test]
    fn a_clock_that_stands_behind_tells_nothing() {
        let now = clock_gettime(ClockId::CLOCK_REALTIME).expect("a clock");
        assert!(is_past((now.tv_sec(), now.tv_nsec())).expect("asked"));
        assert!(!is_past((now.tv_sec() + 3600, 0)).expect("asked"));
    }
}

//! Files of the source that are as they were are not read again when a guest is brought up to date, and every change of
//! them is seen.

use std::os::unix::fs::MetadataExt;
use std::time::UNIX_EPOCH;

use super::prepare::place;
use super::*;
use crate::daemon::course::Course;
use crate::vm::Unexported;

/// How often the files change.
const ROUNDS: usize = 12;

impl Work {
    /// What is written down of files that need not be read again.
    fn record(&self) -> PathBuf {
        self.folder.path().join("vm/workspace/unchanged")
    }

    /// Changes a file of the source so that nothing tells of it: what is written down of it changes along.
    fn change_untold(&self, path: &str, content: &[u8]) {
        let place = self.source().join(path);
        let before = told(&place, path);
        fs::write(&place, content).expect("written");
        let records = fs::read_to_string(self.record()).expect("written down");
        assert!(records.contains(&before), "{path} is not known again");
        let records = records.replace(&before, &told(&place, path));
        fs::write(self.record(), records).expect("written");
    }

    fn in_guest(&self, path: &str) -> String {
        fs::read_to_string(self.checkout().join(path)).expect("there")
    }
}

/// The record of a file as it is now.
fn told(place: &Path, path: &str) -> String {
    let found = fs::symlink_metadata(place).expect("there");
    let written = format!("{}.{}", found.mtime(), found.mtime_nsec());
    let changed = format!("{}.{}", found.ctime(), found.ctime_nsec());
    format!("{} {} {} {written} {changed}\t{path}\0", found.dev(), found.ino(), found.len())
}

fn write_dated(place: &Path, content: &[u8], time: SystemTime) {
    fs::write(place, content).expect("written");
    let file = fs::File::options().write(true).open(place).expect("opened");
    file.set_modified(time).expect("dated");
}

/// Changes what lies at a place, so that size and time of writing stay the same where that can be.
fn change(place: &Path, deed: usize) {
    let file = fs::symlink_metadata(place).ok().filter(fs::Metadata::is_file);
    let Some(file) = file else {
        fs::remove_file(place).ok();
        return write(place, b"written anew\n");
    };
    let (content, modified) = (fs::read(place).expect("read"), file.modified().expect("a time"));
    let other: Vec<u8> = content.iter().map(|byte| byte.wrapping_add(1)).collect();
    match deed % 6 {
        0 => write_dated(place, &other, modified),
        1 => {
            let beside = place.with_extension("beside");
            write_dated(&beside, &other, modified);
            fs::rename(&beside, place).expect("renamed");
        }
        2 => {
            let mode = file.permissions().mode() ^ 0o111;
            fs::set_permissions(place, PermissionsExt::from_mode(mode)).expect("set");
        }
        3 => {
            fs::remove_file(place).expect("removed");
            symlink("run.sh", place).expect("linked");
        }
        4 => write(place, b"of another size\n"),
        _ => fs::remove_file(place).expect("removed"),
    }
}

#[tokio::test]
async fn what_is_as_it_was_is_not_read() {
    let work = Work::begun().await;
    work.prepare().await;
    let in_guest = || [work.in_guest("a.txt"), work.in_guest("dir/b.txt")];
    work.change_untold("a.txt", b"One\n");
    work.update().await.expect("updates");
    assert_eq!(in_guest(), ["one\n", "two\n"], "it was read");
    // Nor is what has been put in since, or has stayed.
    write(&work.source().join("dir/b.txt"), b"three\n");
    work.update().await.expect("updates");
    assert_eq!(in_guest(), ["one\n", "three\n"]);
    work.change_untold("a.txt", b"ONE\n");
    work.change_untold("dir/b.txt", b"THREE\n");
    work.update().await.expect("updates");
    assert_eq!(in_guest(), ["one\n", "three\n"]);
    // A time that tells of it is enough.
    write_dated(&work.source().join("a.txt"), b"ONE\n", UNIX_EPOCH);
    work.update().await.expect("updates");
    assert_eq!(in_guest(), ["ONE\n", "three\n"]);
}

#[tokio::test]
async fn every_change_is_seen_whatever_size_and_time_of_writing_say() {
    let work = Work::begun().await;
    work.prepare().await;
    let source = work.source();
    for round in 0..ROUNDS {
        for (number, path) in ["a.txt", "dir/b.txt", "link", "new.txt"].iter().enumerate() {
            change(&source.join(path), round + number);
        }
        if round % 4 == 3 {
            commit(&source, "More").await;
        }
        work.update().await.expect("updates");
        let (there, here) = (kept_by_git(&work.checkout()).await, kept_by_git(&source).await);
        assert_eq!(there, here, "round {round}");
    }
}

#[tokio::test]
async fn nothing_is_known_of_what_may_change_at_the_same_time() {
    let Work { workspaces, folder, guest, kept } = Work::begun().await;
    let workspaces = Arc::into_inner(workspaces).expect("nobody has it").by_clock(|| UNIX_EPOCH);
    let work = Work { workspaces: Arc::new(workspaces), folder, guest, kept };
    work.prepare().await;
    for content in ["two\n", "six\n"] {
        let records = fs::read(work.record()).expect("written down");
        assert_eq!(records.iter().position(|byte| *byte == b'\n'), Some(records.len() - 1));
        write(&work.source().join("a.txt"), content.as_bytes());
        work.update().await.expect("updates");
        assert_eq!(work.in_guest("a.txt"), content);
    }
}

#[tokio::test]
async fn a_record_that_cannot_be_used_is_as_good_as_none() {
    let work = Work::begun().await;
    work.prepare().await;
    let spoils: [fn(&Path); 5] = [
        |place| fs::remove_file(place).expect("removed"),
        |place| fs::write(place, "nonsense").expect("written"),
        |place| {
            let mut records = fs::read(place).expect("read");
            records.pop();
            fs::write(place, records).expect("written");
        },
        |place| {
            let file = fs::File::options().write(true).open(place).expect("opened");
            file.set_len(1 << 30).expect("a hole");
        },
        // It is of another tree.
        |place| {
            let mut records = fs::read(place).expect("read");
            records[0] = if records[0] == b'0' { b'1' } else { b'0' };
            fs::write(place, records).expect("written");
        },
    ];
    for (number, spoil) in spoils.into_iter().enumerate() {
        let content = format!("{number}\n");
        work.change_untold("a.txt", content.as_bytes());
        spoil(&work.record());
        work.update().await.expect("updates");
        assert_eq!(work.in_guest("a.txt"), content);
    }
}

#[tokio::test]
async fn a_prepare_that_is_given_up_says_nothing_of_files() {
    let work = Work::begun().await;
    work.prepare().await;
    write(&work.source().join("a.txt"), b"two\n");
    let (guest, base, course) = (work.agent(), work.base(), Course::default());
    let place = place(&guest, &base, &work.kept);
    let renewal = work.renewal(&place, &work.wanted(), Unexported::Keep, &course).await;
    drop(renewal.expect("gathered"));
    // What was known is known, and of that tree.
    work.change_untold("run.sh", b"#!/bin/su\n");
    work.update().await.expect("updates");
    assert_eq!(work.in_guest("a.txt"), "two\n");
    assert_eq!(work.in_guest("run.sh"), "#!/bin/sh\n");
}

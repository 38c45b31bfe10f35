//! What git in the guest says of files by its index alone: what went in is as it is in the source, without being read,
//! and every change is seen.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::*;
use crate::index::Index;

impl Work {
    /// With a submodule, and a file of which git has another content by a filter that the guest does not have.
    async fn filtered() -> Self {
        let work = Self::begun().await;
        work.add_library().await;
        let source = work.source();
        git(&source, &["config", "filter.loud.clean", "tr a-z A-Z"]).await;
        write(&source.join(".gitattributes"), b"*.bin filter=loud\n");
        write(&source.join("large.bin"), b"large\n");
        commit(&source, "With a filter").await;
        assert_eq!(git(&source, &["show", ":large.bin"]).await, b"LARGE\n");
        work.long_ago().await;
        work
    }

    /// Dates all files of the source as if they had been changed long ago, and has git look at them.
    async fn long_ago(&self) {
        let all = "find . -name .git -prune -o ! -type d -exec touch -h -d @1700000000 {} +";
        let dated = Tool::new("sh").current_dir(self.source()).args(["-c", all]);
        dated.run().await.expect("dated");
        for folder in [self.source(), self.source().join("vendor/lib")] {
            git(&folder, &["update-index", "--refresh"]).await;
        }
    }
}

/// What differs for git there by its index, in which times of the inode's change do not count here.
async fn differing(folder: &Path) -> String {
    let words = ["-c", "core.trustctime=false", "diff-files", "--name-only"];
    String::from_utf8(git(folder, &words).await).expect("UTF-8")
}

async fn status(folder: &Path) -> String {
    String::from_utf8(git(folder, &["status", "--porcelain"]).await).expect("UTF-8")
}

/// Asserts that git does not read a file: it takes another content of the same size and time for the same.
async fn is_not_read(root: &Path, path: &str) {
    let (before, place) = (differing(root).await, root.join(path));
    let content = fs::read(&place).expect("read");
    let modified = fs::metadata(&place).expect("there").modified().expect("a time");
    let other = content.to_ascii_uppercase();
    assert_ne!(other, content);
    for content in [other, content] {
        fs::write(&place, content).expect("written");
        let file = fs::File::options().write(true).open(&place).expect("opened");
        file.set_modified(modified).expect("dated");
        assert_eq!(differing(root).await, before, "{path}");
    }
}

#[tokio::test]
async fn what_went_in_is_not_read_to_be_clean() {
    let work = Work::filtered().await;
    write(&work.source().join("run.sh"), b"#!/bin/sh\necho\n");
    work.prepare().await;
    let guest = work.checkout();
    let library = guest.join("vendor/lib");
    assert_eq!(differing(&guest).await, "run.sh\n");
    assert_eq!(differing(&library).await, "");
    is_not_read(&guest, "dir/b.txt").await;
    is_not_read(&library, "lib.c").await;
    assert_eq!(status(&guest).await, " M run.sh\n");
    assert_eq!(work.changes().await, []);

    // A change at once that leaves the size as it is; and what is written anew is read.
    write(&guest.join("a.txt"), b"ONE\n");
    write(&library.join("lib.c"), b"int y;\n");
    write(&guest.join("large.bin"), b"large\n");
    assert_eq!(status(&guest).await, " M a.txt\n M large.bin\n M run.sh\n M vendor/lib\n");
    assert_eq!(status(&library).await, " M lib.c\n");
    let changed = ["a.txt", "vendor/lib/lib.c"];
    assert_eq!(work.changes().await, changed.map(|path| (path.to_owned(), ChangeKind::Modified)));
}

#[tokio::test]
async fn what_is_brought_up_to_date_is_not_read_and_neither_is_the_rest() {
    let work = Work::filtered().await;
    work.prepare().await;
    let (source, guest) = (work.source(), work.checkout());
    let library = guest.join("vendor/lib");
    write(&source.join("a.txt"), b"two and more\n");
    write(&source.join("vendor/lib/lib.c"), b"int z;\n");
    commit(&source.join("vendor/lib"), "In the library").await;
    commit(&source, "Second").await;
    write(&source.join("staged.txt"), b"staged\n");
    git(&source, &["add", "staged.txt"]).await;
    work.long_ago().await;
    write(&source.join("run.sh"), b"#!/bin/sh\necho\n");
    work.update().await.expect("updated");
    // The submodule is at the commit that is checked out in the source.
    assert_eq!(differing(&guest).await, "run.sh\n");
    assert_eq!(differing(&library).await, "");
    for path in ["a.txt", "dir/b.txt", "staged.txt"] {
        is_not_read(&guest, path).await;
    }
    is_not_read(&library, "lib.c").await;
    assert_eq!(status(&guest).await, " M run.sh\nA  staged.txt\n");
    assert_eq!(work.changes().await, []);
    write(&guest.join("dir/b.txt"), b"TWO\n");
    write(&guest.join("a.txt"), b"TWO AND MORE\n");
    assert_eq!(status(&guest).await, " M a.txt\n M dir/b.txt\n M run.sh\nA  staged.txt\n");
}

#[tokio::test]
async fn stages_and_marks_arrive_as_they_are() {
    let work = Work::begun().await;
    let source = work.source();
    git(&source, &["checkout", "-q", "-b", "other"]).await;
    write(&source.join("a.txt"), b"theirs\n");
    commit(&source, "Theirs").await;
    git(&source, &["checkout", "-q", "main"]).await;
    write(&source.join("a.txt"), b"ours\n");
    commit(&source, "Ours").await;
    try_git(&source, &["merge", "-q", "other"]).await.expect_err("a conflict");
    git(&source, &["update-index", "--assume-unchanged", "run.sh"]).await;
    git(&source, &["update-index", "--skip-worktree", "dir/b.txt"]).await;
    fs::remove_file(source.join("dir/b.txt")).expect("removed");
    work.prepare().await;
    let guest = work.checkout();
    let words = ["ls-files", "-v", "--stage"];
    let listed = |listing: Vec<u8>| String::from_utf8(listing).expect("UTF-8");
    assert_eq!(listed(git(&guest, &words).await), listed(git(&source, &words).await));
    assert_eq!(status(&guest).await, "UU a.txt\n");
    assert_eq!(status(&source).await, "UU a.txt\n");
}

#[tokio::test]
async fn the_entries_of_an_index_are_read_in_every_form_that_git_writes() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    git(folder, &["init", "-q"]).await;
    let long = format!("deep/{}", "n".repeat(200));
    for path in ["a", "deep/er", &long, "intent", "z"] {
        write(&folder.join(path), path.as_bytes());
        let file = fs::File::options().write(true).open(folder.join(path)).expect("opened");
        file.set_modified(UNIX_EPOCH + Duration::from_secs(1_000_000_000)).expect("dated");
    }
    git(folder, &["add", "a", "deep", "z"]).await;
    git(folder, &["add", "--intent-to-add", "intent"]).await;
    for version in ["2", "3", "4"] {
        git(folder, &["update-index", "--index-version", version]).await;
        let bytes = fs::read(folder.join(".git/index")).expect("read");
        let index = Index::read_entries(&bytes, SystemTime::now()).expect("sound");
        for path in ["a", "deep/er", &long, "z"] {
            let file = fs::File::open(folder.join(path)).expect("opened");
            assert!(index.promise(path.as_bytes(), &file).is_some(), "{path} {version}");
        }
    }
}

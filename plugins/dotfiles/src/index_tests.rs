//! Indexes as git itself writes them.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::*;

/// A repository with an executable, a link, and a file in a folder, all tracked.
struct Repository(tempfile::TempDir);

impl Repository {
    fn new(arguments: &[&str]) -> Self {
        let repository = Self(tempfile::tempdir().expect("a folder"));
        repository.git(&[&["init", "--quiet", "--initial-branch=main"], arguments].concat());
        repository.write(".bashrc", "a\n");
        repository.write(".config/app/settings.toml", "b\n");
        std::os::unix::fs::symlink(".bashrc", repository.path().join(".profile")).expect("linked");
        repository.git(&["add", "--all"]);
        repository
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.path().join(path);
        fs::create_dir_all(path.parent().expect("it has a folder")).expect("made");
        fs::write(path, text).expect("written");
    }

    #[expect(clippy::disallowed_methods, reason = "git makes what is to be read, as on a host")]
    fn git(&self, arguments: &[&str]) -> bool {
        let output = Command::new("git")
            .args(["-c", "user.name=N", "-c", "user.email=n@example.org"])
            .args(arguments)
            .current_dir(self.path())
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_SYSTEM", "/dev/null")
            .output()
            .expect("git is there");
        output.status.success()
    }

    fn bytes(&self) -> Vec<u8> {
        fs::read(self.path().join(".git/index")).expect("git has written it")
    }

    fn tracked(&self) -> Vec<(String, What)> {
        let tracked = tracked(&self.bytes()).expect("git has written it");
        tracked.into_iter().map(|tracked| (tracked.path, tracked.what)).collect()
    }
}

/// Paths of files, as `tracked` has them.
fn files(paths: &[&str]) -> Vec<(String, What)> {
    paths.iter().map(|path| ((*path).to_owned(), What::File)).collect()
}

const ALL: [&str; 3] = [".bashrc", ".config/app/settings.toml", ".profile"];

#[test]
fn untracked_and_ignored_files_are_not_among_them() {
    let repository = Repository::new(&[]);
    repository.write(".gitignore", "secret\n");
    repository.write("secret", "x\n");
    repository.write("new", "x\n");
    assert_eq!(repository.tracked(), files(&ALL));
    assert!(repository.git(&["add", "new"]));
    assert_eq!(repository.tracked(), files(&[&ALL[..], &["new"]].concat()));
}

#[test]
fn every_version_of_the_format_is_read() {
    let repository = Repository::new(&[]);
    assert_eq!(repository.bytes()[7], 2);
    repository.write("later", "x\n");
    assert!(repository.git(&["add", "--intent-to-add", "later"]));
    assert_eq!(repository.bytes()[7], 3);
    let expected = files(&[&ALL[..], &["later"]].concat());
    assert_eq!(repository.tracked(), expected);
    assert!(repository.git(&["update-index", "--index-version", "4"]));
    assert_eq!(repository.bytes()[7], 4);
    assert_eq!(repository.tracked(), expected);
}

#[test]
fn both_hashes_are_read_and_none() {
    assert_eq!(Repository::new(&["--object-format=sha256"]).tracked(), files(&ALL));
    let repository = Repository::new(&[]);
    assert!(repository.git(&["-c", "index.skipHash=true", "update-index", "--force-write-index"]));
    let mut bytes = repository.bytes();
    let sum = bytes.len() - 20;
    bytes[sum..].fill(0);
    assert_eq!(tracked(&bytes).expect("zeros are no checksum").len(), 3);
}

#[test]
fn what_cannot_be_copied_is_told_apart() {
    let repository = Repository::new(&[]);
    assert!(repository.git(&["commit", "--quiet", "-m", "one"]));
    assert!(repository.git(&["checkout", "--quiet", "-b", "other"]));
    repository.write(".bashrc", "theirs\n");
    assert!(repository.git(&["commit", "--quiet", "--all", "-m", "theirs"]));
    assert!(repository.git(&["checkout", "--quiet", "main"]));
    repository.write(".bashrc", "ours\n");
    assert!(repository.git(&["commit", "--quiet", "--all", "-m", "ours"]));
    assert!(!repository.git(&["merge", "--quiet", "other"]), "it must conflict");
    let commit = "160000,1111111111111111111111111111111111111111,module";
    assert!(repository.git(&["update-index", "--add", "--cacheinfo", commit]));
    assert!(repository.git(&["update-index", "--skip-worktree", ".profile"]));
    let expected = [(".bashrc", What::Unmerged), (ALL[1], What::File), ("module", What::Submodule)];
    assert_eq!(repository.tracked(), expected.map(|(path, what)| (path.to_owned(), what)));
}

#[test]
fn a_split_index_is_refused_with_advice() {
    let repository = Repository::new(&[]);
    assert!(repository.git(&["update-index", "--split-index"]));
    let error = tracked(&repository.bytes()).expect_err("half of it is elsewhere");
    assert!(error.message.contains("--no-split-index"), "{}", error.message);
    assert!(repository.git(&["update-index", "--no-split-index"]));
    assert_eq!(repository.tracked(), files(&ALL));
}

#[test]
fn a_part_of_an_index_and_other_files_are_refused() {
    let whole = Repository::new(&[]).bytes();
    for length in 0..whole.len() {
        tracked(&whole[..length]).expect_err("its end is missing");
    }
    for position in 0..whole.len() {
        let mut flipped = whole.clone();
        flipped[position] ^= 0x40;
        tracked(&flipped).expect_err("a bit is wrong");
    }
    tracked(b"alias ll='ls -l'\n").expect_err("it is no index");
}

#[test]
fn an_index_that_only_claims_to_be_whole_never_panics() {
    let whole = Repository::new(&[]).bytes();
    let content = &whole[..whole.len() - 20];
    for position in 0..content.len() {
        for flip in [0x01, 0x80, 0xff] {
            let mut flipped = content.to_vec();
            flipped[position] ^= flip;
            // Zeros instead of a checksum: nothing but the parser says no.
            flipped.extend([0; 20]);
            if let Ok(tracked) = tracked(&flipped) {
                assert!(tracked.len() <= 3);
            }
        }
    }
}

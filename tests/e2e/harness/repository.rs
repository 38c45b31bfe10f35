//! A real git repository of the host, in the state in which repositories are: not quite clean.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::{Ran, Who, tool};

/// The subject of the last commit.
const SUBJECT: &str = "Teach the song its second \"verse\" — größer";

/// A repository.
#[derive(Debug)]
pub(crate) struct Repository {
    /// The root of its working tree.
    pub(crate) path: PathBuf,
    user_home: PathBuf,
    who: Who,
    /// Its fingerprint when it was made.
    made: BTreeMap<PathBuf, String>,
}

impl Repository {
    pub(super) fn make(path: &Path, user_home: &Path, who: Who) -> Self {
        fs::create_dir_all(path).expect("made");
        let (path_there, user_home) = (path.to_owned(), user_home.to_owned());
        let mut repository = Self { path: path_there, user_home, who, made: BTreeMap::new() };
        repository.git(&["init", "--quiet", "--initial-branch=main"]);
        repository.write("README.md", "# A song\n");
        repository.write(".gitignore", "*.log\n/target/\n");
        repository.write("run.sh", "#!/bin/sh\necho la\n");
        repository.write("verses/one two.txt", "one\n");
        fs::set_permissions(path.join("run.sh"), fs::Permissions::from_mode(0o755)).expect("set");
        symlink("README.md", path.join("link")).expect("made");
        repository.git(&["add", "."]);
        repository.git(&["commit", "--quiet", "-m", "Begin the song"]);
        repository.write("verses/three.txt", "three\n");
        repository.git(&["add", "."]);
        repository.git(&["commit", "--quiet", "-m", SUBJECT]);
        let origin = "https://ada:s3cret-token@git.example/songs/song.git";
        repository.git(&["remote", "add", "origin", origin]);
        repository.write("README.md", "# A song, edited and not committed\n");
        repository.write(".env", "TOKEN=s3cret-env\n");
        repository.write("debug.log", "s3cret-log\n");
        repository.write("target/out", "s3cret-out\n");
        who.own(path.parent().expect("a folder"));
        repository.made = fingerprint(path);
        repository
    }

    /// Its path as an argument.
    pub(crate) fn arg(&self) -> &str {
        self.path.to_str().expect("UTF-8")
    }

    /// Asserts that nothing of it has changed since it was made.
    #[track_caller]
    pub(crate) fn is_as_it_was_made(&self) {
        assert_eq!(fingerprint(&self.path), self.made, "the source is as it was");
    }

    /// The subject of its last commit.
    pub(crate) fn subject(&self) -> &'static str {
        SUBJECT
    }

    /// Writes a file below its root.
    pub(crate) fn write(&self, path: &str, content: &str) {
        let path = self.path.join(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        fs::write(path, content).expect("written");
    }

    /// Runs git in it as its owner, as git wants it. It must succeed.
    pub(crate) fn git(&self, arguments: &[&str]) -> Ran {
        // Linked worktrees lie beside it.
        self.who.own(self.path.parent().expect("a folder"));
        let home = self.user_home.to_str().expect("UTF-8");
        let prefix = self.who.prefix();
        let words = prefix.iter().map(String::as_str).chain(["git", "-C", self.arg()]);
        let words: Vec<_> = words.chain(arguments.iter().copied()).collect();
        tool(words[0], &words[1..], &[("HOME", home), ("GIT_CONFIG_NOSYSTEM", "1")]).success()
    }
}

/// Everything below a folder: type, mode, owner, time of change in nanoseconds, and content, by path.
pub(super) fn fingerprint(folder: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut waiting = vec![folder.to_owned()];
    while let Some(path) = waiting.pop() {
        let metadata = fs::symlink_metadata(&path).expect("metadata");
        let content = if metadata.is_symlink() {
            fs::read_link(&path).expect("readable").to_string_lossy().into_owned()
        } else if metadata.is_dir() {
            let entries = fs::read_dir(&path).expect("readable");
            waiting.extend(entries.map(|entry| entry.expect("readable").path()));
            String::new()
        } else {
            format!("{:x?}", Sha256::digest(fs::read(&path).expect("readable")))
        };
        let times = (metadata.mtime(), metadata.mtime_nsec(), metadata.ctime_nsec());
        let (mode, owner) = (metadata.mode(), metadata.uid());
        found.insert(path, format!("{mode:o} {owner} {times:?} {content}"));
    }
    found
}

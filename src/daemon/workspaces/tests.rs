//! Workspaces that go into a guest, are worked in, and come out: the real agent and real git, in one process.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::looks::look;
use super::*;
use crate::daemon::checkouts::Repositories;
use crate::daemon::guests::AgentGuest;
use crate::guest::tests::Guest as Pretended;
use crate::process::Tool;
use crate::vm::ports::Checkouts as _;
use crate::wire::rpc::{ChangeKind, CreateWorkspace};
use crate::workspace::WorkspaceSettings;

mod anew;
mod applying;
mod foreign;
mod histories;
mod looks;
mod merging;
mod modes;
mod prepare;
mod reread;
mod submodules;
mod unread;

const LIMIT: Limit = Limit(64 << 20);

/// A repository on the host, and the same in a guest.
struct Work {
    folder: tempfile::TempDir,
    guest: Pretended,
    workspaces: Arc<Workspaces>,
    kept: Kept,
}

impl Work {
    fn new(guest: Pretended) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let settings = WorkspaceSettings { scratch: folder.path().join("scratch"), depth: 50 };
        let workspaces = Workspaces::new(settings).expect("a service");
        let workspaces = Arc::new(workspaces.by_clock(later));
        let kept = Kept::at(folder.path().join("vm/workspace"));
        for made in ["repo", "vm"] {
            fs::create_dir_all(folder.path().join(made)).expect("made");
        }
        Self { folder, guest, workspaces, kept }
    }

    /// With one commit of some files.
    async fn begun() -> Self {
        let work = Self::new(Pretended::ready().await);
        let source = work.source();
        git(&source, &["init", "-q", "-b", "main"]).await;
        for (name, text) in [("a.txt", "one\n"), ("dir/b.txt", "two\n"), ("run.sh", "#!/bin/sh\n")]
        {
            write(&source.join(name), text.as_bytes());
        }
        write(&source.join(".gitignore"), b"*.ignored\n");
        symlink("dir//b.txt", source.join("link")).expect("linked");
        commit(&source, "First").await;
        work
    }

    fn source(&self) -> PathBuf {
        self.folder.path().join("repo")
    }

    fn checkout(&self) -> PathBuf {
        self.guest.home().join("repo")
    }

    /// Puts a submodule into the source, at `vendor/lib`.
    async fn add_library(&self) {
        let other = self.folder.path().join("other");
        fs::create_dir(&other).expect("made");
        git(&other, &["init", "-q", "-b", "main"]).await;
        write(&other.join("lib.c"), b"int x;\n");
        write(&other.join(".gitignore"), b"*.o\n");
        commit(&other, "Library").await;
        let path = other.to_str().expect("UTF-8");
        let add =
            ["-c", "protocol.file.allow=always", "submodule", "add", "-q", path, "vendor/lib"];
        git(&self.source(), &add).await;
        commit(&self.source(), "With a library").await;
    }

    async fn prepare(&self) {
        let wanted = CreateWorkspace {
            path: self.source().to_string_lossy().into_owned(),
            include_untracked: true,
            ..CreateWorkspace::default()
        };
        let checkout = Repositories(self.workspaces.clone()).inspect(&wanted).await;
        let packed = checkout.expect("inspected").pack().await.expect("packed");
        let kept = self.folder.path().join("vm/workspace");
        packed.deliver(&self.agent(), &kept).await.expect("delivered");
    }

    fn agent(&self) -> AgentGuest {
        AgentGuest(self.guest.agent.clone())
    }

    async fn look(&self) -> Result<Seeing, Report> {
        let path = self.checkout();
        let mode = WorkspaceMode::Shallow;
        look(&self.agent(), path.to_str().expect("UTF-8"), mode, LIMIT, &self.kept).await
    }

    async fn patch(&self, against: Against<'_>) -> PathBuf {
        let seeing = self.look().await.expect("seen");
        let comparison = Comparison::of(&self.kept, against, &seeing.tree).await;
        let file = self.folder.path().join("patch");
        comparison.expect("compares").patch(&file).await.expect("written");
        file
    }

    async fn changes(&self) -> Vec<(String, ChangeKind)> {
        let seeing = self.look().await.expect("seen");
        let comparison = Comparison::of(&self.kept, Against::Base, &seeing.tree).await;
        let changes = comparison.expect("compares").changes().await.expect("changes");
        changes.into_iter().map(|change| (change.path, change.change)).collect()
    }
}

/// By this clock, no file was changed a moment ago.
fn later() -> SystemTime {
    SystemTime::now() + Duration::from_secs(3600)
}

async fn try_git(folder: &Path, arguments: &[&str]) -> Result<Vec<u8>, crate::process::ToolError> {
    let tool = Tool::new("git").current_dir(folder).keep_only_env(&["PATH"]).args(arguments);
    let name = |who: &str| format!("GIT_{who}_NAME");
    let tool = tool.env(&name("AUTHOR"), "Ada").env(&name("COMMITTER"), "Ada");
    let tool = tool.env("GIT_AUTHOR_EMAIL", "ada@example.org");
    let tool = tool.env("GIT_COMMITTER_EMAIL", "ada@example.org");
    tool.env("HOME", "/nonexistent").env("GIT_CONFIG_NOSYSTEM", "1").run().await
}

async fn git(folder: &Path, arguments: &[&str]) -> Vec<u8> {
    try_git(folder, arguments).await.expect("git works")
}

async fn commit(folder: &Path, subject: &str) {
    git(folder, &["add", "-A"]).await;
    git(folder, &["commit", "-q", "--allow-empty", "-m", subject]).await;
}

fn write(path: &Path, bytes: &[u8]) {
    fs::create_dir_all(path.parent().expect("a parent")).expect("made");
    fs::write(path, bytes).expect("written");
}

/// A tree as git sees it: for every path, its mode and its content or target.
type Picture = BTreeMap<Vec<u8>, (u32, Vec<u8>)>;

/// Everything in a folder but `.git`.
fn picture(root: &Path) -> Picture {
    let mut picture = Picture::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("listed") {
            let path = entry.expect("listed").path();
            let metadata = fs::symlink_metadata(&path).expect("there");
            let inside = path.strip_prefix(root).expect("inside").as_os_str().as_bytes().to_vec();
            if inside == b".git" {
                continue;
            }
            if metadata.is_dir() {
                folders.push(path);
            } else if metadata.is_symlink() {
                let target = fs::read_link(&path).expect("read");
                picture.insert(inside, (0o120_000, target.as_os_str().as_bytes().to_vec()));
            } else {
                let executable = metadata.permissions().mode() & 0o100;
                picture.insert(inside, (executable, fs::read(&path).expect("read")));
            }
        }
    }
    picture
}

/// The same, of what git would keep.
async fn kept_by_git(root: &Path) -> Picture {
    let list = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"];
    let listing = git(root, &list).await;
    let listed: std::collections::HashSet<&[u8]> = listing.split(|byte| *byte == 0).collect();
    picture(root).into_iter().filter(|(path, _)| listed.contains(&path[..])).collect()
}

#[tokio::test]
async fn what_nobody_touched_is_no_change_and_is_read_once() {
    let work = Work::begun().await;
    write(&work.source().join("a.txt"), b"edited on the host\n");
    write(&work.source().join("new.txt"), b"untracked on the host\n");
    work.prepare().await;
    assert_eq!(work.changes().await, []);
    let tree = work.look().await.expect("seen").tree;
    assert_eq!(tree, work.kept.base().await.expect("a tree"));
    assert!(work.kept.is_safe(&tree).await.expect("known"));
    assert!(fs::read(work.patch(Against::Base).await).expect("read").is_empty());
}

#[tokio::test]
async fn changes_are_seen_whatever_the_guests_git_says_of_itself() {
    let work = Work::begun().await;
    work.prepare().await;
    let guest = work.checkout();
    write(&guest.join("a.txt"), b"edited\n");
    write(&guest.join("kept\n\"odd\" ä.txt"), b"");
    write(&guest.join("x.ignored"), b"ignored");
    fs::remove_file(guest.join("dir/b.txt")).expect("removed");
    commit(&guest, "In the guest").await;
    fs::set_permissions(guest.join("run.sh"), PermissionsExt::from_mode(0o755)).expect("set");
    // What would hide it from a git that believed the index and the configuration.
    git(&guest, &["update-index", "--assume-unchanged", "run.sh"]).await;
    git(&guest, &["config", "core.fileMode", "false"]).await;
    let index = fs::read(guest.join(".git/index")).expect("read");
    let expected = [
        ("a.txt", ChangeKind::Modified),
        ("dir/b.txt", ChangeKind::Deleted),
        ("kept\\n\"odd\" ä.txt", ChangeKind::Added),
        ("run.sh", ChangeKind::Modified),
    ];
    let changes = work.changes().await;
    let changes: Vec<_> = changes.iter().map(|(path, change)| (&path[..], *change)).collect();
    assert_eq!(changes, expected);
    assert_eq!(fs::read(guest.join(".git/index")).expect("read"), index, "the index is untouched");
    fs::remove_dir_all(guest.join(".git")).expect("removed");
    let error = work.look().await.expect_err("git cannot say what is ignored");
    assert!(error.message.contains("not a git repository"), "{error:?}");
}

#[tokio::test]
async fn exported_work_is_safe_until_something_changes() {
    let work = Work::begun().await;
    work.prepare().await;
    write(&work.checkout().join("a.txt"), b"edited\n");
    let tree = work.look().await.expect("seen").tree;
    assert!(!work.kept.is_safe(&tree).await.expect("known"));
    work.kept.exported(&tree).await.expect("written down");
    assert!(work.kept.is_safe(&work.look().await.expect("seen").tree).await.expect("known"));
    write(&work.checkout().join("new"), b"more\n");
    let tree = work.look().await.expect("seen").tree;
    assert!(!work.kept.is_safe(&tree).await.expect("known"));
    fs::remove_file(work.checkout().join("new")).expect("removed");
    assert!(work.kept.is_safe(&work.look().await.expect("seen").tree).await.expect("known"));
}

#[tokio::test]
async fn files_of_submodules_and_repositories_inside_are_told_apart() {
    let work = Work::begun().await;
    work.add_library().await;
    work.prepare().await;
    assert_eq!(work.changes().await, []);
    let lib = work.checkout().join("vendor/lib");
    write(&lib.join("lib.c"), b"int y;\n");
    write(&lib.join("lib.o"), b"object");
    write(&lib.join("new.c"), b"int z;\n");
    let inside = work.checkout().join("inside");
    fs::create_dir(&inside).expect("made");
    git(&inside, &["init", "-q"]).await;
    write(&inside.join("file"), b"not seen");
    commit(&inside, "Inside").await;
    let expected = [
        ("vendor/lib/lib.c".to_owned(), ChangeKind::Modified),
        ("vendor/lib/new.c".to_owned(), ChangeKind::Added),
    ];
    assert_eq!(work.changes().await, expected);
    assert_eq!(work.look().await.expect("seen").nested, ["inside/"]);
    // A commit only names a submodule: what is in it is no difference to the commit.
    let source = work.source();
    let against = Against::Commit { source: &source, commit: "HEAD" };
    assert!(fs::read(work.patch(against).await).expect("read").is_empty());
    // So that patch has not all of the work; nor has any while there is a repository inside.
    let to_commit = |commit| Against::Commit { source: &source, commit };
    let all = [(Against::Base, true), (to_commit("HEAD"), false), (to_commit("HEAD~1"), true)];
    for inside_is_there in [true, false] {
        let seeing = work.look().await.expect("seen");
        for (against, whole) in all {
            let comparison = Comparison::of(&work.kept, against, &seeing.tree).await;
            let comparison = comparison.expect("compares");
            assert_eq!(comparison.is_whole(), whole, "{against:?}");
            assert_eq!(is_all(&seeing, &comparison), whole && !inside_is_there, "{against:?}");
        }
        fs::remove_dir_all(&inside).ok();
    }
}

#[tokio::test]
async fn what_a_guest_cannot_have_is_refused_and_keeps_what_was_known() {
    let work = Work::begun().await;
    work.prepare().await;
    let file = fs::File::create(work.checkout().join("huge")).expect("made");
    file.set_len(LIMIT.0 + 1).expect("a hole");
    let error = work.look().await.expect_err("refused");
    assert!(error.message.contains("its disk has"), "{error:?}");
    fs::remove_file(work.checkout().join("huge")).expect("removed");
    assert_eq!(work.changes().await, []);
    let source = work.source();
    for commit in ["nothing", "--help", "HEAD:a.txt", ""] {
        let seeing = work.look().await.expect("seen");
        let against = Against::Commit { source: &source, commit };
        let error = Comparison::of(&work.kept, against, &seeing.tree).await.err();
        assert!(error.is_some(), "{commit}");
    }
}

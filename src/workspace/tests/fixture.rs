//! A repository to pack, and what came out of it.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;

use crate::process::{Tool, ToolError};
use crate::workspace::{
    Inspection, PackageSummary, Untracked, WorkspaceError, WorkspaceSettings, Workspaces,
};

/// Folders of one test.
pub(super) struct Fixture {
    pub(super) folder: TempDir,
    pub(super) service: Workspaces,
}

/// A checkout as the guest would have it.
pub(super) struct Checkout {
    pub(super) root: PathBuf,
    pub(super) inspection: Inspection,
    pub(super) summary: PackageSummary,
}

impl Fixture {
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir().expect("temporary folder");
        let scratch = folder.path().join("daemon's scratch 100%");
        let service = Workspaces::new(WorkspaceSettings { scratch, depth: 50 }).expect("service");
        Self { folder, service }
    }

    /// A repository `repo` with one commit of `a.txt`, `dir/b.txt`, `run.sh`, `link` and `.gitignore`.
    pub(super) async fn repository(&self) -> PathBuf {
        self.repository_with(&[]).await
    }

    pub(super) async fn repository_with(&self, init: &[&str]) -> PathBuf {
        let root = self.folder.path().join("repo");
        fs::create_dir_all(&root).expect("made");
        git(&root, &[&["init", "-q", "-b", "main"], init].concat()).await;
        git(&root, &["config", "user.name", "Ada Source"]).await;
        git(&root, &["config", "user.email", "ada@source.example"]).await;
        for (name, text) in [("a.txt", "one\n"), ("dir/b.txt", "two\n"), ("run.sh", "#!/bin/sh\n")]
        {
            write(&root, name, text);
        }
        write(&root, ".gitignore", "*.ignored\n/build/\n");
        fs::set_permissions(root.join("run.sh"), fs::Permissions::from_mode(0o755)).expect("chmod");
        std::os::unix::fs::symlink("dir//b.txt", root.join("link")).expect("symlink");
        git(&root, &["add", "-A"]).await;
        git(&root, &["commit", "-q", "-m", "First subject"]).await;
        root
    }

    pub(super) async fn inspect(&self, path: &Path) -> Result<Inspection, WorkspaceError> {
        self.service.inspect(path, Untracked::Leave).await
    }

    /// Packs and unpacks; checks that the source was not touched and that no scratch is left.
    pub(super) async fn checkout(&self, path: &Path, untracked: Untracked) -> Checkout {
        let repository = self.service.inspect(path, untracked).await.expect("inspects");
        let before = picture(repository.source_root());
        let inspection = self.service.inspect(path, untracked).await.expect("inspects");
        let package = self.service.pack(&inspection).await.expect("packs");
        let archive = self.folder.path().join("out.tar");
        let file = fs::File::create(&archive).expect("made");
        let summary = package.write_tar(file).expect("writes");
        drop(package);
        assert_eq!(picture(inspection.source_root()), before, "the source was touched");
        self.no_scratch_is_left().await;
        let root = self.folder.path().join("guest").join(inspection.guest_folder_name());
        drop(fs::remove_dir_all(&root));
        fs::create_dir_all(&root).expect("made");
        let unpack = Tool::new("tar").args(["-xpf"]).arg(&archive).arg("-C").arg(&root);
        unpack.run().await.expect("the system's tar unpacks it");
        Checkout { root, inspection, summary }
    }

    /// Waits until the scratch folders are gone, which they are a little later.
    pub(super) async fn no_scratch_is_left(&self) {
        let gone = async {
            while fs::read_dir(self.scratch()).expect("listed").next().is_some() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), gone).await.expect("none is left");
    }

    pub(super) fn scratch(&self) -> PathBuf {
        self.folder.path().join("daemon's scratch 100%")
    }
}

impl Checkout {
    pub(super) async fn git(&self, args: &[&str]) -> String {
        git(&self.root, args).await
    }

    pub(super) async fn status(&self) -> String {
        status(&self.root).await
    }

    pub(super) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.root.join(name)).expect(name)
    }

    pub(super) fn has(&self, name: &str) -> bool {
        fs::symlink_metadata(self.root.join(name)).is_ok()
    }
}

/// The status in a form that does not write the index.
pub(super) async fn status(root: &Path) -> String {
    git(root, &["status", "--porcelain", "--branch"]).await.replace("...origin/main [gone]", "")
}

pub(super) async fn try_git(root: &Path, args: &[&str]) -> Result<String, ToolError> {
    let tool = Tool::new("git").current_dir(root).keep_only_env(&["PATH"]).args(args);
    let tool = tool
        .env("HOME", "/nonexistent")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_OPTIONAL_LOCKS", "0")
        .env("GIT_ALLOW_PROTOCOL", "file")
        .env("GIT_AUTHOR_DATE", "2024-01-02T03:04:05Z")
        .env("GIT_COMMITTER_DATE", "2024-01-02T03:04:05Z");
    Ok(String::from_utf8_lossy(&tool.run().await?).into_owned())
}

pub(super) async fn git(root: &Path, args: &[&str]) -> String {
    try_git(root, args).await.expect("git works")
}

pub(super) fn write(root: &Path, name: &str, text: &str) {
    let path = root.join(name);
    fs::create_dir_all(path.parent().expect("has a parent")).expect("made");
    fs::write(path, text).expect("written");
}

/// Everything below a folder, `.git` included: type, mode, time, content.
pub(super) fn picture(root: &Path) -> BTreeMap<PathBuf, String> {
    let mut picture = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("listed").chain([]) {
            let path = entry.expect("listed").path();
            let metadata = fs::symlink_metadata(&path).expect("there");
            let content = if metadata.is_file() {
                crate::id::Digest::of(&fs::read(&path).expect("read")).to_string()
            } else if metadata.is_symlink() {
                format!("{:?}", fs::read_link(&path).expect("read"))
            } else {
                String::new()
            };
            if metadata.is_dir() {
                folders.push(path.clone());
            }
            let (mode, s, ns) = (metadata.mode(), metadata.mtime(), metadata.mtime_nsec());
            picture.insert(path, format!("{mode:o} {s}.{ns} {} {content}", metadata.ino()));
        }
    }
    picture
}

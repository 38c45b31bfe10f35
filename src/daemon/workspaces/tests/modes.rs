//! Workspaces without git, workspaces without files, and those that leave files out: what is not there by intention is
//! no deletion, and all work is seen.

use super::super::prepare::{Place, gather, send};
use super::looks::workspace;
use super::*;
use crate::daemon::checkouts::inspection;
use crate::daemon::course::Course;
use crate::vm::Unexported;
use crate::vm::ports::{Work as _, WorkSeen, WorkspaceOf};

/// A repository in a guest, in a mode.
struct InMode {
    work: Work,
    mode: WorkspaceMode,
}

impl InMode {
    async fn prepared(work: Work, mode: WorkspaceMode) -> Self {
        let in_mode = Self { work, mode };
        let repositories = Repositories(in_mode.work.workspaces.clone());
        let checkout = repositories.inspect(&in_mode.wanted()).await.expect("inspected");
        assert_eq!(checkout.record().mode, mode);
        let packed = checkout.pack().await.expect("packed");
        let kept = in_mode.work.folder.path().join("vm/workspace");
        packed.deliver(&in_mode.work.agent(), &kept).await.expect("delivered");
        assert_eq!(in_mode.work.kept.mode().await, mode);
        in_mode
    }

    fn wanted(&self) -> CreateWorkspace {
        let path = self.work.source().to_string_lossy().into_owned();
        CreateWorkspace { path, mode: Some(self.mode), ..CreateWorkspace::default() }
    }

    async fn look(&self) -> Seeing {
        let path = self.work.checkout();
        let (guest, path) = (self.work.agent(), path.to_str().expect("UTF-8"));
        look(&guest, path, self.mode, LIMIT, &self.work.kept).await.expect("seen")
    }

    async fn changes(&self) -> Vec<(String, ChangeKind)> {
        self.changes_since(Against::Base).await
    }

    async fn changes_since(&self, against: Against<'_>) -> Vec<(String, ChangeKind)> {
        let seeing = self.look().await;
        let comparison = Comparison::of(&self.work.kept, against, &seeing.tree).await;
        let changes = comparison.expect("compares").changes().await.expect("changes");
        changes.into_iter().map(|change| (change.path, change.change)).collect()
    }

    /// What a delete would say of it.
    async fn guarded(&self) -> WorkSeen {
        let workspace = WorkspaceOf { mode: self.mode, ..workspace(&self.work) };
        Looks::default().look(&workspace, &self.work.agent()).await.expect("seen")
    }

    async fn update(&self, unexported: Unexported) -> Result<(), Report> {
        let (guest, course) = (self.work.agent(), Course::default());
        let inspection = inspection(&self.work.workspaces, &self.wanted()).await?;
        let base = inspection.base_commit().map(str::to_owned);
        let place = Place {
            guest: &guest,
            name: "web",
            folder: "repo",
            base_commit: base.as_deref(),
            mode: self.mode,
            limit: LIMIT,
            kept: &self.work.kept,
        };
        let renewal =
            gather(&self.work.workspaces, &place, &inspection, unexported, &course).await?;
        send(&place, renewal, &course).await
    }

    async fn guest_git(&self, arguments: &[&str]) -> String {
        String::from_utf8(git(&self.work.checkout(), arguments).await).expect("UTF-8")
    }
}

fn changed(path: &str, change: ChangeKind) -> (String, ChangeKind) {
    (path.to_owned(), change)
}

#[tokio::test]
async fn a_full_workspace_is_files_and_no_repository() {
    let work = Work::begun().await;
    work.add_library().await;
    write(&work.source().join("a.txt"), b"edited\n");
    write(&work.source().join("untracked"), b"stays\n");
    write(&work.source().join("kept.ignored"), b"stays\n");
    let full = InMode::prepared(work, WorkspaceMode::Full).await;
    let guest = full.work.checkout();
    assert_eq!(fs::read(guest.join("a.txt")).expect("there"), b"edited\n");
    assert_eq!(fs::read(guest.join("vendor/lib/lib.c")).expect("there"), b"int x;\n");
    for absent in [".git", "vendor/lib/.git", "untracked", "kept.ignored"] {
        assert!(!guest.join(absent).exists(), "{absent}");
    }
    assert_eq!(full.changes().await, []);
    assert_eq!(full.guarded().await, WorkSeen::Safe);

    // What is ignored is known without git, in a submodule's folder, too.
    write(&guest.join("new"), b"new\n");
    write(&guest.join("x.ignored"), b"built\n");
    write(&guest.join("vendor/lib/x.o"), b"built\n");
    fs::remove_file(guest.join("dir/b.txt")).expect("removed");
    let expected = [changed("dir/b.txt", ChangeKind::Deleted), changed("new", ChangeKind::Added)];
    assert_eq!(full.changes().await, expected);
    assert!(matches!(full.guarded().await, WorkSeen::Unexported { .. }));
    let error = full.update(Unexported::Keep).await.expect_err("work is there");
    assert!(error.one_line().contains("`dir/b.txt`, `new`"), "{error:?}");

    // A repository that the guest makes of it is the guest's.
    git(&guest, &["init", "-q"]).await;
    git(&guest, &["add", "-A"]).await;
    assert_eq!(full.changes().await, expected);
    write(&full.work.source().join("run.sh"), b"#!/bin/sh\necho\n");
    full.update(Unexported::Discard).await.expect("updated");
    assert_eq!(full.changes().await, []);
    assert!(guest.join(".git/index").exists() && guest.join("x.ignored").exists());
    assert_eq!(fs::read(guest.join("run.sh")).expect("there"), b"#!/bin/sh\necho\n");
    assert!(guest.join("dir/b.txt").exists() && !guest.join("new").exists());
    full.update(Unexported::Keep).await.expect("also when nothing differs");
}

#[tokio::test]
async fn a_metadata_workspace_has_all_objects_and_git_there_is_content() {
    let work = Work::begun().await;
    work.add_library().await;
    write(&work.source().join("a.txt"), b"not committed\n");
    let metadata = InMode::prepared(work, WorkspaceMode::Metadata).await;
    let guest = metadata.work.checkout();
    assert_eq!(fs::read_dir(&guest).expect("listed").count(), 1, "only `.git`");
    assert_eq!(metadata.guest_git(&["status", "--porcelain"]).await, "");
    assert_eq!(metadata.guest_git(&["show", "HEAD:a.txt"]).await, "one\n");
    metadata.guest_git(&["fsck", "--strict"]).await;
    // Neither what went in nor a commit of it has files that count as deleted.
    assert_eq!(metadata.changes().await, []);
    let source = metadata.work.source();
    let head = Against::Commit { source: &source, commit: "HEAD" };
    assert_eq!(metadata.changes_since(head).await, []);
    assert_eq!(metadata.guarded().await, WorkSeen::Safe);

    // Files that are checked out are no change, and what is done to them is one.
    metadata.guest_git(&["sparse-checkout", "disable"]).await;
    assert_eq!(fs::read(guest.join("a.txt")).expect("there"), b"one\n");
    assert_eq!(metadata.changes().await, []);
    fs::remove_file(guest.join("dir/b.txt")).expect("removed");
    write(&guest.join("run.sh"), b"#!/bin/sh\necho\n");
    let expected =
        [changed("dir/b.txt", ChangeKind::Deleted), changed("run.sh", ChangeKind::Modified)];
    assert_eq!(metadata.changes().await, expected);
    let error = metadata.update(Unexported::Keep).await.expect_err("work is there");
    assert!(error.one_line().contains("`dir/b.txt`, `run.sh`"), "{error:?}");

    // Brought up to date, it is without files again.
    commit(&source, "Second").await;
    metadata.update(Unexported::Discard).await.expect("updated");
    assert_eq!(picture(&guest), Picture::new(), "nothing but folders");
    assert_eq!(metadata.guest_git(&["status", "--porcelain"]).await, "");
    assert_eq!(metadata.guest_git(&["show", "HEAD:a.txt"]).await, "not committed\n");
    assert_eq!(metadata.changes().await, []);
    metadata.update(Unexported::Keep).await.expect("also when nothing differs");

    // Git there leaves files out by its patterns again: none comes with another commit, to lie there unseen by it.
    assert_eq!(metadata.guest_git(&["config", "core.sparseCheckout"]).await, "true\n");
    metadata.guest_git(&["checkout", "-q", "--detach", "HEAD~1"]).await;
    assert_eq!(picture(&guest), Picture::new(), "nothing but folders");
    metadata.guest_git(&["sparse-checkout", "disable"]).await;
    assert_eq!(fs::read(guest.join("a.txt")).expect("there"), b"one\n");
}

#[tokio::test]
async fn what_git_brings_together_without_files_is_work() {
    let work = Work::begun().await;
    git(&work.source(), &["checkout", "-q", "-b", "side"]).await;
    let metadata = InMode::prepared(work, WorkspaceMode::Metadata).await;
    let hash = metadata.guest_git(&["rev-parse", "HEAD:run.sh"]).await;
    let entry = format!("100644,{},a.txt", hash.trim());
    metadata.guest_git(&["update-index", "--cacheinfo", &entry]).await;
    metadata.guest_git(&["update-index", "--skip-worktree", "a.txt"]).await;
    let seeing = metadata.look().await;
    assert_eq!(seeing.unseen, ["a.txt"]);
    let told = notes(&seeing);
    assert!(told[0].contains("`a.txt`") && told[0].contains("not checked out"), "{told:?}");
    assert!(matches!(metadata.guarded().await, WorkSeen::Unexported { .. }));
    let error = metadata.update(Unexported::Keep).await.expect_err("work is there");
    assert!(error.hint.is_some_and(|hint| hint.contains("sparse-checkout disable")));
    metadata.update(Unexported::Discard).await.expect("updated");
    assert_eq!(metadata.guarded().await, WorkSeen::Safe);
}

#[tokio::test]
async fn what_a_sparse_checkout_leaves_out_is_no_deletion() {
    let work = Work::begun().await;
    git(&work.source(), &["sparse-checkout", "set", "--cone", "other"]).await;
    assert!(!work.source().join("dir").exists());
    let sparse = InMode::prepared(work, WorkspaceMode::Shallow).await;
    let (source, guest) = (sparse.work.source(), sparse.work.checkout());
    assert_eq!(sparse.changes().await, []);
    let head = || Against::Commit { source: &source, commit: "HEAD" };
    assert_eq!(sparse.changes_since(head()).await, []);
    // Checked out in the guest alone, it is none either, and brought up to date it is as in the source.
    sparse.guest_git(&["sparse-checkout", "add", "dir"]).await;
    assert!(guest.join("dir/b.txt").exists());
    assert_eq!(sparse.changes().await, []);
    sparse.update(Unexported::Keep).await.expect("updated");
    assert!(!guest.join("dir/b.txt").exists());
    assert_eq!(sparse.guest_git(&["status", "--porcelain"]).await, "");

    // The other way round: the source has all, and the guest leaves some out until it is brought up to date.
    git(&source, &["sparse-checkout", "disable"]).await;
    sparse.update(Unexported::Keep).await.expect("updated");
    assert_eq!(fs::read(guest.join("dir/b.txt")).expect("there"), b"two\n");
    // Git takes no file away that it has not looked at since.
    assert_eq!(sparse.guest_git(&["status", "--porcelain"]).await, "");
    sparse.guest_git(&["sparse-checkout", "set", "--cone", "other"]).await;
    assert!(!guest.join("dir").exists());
    assert_eq!(sparse.changes().await, []);
    assert_eq!(sparse.guarded().await, WorkSeen::Safe);
    sparse.update(Unexported::Keep).await.expect("updated");
    assert_eq!(fs::read(guest.join("dir/b.txt")).expect("there"), b"two\n");
    // It stays there, as git does not go by the patterns any more that left it out.
    sparse.guest_git(&["reset", "-q", "--hard"]).await;
    assert!(guest.join("dir/b.txt").exists());
    fs::remove_file(guest.join("dir/b.txt")).expect("removed");
    assert_eq!(sparse.changes().await, [changed("dir/b.txt", ChangeKind::Deleted)]);
}

#[tokio::test]
async fn a_mode_is_refused_with_what_it_has_none_of() {
    let work = Work::begun().await;
    let full = InMode { work, mode: WorkspaceMode::Full };
    let wanted = CreateWorkspace { full_history: true, ..full.wanted() };
    let error = inspection(&full.work.workspaces, &wanted).await.expect_err("refused");
    let expected = "`full_history` (`--full-history`) and the mode `full` exclude each other: no history goes in";
    assert_eq!((error.kind, error.one_line()), (Kind::Invalid, expected.to_owned()));
}

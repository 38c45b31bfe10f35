//! Workspaces that are brought up to date: the guest's tree, index and history become the source's, its own files
//! stay, and all of it happens or nothing.

use std::io::{self, Write};
use std::num::NonZeroU32;

use super::super::prepare::{Place, gather, send};
use super::*;
use crate::daemon::checkouts::inspection;
use crate::daemon::course::Course;
use crate::vm::Unexported;
use crate::vm::ports::GuestTrees as _;
use crate::wire::guest::TreeChange;
use crate::wire::survey::Known;
use crate::workspace::{Renewal, TreeWriter};

/// At how many places a delivery is cut off.
const CUTS: usize = 50;

impl Work {
    pub(super) fn wanted(&self) -> CreateWorkspace {
        let path = self.source().to_string_lossy().into_owned();
        CreateWorkspace { path, include_untracked: true, ..CreateWorkspace::default() }
    }

    /// The commit that went in last.
    pub(super) fn base(&self) -> String {
        let commit = self.folder.path().join("vm/workspace/git/refs/cove/commit");
        fs::read_to_string(commit).expect("it is kept").trim().to_owned()
    }

    pub(super) async fn renewal(
        &self,
        place: &Place<'_>,
        wanted: &CreateWorkspace,
        unexported: Unexported,
        course: &Course,
    ) -> Result<Renewal, Report> {
        let inspection = inspection(&self.workspaces, wanted).await?;
        gather(&self.workspaces, place, &inspection, unexported, course).await
    }

    /// Brings the guest up to date, and returns how many bytes that took.
    pub(super) async fn update_to(
        &self,
        wanted: &CreateWorkspace,
        unexported: Unexported,
    ) -> Result<u64, Report> {
        let (guest, base, course) = (self.agent(), self.base(), Course::default());
        let place = place(&guest, &base, &self.kept);
        let renewal = self.renewal(&place, wanted, unexported, &course).await?;
        send(&place, renewal, &course).await?;
        Ok(course.sent())
    }

    pub(super) async fn update(&self) -> Result<u64, Report> {
        self.update_to(&self.wanted(), Unexported::Keep).await
    }

    pub(super) async fn refused(&self, expected: &str) {
        let before = picture(&self.checkout());
        let error = self.update().await.expect_err("refused");
        let text = format!("{} {:?}", error.one_line(), error.hint);
        assert!(text.contains(expected), "no `{expected}` in {text}");
        assert_eq!(picture(&self.checkout()), before, "nothing has changed");
    }

    /// Asserts that the guest's checkout is the source's, but for what git ignores.
    async fn assert_same(&self) {
        let (source, guest) = (self.source(), self.checkout());
        assert_eq!(kept_by_git(&guest).await, kept_by_git(&source).await);
        for question in [
            &["status", "--porcelain"][..],
            &["log", "--format=%H %s", "-n", "50"],
            &["symbolic-ref", "HEAD"],
            &["diff", "--cached", "HEAD"],
        ] {
            let (there, here) = (git(&guest, question).await, git(&source, question).await);
            let text = String::from_utf8_lossy;
            assert_eq!(text(&there), text(&here), "{question:?}");
        }
        git(&guest, &["fsck", "--full", "--strict", "--no-dangling"]).await;
        assert_eq!(self.changes().await, []);
        assert!(!self.guest.home().join(".cove-update").exists());
    }
}

pub(super) fn place<'a>(guest: &'a AgentGuest, base: &'a str, kept: &'a Kept) -> Place<'a> {
    let (base_commit, mode) = (Some(base), WorkspaceMode::Shallow);
    Place { guest, name: "web", folder: "repo", base_commit, mode, limit: LIMIT, kept }
}

/// Changes of every kind in the source: in commits, staged, in the working tree, and on another branch.
async fn change_everything(source: &Path) {
    write(&source.join("a.txt"), b"committed\n");
    fs::create_dir_all(source.join("moved/deep")).expect("made");
    git(source, &["mv", "dir/b.txt", "moved/deep/b.txt"]).await;
    commit(source, "Second").await;
    git(source, &["checkout", "-q", "-b", "work"]).await;
    fs::set_permissions(source.join("run.sh"), PermissionsExt::from_mode(0o755)).expect("set");
    fs::remove_file(source.join("link")).expect("removed");
    symlink("a.txt", source.join("link")).expect("linked");
    commit(source, "Third").await;
    write(&source.join("staged.txt"), b"staged\n");
    git(source, &["add", "staged.txt"]).await;
    write(&source.join("staged.txt"), b"and edited\n");
    write(&source.join("ä\n\"odd\"/new.txt"), b"untracked\n");
    fs::remove_file(source.join("a.txt")).expect("removed");
    write(&source.join("a.txt/now-a-folder"), b"in its place\n");
}

#[tokio::test]
async fn a_second_prepare_makes_the_guests_tree_the_sources() {
    let work = Work::begun().await;
    work.prepare().await;
    write(&work.checkout().join("build.ignored"), b"built in the guest\n");
    write(&work.checkout().join("dir/build.ignored"), b"in a folder that goes\n");
    change_everything(&work.source()).await;
    work.update().await.expect("updates");
    work.assert_same().await;
    let built = |path: &str| fs::read(work.checkout().join(path)).expect("kept");
    assert_eq!(built("build.ignored"), b"built in the guest\n");
    assert_eq!(built("dir/build.ignored"), b"in a folder that goes\n");
    // And back: what was a folder is a file again, what was new is gone.
    git(&work.source(), &["checkout", "-q", "-f", "main"]).await;
    git(&work.source(), &["clean", "-q", "-f", "-d"]).await;
    work.update().await.expect("updates");
    work.assert_same().await;
    assert!(!work.checkout().join("ä\n\"odd\"").exists(), "a folder goes with its last file");
}

#[tokio::test]
async fn what_was_put_in_is_known_again_without_being_read() {
    let work = Work::begun().await;
    work.prepare().await;
    let look = work.kept.look().await.expect("begins");
    let known = Known::read_all(&look.records).expect("records");
    assert!(!known.is_empty());
    assert!(known.iter().all(|known| known.token.is_known()), "{known:?}");
    // A change at once that leaves the size as it is.
    let file = work.checkout().join("a.txt");
    let changed = fs::read(&file).expect("there").to_ascii_uppercase();
    fs::write(&file, changed).expect("written");
    let tree = work.look().await.expect("seen").tree;
    assert!(!work.kept.is_safe(&tree).await.expect("known"));
}

#[tokio::test]
async fn only_what_differs_is_sent() {
    let work = Work::begun().await;
    let noise = |seed: u64| {
        let mut state = 2 * seed + 1;
        let byte = move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as u8
        };
        std::iter::repeat_with(byte).take(40_000).collect::<Vec<u8>>()
    };
    for number in 0..100 {
        write(&work.source().join(format!("noise/{number}")), &noise(number));
    }
    commit(&work.source(), "Noise").await;
    work.prepare().await;
    let nothing = work.update().await.expect("updates");
    assert!(nothing < 100_000, "{nothing} bytes for nothing");
    write(&work.source().join("noise/7"), &noise(1000));
    commit(&work.source(), "Other noise").await;
    let one = work.update().await.expect("updates");
    work.assert_same().await;
    // Once in the working tree, once in git's own.
    assert!((80_000..200_000).contains(&one), "{one} bytes for a file of 40,000");
    // A guest whose git has put its objects together anew gets all of them.
    git(&work.checkout(), &["gc", "-q", "--prune=now"]).await;
    write(&work.source().join("a.txt"), b"after gc\n");
    commit(&work.source(), "After gc").await;
    let all = work.update().await.expect("updates");
    assert!(all > 4_000_000, "{all} bytes");
    work.assert_same().await;
}

#[tokio::test]
async fn work_that_was_not_exported_is_not_written_over() {
    let work = Work::begun().await;
    work.prepare().await;
    write(&work.source().join("a.txt"), b"of the host\n");
    write(&work.checkout().join("run.sh"), b"of the guest\n");
    write(&work.checkout().join("new.txt"), b"new in the guest\n");
    work.refused("was not exported: `new.txt`, `run.sh`").await;
    work.refused("--discard-work").await;
    let tree = work.look().await.expect("seen").tree;
    work.kept.exported(&tree).await.expect("written down");
    work.update().await.expect("what was exported may go");
    work.assert_same().await;

    write(&work.checkout().join("a.txt"), b"of the guest\n");
    work.refused("`a.txt`").await;
    work.update_to(&work.wanted(), Unexported::Discard).await.expect("given up");
    work.assert_same().await;
}

#[tokio::test]
async fn ignored_files_and_work_of_git_in_the_way_are_named() {
    let work = Work::begun().await;
    work.prepare().await;
    write(&work.checkout().join("c.ignored"), b"of the guest\n");
    write(&work.source().join("c.ignored"), b"of the host\n");
    git(&work.source(), &["add", "-f", "c.ignored"]).await;
    write(&work.source().join("a.txt"), b"of the host\n");
    work.refused("`c.ignored`").await;
    fs::remove_file(work.checkout().join("c.ignored")).expect("removed");
    for under_way in [".git/index.lock", ".git/MERGE_HEAD"] {
        let place = work.checkout().join(under_way);
        write(&place, b"");
        let error = work.update().await.expect_err("refused");
        assert!(error.one_line().contains(under_way), "{error:?}");
        fs::remove_file(place).expect("removed");
    }
    work.update().await.expect("updates");
    work.assert_same().await;
}

#[tokio::test]
async fn commits_and_branches_of_the_guest_stay_in_it() {
    let work = Work::begun().await;
    work.prepare().await;
    let guest = work.checkout();
    git(&guest, &["checkout", "-q", "-b", "side"]).await;
    write(&guest.join("side.txt"), b"on a branch\n");
    commit(&guest, "Side").await;
    git(&guest, &["checkout", "-q", "main"]).await;
    commit(&guest, "In the guest").await;
    let own = git(&guest, &["rev-parse", "HEAD"]).await;
    write(&work.source().join("a.txt"), b"of the host\n");
    commit(&work.source(), "On the host").await;
    work.update().await.expect("the tree is what went in");
    work.assert_same().await;
    let name = format!("refs/cove/before-{}", String::from_utf8_lossy(&own[..12]));
    assert_eq!(git(&guest, &["rev-parse", &name]).await, own);
    assert_eq!(git(&guest, &["log", "-1", "--format=%s", "side"]).await, b"Side\n");
    assert_eq!(git(&guest, &["show", "side:side.txt"]).await, b"on a branch\n");
}

#[tokio::test]
async fn the_history_goes_in_as_deep_as_asked_for() {
    let work = Work::begun().await;
    for number in 0..60 {
        write(&work.source().join("a.txt"), format!("{number}\n").as_bytes());
        commit(&work.source(), "More").await;
    }
    work.prepare().await;
    let count = async || {
        let count = git(&work.checkout(), &["rev-list", "--count", "HEAD"]).await;
        String::from_utf8_lossy(&count).trim().to_owned()
    };
    assert_eq!(count().await, "50");
    let three = CreateWorkspace { depth: NonZeroU32::new(3), ..work.wanted() };
    work.update_to(&three, Unexported::Keep).await.expect("updates");
    assert_eq!(count().await, "3");
    let all = CreateWorkspace { full_history: true, ..work.wanted() };
    work.update_to(&all, Unexported::Keep).await.expect("updates");
    assert_eq!(count().await, "61");
    git(&work.checkout(), &["fsck", "--full", "--strict"]).await;
}

#[tokio::test]
async fn a_branch_is_made_in_the_guest_only() {
    let work = Work::begun().await;
    work.prepare().await;
    let refs = git(&work.source(), &["for-each-ref"]).await;
    let branch = |name: &str| CreateWorkspace { branch: Some(name.to_owned()), ..work.wanted() };
    work.update_to(&branch("agent/one"), Unexported::Keep).await.expect("updates");
    let head = git(&work.checkout(), &["symbolic-ref", "HEAD"]).await;
    assert_eq!(head, b"refs/heads/agent/one\n");
    assert_eq!(git(&work.source(), &["for-each-ref"]).await, refs);
    // A branch of that name has no room beside it, and nothing of that update may be in the guest.
    write(&work.source().join("a.txt"), b"edited\n");
    for taken in ["agent", "agent/one/two", "agent", "agent/one/two"] {
        let before = (picture(&work.checkout()), picture(&work.checkout().join(".git")));
        let error = work.update_to(&branch(taken), Unexported::Keep).await.expect_err(taken);
        assert!(error.one_line().contains("refs/heads/agent"), "{error:?}");
        let after = (picture(&work.checkout()), picture(&work.checkout().join(".git")));
        assert!(after == before, "{taken}");
        // The second time, they are not files any more.
        git(&work.checkout(), &["pack-refs", "--all", "--prune"]).await;
    }
    work.update_to(&branch("other"), Unexported::Keep).await.expect("nothing is left undone");
    for bad in ["", "a..b", "-x", "a b", "HEAD", "x.lock"] {
        let error = work.update_to(&branch(bad), Unexported::Keep).await.expect_err(bad);
        assert_eq!(error.kind, Kind::Invalid, "{bad}: {error:?}");
    }
}

#[tokio::test]
async fn an_empty_file_comes_with_its_object() {
    let work = Work::begun().await;
    // The host has its content from now on, the guest's git has not.
    write(&work.source().join("empty"), b"");
    work.prepare().await;
    git(&work.source(), &["add", "empty"]).await;
    work.update().await.expect("updates");
    work.assert_same().await;
    git(&work.checkout(), &["cat-file", "-e", ":empty"]).await;
}

#[tokio::test]
async fn a_branch_begins_where_it_is_told_to() {
    let work = Work::begun().await;
    work.prepare().await;
    write(&work.source().join("later.txt"), b"later\n");
    commit(&work.source(), "Second").await;
    write(&work.source().join("a.txt"), b"edited and not committed\n");
    work.update().await.expect("updates");
    let wanted = CreateWorkspace {
        branch: Some("old".to_owned()),
        from: Some("HEAD~1".to_owned()),
        include_untracked: false,
        ..work.wanted()
    };
    work.update_to(&wanted, Unexported::Keep).await.expect("updates");
    let guest = work.checkout();
    assert_eq!(git(&guest, &["status", "--porcelain", "--branch"]).await, b"## old\n");
    assert_eq!(git(&guest, &["log", "--format=%s"]).await, b"First\n");
    assert_eq!(fs::read(guest.join("a.txt")).expect("read"), b"one\n");
    assert!(!guest.join("later.txt").exists());
    let absent = CreateWorkspace { from: Some("nothing".to_owned()), ..wanted };
    let error = work.update_to(&absent, Unexported::Keep).await.expect_err("refused");
    assert_eq!(error.kind, Kind::NotFound, "{error:?}");
}

/// A sink that breaks after so many bytes.
struct Cut<'a> {
    sink: &'a mut dyn Write,
    left: usize,
}

impl Write for Cut<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(self.left);
        if taken == 0 {
            return Err(io::Error::other("cut off"));
        }
        let written = self.sink.write(&bytes[..taken])?;
        self.left -= written;
        // So that all of it is on its way.
        self.sink.flush()?;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.sink.flush()
    }
}

#[tokio::test]
async fn a_prepare_that_is_cut_off_anywhere_leaves_the_old_checkout() {
    let work = Work::begun().await;
    work.prepare().await;
    let everything = |root: &Path| (picture(root), picture(&root.join(".git")));
    let before = everything(&work.checkout());
    change_everything(&work.source()).await;
    let (guest, base, course) = (work.agent(), work.base(), Course::default());
    let place = place(&guest, &base, &work.kept);
    let renewal = work.renewal(&place, &work.wanted(), Unexported::Keep, &course).await;
    let renewal = Arc::new(renewal.expect("gathered"));
    let mut whole = Vec::new();
    renewal.write_tar(&mut whole, TreeWriter::to_nowhere()).expect("written");
    for cut in 0..CUTS {
        let (renewal, left) = (renewal.clone(), whole.len() * cut / CUTS);
        let write = Box::new(move |sink: &mut dyn Write| {
            let written = renewal.write_tar(Cut { sink, left }, TreeWriter::to_nowhere());
            written.map(drop).map_err(report)
        });
        let sent = guest.receive_tree("repo", TreeChange::Update, write).await;
        sent.expect_err("cut off");
        assert!(everything(&work.checkout()) == before, "cut {cut} has changed something");
    }
    let renewal = Arc::into_inner(renewal).expect("nobody has it any more");
    send(&place, renewal, &course).await.expect("sent");
    work.assert_same().await;
}

#[tokio::test]
async fn a_guest_that_got_all_and_was_not_heard_has_no_work_of_its_own() {
    let work = Work::begun().await;
    work.prepare().await;
    change_everything(&work.source()).await;
    let (guest, base, course) = (work.agent(), work.base(), Course::default());
    let place = place(&guest, &base, &work.kept);
    let renewal = work.renewal(&place, &work.wanted(), Unexported::Keep, &course).await;
    let renewal = renewal.expect("gathered");
    let write = Box::new(move |sink: &mut dyn Write| {
        renewal.write_tar(sink, TreeWriter::to_nowhere()).map(drop).map_err(report)
    });
    guest.receive_tree("repo", TreeChange::Update, write).await.expect("sent");
    // The daemon ends here, and its successor is asked again.
    let tree = work.look().await.expect("seen").tree;
    assert!(work.kept.is_safe(&tree).await.expect("known"));
    work.update().await.expect("updates");
    work.assert_same().await;
}

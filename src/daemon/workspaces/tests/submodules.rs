//! Submodules whose git goes in: brought up to date with the repository, and nothing of the guest's in them is lost.

use std::num::NonZeroU32;

use super::*;
use crate::vm::Unexported;

fn lib(root: &Path) -> PathBuf {
    root.join("vendor/lib")
}

async fn text(folder: &Path, arguments: &[&str]) -> String {
    String::from_utf8(git(folder, arguments).await).expect("UTF-8").trim().to_owned()
}

impl Work {
    async fn told(&self) -> Vec<String> {
        let path = self.checkout();
        commits::notes(&self.agent(), path.to_str().expect("UTF-8"), "web", &self.kept).await
    }

    /// Asserts that both are checked out as in the source, with nothing to say of either.
    async fn assert_submodule_is_the_sources(&self) {
        let (source, guest) = (self.source(), self.checkout());
        for question in [&["rev-parse", "HEAD"][..], &["status", "--porcelain"]] {
            let here = text(&lib(&source), question).await;
            assert_eq!(text(&lib(&guest), question).await, here, "{question:?}");
        }
        assert_eq!(text(&guest, &["status", "--porcelain"]).await, "");
        let status = text(&guest, &["submodule", "status"]).await;
        assert!(!status.starts_with(['-', '+', 'U']), "{status}");
        git(&lib(&guest), &["fsck", "--strict", "--no-dangling"]).await;
        assert_eq!(self.changes().await, []);
    }
}

#[tokio::test]
async fn a_submodule_follows_its_source() {
    let work = Work::begun().await;
    work.add_library().await;
    work.prepare().await;
    work.assert_submodule_is_the_sources().await;
    let config = lib(&work.checkout());
    git(&config, &["config", "user.nickname", "guest"]).await;
    let unchanged = work.update().await.expect("updated");

    write(&lib(&work.source()).join("lib.c"), b"int z;\n");
    commit(&lib(&work.source()), "In the library").await;
    commit(&work.source(), "With a newer library").await;
    let changed = work.update().await.expect("updated");
    work.assert_submodule_is_the_sources().await;
    assert_eq!(text(&config, &["config", "user.nickname"]).await, "guest", "its own stays");
    assert!(unchanged < changed, "{unchanged} {changed}");
}

#[tokio::test]
async fn commits_in_a_submodule_are_told_of_and_kept() {
    let work = Work::begun().await;
    work.add_library().await;
    work.prepare().await;
    assert_eq!(work.told().await, Vec::<String>::new());
    let inside = lib(&work.checkout());
    git(&inside, &["checkout", "-q", "-b", "mine"]).await;
    write(&inside.join("lib.c"), b"int mine;\n");
    commit(&inside, "In the guest").await;
    let mine = text(&inside, &["rev-parse", "HEAD"]).await;
    let told = work.told().await;
    assert!(told[0].contains("`vendor/lib`") && told[0].contains(&mine[..12]), "{told:?}");
    assert_eq!(work.changes().await, [("vendor/lib/lib.c".to_owned(), ChangeKind::Modified)]);
    work.refused("`vendor/lib/lib.c`").await;
    assert_eq!(text(&inside, &["rev-parse", "HEAD"]).await, mine);

    // Something that git has under way there is in the way.
    let tree = work.look().await.expect("seen").tree;
    work.kept.exported(&tree).await.expect("written");
    let git_folder = work.checkout().join(".git/modules/vendor/lib");
    write(&git_folder.join("MERGE_HEAD"), mine.as_bytes());
    work.refused("git has something under way there (`.git/modules/vendor/lib/MERGE_HEAD`)").await;
    fs::remove_file(git_folder.join("MERGE_HEAD")).expect("removed");

    // Exported, its place may be taken; the commit stays, by a branch of its own and by a ref.
    work.update().await.expect("updated");
    work.assert_submodule_is_the_sources().await;
    let kept = format!("refs/cove/before-{}", &mine[..12]);
    for reference in ["mine", &kept[..]] {
        assert_eq!(text(&inside, &["rev-parse", reference]).await, mine, "{reference}");
    }
    assert_eq!(work.told().await, Vec::<String>::new());
}

#[tokio::test]
async fn work_in_a_submodule_that_was_moved_is_seen() {
    let work = Work::begun().await;
    work.add_library().await;
    work.prepare().await;
    let source = work.source();
    fs::create_dir(source.join("third")).expect("made");
    git(&source, &["mv", "vendor/lib", "third/lib"]).await;
    commit(&source, "With the library elsewhere").await;
    work.update().await.expect("updated");
    let guest = work.checkout();
    let moved = guest.join("third/lib");
    assert!(!guest.join("vendor").exists(), "its link went, too");
    for folder in [&guest, &moved] {
        assert_eq!(text(folder, &["status", "--porcelain"]).await, "");
    }
    assert!(work.look().await.expect("seen").nested.is_empty());

    write(&moved.join("lib.c"), b"int mine;\n");
    write(&moved.join("new.c"), b"int new;\n");
    let expected = [
        ("third/lib/lib.c".to_owned(), ChangeKind::Modified),
        ("third/lib/new.c".to_owned(), ChangeKind::Added),
    ];
    // Whatever the guest's configuration says of where it is.
    for worktree in ["../../../../third/lib", "../../../../vendor/lib"] {
        let config = ["config", "--file", ".git/modules/vendor/lib/config"];
        git(&guest, &[&config[..], &["core.worktree", worktree]].concat()).await;
        assert_eq!(work.changes().await, expected, "{worktree}");
    }
    work.refused("`third/lib/lib.c`").await;
}

#[tokio::test]
async fn commits_in_a_submodule_that_goes_and_comes_back_are_kept() {
    let work = Work::begun().await;
    work.add_library().await;
    work.prepare().await;
    let inside = lib(&work.checkout());
    git(&inside, &["commit", "-q", "--allow-empty", "-m", "In the guest"]).await;
    let mine = text(&inside, &["rev-parse", "HEAD"]).await;
    let source = work.source();
    git(&source, &["rm", "-q", "vendor/lib"]).await;
    commit(&source, "Without the library").await;
    work.update().await.expect("updated");
    assert!(!inside.exists(), "its link went, too");

    git(&source, &["revert", "--no-edit", "HEAD"]).await;
    let update = ["-c", "protocol.file.allow=always", "submodule", "--quiet", "update", "--init"];
    git(&source, &update).await;
    work.update().await.expect("updated");
    work.assert_submodule_is_the_sources().await;
    let kept = format!("refs/cove/before-{}", &mine[..12]);
    assert_eq!(text(&inside, &["rev-parse", &kept]).await, mine);
}

#[tokio::test]
async fn another_submodule_takes_the_place_of_one() {
    let work = Work::begun().await;
    work.add_library().await;
    work.prepare().await;
    let source = work.source();
    git(&source, &["rm", "-q", "vendor/lib"]).await;
    let other = work.folder.path().join("other");
    let add = ["-c", "protocol.file.allow=always", "submodule", "add", "-q", "--name", "second"];
    git(&source, &[&add[..], &[other.to_str().expect("UTF-8"), "vendor/lib"]].concat()).await;
    commit(&source, "With another library").await;
    work.update().await.expect("updated");
    let inside = lib(&work.checkout());
    let git_folder = text(&inside, &["rev-parse", "--absolute-git-dir"]).await;
    assert!(git_folder.ends_with("/.git/modules/second"), "{git_folder}");
    assert_eq!(text(&inside, &["status", "--porcelain"]).await, "");
    assert_eq!(work.changes().await, []);
}

#[tokio::test]
async fn a_submodule_that_comes_later_is_known_to_git_and_gets_more_history() {
    let work = Work::begun().await;
    work.prepare().await;
    work.add_library().await;
    for subject in ["Second", "Third", "Fourth"] {
        commit(&lib(&work.source()), subject).await;
    }
    commit(&work.source(), "With a newer library").await;
    let (guest, inside) = (work.checkout(), lib(&work.checkout()));
    for (depth, commits) in [(NonZeroU32::new(2), "2"), (NonZeroU32::new(3), "3"), (None, "4")] {
        let full_history = depth.is_none();
        let wanted = CreateWorkspace { depth, full_history, ..work.wanted() };
        work.update_to(&wanted, Unexported::Keep).await.expect("updated");
        let count = text(&inside, &["rev-list", "--count", "HEAD"]).await;
        assert_eq!(count, commits, "{depth:?}");
        work.assert_submodule_is_the_sources().await;
    }
    assert_eq!(text(&guest, &["config", "submodule.vendor/lib.active"]).await, "true");
    assert!(!guest.join(".git/modules/vendor/lib/deepened").exists(), "it is for the agent alone");
}

#[tokio::test]
async fn the_git_of_a_submodule_that_is_as_it_was_is_not_packed() {
    let work = Work::begun().await;
    work.add_library().await;
    work.prepare().await;
    // Nobody could read it.
    let packs = work.source().join(".git/modules/vendor/lib/objects");
    fs::rename(&packs, packs.with_extension("away")).expect("moved away");
    fs::create_dir(&packs).expect("made");
    write(&work.source().join("a.txt"), b"edited\n");
    work.update().await.expect("updated");
    assert!(work.told().await.is_empty());
    let submodules = work.kept.submodules().await.expect("read");
    assert_eq!(submodules.len(), 1, "its git counts as there");
}

#[tokio::test]
async fn a_submodule_that_somebody_removed_comes_back_and_one_that_was_replaced_is_in_the_way() {
    let work = Work::begun().await;
    work.add_library().await;
    work.prepare().await;
    let inside = lib(&work.checkout());
    let export = async || {
        let tree = work.look().await.expect("seen").tree;
        work.kept.exported(&tree).await.expect("written");
    };
    fs::remove_dir_all(&inside).expect("removed");
    export().await;
    work.update().await.expect("updated");
    work.assert_submodule_is_the_sources().await;

    fs::remove_dir_all(&inside).expect("removed");
    write(&inside.join("own.c"), b"int own;\n");
    git(&inside, &["init", "-q"]).await;
    commit(&inside, "Somebody's own").await;
    export().await;
    work.refused("`vendor/lib/.git` is not as the host knows it, and would be lost").await;
    let away = work.guest.home().join("away");
    fs::rename(&inside, &away).expect("moved away");
    export().await;
    work.update().await.expect("updated");
    work.assert_submodule_is_the_sources().await;
    assert_eq!(text(&away, &["log", "--format=%s"]).await, "Somebody's own");
}

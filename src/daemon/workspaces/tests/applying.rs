//! Work that is applied to the source: all of it or nothing, to files that are as they were, and to nothing else.

use std::os::unix::fs::MetadataExt;

use super::*;
use crate::wire::rpc::ApplyHow;

impl Work {
    /// What applying to the source would do.
    pub(super) async fn plan(&self, how: ApplyHow) -> Result<WorkspaceApplied, Report> {
        let seeing = self.look().await.expect("seen");
        self.ask(&self.source(), &seeing, how, None).await
    }

    /// Agrees to what it would do, and has it done.
    pub(super) async fn apply(&self, how: ApplyHow) -> Result<WorkspaceApplied, Report> {
        self.apply_to(&self.source(), how).await
    }

    /// The same, to a repository that lies elsewhere.
    pub(super) async fn apply_to(
        &self,
        source: &Path,
        how: ApplyHow,
    ) -> Result<WorkspaceApplied, Report> {
        let seeing = self.look().await.expect("seen");
        let planned = self.ask(source, &seeing, how, None).await?;
        assert!(!planned.applied && !planned.exported);
        self.ask(source, &seeing, how, Some(planned.change)).await
    }

    async fn ask(
        &self,
        source: &Path,
        seeing: &Seeing,
        how: ApplyHow,
        agreed: Option<String>,
    ) -> Result<WorkspaceApplied, Report> {
        let wanted = WorkspaceApply { vm: "web".to_owned(), how, agreed };
        apply::apply(&self.workspaces, &self.kept, source, seeing, &wanted).await
    }

    pub(super) async fn is_exported(&self) -> bool {
        let tree = self.look().await.expect("seen").tree;
        self.kept.is_safe(&tree).await.expect("known")
    }
}

/// Everything in a folder: which file it is, when it was written, and what is in it.
pub(super) fn fingerprint(root: &Path) -> BTreeMap<PathBuf, (u64, u32, i64, i64, Vec<u8>)> {
    let mut found = BTreeMap::new();
    let mut waiting = vec![root.to_owned()];
    while let Some(path) = waiting.pop() {
        let metadata = fs::symlink_metadata(&path).expect("there");
        let content = match metadata.file_type() {
            kind if kind.is_dir() => {
                let entries = fs::read_dir(&path).expect("listed");
                waiting.extend(entries.map(|entry| entry.expect("listed").path()));
                Vec::new()
            }
            kind if kind.is_symlink() => {
                fs::read_link(&path).expect("read").as_os_str().as_bytes().to_vec()
            }
            _ => fs::read(&path).expect("read"),
        };
        let (inode, mode) = (metadata.ino(), metadata.mode());
        found.insert(path, (inode, mode, metadata.mtime(), metadata.mtime_nsec(), content));
    }
    found
}

/// A refusal that names these paths, and has left the source exactly as it was.
pub(super) async fn refused(work: &Work, how: ApplyHow, named: &[&str]) -> Report {
    let before = fingerprint(&work.source());
    let error = work.apply(how).await.expect_err("refused");
    assert_eq!(error.kind, Kind::Conflict, "{error:?}");
    for path in named {
        assert!(error.message.contains(&format!("`{path}`")), "{path}: {error:?}");
    }
    assert_eq!(error.message.matches('`').count(), 2 * named.len(), "{error:?}");
    assert!(error.hint.is_some(), "{error:?}");
    assert_eq!(fingerprint(&work.source()), before, "nothing was changed");
    assert!(!work.is_exported().await);
    error
}

#[tokio::test]
async fn applied_work_makes_the_guests_tree_and_touches_nothing_but_its_files() {
    let work = Work::begun().await;
    let source = work.source();
    write(&source.join(".gitattributes"), b"* text eol=crlf filter=evil\n");
    write(&source.join("kept.txt"), b"kept\n");
    write(&source.join("old/deep/only.txt"), b"moves\n");
    write(&source.join("place"), b"a file\n");
    commit(&source, "More").await;
    let marker = work.folder.path().join("it-ran");
    let command = format!("touch '{}'; cat", marker.display());
    for key in ["filter.evil.smudge", "filter.evil.clean", "core.fsmonitor"] {
        git(&source, &["config", key, &command]).await;
    }
    write(&source.join("a.txt"), b"edited and not committed\n");
    fs::set_permissions(source.join("a.txt"), PermissionsExt::from_mode(0o600)).expect("set");
    write(&source.join("x.ignored"), b"mine\n");
    work.prepare().await;

    let guest = work.checkout();
    write(&guest.join("a.txt"), b"more\n");
    write(&guest.join("noise.bin"), &[0, 255, 10, 13, 0].repeat(20_000));
    write(&guest.join("new\n\"odd\" ä.txt"), b"odd\n");
    fs::create_dir_all(guest.join("new/place")).expect("made");
    fs::rename(guest.join("old/deep/only.txt"), guest.join("new/place/only.txt")).expect("renamed");
    fs::remove_file(guest.join("link")).expect("removed");
    symlink("/etc/hostname", guest.join("link")).expect("linked");
    fs::remove_file(guest.join("place")).expect("removed");
    write(&guest.join("place/by/a-folder"), b"");
    fs::remove_dir_all(guest.join("dir")).expect("removed");
    write(&guest.join("dir"), b"a file by now\n");
    fs::set_permissions(guest.join("run.sh"), PermissionsExt::from_mode(0o755)).expect("set");
    commit(&guest, "In the guest").await;

    let (repository, kept) = (source.join(".git"), source.join("kept.txt"));
    let before = (fingerprint(&repository), fingerprint(&kept));
    let planned = work.plan(ApplyHow::AsItWas).await.expect("planned");
    let runs: Vec<_> = planned.runs.iter().map(|file| &file.path[..]).collect();
    assert_eq!((runs, planned.conflicts_total), (vec!["run.sh"], 0));
    let applied = work.apply(ApplyHow::AsItWas).await.expect("applied");
    assert_eq!((applied.files, applied.applied, applied.exported), (planned.files, true, true));
    let mut expected = picture(&guest);
    expected.insert(b"x.ignored".to_vec(), (0, b"mine\n".to_vec()));
    assert_eq!(picture(&source), expected);
    let mode = fs::metadata(source.join("a.txt")).expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "it is as private as it was");
    assert!(!source.join("old").exists(), "folders in which nothing is any more are gone");
    assert_eq!((fingerprint(&repository), fingerprint(&kept)), before);
    assert!(!marker.exists(), "nothing of the source ran");
    assert!(work.is_exported().await);
    let again = work.apply(ApplyHow::AsItWas).await.expect("nothing to do");
    assert_eq!((again.files, again.exported), (0, true));
}

#[tokio::test]
async fn files_that_are_not_as_they_were_are_named_and_nothing_is_changed() {
    let work = Work::begun().await;
    let source = work.source();
    write(&source.join("gone.txt"), b"gone\n");
    write(&source.join("other/x.txt"), b"x\n");
    write(&source.join("mine.txt"), b"mine\n");
    commit(&source, "More").await;
    work.prepare().await;
    let guest = work.checkout();
    write(&guest.join("a.txt"), b"guest\n");
    write(&guest.join("gone.txt"), b"guest\n");
    write(&guest.join("new.txt"), b"guest\n");
    write(&guest.join("other/new.txt"), b"guest\n");
    fs::set_permissions(guest.join("run.sh"), PermissionsExt::from_mode(0o755)).expect("set");
    // What the work does not touch may be as it likes.
    write(&source.join("mine.txt"), b"edited\n");
    assert!(work.plan(ApplyHow::AsItWas).await.is_ok());

    write(&source.join("a.txt"), b"source\n");
    fs::remove_file(source.join("gone.txt")).expect("removed");
    write(&source.join("new.txt"), b"source\n");
    let error = refused(&work, ApplyHow::AsItWas, &["a.txt", "gone.txt", "new.txt"]).await;
    assert!(error.hint.is_some_and(|hint| hint.contains("--3way")));
    git(&source, &["checkout", "-q", "a.txt", "gone.txt"]).await;
    fs::set_permissions(source.join("a.txt"), PermissionsExt::from_mode(0o755)).expect("set");
    fs::remove_file(source.join("new.txt")).expect("removed");
    symlink("/nowhere", source.join("new.txt")).expect("linked");
    refused(&work, ApplyHow::AsItWas, &["a.txt", "new.txt"]).await;
    git(&source, &["checkout", "-q", "a.txt"]).await;
    fs::set_permissions(source.join("a.txt"), PermissionsExt::from_mode(0o644)).expect("set");
    fs::remove_file(source.join("new.txt")).expect("removed");

    // A folder that has become a symlink is not written through, merged or not.
    let outside = work.folder.path().join("outside");
    fs::rename(source.join("other"), &outside).expect("renamed");
    symlink(&outside, source.join("other")).expect("linked");
    for how in [ApplyHow::AsItWas, ApplyHow::ThreeWay] {
        refused(&work, how, &["other/new.txt"]).await;
    }
    assert!(!outside.join("new.txt").exists());
    fs::remove_file(source.join("other")).expect("removed");
    fs::rename(&outside, source.join("other")).expect("renamed");

    // Another repository is not written into either.
    let other = source.join("other");
    fs::rename(other.join("x.txt"), work.folder.path().join("x.txt")).expect("renamed");
    git(&other, &["init", "-q"]).await;
    git(&source, &["rm", "-q", "--cached", "other/x.txt"]).await;
    refused(&work, ApplyHow::AsItWas, &["other/new.txt"]).await;
    fs::remove_dir_all(other.join(".git")).expect("removed");
    fs::rename(work.folder.path().join("x.txt"), other.join("x.txt")).expect("renamed");
    assert!(work.apply(ApplyHow::AsItWas).await.expect("applied").exported);
}

#[tokio::test]
async fn what_cannot_be_put_in_its_place_undoes_everything() {
    let work = Work::begun().await;
    work.prepare().await;
    let guest = work.checkout();
    write(&guest.join("a.txt"), b"guest\n");
    fs::remove_file(guest.join("dir/b.txt")).expect("removed");
    write(&guest.join("c/d.txt"), b"guest\n");
    write(&guest.join("z"), b"guest\n");
    // A folder with nothing that git would list.
    fs::create_dir(work.source().join("z")).expect("made");
    let files = |root: &Path| {
        let found = fingerprint(root).into_iter();
        found.filter(|(path, _)| !path.is_dir()).collect::<Vec<_>>()
    };
    let before = (files(&work.source()), picture(&work.source()));
    let error = work.apply(ApplyHow::AsItWas).await.expect_err("cannot");
    assert!(error.message.contains("cannot change `z`"), "{error:?}");
    assert_eq!((files(&work.source()), picture(&work.source())), before, "the very same files");
    assert!(!work.source().join("c").exists());
    let left = fs::read_dir(work.source()).expect("listed").count();
    assert_eq!(left, 7, "nothing is left beside");
    assert!(!work.is_exported().await);
    fs::remove_dir(work.source().join("z")).expect("removed");
    assert!(work.apply(ApplyHow::AsItWas).await.expect("applied").exported);
    assert_eq!(picture(&work.source()), picture(&guest));
}

#[tokio::test]
async fn only_what_was_agreed_to_is_done() {
    let work = Work::begun().await;
    work.prepare().await;
    write(&work.checkout().join("a.txt"), b"guest\n");
    write(&work.checkout().join("new.txt"), b"guest\n");
    let planned = work.plan(ApplyHow::AsItWas).await.expect("planned");
    let before = fingerprint(&work.source());
    write(&work.checkout().join(".envrc"), b"echo hello\n");
    let seeing = work.look().await.expect("seen");
    let agreed = Some(planned.change);
    let error = work.ask(&work.source(), &seeing, ApplyHow::AsItWas, agreed).await;
    assert_eq!(error.expect_err("it is not what was shown").kind, Kind::Conflict);
    assert_eq!(fingerprint(&work.source()), before);

    let planned = work.plan(ApplyHow::AsItWas).await.expect("planned");
    let runs: Vec<_> = planned.runs.iter().map(|file| (&file.path[..], &file.why[..])).collect();
    assert_eq!(runs, [(".envrc", "direnv runs it")]);
    // By now the source has one of the files itself: that is another change.
    write(&work.source().join("new.txt"), b"guest\n");
    let agreed = Some(planned.change);
    let error = work.ask(&work.source(), &seeing, ApplyHow::AsItWas, agreed).await;
    assert_eq!(error.expect_err("it is not what was shown").kind, Kind::Conflict);
    let applied = work.apply(ApplyHow::AsItWas).await.expect("applied");
    assert_eq!(applied.files, 2, "what is as in the guest needs nothing");
    assert_eq!(picture(&work.source()), picture(&work.checkout()));
}

#[tokio::test]
async fn what_was_exported_is_as_it_was_too() {
    let work = Work::begun().await;
    work.prepare().await;
    let (source, guest) = (work.source(), work.checkout());
    write(&guest.join("a.txt"), b"first\n");
    write(&guest.join("new.txt"), b"first\n");
    assert!(work.apply(ApplyHow::AsItWas).await.expect("applied").exported);
    // More of it, something else, and something taken back.
    write(&guest.join("a.txt"), b"second\n");
    fs::remove_file(guest.join("new.txt")).expect("removed");
    write(&guest.join("dir/b.txt"), b"second\n");
    assert!(work.apply(ApplyHow::AsItWas).await.expect("applied").exported);
    assert_eq!(picture(&source), picture(&guest));
    // Now the user edits what was applied.
    write(&source.join("a.txt"), b"mine\n");
    write(&guest.join("a.txt"), b"third\n");
    refused(&work, ApplyHow::AsItWas, &["a.txt"]).await;
    // Once the guest has taken its own back, there is nothing of it to apply.
    write(&guest.join("a.txt"), b"one\n");
    let applied = work.apply(ApplyHow::AsItWas).await.expect("applied");
    assert_eq!((applied.files, applied.exported), (0, true));
    assert_eq!(fs::read(source.join("a.txt")).expect("read"), b"mine\n");
}

#[tokio::test]
async fn no_git_folder_is_written_however_it_is_spelled() {
    let work = Work::begun().await;
    work.prepare().await;
    let kept = work.folder.path().join("vm/workspace/git");
    let base = work.kept.base().await.expect("a tree");
    let listing = git(&kept, &["ls-tree", &base]).await;
    let before = fingerprint(&work.source());
    let make = async |entries: Vec<u8>| {
        let make = Tool::new("git").current_dir(&kept).arg("mktree").input(entries);
        String::from_utf8(make.run().await.expect("made")).expect("an id").trim().to_owned()
    };
    let blob = String::from_utf8(git(&kept, &["rev-parse", &format!("{base}:a.txt")]).await);
    let blob = blob.expect("an id").trim().to_owned();
    for name in
        [".git", ".GIT", ".Git", "git~1", ".git.", ".g\u{200c}it", ".git::$INDEX_ALLOCATION"]
    {
        let folder = make(format!("100755 blob {blob}\tx\n").into_bytes()).await;
        let entry = format!("040000 tree {folder}\t{name}\n");
        let tree = make([&listing[..], entry.as_bytes()].concat()).await;
        let seeing = Seeing::plain(tree);
        for how in [ApplyHow::AsItWas, ApplyHow::ThreeWay] {
            let error = work.ask(&work.source(), &seeing, how, None).await.expect_err(name);
            assert_eq!(error.kind, Kind::Refused, "{name}: {error:?}");
        }
    }
    assert_eq!(fingerprint(&work.source()), before);
}

#[tokio::test]
async fn a_source_that_is_gone_is_no_place_to_apply_to() {
    let work = Work::begun().await;
    work.prepare().await;
    write(&work.checkout().join("a.txt"), b"guest\n");
    let (source, away) = (work.source(), work.folder.path().join("away"));
    fs::rename(&source, &away).expect("renamed");
    let hinted = |error: Report, kind| {
        assert_eq!(error.kind, kind, "{error:?}");
        assert!(error.hint.is_some_and(|hint| hint.contains("--output FILE")));
    };
    hinted(work.apply(ApplyHow::AsItWas).await.expect_err("gone"), Kind::NotFound);
    fs::create_dir(&source).expect("made");
    hinted(work.apply(ApplyHow::AsItWas).await.expect_err("no repository"), Kind::Invalid);
    assert_eq!(fs::read_dir(&source).expect("listed").count(), 0);
    // Another repository around it is another repository.
    git(work.folder.path(), &["init", "-q"]).await;
    hinted(work.apply(ApplyHow::AsItWas).await.expect_err("not its root"), Kind::Invalid);
}

#[tokio::test]
async fn item_17_a_linked_worktree_is_a_source_as_good_as_any() {
    let work = Work::new(Pretended::ready().await);
    let main = work.folder.path().join("main");
    fs::create_dir(&main).expect("made");
    git(&main, &["init", "-q", "-b", "main"]).await;
    write(&main.join("a.txt"), b"one\n");
    commit(&main, "First").await;
    let source = work.source();
    let path = source.to_str().expect("UTF-8");
    git(&main, &["worktree", "add", "-q", "-b", "side", path]).await;
    work.prepare().await;
    let guest = work.checkout();
    write(&guest.join("a.txt"), b"guest\n");
    write(&guest.join("new.txt"), b"guest\n");
    for against in [Against::Base, Against::Commit { source: &source, commit: "side" }] {
        let patch = work.patch(against).await;
        git(&source, &["apply", "--check", patch.to_str().expect("UTF-8")]).await;
    }
    let before = fingerprint(&main);
    assert!(work.apply(ApplyHow::AsItWas).await.expect("applied").exported);
    let mut applied = picture(&source);
    // A worktree's `.git` is a file, and `picture` leaves it out like the folder.
    assert_eq!(applied.remove(&b"new.txt"[..]), Some((0, b"guest\n".to_vec())));
    assert_eq!(applied.remove(&b"a.txt"[..]), Some((0, b"guest\n".to_vec())));
    assert_eq!(applied, Picture::new());
    assert_eq!(fingerprint(&main), before, "neither its git folder nor the other worktree");
}

#[tokio::test]
async fn submodules_are_written_where_they_are_checked_out() {
    let work = Work::begun().await;
    work.add_library().await;
    work.prepare().await;
    let (source, guest) = (work.source(), work.checkout());
    let (here, there) = (source.join("vendor/lib"), guest.join("vendor/lib"));
    write(&there.join("lib.c"), b"int y;\n");
    write(&there.join("new.c"), b"int z;\n");
    assert!(work.apply(ApplyHow::AsItWas).await.expect("applied").exported);
    assert_eq!(fs::read(here.join("lib.c")).expect("read"), b"int y;\n");
    assert_eq!(fs::read(here.join("new.c")).expect("read"), b"int z;\n");
    git(&source, &["submodule", "--quiet", "deinit", "--force", "vendor/lib"]).await;
    write(&there.join("lib.c"), b"int more;\n");
    write(&there.join("newer.c"), b"int w;\n");
    let paths = ["vendor/lib/lib.c", "vendor/lib/new.c", "vendor/lib/newer.c"];
    refused(&work, ApplyHow::AsItWas, &paths).await;
    refused(&work, ApplyHow::ThreeWay, &paths).await;
}

//! Where it comes from: repositories of every kind, and paths that are none.

use std::fs;
use std::path::Path;

use super::fixture::{Fixture, git, status, try_git, write};
use crate::report::{Explain, Kind};
use crate::workspace::{Untracked, WorkspaceError, WorkspaceSettings, Workspaces};

#[tokio::test]
async fn paths_that_are_no_repository() {
    let fixture = Fixture::new();
    let base = fixture.folder.path();
    let root = fixture.repository().await;
    git(base, &["init", "-q", "--bare", "bare"]).await;
    fs::create_dir(base.join("plain")).expect("made");
    git(base, &["clone", "-q", "repo", "wandering"]).await;
    git(&base.join("wandering"), &["config", "core.worktree", base.to_str().expect("text")]).await;
    let before = super::fixture::picture(base);
    let table = [
        ("missing", Kind::NotFound, "there is no folder"),
        ("repo/a.txt", Kind::Invalid, "is not a folder"),
        ("plain", Kind::Invalid, "is not in a git repository"),
        ("bare", Kind::Invalid, "is bare"),
        ("repo/.git", Kind::Invalid, "inside a repository's `.git` folder"),
        ("repo/.git/objects", Kind::Invalid, "inside a repository's `.git` folder"),
        ("wandering", Kind::Invalid, "says that its working tree is"),
    ];
    for (path, kind, text) in table {
        let error = fixture.inspect(&base.join(path)).await.expect_err(path);
        assert_eq!(error.kind(), kind, "{path}: {error}");
        assert!(error.to_string().contains(text), "{path}: {error}");
        assert!(error.hint().is_some() || kind == Kind::NotFound, "{path}");
    }
    assert_eq!(super::fixture::picture(base), before, "something was written");
    assert!(fixture.inspect(&root).await.is_ok());
}

#[tokio::test]
#[expect(clippy::print_stderr, reason = "a test that is skipped says so")]
async fn somebody_elses_repository_is_refused_in_gits_words() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIPPED: only root can give a repository away");
        return;
    }
    let fixture = Fixture::new();
    let root = fixture.repository().await;
    for path in [root.clone(), root.join(".git")] {
        std::os::unix::fs::chown(path, Some(12345), None).expect("given away");
    }
    let error = fixture.inspect(&root).await.expect_err("not trusted");
    assert!(matches!(error, WorkspaceError::ForeignOwner { .. }), "{error:?}");
    let causes = crate::report::causes(&error).join(" ");
    assert!(causes.contains("safe.directory"), "{causes}");
}

#[tokio::test]
async fn a_linked_worktree_with_a_detached_head() {
    let fixture = Fixture::new();
    let root = fixture.repository().await;
    write(&root, "a.txt", "second\n");
    git(&root, &["commit", "-qam", "Second"]).await;
    git(&root, &["worktree", "add", "-q", "--detach", "../linked", "HEAD~1"]).await;
    let linked = fixture.folder.path().join("linked");
    write(&linked, "a.txt", "edited\n");
    let main = super::fixture::picture(&root);
    let out = fixture.checkout(&linked, Untracked::Leave).await;
    assert_eq!(super::fixture::picture(&root), main, "the main repository was touched");
    assert_eq!(out.inspection.guest_folder_name(), "linked");
    assert_eq!(out.status().await, "## HEAD (no branch)\n M a.txt\n");
    assert_eq!(out.git(&["log", "--format=%s"]).await, "First subject\n");
    assert_eq!(out.git(&["for-each-ref"]).await, "", "no branch goes in");
}

#[tokio::test]
async fn before_the_first_commit() {
    let fixture = Fixture::new();
    let root = fixture.folder.path().join("repo");
    fs::create_dir(&root).expect("made");
    git(&root, &["init", "-q", "-b", "trunk/x"]).await;
    let out = fixture.checkout(&root, Untracked::Leave).await;
    assert_eq!(out.status().await, "## No commits yet on trunk/x\n");
    write(&root, "staged", "x");
    git(&root, &["add", "staged"]).await;
    write(&root, "staged", "y");
    let out = fixture.checkout(&root, Untracked::Leave).await;
    assert_eq!(out.status().await, "## No commits yet on trunk/x\nAM staged\n");
    assert_eq!(out.inspection.base_commit(), None);
}

#[tokio::test]
#[expect(clippy::print_stderr, reason = "a test that is skipped says so")]
async fn other_hashes_and_other_ref_stores() {
    for init in [&["--object-format=sha256"][..], &["--ref-format=reftable"]] {
        let fixture = Fixture::new();
        let probe = [&["init", "-q", "probe"], init].concat();
        if try_git(fixture.folder.path(), &probe).await.is_err() {
            eprintln!("SKIPPED: this git does not know {init:?}");
            continue;
        }
        let root = fixture.repository_with(init).await;
        write(&root, "a.txt", "staged\n");
        git(&root, &["add", "a.txt"]).await;
        let out = fixture.checkout(&root, Untracked::Leave).await;
        assert_eq!(out.status().await, "## main\nM  a.txt\n", "{init:?}");
        assert_eq!(out.git(&["rev-parse", "HEAD"]).await, git(&root, &["rev-parse", "HEAD"]).await);
    }
}

#[tokio::test]
async fn history_is_cut_at_the_depth_and_a_shallow_source_works() {
    let fixture = Fixture::new();
    let root = fixture.repository().await;
    for number in 0..6 {
        git(&root, &["commit", "-q", "--allow-empty", "-m", &format!("c{number}")]).await;
    }
    let scratch = fixture.folder.path().join("three");
    let three = Workspaces::new(WorkspaceSettings { scratch, depth: 3 }).expect("service");
    let shallow = Fixture { service: three, ..fixture };
    let out = shallow.checkout(&root, Untracked::Leave).await;
    assert_eq!(out.git(&["log", "--format=%s"]).await, "c5\nc4\nc3\n");
    assert_eq!(out.git(&["rev-parse", "--is-shallow-repository"]).await, "true\n");
    out.git(&["fsck", "--strict"]).await;
    let fixture = Fixture::new();
    let url = format!("file://{}", root.display());
    git(fixture.folder.path(), &["clone", "-q", "--depth=2", &url, "repo"]).await;
    let clone = fixture.folder.path().join("repo");
    let out = fixture.checkout(&clone, Untracked::Leave).await;
    assert_eq!(out.git(&["log", "--format=%s"]).await, "c5\nc4\n");
    // The origin was a path of the host.
    assert_eq!(out.inspection.origin(), None);
    assert_eq!(out.inspection.notes(), ["origin: left out, it is a path on the host"]);
    assert_eq!(out.git(&["remote"]).await, "");
}

#[tokio::test]
async fn objects_borrowed_through_relative_alternates() {
    let fixture = Fixture::new();
    let root = fixture.repository().await;
    git(fixture.folder.path(), &["clone", "-q", "--shared", "repo", "borrower"]).await;
    let borrower = fixture.folder.path().join("borrower");
    fs::write(borrower.join(".git/objects/info/alternates"), "../../../repo/.git/objects\n")
        .expect("written");
    assert_eq!(status(&borrower).await, "## main...origin/main\n");
    let before = super::fixture::picture(&root);
    let out = fixture.checkout(&borrower, Untracked::Leave).await;
    assert_eq!(out.git(&["log", "--format=%s"]).await, "First subject\n");
    assert!(!out.has(".git/objects/info/alternates"));
    assert_eq!(super::fixture::picture(&root), before, "the lender was touched");
}

#[tokio::test]
async fn a_partial_clone_says_what_is_missing() {
    let fixture = Fixture::new();
    let root = fixture.repository().await;
    write(&root, "a.txt", "two\n");
    git(&root, &["commit", "-qam", "Second"]).await;
    git(&root, &["config", "uploadpack.allowFilter", "true"]).await;
    let url = format!("file://{}", root.display());
    let clone = ["clone", "-q", "--filter=blob:none", &url, "partial"];
    git(fixture.folder.path(), &clone).await;
    let inspection = fixture.inspect(&fixture.folder.path().join("partial")).await;
    let error = fixture.service.pack(&inspection.expect("inspects")).await;
    let error = error.expect_err("old blobs are missing");
    assert!(matches!(error, WorkspaceError::PartialClone { .. }), "{error:?}");
    fixture.no_scratch_is_left().await;
}

#[tokio::test]
async fn submodules_bring_their_content_and_their_git() {
    let fixture = Fixture::new();
    let library = Fixture::new();
    let library_root = library.repository().await;
    let root = fixture.repository().await;
    let url = library_root.to_str().expect("text");
    let add = ["-c", "protocol.file.allow=always", "submodule", "--quiet", "add", url];
    git(&root, &[&add[..], &["deps/lib"]].concat()).await;
    git(&root, &[&add[..], &["deps/lib-two"]].concat()).await;
    git(&root, &["commit", "-qam", "With submodules"]).await;
    git(&root, &["submodule", "--quiet", "deinit", "-f", "deps/lib-two"]).await;
    write(&root, "deps/lib/a.txt", "edited in the submodule\n");
    write(&root, "deps/lib/.env", "SECRET");
    write(&root, "deps/lib/x.ignored", "no");
    let out = fixture.checkout(&root, Untracked::Leave).await;
    assert_eq!(out.read("deps/lib/a.txt"), "edited in the submodule\n");
    assert!(out.has("deps/lib-two") && !out.has("deps/lib-two/a.txt"));
    for absent in ["deps/lib/.env", "deps/lib/x.ignored", ".git/modules/deps/lib-two"] {
        assert!(!out.has(absent), "{absent}");
    }
    assert_eq!(out.status().await, "## main\n M deps/lib\n");
    let commit = git(&library_root, &["rev-parse", "HEAD"]).await;
    let listed = out.git(&["submodule", "status"]).await;
    let expected =
        format!(" {} deps/lib (heads/main)\n-{} deps/lib-two\n", commit.trim(), commit.trim());
    assert_eq!(listed, expected);
    let inside = out.root.join("deps/lib");
    assert_eq!(git(&inside, &["status", "--porcelain"]).await, " M a.txt\n");
    assert_eq!(git(&inside, &["log", "--format=%s"]).await, "First subject\n");
    git(&inside, &["fsck", "--strict"]).await;
    // The library lies on the host: its URL means nothing in the guest.
    assert!(try_git(&inside, &["remote", "get-url", "origin"]).await.is_err());
    assert!(try_git(&out.root, &["config", "submodule.deps/lib.url"]).await.is_err());
    let notes = out.inspection.notes().join("\n");
    let left_out = "origin of the submodule `deps/lib`: left out, it is a path on the host";
    for text in ["1 untracked file left", left_out, "1 submodule not checked out"] {
        assert!(notes.contains(text), "{notes}");
    }
    // A submodule is a repository by itself, too.
    let out = fixture.checkout(&root.join("deps/lib/dir"), Untracked::Leave).await;
    assert_eq!(out.status().await, "## main\n M a.txt\n");
    assert_eq!(out.inspection.guest_folder_name(), "lib");
}

#[tokio::test]
async fn objects_of_git_lfs_go_along_with_their_pointers() {
    let fixture = Fixture::new();
    let root = fixture.repository().await;
    let name = |digit: &str| digit.repeat(64);
    let pointer = |digit: &str| {
        format!("version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize 5\n", name(digit))
    };
    write(&root, ".gitattributes", "*.bin filter=lfs diff=lfs merge=lfs -text\n");
    for digit in ["a", "b", "c"] {
        write(&root, &format!("{digit}.bin"), &pointer(digit));
    }
    write(&root, "d.txt", &pointer("d"));
    let place = |digit: &str| format!(".git/lfs/objects/{0}{0}/{0}{0}/{1}", digit, name(digit));
    for (digit, content) in [("a", "large"), ("b", "cut"), ("d", "other"), ("e", "older")] {
        write(&root, &place(digit), content);
    }
    git(&root, &["add", "-A"]).await;
    git(&root, &["commit", "-qm", "With large files"]).await;
    let out = fixture.checkout(&root, Untracked::Leave).await;
    assert_eq!((out.read("a.bin"), out.read(&place("a"))), (pointer("a"), "large".to_owned()));
    // One that is cut off is none; others are no file's that goes in.
    for absent in ["b", "c", "d", "e"] {
        assert!(!out.has(&place(absent)), "{absent}");
    }
    assert_eq!(out.status().await, "## main\n");
    let package = fixture.service.pack(&out.inspection).await.expect("packs");
    let note = "1 object of git-lfs (5 bytes) put in, 2 objects left out: not here, or too large";
    assert_eq!(package.notes().collect::<Vec<_>>(), [note]);
}

#[tokio::test]
async fn submodules_of_submodules_and_odd_names() {
    let (fixture, library, inner) = (Fixture::new(), Fixture::new(), Fixture::new());
    let (inner_root, library_root) = (inner.repository().await, library.repository().await);
    let root = fixture.repository().await;
    let add = ["-c", "protocol.file.allow=always", "submodule", "--quiet", "add"];
    let url = |root: &Path| root.to_str().expect("text").to_owned();
    git(&library_root, &[&add[..], &["--name", "in ner", &url(&inner_root), "deep"]].concat())
        .await;
    git(&library_root, &["commit", "-qam", "With one of its own"]).await;
    for (name, path) in [("lib", "one"), ("second", "two")] {
        let more = ["--name", name, &url(&library_root), path];
        git(&root, &[&add[..], &more].concat()).await;
    }
    // Git itself would not add one of this name.
    let renamed = ["--rename-section", "submodule.second", "submodule.lib/refs"];
    git(&root, &[&["config", "--file", ".gitmodules"][..], &renamed].concat()).await;
    let update = ["-c", "protocol.file.allow=always", "submodule", "--quiet", "update", "--init"];
    git(&root, &[&update[..], &["--recursive", "one"]].concat()).await;
    git(&root, &["config", "submodule.lib.url", "https://ada:SECRET@example.com/lib.git"]).await;
    git(&root, &["commit", "-qam", "With submodules"]).await;
    let out = fixture.checkout(&root, Untracked::Leave).await;
    assert_eq!(out.git(&["config", "submodule.lib.url"]).await, "https://example.com/lib.git\n");
    assert_eq!(out.status().await, "## main\n");
    let listed = out.git(&["submodule", "status", "--recursive"]).await;
    let paths: Vec<_> = listed.lines().map(|line| (&line[..1], &line[42..])).collect();
    // The git folder of the second would lie in that of the first: its files go in alone.
    assert_eq!(paths.len(), 3, "{listed}");
    assert!(paths[0].0 == " " && paths[0].1.starts_with("one"), "{listed}");
    assert!(paths[1].0 == " " && paths[1].1.starts_with("one/deep"), "{listed}");
    assert!(paths[2].0 == "-" && paths[2].1.starts_with("two"), "{listed}");
    assert!(out.has("two/a.txt") && !out.has("two/.git"));
    assert_eq!(git(&out.root.join("one/deep"), &["status", "--porcelain"]).await, "");
    let notes = out.inspection.notes().join("\n");
    assert!(notes.contains("without git metadata of its own: `two/`"), "{notes}");
    assert!(notes.contains("`one`: user name") && !notes.contains("SECRET"), "{notes}");
}

#[tokio::test]
async fn the_origin_arrives_without_its_token() {
    let fixture = Fixture::new();
    let root = fixture.repository().await;
    let token = "ghp_SECRETSECRET";
    let url = format!("https://ada:{token}@example.com/o/r.git");
    git(&root, &["remote", "add", "origin", &url]).await;
    git(&root, &["remote", "set-url", "--add", "--push", "origin", &url]).await;
    git(&root, &["remote", "add", "backup", &url]).await;
    let config = |key: String, value: String| {
        let root = root.clone();
        async move { git(&root, &["config", "--add", &key, &value]).await }
    };
    config("http.extraHeader".into(), format!("Authorization: {token}")).await;
    config(format!("url.https://{token}@example.com/.insteadOf"), "https://example.com/".into())
        .await;
    config("credential.helper".into(), format!("!echo {token}")).await;
    config("branch.main.remote".into(), "origin".into()).await;
    config("branch.main.merge".into(), "refs/heads/main".into()).await;
    git(&root, &["update-ref", "refs/remotes/origin/main", "HEAD"]).await;
    let out = fixture.checkout(&root, Untracked::Leave).await;
    assert_eq!(out.git(&["remote", "get-url", "origin"]).await, "https://example.com/o/r.git\n");
    assert_eq!(out.git(&["remote"]).await, "origin\n");
    assert_eq!(status(&out.root).await, "## main...origin/main\n");
    assert!(
        out.inspection.notes()[0].starts_with("origin: user name, password or token taken out")
    );
    assert!(!contains(&out.root, token.as_bytes()), "the token is in the checkout");
    assert!(!format!("{:?}", out.inspection.plan()).contains(token));
    let archive = fs::read(fixture.folder.path().join("out.tar")).expect("there");
    assert!(!archive.windows(token.len()).any(|window| window == token.as_bytes()));
}

fn contains(folder: &Path, needle: &[u8]) -> bool {
    fs::read_dir(folder).expect("listed").any(|entry| {
        let path = entry.expect("listed").path();
        match fs::symlink_metadata(&path).expect("there").file_type() {
            kind if kind.is_dir() => contains(&path, needle),
            kind if kind.is_file() => {
                fs::read(&path).expect("read").windows(needle.len()).any(|w| w == needle)
            }
            _ => false,
        }
    })
}

#[tokio::test]
async fn line_ends_and_modes_look_the_same_in_the_guest() {
    let fixture = Fixture::new();
    let root = fixture.repository().await;
    git(&root, &["config", "core.autocrlf", "true"]).await;
    git(&root, &["config", "core.fileMode", "false"]).await;
    write(&root, "a.txt", "one\r\n");
    git(&root, &["add", "a.txt"]).await; // the blob stays the same
    fs::set_permissions(root.join("run.sh"), std::os::unix::fs::PermissionsExt::from_mode(0o644))
        .expect("chmod");
    write(&root, ".git/info/exclude", "local.only\n");
    let expected = status(&root).await;
    let out = fixture.checkout(&root, Untracked::Leave).await;
    assert_eq!(out.status().await, expected);
    assert_eq!(out.read("a.txt"), "one\r\n");
    write(&out.root, "local.only", "x");
    assert_eq!(out.status().await, expected, "the repository's own ignore rules hold");
}

#[tokio::test]
async fn leftovers_of_a_killed_daemon_go() {
    let fixture = Fixture::new();
    let scratch = fixture.scratch();
    write(&scratch, "pack-abc/tree/file", "left");
    write(&scratch, "other", "not ours");
    write(
        &scratch,
        "pack-file",
        "cannot be removed as a folder, as one in which a git still writes",
    );
    Workspaces::new(WorkspaceSettings { scratch: scratch.clone(), depth: 50 }).expect("service");
    assert!(!scratch.join("pack-abc").exists() && scratch.join("other").exists());
    assert!(scratch.join("pack-file").exists(), "it stays, and keeps no daemon from starting");
    assert!(try_git(&scratch, &["rev-parse", "--git-dir"]).await.is_err());
}

//! What goes in: files, modes, names, the index's picture.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use super::fixture::{Fixture, git, status, try_git, write};
use crate::process::Tool;
use crate::workspace::{Untracked, WorkspaceError};

#[tokio::test]
async fn a_working_tree_goes_in_as_it_is() {
    let fixture = Fixture::new();
    let root = fixture.repository().await;
    write(&root, "a.txt", "one\nedited\n");
    fs::remove_file(root.join("dir/b.txt")).expect("removed");
    write(&root, ".env", "SECRET");
    write(&root, "x.ignored", "no");
    write(&root, "build/out", "no");
    write(&root, "tracked.ignored", "yes");
    git(&root, &["add", "-f", "tracked.ignored"]).await;
    git(&root, &["commit", "-q", "-m", "Second subject"]).await;
    let expected = status(&root).await;

    let out = fixture.checkout(&root.join("dir"), Untracked::Leave).await;
    assert_eq!(out.git(&["log", "--format=%s"]).await, "Second subject\nFirst subject\n");
    assert_eq!(out.status().await, expected.replace("?? .env\n", ""));
    assert_eq!(out.read("a.txt"), "one\nedited\n");
    assert_eq!(out.read("tracked.ignored"), "yes");
    for absent in [".env", "x.ignored", "build", "dir/b.txt"] {
        assert!(!out.has(absent), "{absent}");
    }
    assert_eq!(fs::read_link(out.root.join("link")).expect("a link"), OsStr::new("dir//b.txt"));
    let source = fs::metadata(root.join("run.sh")).expect("there");
    let guest = fs::metadata(out.root.join("run.sh")).expect("there");
    assert_eq!((guest.mode(), guest.mtime()), (source.mode(), source.mtime()));
    assert_eq!(out.inspection.guest_folder_name(), "repo");
    assert_eq!(out.inspection.untracked_left_out(), 1);
    assert!(out.inspection.notes()[0].starts_with("1 untracked file left out"));
    let plan = out.inspection.plan();
    assert_eq!(plan.files, [".gitignore", "a.txt", "link", "run.sh", "tracked.ignored"]);
    assert_eq!((out.summary.files, out.summary.bytes), (5, plan.bytes));
    assert_eq!(
        plan.base_commit.map(|commit| commit + "\n"),
        Some(git(&root, &["rev-parse", "HEAD"]).await)
    );
    out.git(&["fsck", "--strict"]).await;
    assert_eq!(out.git(&["config", "user.name"]).await, "Ada Source\n");
    assert_eq!(out.git(&["config", "user.email"]).await, "ada@source.example\n");
}

#[tokio::test]
async fn untracked_files_go_in_when_asked_for() {
    let fixture = Fixture::new();
    let root = fixture.repository().await;
    write(&root, "new/file", "new");
    write(&root, "x.ignored", "no");
    write(&root, "other/inner", "another repository");
    git(&root.join("other"), &["init", "-q"]).await;
    let out = fixture.checkout(&root, Untracked::Include).await;
    assert_eq!(out.read("new/file"), "new");
    assert!(!out.has("x.ignored") && !out.has("other"));
    assert_eq!(out.inspection.untracked_left_out(), 1);
    assert!(out.inspection.notes()[0].contains("`other/`"), "{:?}", out.inspection.notes());
    assert_eq!(out.status().await, "## main\n?? new/\n");
}

#[tokio::test]
async fn the_index_arrives_with_what_is_staged() {
    let fixture = Fixture::new();
    let root = fixture.repository().await;
    write(&root, "a.txt", "staged\n");
    write(&root, "new", "staged\n");
    write(&root, "empty", "");
    write(&root, "mode", "x");
    git(&root, &["add", "a.txt", "new", "empty", "mode"]).await;
    git(&root, &["rm", "-q", "--cached", "run.sh"]).await;
    git(&root, &["mv", "dir/b.txt", "moved.txt"]).await;
    git(&root, &["update-index", "--assume-unchanged", "mode"]).await;
    write(&root, "a.txt", "edited after\n");
    write(&root, "mode", "not looked at");
    let out = fixture.checkout(&root, Untracked::Include).await;
    let expected = status(&root).await;
    assert_eq!(out.status().await, expected);
    assert!(expected.contains("MM a.txt") && expected.contains("R  dir/b.txt"), "{expected}");
    assert_eq!(out.git(&["show", ":a.txt"]).await, "staged\n");
    assert_eq!(out.git(&["ls-files", "-v", "mode"]).await, "h mode\n");
    out.git(&["fsck", "--strict"]).await;
}

#[tokio::test]
async fn a_conflict_arrives_as_one() {
    let fixture = Fixture::new();
    let root = fixture.repository().await;
    git(&root, &["switch", "-q", "-c", "other"]).await;
    write(&root, "a.txt", "theirs\n");
    git(&root, &["commit", "-qam", "theirs"]).await;
    git(&root, &["switch", "-q", "main"]).await;
    write(&root, "a.txt", "ours\n");
    git(&root, &["commit", "-qam", "ours"]).await;
    assert!(try_git(&root, &["merge", "-q", "other"]).await.is_err(), "it conflicts");
    let out = fixture.checkout(&root, Untracked::Leave).await;
    assert_eq!(out.status().await, "## main\nUU a.txt\n");
    assert_eq!(out.git(&["show", ":3:a.txt"]).await, "theirs\n");
    assert!(out.read("a.txt").contains("<<<<<<<"));
    assert!(out.inspection.notes().iter().any(|note| note.starts_with("1 file in conflict")));
    assert_eq!(out.inspection.plan().files.iter().filter(|file| *file == "a.txt").count(), 1);
}

#[tokio::test]
async fn a_sparse_checkout_stays_one() {
    let fixture = Fixture::new();
    let root = fixture.repository().await;
    git(&root, &["sparse-checkout", "set", "--cone", "other"]).await;
    assert!(!root.join("dir").exists());
    let out = fixture.checkout(&root, Untracked::Leave).await;
    assert_eq!(out.status().await, "## main\n");
    assert!(!out.has("dir/b.txt"));
    out.git(&["sparse-checkout", "add", "dir"]).await;
    assert_eq!(out.read("dir/b.txt"), "two\n");
}

#[tokio::test]
async fn names_of_any_bytes_and_lengths() {
    let fixture = Fixture::new();
    let root = fixture.repository().await;
    let long = "n".repeat(255);
    let deep = ["d".repeat(90), "e".repeat(200), long.clone()].join("/");
    let mut bytes_255 = vec![0xff_u8; 255];
    bytes_255[3] = b'\n';
    let names: Vec<Vec<u8>> = vec![
        b"new\nline".to_vec(),
        b"quo\"te's $HOME `x` \\back\\ *?[a]".to_vec(),
        b" spaces ".to_vec(),
        b"-rf".to_vec(),
        b"tab\there".to_vec(),
        "\u{fc}ml\u{e4}ut \u{1f980}".as_bytes().to_vec(),
        b"latin-\xe9\xff".to_vec(),
        bytes_255,
        long.clone().into_bytes(),
        "x".repeat(99).into_bytes(),
        "x".repeat(100).into_bytes(),
        "x".repeat(101).into_bytes(),
        deep.into_bytes(),
        b"..almost/..up".to_vec(),
        b"dir-b/x".to_vec(),
        b"dir.x".to_vec(),
    ];
    for (number, name) in names.iter().enumerate() {
        let path = root.join(OsStr::from_bytes(name));
        fs::create_dir_all(path.parent().expect("has a parent")).expect("made");
        fs::write(path, format!("content {number}")).expect("written");
    }
    let target = "t/".repeat(1000) + "../x";
    std::os::unix::fs::symlink(&target, root.join("long-link")).expect("symlink");
    std::os::unix::fs::symlink("/etc/passwd", root.join("absolute-link")).expect("symlink");
    git(&root, &["add", "-A"]).await;
    let out = fixture.checkout(&root, Untracked::Leave).await;
    for (number, name) in names.iter().enumerate() {
        let read = fs::read_to_string(out.root.join(OsStr::from_bytes(name)));
        assert_eq!(read.expect("there"), format!("content {number}"), "{name:?}");
    }
    let link = |name| fs::read_link(out.root.join(name)).expect("a link");
    assert_eq!(link("long-link").as_os_str(), OsStr::new(&target));
    assert_eq!(link("absolute-link").as_os_str(), "/etc/passwd");
    assert_eq!(out.status().await, status(&root).await);
}

#[tokio::test]
async fn modes_are_kept_without_set_id_bits() {
    let fixture = Fixture::new();
    let root = fixture.repository().await;
    let modes = [0o600, 0o640, 0o700, 0o4755, 0o664, 0o444];
    for mode in modes {
        let path = root.join(format!("m{mode:o}"));
        fs::write(&path, "x").expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("chmod");
    }
    git(&root, &["add", "-A"]).await;
    let out = fixture.checkout(&root, Untracked::Leave).await;
    for mode in modes {
        let kept = fs::metadata(out.root.join(format!("m{mode:o}"))).expect("there").mode();
        assert_eq!(kept & 0o7777, mode & 0o777, "{mode:o}");
    }
}

#[tokio::test]
async fn what_is_no_file_any_more_does_not_go_in() {
    let fixture = Fixture::new();
    let root = fixture.repository().await;
    write(&root, "pipe", "");
    write(&root, "folder", "");
    write(&root, "down/file", "inside");
    git(&root, &["add", "-A"]).await;
    for name in ["pipe", "folder"] {
        fs::remove_file(root.join(name)).expect("removed");
    }
    Tool::new("mkfifo").arg(root.join("pipe")).run().await.expect("made");
    write(&root, "folder/untracked", "no");
    // A folder that has become a symlink to one outside with the same names in it.
    let outside = fixture.folder.path().join("outside");
    write(&outside, "file", "of the host");
    fs::remove_dir_all(root.join("down")).expect("removed");
    std::os::unix::fs::symlink(&outside, root.join("down")).expect("symlink");
    let out = fixture.checkout(&root, Untracked::Leave).await;
    for absent in ["pipe", "folder", "down"] {
        assert!(!out.has(absent), "{absent}");
    }
    let notes = out.inspection.notes();
    assert!(
        notes.iter().any(|note| note.contains("pipes") && note.contains("`pipe`")),
        "{notes:?}"
    );
}

#[tokio::test]
async fn files_that_change_under_the_reader() {
    let fixture = Fixture::new();
    let root = fixture.repository().await;
    fs::write(root.join("large"), vec![b'x'; 3 << 20]).expect("written");
    write(&root, "gone", "x");
    write(&root, "became-a-link", "x");
    git(&root, &["add", "-A"]).await;
    let inspection = fixture.inspect(&root).await.expect("inspects");
    let package = fixture.service.pack(&inspection).await.expect("packs");
    fs::remove_file(root.join("gone")).expect("removed");
    fs::remove_file(root.join("became-a-link")).expect("removed");
    std::os::unix::fs::symlink("/etc/shadow", root.join("became-a-link")).expect("symlink");
    let mut sink = Vec::new();
    let summary = package.write_tar(&mut sink).expect("still a whole tree");
    assert_eq!(summary.gone, ["gone"]);
    let mut archive = tar::Archive::new(&sink[..]);
    let link = archive.entries().expect("reads").find_map(|entry| {
        let entry = entry.expect("reads");
        (entry.path_bytes() == &b"became-a-link"[..]).then(|| entry.header().entry_type())
    });
    assert_eq!(link, Some(tar::EntryType::Symlink), "never followed");
    // The sink truncates the file as soon as its first bytes arrive.
    let large = root.join("large");
    let shrink = Shrinking { large: large.clone(), seen: 0 };
    let error = package.write_tar(shrink).expect_err("it shrank");
    assert!(matches!(&error, WorkspaceError::Shrunk { path } if path == "large"), "{error:?}");
    // And one that grows is cut at the size in its header.
    let grow = Growing { large, done: false, taken: Vec::new() };
    let mut grow = grow;
    package.write_tar(&mut grow).expect("cut");
    let mut archive = tar::Archive::new(&grow.taken[..]);
    assert!(archive.entries().expect("reads").all(|entry| entry.is_ok()));
}

struct Shrinking {
    large: std::path::PathBuf,
    seen: usize,
}

impl std::io::Write for Shrinking {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.seen += bytes.len();
        if self.seen > 300_000 {
            fs::File::options().write(true).open(&self.large)?.set_len(1000)?;
        }
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

struct Growing {
    large: std::path::PathBuf,
    done: bool,
    taken: Vec<u8>,
}

impl std::io::Write for Growing {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if !self.done {
            self.done = true;
            fs::File::options().write(true).open(&self.large)?.set_len(5 << 20)?;
        }
        self.taken.extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_sink_that_fails_is_named_as_such() {
    struct Broken;
    impl std::io::Write for Broken {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let fixture = Fixture::new();
    let root = fixture.repository().await;
    let inspection = fixture.inspect(&root).await.expect("inspects");
    let package = fixture.service.pack(&inspection).await.expect("packs");
    let error = package.write_tar(Broken).expect_err("the sink fails");
    assert!(matches!(error, WorkspaceError::Send { .. }), "{error:?}");
}

//! Repositories that were made to do harm.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::fixture::{Fixture, git, try_git, write};
use crate::workspace::{Untracked, WorkspaceError};

#[tokio::test]
async fn nothing_of_the_repository_runs() {
    let fixture = Fixture::new();
    let root = fixture.repository().await;
    let canaries = fixture.folder.path().join("canaries");
    fs::create_dir(&canaries).expect("made");
    write(&root, ".gitattributes", "* filter=evil diff=evil merge=evil text=auto\n");
    write(&root, "a.txt", "edited so that filters would run\n");
    write(&root, "new.txt", "staged\n");
    git(&root, &["add", "new.txt"]).await;
    set_traps(&root, &canaries).await;

    let inspection = fixture.service.inspect(&root, Untracked::Include).await.expect("inspects");
    let package = fixture.service.pack(&inspection).await.expect("packs");
    package.write_tar(std::io::sink()).expect("writes");
    let ran: Vec<_> = fs::read_dir(&canaries).expect("listed").collect();
    assert!(ran.is_empty(), "{ran:?}");
    // The traps are real: plain git runs into some of them.
    try_git(&root, &["status"]).await.ok();
    assert!(fs::read_dir(&canaries).expect("listed").count() > 0, "the traps do not work");
}

/// Makes every place of a configuration that names a command name one that leaves a file.
async fn set_traps(root: &Path, canaries: &Path) {
    let touch = |name: &str| format!("touch '{}/{name}'; cat", canaries.display());
    let settings = [
        ("core.fsmonitor", "fsmonitor"),
        ("filter.evil.clean", "clean"),
        ("filter.evil.smudge", "smudge"),
        ("filter.evil.process", "process"),
        ("diff.evil.textconv", "textconv"),
        ("diff.evil.command", "command"),
        ("diff.external", "external"),
        ("merge.evil.driver", "merge"),
        ("core.sshCommand", "ssh"),
        ("core.gitProxy", "proxy"),
        ("core.askPass", "askpass"),
        ("core.pager", "pager"),
        ("core.editor", "editor"),
        ("core.alternateRefsCommand", "alternates"),
        ("credential.helper", "credential"),
        ("uploadpack.packObjectsHook", "pack-objects"),
        ("gpg.program", "gpg"),
        ("alias.rev-parse", "alias"),
    ];
    for (key, name) in settings {
        let value =
            if key == "alias.rev-parse" { format!("!{}", touch(name)) } else { touch(name) };
        git(root, &["config", key, &value]).await;
    }
    // A promisor remote whose "server" is a command, for objects that are said to be missing.
    for (key, value) in [
        ("extensions.partialClone", "evil"),
        ("remote.evil.promisor", "true"),
        ("remote.evil.url", "/nowhere"),
        ("remote.evil.uploadpack", &touch("uploadpack")),
    ] {
        git(root, &["config", key, value]).await;
    }
    let hooks = root.join(".git/hooks");
    fs::create_dir_all(&hooks).expect("made");
    for hook in ["post-index-change", "post-checkout", "reference-transaction", "pre-auto-gc"] {
        fs::write(hooks.join(hook), format!("#!/bin/sh\n{}\n", touch(hook))).expect("written");
        fs::set_permissions(hooks.join(hook), fs::Permissions::from_mode(0o755)).expect("chmod");
    }
    git(root, &["config", "core.hooksPath", hooks.to_str().expect("text")]).await;
}

#[tokio::test]
async fn rules_that_are_links_lead_nowhere() {
    let fixture = Fixture::new();
    let root = fixture.repository().await;
    write(fixture.folder.path(), "key", "SECRET");
    let exclude = root.join(".git/info/exclude");
    write(&root, ".git/info/exclude", "");
    fs::remove_file(&exclude).expect("removed");
    std::os::unix::fs::symlink(fixture.folder.path().join("key"), exclude).expect("symlink");
    let out = fixture.checkout(&root, Untracked::Leave).await;
    assert!(!out.has(".git/info/exclude"));
}

#[tokio::test]
async fn attributes_come_from_no_file_elsewhere() {
    let fixture = Fixture::new();
    let root = fixture.repository().await;
    let name = "a".repeat(64);
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:";
    write(&root, "a.bin", &format!("{pointer}{name}\nsize 5\n"));
    git(&root, &["add", "-A"]).await;
    git(&root, &["commit", "-qm", "With a large file"]).await;
    let object = format!(".git/lfs/objects/aa/aa/{name}");
    write(&root, &object, "large");
    // It could be a device that never ends.
    write(fixture.folder.path(), "rules", "*.bin filter=lfs\n");
    let rules = fixture.folder.path().join("rules");
    git(&root, &["config", "core.attributesFile", rules.to_str().expect("text")]).await;
    assert!(!fixture.checkout(&root, Untracked::Leave).await.has(&object));
    write(&root, ".git/info/attributes", "*.bin filter=lfs\n");
    assert!(fixture.checkout(&root, Untracked::Leave).await.has(&object), "its own rules");
    fs::remove_file(root.join(".git/info/attributes")).expect("removed");
    std::os::unix::fs::symlink(rules, root.join(".git/info/attributes")).expect("symlink");
    assert!(!fixture.checkout(&root, Untracked::Leave).await.has(&object));
}

#[tokio::test]
async fn missing_objects_are_not_fetched_from_a_command() {
    let fixture = Fixture::new();
    let root = fixture.repository().await;
    let canary = fixture.folder.path().join("canary");
    let blob = git(&root, &["rev-parse", "HEAD:a.txt"]).await;
    let blob = blob.trim();
    let object = root.join(".git/objects").join(&blob[..2]).join(&blob[2..]);
    fs::remove_file(object).expect("removed");
    git(&root, &["config", "core.repositoryFormatVersion", "1"]).await;
    git(&root, &["config", "extensions.partialClone", "evil"]).await;
    git(&root, &["config", "remote.evil.promisor", "true"]).await;
    git(&root, &["config", "remote.evil.url", "/nowhere"]).await;
    let command = format!("touch '{}';", canary.display());
    git(&root, &["config", "remote.evil.uploadpack", &command]).await;
    let inspection = fixture.inspect(&root).await.expect("inspects");
    let error = fixture.service.pack(&inspection).await.expect_err("a blob is missing");
    assert!(matches!(error, WorkspaceError::PartialClone { .. }), "{error:?}");
    assert!(!canary.exists(), "a command of the repository ran");
}

#[tokio::test]
async fn an_index_cannot_name_what_lies_outside() {
    let fixture = Fixture::new();
    let root = fixture.repository().await;
    write(fixture.folder.path(), "xx", "of the host");
    // The same length, so that the index's layout stays; its checksum may be all zeros.
    for bad in ["../xx", ".git/", "//etc", "di//b"] {
        let name = format!("{:5}", "QQQQQ");
        write(&root, &name, "x");
        git(&root, &["add", &name]).await;
        let path = root.join(".git/index");
        let mut index = fs::read(&path).expect("read");
        let at = index.windows(5).position(|window| window == b"QQQQQ").expect("there");
        index[at..at + 5].copy_from_slice(bad.as_bytes());
        let end = index.len() - 20;
        index[end..].fill(0);
        fs::write(&path, index).expect("written");
        let error = fixture.inspect(&root).await.expect_err(bad);
        let refused = matches!(error, WorkspaceError::BadPath { .. } | WorkspaceError::Git { .. });
        assert!(refused, "{bad}: {error:?}");
        fs::remove_file(&path).expect("removed");
        fs::remove_file(root.join(&name)).expect("removed");
        git(&root, &["reset", "-q"]).await;
    }
}

#[tokio::test]
async fn a_submodule_path_that_is_a_link_leads_nowhere() {
    let fixture = Fixture::new();
    let root = fixture.repository().await;
    let outside = Fixture::new();
    let other = outside.repository().await;
    write(&other, "secret.txt", "of another repository");
    git(&other, &["add", "-A"]).await;
    let commit = git(&other, &["rev-parse", "HEAD"]).await;
    let entry = format!("160000,{},sub", commit.trim());
    git(&root, &["update-index", "--add", "--cacheinfo", &entry]).await;
    std::os::unix::fs::symlink(&other, root.join("sub")).expect("symlink");
    let out = fixture.checkout(&root, Untracked::Leave).await;
    assert!(!out.has("sub/secret.txt") && !out.has("sub"));
    // A gitfile that names another repository does not make its index this one's.
    fs::remove_file(root.join("sub")).expect("removed");
    write(&root, "sub/.git", &format!("gitdir: {}/.git\n", other.display()));
    let inspection = fixture.inspect(&root).await.expect("inspects");
    let files = inspection.plan().files;
    assert!(!files.iter().any(|file| file.contains("secret")), "{files:?}");
}

#[tokio::test]
async fn the_history_of_another_repository_is_no_submodules() {
    let (fixture, private) = (Fixture::new(), Fixture::new());
    let (root, other) = (fixture.repository().await, private.repository().await);
    let commit = git(&other, &["rev-parse", "HEAD"]).await;
    let entry = format!("160000,{},sub", commit.trim());
    git(&root, &["update-index", "--add", "--cacheinfo", &entry]).await;
    write(&root, ".gitmodules", "[submodule \"sub\"]\n\tpath = sub\n");
    let (git_folder, modules) = (other.join(".git"), root.join(".git/modules"));
    fs::create_dir(&modules).expect("made");
    std::os::unix::fs::symlink(&git_folder, modules.join("link")).expect("symlink");
    write(&modules, "common/HEAD", "ref: refs/heads/main\n");
    write(&modules, "common/commondir", git_folder.to_str().expect("text"));
    write(&modules, "objects/HEAD", &commit);
    fs::create_dir(modules.join("objects/refs")).expect("made");
    std::os::unix::fs::symlink(git_folder.join("objects"), modules.join("objects/objects"))
        .expect("symlink");
    let elsewhere = git_folder.to_str().expect("text");
    for place in
        [elsewhere, "../.git/modules/link", "../.git/modules/common", "../.git/modules/objects"]
    {
        write(&root, "sub/.git", &format!("gitdir: {place}\n"));
        let out = fixture.checkout(&root, Untracked::Leave).await;
        assert!(out.has("sub") && !out.has("sub/.git"), "{place}");
        assert!(!out.has(".git/modules"), "{place}");
        let notes = out.inspection.notes().join("\n");
        assert!(notes.contains("without git metadata of its own: `sub/`"), "{place}: {notes}");
    }
}

#[tokio::test]
async fn a_submodule_whose_git_cannot_be_read_goes_in_without() {
    let (fixture, library) = (Fixture::new(), Fixture::new());
    let (root, library_root) = (fixture.repository().await, library.repository().await);
    let url = library_root.to_str().expect("text");
    let add = ["-c", "protocol.file.allow=always", "submodule", "--quiet", "add", url, "lib"];
    git(&root, &add).await;
    git(&root, &["commit", "-qm", "With a submodule"]).await;
    let names = fs::read_to_string(root.join(".gitmodules")).expect("read");
    write(&root, ".gitmodules", &format!("<<<<<<< ours\n{names}"));
    let out = fixture.checkout(&root, Untracked::Leave).await;
    assert!(out.has("lib/a.txt") && !out.has("lib/.git") && !out.has(".git/modules"));
    let notes = out.inspection.notes().join("\n");
    assert!(notes.contains("without git metadata of its own: `lib/`"), "{notes}");

    write(&root, ".gitmodules", &names);
    let tree = git(&root.join("lib"), &["rev-parse", "HEAD^{tree}"]).await;
    let object = root.join(".git/modules/lib/objects").join(&tree[..2]).join(tree[2..].trim());
    fs::remove_file(object).expect("removed");
    let out = fixture.checkout(&root, Untracked::Leave).await;
    assert!(out.has("lib/a.txt") && !out.has("lib/.git") && !out.has(".git/modules"));
    let package = fixture.service.pack(&out.inspection).await.expect("packs");
    let notes: Vec<_> = package.notes().collect();
    assert_eq!(notes, ["1 submodule: content goes in, without git metadata of its own: `lib`"]);
}

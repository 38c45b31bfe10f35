//! What is installed and what is not: signatures, odd files, broken components, daemons that were killed.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use super::signature::tests::Author;
use super::tests_registry::*;
use super::tests_support::User;
use super::*;
use crate::report::{Explain, Kind, Report};
use crate::wire::rpc::{HookState, InspectHook, InstallOutcome};

#[tokio::test]
async fn signatures_are_verified_when_present_and_required_when_configured() {
    let (mut user, package) = user(same);
    let (author, stranger) = (Author::new(), Author::new());
    user.settings.signatures.signers = vec![author.named("author")];
    let path = package.join("plugin.wasm.minisig");
    let install = async |user: &User, required: bool| {
        let mut settings = user.settings.clone();
        settings.signatures.required = required;
        let host = HookHost::open(settings).await.expect("opens");
        let installed = host.install(&package).await;
        if installed.is_ok() {
            host.remove(&id()).await.expect("removed");
        }
        assert!(files(&user.settings.registry_folder).is_empty(), "nothing is left");
        installed
    };
    for required in [false, true] {
        sign(&author, &package);
        install(&user, required).await.expect("a good signature");

        // A signature that is wrong is an error in any case.
        fs::write(&path, "no signature").expect("written");
        let error = install(&user, required).await.expect_err("no signature");
        assert_eq!(error.kind(), Kind::Refused);
        assert!(error.to_string().contains("minisig` is no signature of minisign"), "{error}");
        sign(&author, &package);
        let manifest = fs::read(package.join("plugin.toml")).expect("read");
        fs::write(package.join("plugin.toml"), [&manifest[..], b"\n# more\n"].concat())
            .expect("written");
        let error = install(&user, required).await.expect_err("another manifest");
        assert!(error.to_string().contains("was made with another `plugin.toml`"), "{error}");
        fs::write(package.join("plugin.toml"), manifest).expect("written");
    }
    sign(&stranger, &package);
    let installed = install(&user, false).await.expect("not required");
    assert_eq!(installed.plugin.signer, None);
    assert!(installed.notes[0].contains("not in `hooks.signers`"), "{:?}", installed.notes);
    let error = install(&user, true).await.expect_err("unknown");
    assert_eq!(error.kind(), Kind::Refused);
    assert!(error.to_string().contains("by a key that is not in `hooks.signers`"), "{error}");
    fs::remove_file(&path).expect("removed");
    install(&user, false).await.expect("not required");
    let error = install(&user, true).await.expect_err("absent");
    assert_eq!(error.kind(), Kind::Refused);
    assert!(error.to_string().contains("is not signed"), "{error}");
}

#[tokio::test]
async fn a_plugin_whose_signature_is_required_later_is_in_the_way() {
    let (mut user, package) = user(same);
    let host = user.host().await;
    host.install(&package).await.expect("installed");
    host.grant(all()).await.expect("granted");
    drop(host);
    user.settings.signatures.required = true;
    let error = user.run().await.expect_err("not signed");
    assert_eq!(error.kind(), Kind::Refused);
    assert!(error.to_string().contains("is not signed"), "{error}");
}

/// Something that is wrong with a file of a plugin.
#[derive(Debug, Clone, Copy)]
enum Fault {
    Link,
    Pipe,
    Huge,
    Gone,
    Text(&'static [u8]),
}

fn spoil(path: &Path, fault: Fault) {
    fs::remove_file(path).expect("removed");
    match fault {
        Fault::Link => symlink("/etc/passwd", path).expect("linked"),
        Fault::Pipe => nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).expect("made"),
        Fault::Huge => {
            let file = fs::File::create(path).expect("made");
            file.set_len(1 << 40).expect("a sparse file");
        }
        Fault::Gone => {}
        Fault::Text(bytes) => fs::write(path, bytes).expect("written"),
    }
}

#[tokio::test]
async fn only_plain_files_of_a_plugin_are_installed_and_nothing_is_left_of_others() {
    let (user, package) = user(same);
    let host = user.host().await;
    for (file, fault, expected, kind) in [
        ("plugin.wasm", Fault::Link, "cannot be read: it is a symbolic link", Kind::Invalid),
        ("plugin.toml", Fault::Link, "cannot be read: it is a symbolic link", Kind::Invalid),
        ("plugin.wasm", Fault::Pipe, "cannot be read: it is no regular file", Kind::Invalid),
        ("plugin.toml", Fault::Pipe, "cannot be read: it is no regular file", Kind::Invalid),
        ("plugin.wasm", Fault::Huge, "is larger than", Kind::Invalid),
        ("plugin.toml", Fault::Huge, "is larger than", Kind::Invalid),
        ("plugin.wasm", Fault::Gone, "is not there", Kind::NotFound),
        ("plugin.toml", Fault::Gone, "is not there", Kind::NotFound),
        ("plugin.wasm", Fault::Text(b"\0asm\x01\0\0\0"), "it is a core module", Kind::Invalid),
        ("plugin.wasm", Fault::Text(b"\x7fELF"), "it is machine code", Kind::Invalid),
        ("plugin.toml", Fault::Text(b"[plugin"), "line 1", Kind::Invalid),
    ] {
        let path = package.join(file);
        let good = fs::read(&path).expect("read");
        spoil(&path, fault);
        let error = host.install(&package).await.expect_err(expected);
        let text = error.to_string();
        assert!(text.contains(&format!("{file}`")) && text.contains(expected), "{fault:?}: {text}");
        assert_eq!(error.kind(), kind, "{text}");
        let hint = error.hint().expect("what to do");
        assert!(!text.contains('\n'));
        let to_build = text.contains("is larger than") && file == "plugin.wasm";
        assert_eq!(hint.contains("release mode"), to_build, "{text}: {hint}");
        assert!(files(&user.settings.registry_folder).is_empty(), "{fault:?}");
        fs::remove_file(&path).ok();
        fs::write(&path, good).expect("written");
    }
    host.install(&package).await.expect("all is well again");
}

#[tokio::test]
async fn a_plugin_is_its_folder_or_a_file_of_it_and_can_be_looked_at_before() {
    let (user, package) = user(same);
    let host = user.host().await;
    let (other, alone) = (package.join("other.wasm"), user.folder.path().join("plugin.wasm"));
    for path in [&other, &alone] {
        fs::copy(package.join("plugin.wasm"), path).expect("copied");
    }
    for (path, expected) in [
        (other, "is neither a plugin's folder, nor its `plugin.toml`, nor the component"),
        (alone, "is neither a plugin's folder, nor its `plugin.toml`, nor the component"),
        (user.folder.path().join("no/such"), "no/such` is not there"),
        (PathBuf::from("/dev/null"), "is neither a file nor a folder"),
        (user.home.clone(), "plugin.toml` is not there"),
    ] {
        let error = host.install(&path).await.expect_err(expected);
        assert!(error.to_string().contains(expected), "{error}");
    }
    let path = Some(package.display().to_string());
    let looked = host.inspect(InspectHook { plugin: None, path }).await.expect("it is a plugin");
    assert!(looked.exports.iter().any(|name| name == "cove:hooks/prepare-work-disk@0.2.0"));
    let hooks = |name: &String| name.starts_with("cove:hooks/");
    assert!(looked.imports.iter().any(hooks), "{:?}", looked.imports);
    assert!(host.list().await.expect("listed").is_empty(), "it was only looked at");
    for (file, outcome) in
        [("plugin.toml", InstallOutcome::PendingGrant), ("plugin.wasm", InstallOutcome::Unchanged)]
    {
        let installed = host.install(&package.join(file)).await.expect("a file's path will do");
        assert_eq!(installed.outcome, outcome, "{file}");
    }
}

#[tokio::test]
async fn a_component_that_cannot_start_is_not_installed() {
    let little = |manifest| format!("{manifest}\n[limits]\nmemory = '64KiB'\n");
    let (user, package) = user(little);
    let host = user.host().await;
    let error = host.install(&package).await.expect_err("it needs more from its start");
    assert!(
        error.to_string().contains("plugin.wasm` cannot be started: it wanted more than"),
        "{error}"
    );
    assert!(files(&user.settings.registry_folder).is_empty());
}

#[tokio::test]
async fn what_a_killed_daemon_left_is_removed_and_what_was_installed_stays() {
    let (user, package) = user(same);
    let host = user.host().await;
    host.install(&package).await.expect("installed");
    host.grant(all()).await.expect("granted");
    drop(host);
    let registry = &user.settings.registry_folder;
    let before = files(registry);
    // Killed while copying, between copying and writing down, and between writing down and removing.
    fs::create_dir_all(registry.join(".incoming-abc")).expect("made");
    fs::write(registry.join(".incoming-abc/plugin.toml"), "half").expect("written");
    for other in ["io.example.new/releases/abc", "io.example.guest/releases/old"] {
        fs::create_dir_all(registry.join(other)).expect("made");
        fs::write(registry.join(other).join("plugin.toml"), "whole").expect("written");
    }
    fs::write(registry.join(ID).join(".record-xyz"), "half").expect("written");
    let host = user.host().await;
    assert_eq!(written(&user, &host).await, [FILE]);
    assert_eq!(files(registry), before);
    for entry in ["", ID, "io.example.guest/releases"] {
        let mode = fs::metadata(registry.join(entry)).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o700, "{entry}");
    }
    for file in before {
        let mode = fs::metadata(registry.join(&file)).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
}

#[tokio::test]
async fn what_a_user_put_into_the_folder_is_never_removed() {
    let user = User::new();
    let registry = &user.settings.registry_folder;
    for file in [
        "checkout/releases/v1.txt",
        "checkout/plugin.toml",
        "sources/releases/v1",
        "sources/README",
    ] {
        let file = registry.join(file);
        fs::create_dir_all(file.parent().expect("a folder")).expect("made");
        fs::write(file, "mine").expect("written");
    }
    let before = files(registry);
    let host = user.host().await;
    assert_eq!(files(registry), before);
    assert_eq!(host.list().await.expect("listed").len(), 1, "the one with a manifest is shown");
}

#[tokio::test]
async fn a_folder_that_cannot_be_tidied_keeps_no_daemon_from_starting() {
    let (user, package) = user(same);
    let host = user.host().await;
    host.install(&package).await.expect("installed");
    host.grant(all()).await.expect("granted");
    drop(host);
    let registry = &user.settings.registry_folder;
    // Files where folders should be, and the other way round.
    for folder in ["io.example.guest/.record-abc", "io.example.other/record.json"] {
        fs::create_dir_all(registry.join(folder)).expect("made");
    }
    fs::write(registry.join(ID).join("releases/odd"), "odd").expect("written");
    fs::write(registry.join(".incoming-abc"), "odd").expect("written");
    let host = user.host().await;
    assert_eq!(listed(&host).await.state, HookState::Active);
    let hooks = host.list().await.expect("listed");
    let other = hooks.iter().find(|hook| hook.plugin.as_str() == "io.example.other");
    let problem = other.and_then(|hook| hook.problem.as_deref()).expect("it is damaged");
    assert!(problem.contains("record.json` cannot be read"), "{problem}");
}

#[tokio::test]
async fn two_installations_at_once_both_come_to_an_end() {
    let (user, package) = user(same);
    let other = user.package("hostile", "io.example.other", same);
    let newer = user.folder.path().join("newer");
    fs::create_dir(&newer).expect("made");
    fs::copy(package.join("plugin.wasm"), newer.join("plugin.wasm")).expect("copied");
    let manifest = fs::read_to_string(package.join("plugin.toml")).expect("read");
    fs::write(newer.join("plugin.toml"), version("2", true)(manifest)).expect("written");
    let host = user.host().await;
    let (one, two, three) =
        tokio::join!(host.install(&package), host.install(&newer), host.install(&other));
    one.expect("one");
    two.expect("two");
    three.expect("three");
    let hooks = host.list().await.expect("listed");
    assert_eq!(hooks.len(), 2);
    assert_eq!(
        fs::read_dir(user.settings.registry_folder.join(ID).join("releases"))
            .expect("there")
            .count(),
        1
    );
}

#[tokio::test]
async fn what_was_put_in_by_hand_is_listed_and_does_not_take_part() {
    let mut user = User::new();
    user.install(&user.settings.registry_folder, "hostile", ID, same);
    fs::write(user.settings.registry_folder.join("loose.wasm"), "x").expect("written");
    user.set(ID, "misbehaviour", "write");
    let host = user.host().await;
    let hooks = host.list().await.expect("listed");
    assert_eq!(hooks.len(), 2);
    for hook in hooks {
        assert_eq!(hook.state, HookState::Broken);
        let problem = hook.problem.expect("why");
        assert!(
            problem.contains("was not installed") && problem.contains("cove hook install"),
            "{problem}"
        );
    }
    host.check().await.expect("it is in nobody's way");
    assert!(written(&user, &host).await.is_empty());
}

#[tokio::test]
async fn a_damaged_record_stops_starts_and_can_be_removed() {
    let (user, package) = user(same);
    let host = user.host().await;
    host.install(&package).await.expect("installed");
    host.grant(all()).await.expect("granted");
    drop(host);
    let record = user.settings.registry_folder.join(ID).join("record.json");
    for text in ["", "{}", "{\"format\": 2, \"record\": {}}"] {
        fs::write(&record, text).expect("written");
        let host = user.host().await;
        let error = host.prepare_work_disk(&user.inputs).await.expect_err("damaged");
        assert!(error.to_string().contains("record.json` cannot be read"), "{error}");
        assert!(error.hint().is_some_and(|hint| hint.contains("cove hook remove")));
        host.grant(all()).await.expect_err("damaged");
    }
    let host = user.host().await;
    host.remove(&id()).await.expect("removed");
    assert!(written(&user, &host).await.is_empty());
}

#[tokio::test]
async fn a_folder_that_cannot_be_written_is_named() {
    let (user, package) = user(same);
    let host = user.host().await;
    fs::remove_dir(&user.settings.registry_folder).expect("removed");
    fs::write(&user.settings.registry_folder, "a file").expect("written");
    let error = host.install(&package).await.expect_err("no folder");
    let report = Report::of(&error);
    assert_eq!(report.kind, Kind::Failed);
    assert!(report.message.contains(ID) && report.hint.is_some(), "{report:?}");
    let full = InstallError::Keep {
        plugin: id(),
        folder: "/plugins".into(),
        source: std::io::ErrorKind::StorageFull.into(),
    };
    assert_eq!(Report::of(&full).hint.as_deref(), Some(crate::report::FULL_DISK));
}

//! Installing, granting, upgrading and removing, through the host's own interface, with real components.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use super::signature::tests::Author;
use super::tests_support::{User, lines};
use super::*;
use crate::id::{Digest, PluginId};
use crate::report::{Explain, Kind};
use crate::vm::events::Events;
use crate::wire::rpc::{
    EventQuery, GrantHook, Happening, Hook, HookState, InspectHook, InstallOutcome, RevokeHook,
};

/// An id with dots.
pub(super) const ID: &str = "io.example.guest";

pub(super) fn id() -> PluginId {
    ID.parse().expect("an id")
}

pub(super) fn same(manifest: String) -> String {
    manifest
}

/// Fails at whatever hook point, and nothing depends on it.
pub(super) fn optional(manifest: String) -> String {
    let line = |line: &str| match line.starts_with("[hooks.") {
        true => format!("{line}\nfailure = 'optional'\n"),
        false => format!("{line}\n"),
    };
    manifest.lines().map(line).collect()
}

/// What a version may ask for besides.
pub(super) const MORE: &str = "git-config:user.name";

/// Another version, that asks for [`MORE`] or not.
pub(super) fn version(version: &str, more: bool) -> impl Fn(String) -> String {
    let version = format!("version = \"{version}\"");
    move |manifest| {
        let need = match more {
            true => "\n[[need]]\nkind = 'git-config'\nname = 'user.name'\nreason = 'more'\n",
            false => "",
        };
        let manifest = manifest.replace("version = \"0.1.0\"", &version);
        // A table of its own, before those that follow.
        manifest.replace("\n[settings.misbehaviour]", &format!("{need}\n[settings.misbehaviour]"))
    }
}

/// A user with a folder of a plugin that writes `allowed/file`.
pub(super) fn user(edit: impl Fn(String) -> String) -> (User, PathBuf) {
    let mut user = User::new();
    let package = user.package("hostile", ID, edit);
    user.set(ID, "misbehaviour", "write");
    (user, package)
}

pub(super) fn all() -> GrantHook {
    granting(&[])
}

pub(super) fn granting(needs: &[&str]) -> GrantHook {
    GrantHook {
        plugin: id(),
        needs: needs.iter().map(ToString::to_string).collect(),
        host_files: BTreeMap::new(),
        release: None,
    }
}

pub(super) fn revoking(needs: &[&str]) -> RevokeHook {
    RevokeHook { plugin: id(), needs: needs.iter().map(ToString::to_string).collect() }
}

pub(super) async fn listed(host: &HookHost) -> Hook {
    let hooks = host.list().await.expect("listed");
    hooks.into_iter().find(|hook| hook.plugin == id()).expect("it is there")
}

/// What a start would write.
pub(super) async fn written(user: &User, host: &HookHost) -> Vec<String> {
    lines(&host.prepare_work_disk(&user.inputs).await.expect("it runs").plan.steps)
}

/// The files below a folder, relative to it.
pub(super) fn files(folder: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut open = vec![folder.to_owned()];
    while let Some(next) = open.pop() {
        for entry in fs::read_dir(next).expect("a folder") {
            let path = entry.expect("read").path();
            match path.is_dir() {
                true => open.push(path),
                false => {
                    let path = path.strip_prefix(folder).expect("below");
                    found.insert(path.to_string_lossy().into_owned());
                }
            }
        }
    }
    found
}

pub(super) const FILE: &str = "write_file allowed/file 644 \"x\"";

#[tokio::test]
async fn a_plugin_runs_from_its_grant_until_that_is_taken_back() {
    let (user, package) = user(same);
    let host = user.host().await;
    let events = Events::default();
    host.tell_to(events.clone());

    let installed = host.install(&package).await.expect("installed");
    assert_eq!(installed.outcome, InstallOutcome::PendingGrant);
    assert!(installed.notes[0].contains(&format!("cove hook grant {ID}")), "{installed:?}");
    assert_eq!(listed(&host).await.state, HookState::PendingGrant);
    host.check().await.expect("it is in nobody's way");
    assert!(written(&user, &host).await.is_empty(), "and does not take part");

    let changed = host.grant(all()).await.expect("granted");
    assert_eq!(changed.plugin.hook.state, HookState::Active);
    let grant = changed.plugin.grant.expect("it has one");
    assert_eq!(grant.by, format!("user {}", nix::unistd::geteuid()));
    assert!(grant.needs.contains(&"work-disk:allowed/**".to_owned()), "{grant:?}");
    assert_eq!(written(&user, &host).await, [FILE]);
    // A daemon that starts anew knows it all.
    assert_eq!(written(&user, &user.host().await).await, [FILE]);

    let changed = host.revoke(revoking(&["work-disk:allowed/**"])).await.expect("revoked");
    assert_eq!(changed.plugin.hook.state, HookState::Active, "something is left");
    let error = host.prepare_work_disk(&user.inputs).await.expect_err("it may not write");
    assert!(error.to_string().contains("`allowed/file` is not granted"), "{error}");
    let hint = error.hint().expect("what to do");
    let command =
        format!("not granted; grant it with `cove hook grant {ID} 'work-disk:allowed/**'`");
    assert_eq!(hint, command);
    host.grant(granting(&["work-disk:allowed/**"])).await.expect("granted again");
    assert_eq!(written(&user, &host).await, [FILE]);

    let changed = host.revoke(revoking(&[])).await.expect("all is revoked");
    assert_eq!(changed.plugin.hook.state, HookState::PendingGrant);
    assert!(written(&user, &host).await.is_empty());
    let changed = host.revoke(revoking(&[])).await.expect("nothing is left to revoke");
    assert_eq!(changed.notes, [format!("`{ID}` had nothing of that: all is as it was")]);
    host.remove(&id()).await.expect("removed");
    assert!(host.list().await.expect("listed").is_empty());
    assert!(files(&user.settings.registry_folder).is_empty(), "nothing is left");
    let told = events.list(&EventQuery::default()).events;
    let kinds: Vec<_> = told.iter().map(|event| kind(&event.what)).collect();
    assert_eq!(kinds, ["installed", "granted", "revoked", "granted", "revoked", "removed"]);
}

pub(super) fn kind(what: &Happening) -> &'static str {
    match what {
        Happening::HookInstalled { .. } => "installed",
        Happening::HookGranted { .. } => "granted",
        Happening::HookRevoked { .. } => "revoked",
        Happening::HookRemoved { .. } => "removed",
        Happening::HookSwitchedOff { .. } => "off",
        Happening::HookSwitchedOn { .. } => "on",
        Happening::VmCreated { .. }
        | Happening::VmState { .. }
        | Happening::VmStalled { .. }
        | Happening::VmWentOn { .. }
        | Happening::HookFailed { .. }
        | Happening::VmDeleted { .. }
        | Happening::OperationBegan { .. }
        | Happening::OperationEnded { .. }
        | Happening::Lagged { .. } => "something else",
    }
}

#[tokio::test]
async fn a_replaced_file_voids_the_grant_until_it_is_granted_anew() {
    for optional_one in [false, true] {
        let (user, package) = user(if optional_one { optional } else { same });
        let host = user.host().await;
        let release = host.install(&package).await.expect("installed").plugin.release;
        let release = release.expect("it is installed");
        host.grant(all()).await.expect("granted");
        let place = user.settings.registry_folder.join(ID).join("releases").join(release.as_str());
        let manifest = place.join("plugin.toml");
        let text = fs::read_to_string(&manifest).expect("read");
        fs::write(&manifest, text.replace("0.1.0", "6.6.6")).expect("replaced");

        assert_eq!(listed(&host).await.state, HookState::Void);
        if optional_one {
            let run = host.prepare_work_disk(&user.inputs).await.expect("the VM starts without it");
            assert!(run.plan.steps.is_empty());
            assert!(run.hooks[0].for_user()[0].contains("is not the one that was granted"));
        } else {
            for error in [
                host.check().await.expect_err("void"),
                host.prepare_work_disk(&user.inputs).await.expect_err("void"),
            ] {
                assert_eq!(error.kind(), Kind::Refused);
                assert!(error.to_string().contains("is not the one that was granted"), "{error}");
                assert!(
                    error
                        .hint()
                        .is_some_and(|hint| hint.contains(&format!("cove hook grant {ID}")))
                );
            }
        }
        let changed = host.grant(all()).await.expect("granted anew");
        assert_eq!(
            (changed.plugin.hook.version.as_str(), changed.plugin.hook.state),
            ("6.6.6", HookState::Active)
        );
        assert_ne!(changed.plugin.release, Some(release), "it is another release");
        assert_eq!(written(&user, &host).await, [FILE]);
        assert!(!place.exists(), "the old one is gone");
    }
}

#[tokio::test]
async fn an_upgrade_that_asks_for_more_waits_while_the_old_version_runs() {
    let (user, package) = user(same);
    let host = user.host().await;
    host.install(&package).await.expect("installed");
    host.grant(all()).await.expect("granted");
    let upgrade = user.package("hostile", ID, version("0.2.0", true));
    let installed = host.install(&upgrade).await.expect("installed");
    assert_eq!(installed.outcome, InstallOutcome::PendingGrant);
    assert_eq!(installed.plugin.asks_anew, [MORE]);
    let hook = listed(&host).await;
    assert_eq!((hook.version.as_str(), hook.state), ("0.1.0", HookState::Active));
    assert_eq!(hook.pending.as_deref(), Some("0.2.0"));
    assert_eq!(written(&user, &host).await, [FILE], "the old one goes on");
    assert_eq!(host.install(&upgrade).await.expect("again").outcome, InstallOutcome::Unchanged);
    host.check().await.expect("nothing is in the way");
    assert_eq!(written(&user, &user.host().await).await, [FILE], "after a restart too");
    let registry = user.settings.registry_folder.join(ID).join("releases");
    assert_eq!(fs::read_dir(&registry).expect("there").count(), 2);

    // Somebody who has looked at another one grants nothing to this.
    let release = Some(Digest::of(b"another"));
    let seen = GrantHook { release, ..all() };
    assert_eq!(host.grant(seen).await.expect_err("another").kind(), Kind::Conflict);
    let changed = host.grant(granting(&[MORE])).await.expect("granted");
    assert_eq!(changed.plugin.hook.version, "0.2.0");
    let needs = changed.plugin.grant.expect("granted").needs;
    assert!(needs.contains(&MORE.to_owned()) && needs.contains(&"work-disk:allowed/**".to_owned()));
    assert_eq!(written(&user, &host).await, [FILE]);
    assert_eq!(fs::read_dir(&registry).expect("there").count(), 1, "the old files are gone");

    // Without signatures nobody knows whose a downgrade is.
    let downgrade = user.package("hostile", ID, same);
    let installed = host.install(&downgrade).await.expect("installed");
    assert_eq!(
        (installed.outcome, installed.version.as_str()),
        (InstallOutcome::PendingGrant, "0.1.0")
    );
}

/// Signs the plugin in a folder.
pub(super) fn sign(author: &Author, package: &Path) {
    let read = |name: &str| fs::read(package.join(name)).expect("read");
    let signature = author.sign_both(&read("plugin.wasm"), &read("plugin.toml"));
    fs::write(package.join("plugin.wasm.minisig"), signature).expect("written");
}

#[tokio::test]
async fn a_signed_upgrade_that_asks_for_nothing_new_is_active_at_once() {
    let (mut user, package) = user(version("1", true));
    let (author, other) = (Author::new(), Author::new());
    user.settings.signatures.signers = vec![author.named("author"), other.named("other")];
    sign(&author, &package);
    let host = user.host().await;
    let installed = host.install(&package).await.expect("installed");
    assert_eq!(installed.plugin.signer, Some(author.named("author")));
    host.grant(all()).await.expect("granted");

    for (number, more, by, outcome) in [
        ("2", false, &author, InstallOutcome::Active),
        ("3", true, &author, InstallOutcome::PendingGrant),
        ("4", false, &other, InstallOutcome::PendingGrant),
        ("1.9", false, &author, InstallOutcome::Active),
    ] {
        let package = user.package("hostile", ID, version(number, more));
        let component = package.join("plugin.wasm");
        // Another component: it has a section that means nothing, of one byte's name.
        let section = [0, 2, 1, number.as_bytes()[0]];
        let bytes = [fs::read(&component).expect("read"), section.to_vec()].concat();
        fs::write(component, bytes).expect("written");
        sign(by, &package);
        let installed = host.install(&package).await.expect("installed");
        assert_eq!(installed.outcome, outcome, "{number}");
        let expected = if outcome == InstallOutcome::Active { number } else { "2" };
        assert_eq!(listed(&host).await.version, expected);
        assert_eq!(written(&user, &host).await, [FILE]);
    }
    let plugin = InspectHook { plugin: Some(id()), path: None };
    let grant = host.inspect(plugin).await.expect("there").grant.expect("granted");
    assert_eq!(grant.by, "carried over from 2");
    assert!(!grant.needs.contains(&MORE.to_owned()), "2 did not ask for it");
}

#[tokio::test]
async fn what_is_asked_for_wrongly_is_said() {
    let (user, package) = user(same);
    let host = user.host().await;
    for error in [
        host.grant(all()).await.expect_err("not there"),
        host.revoke(revoking(&[])).await.expect_err("not there"),
        host.remove(&id()).await.expect_err("not there"),
    ] {
        assert_eq!(error.kind(), Kind::NotFound, "{error}");
    }
    host.install(&package).await.expect("installed");
    let error = host.grant(granting(&["work-disk:**"])).await.expect_err("not asked for");
    assert_eq!(error.kind(), Kind::Invalid);
    assert!(error.hint().is_some_and(|hint| hint.contains("work-disk:allowed/**")), "{error}");
    let many = |count: usize| (0..count).map(|number| format!("/{number}")).collect();
    for (name, paths, expected) in [
        ("other", vec!["/x".to_owned()], "asks for no files of that name"),
        ("other", Vec::new(), "asks for no files of that name"),
        ("readable", vec!["x".to_owned()], "must be absolute"),
        ("readable", vec!["/".repeat(limits::PATH_BYTES + 1)], "longer than paths can be"),
        ("readable", many(65), "and no more"),
    ] {
        let host_files = BTreeMap::from([(name.to_owned(), paths)]);
        let error = host.grant(GrantHook { host_files, ..all() }).await.expect_err(expected);
        assert!(error.to_string().contains(expected), "{error}");
        assert!(error.to_string().len() < 1000, "{error}");
    }
    let mapped = |name: &str, count: usize| {
        let host_files = BTreeMap::from([(name.to_owned(), many(count))]);
        host.grant(GrantHook { host_files, ..all() })
    };
    mapped("readable", 40).await.expect("granted");
    let error = mapped("importable", 25).await.expect_err("too many with those before");
    assert!(error.to_string().contains("and no more"), "{error}");
    mapped("readable", 64).await.expect("in place of those before");
    mapped("readable", 0).await.expect("none");
    mapped("importable", 64).await.expect("they are gone");
    let neither = host.inspect(InspectHook::default()).await.expect_err("neither");
    assert_eq!(neither.kind(), Kind::Invalid);
}

#[tokio::test]
async fn files_are_mapped_by_the_grant() {
    let (mut user, package) = user(same);
    fs::write(user.home.join("notes"), "from home").expect("written");
    user.set(ID, "misbehaviour", "import");
    let host = user.host().await;
    host.install(&package).await.expect("installed");
    let changed = host.grant(all()).await.expect("granted");
    assert!(
        changed.notes.iter().any(|note| note.contains("--map readable=PATH")),
        "{:?}",
        changed.notes
    );
    let host_files = BTreeMap::from([("importable".to_owned(), vec!["~/notes".to_owned()])]);
    let changed = host.grant(GrantHook { host_files, ..all() }).await.expect("granted");
    assert_eq!(changed.plugin.grant.expect("granted").host_files["importable"], ["~/notes"]);
    assert!(!changed.notes.iter().any(|note| note.contains("importable")), "{:?}", changed.notes);
}

#[tokio::test]
async fn nothing_is_remembered_of_a_plugin_that_is_gone() {
    let (user, package) = user(same);
    let host = user.host().await;
    let file = user.settings.state_folder.join(format!("{ID}.json"));
    let (before, after) = (BTreeMap::new(), BTreeMap::from([("key".to_owned(), vec![1])]));
    let ended = async || host.keep_memory(&id(), &before, &after).await.expect("no failure");
    ended().await;
    assert!(!file.exists(), "it was removed while it ran");

    host.install(&package).await.expect("installed");
    ended().await;
    assert!(file.exists());
    host.install(&package).await.expect("again");
    assert!(file.exists(), "another version knows what the one before knew");
    host.remove(&id()).await.expect("removed");
    assert!(!file.exists());

    // A run may have ended just between the two steps of a removal.
    fs::write(&file, "{\"key\": \"ff\"}").expect("written");
    host.install(&package).await.expect("installed anew");
    assert!(!file.exists(), "it begins with nothing");
}

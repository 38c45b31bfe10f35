//! Installing, granting, upgrading and removing, through the host's own interface, with real components.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use super::signature::tests::Author;
use super::tests_support::{User, lines};
use super::*;
use crate::id::{Digest, PluginId};
use crate::report::{Explain, Kind, Report};
use crate::vm::events::Events;
use crate::wire::rpc::{
    EventQuery, GrantHook, Happening, Hook, HookPoint, HookState, InspectHook, InstallOutcome,
    RevokeHook,
};

/// An id with dots.
const ID: &str = "io.example.guest";
const POINT: &str = "[hooks.prepare-work-disk]";

fn id() -> PluginId {
    ID.parse().expect("an id")
}

fn same(manifest: String) -> String {
    manifest
}

fn optional(manifest: String) -> String {
    manifest.replace(POINT, "[hooks.prepare-work-disk]\nfailure = 'optional'")
}

/// Another version, that asks for this besides.
fn version(version: &str, asks: &str) -> impl Fn(String) -> String {
    let (version, asks) = (format!("version = \"{version}\""), asks.to_owned());
    move |manifest| {
        let need = match asks.as_str() {
            "" => String::new(),
            kind => format!("\n[[need]]\nkind = '{kind}'\nreason = 'more'\n"),
        };
        let manifest = manifest.replace("version = \"0.1.0\"", &version);
        // A table of its own, before those that follow.
        manifest.replace("\n[settings.misbehaviour]", &format!("{need}\n[settings.misbehaviour]"))
    }
}

/// A user with a folder of a plugin that writes `allowed/file`.
fn user(edit: impl Fn(String) -> String) -> (User, PathBuf) {
    let mut user = User::new();
    let package = user.package("hostile", ID, edit);
    user.set(ID, "misbehaviour", "write");
    (user, package)
}

fn all() -> GrantHook {
    granting(&[])
}

fn granting(needs: &[&str]) -> GrantHook {
    GrantHook {
        plugin: id(),
        needs: needs.iter().map(ToString::to_string).collect(),
        host_files: BTreeMap::new(),
        release: None,
    }
}

fn revoking(needs: &[&str]) -> RevokeHook {
    RevokeHook { plugin: id(), needs: needs.iter().map(ToString::to_string).collect() }
}

async fn listed(host: &HookHost) -> Hook {
    let hooks = host.list().await.expect("listed");
    hooks.into_iter().find(|hook| hook.plugin == id()).expect("it is there")
}

/// What a start would write.
async fn written(user: &User, host: &HookHost) -> Vec<String> {
    lines(&host.prepare_work_disk(&user.inputs).await.expect("it runs").plan.steps)
}

/// The files below a folder, relative to it.
fn files(folder: &Path) -> BTreeSet<String> {
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

const FILE: &str = "write_file allowed/file 644 \"x\"";

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
    host.remove(&id()).await.expect("removed");
    assert!(host.list().await.expect("listed").is_empty());
    assert!(files(&user.settings.registry_folder).is_empty(), "nothing is left");
    let told = events.list(&EventQuery::default()).events;
    let kinds: Vec<_> = told.iter().map(|event| kind(&event.what)).collect();
    assert_eq!(kinds, ["installed", "granted", "revoked", "granted", "revoked", "removed"]);
}

fn kind(what: &Happening) -> &'static str {
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
    let upgrade = user.package("hostile", ID, version("0.2.0", "state"));
    let installed = host.install(&upgrade).await.expect("installed");
    assert_eq!(installed.outcome, InstallOutcome::PendingGrant);
    assert_eq!(installed.plugin.asks_anew, ["state"]);
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
    let changed = host.grant(granting(&["state"])).await.expect("granted");
    assert_eq!(changed.plugin.hook.version, "0.2.0");
    let needs = changed.plugin.grant.expect("granted").needs;
    assert!(
        needs.contains(&"state".to_owned()) && needs.contains(&"work-disk:allowed/**".to_owned())
    );
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
fn sign(author: &Author, package: &Path) {
    let read = |name: &str| fs::read(package.join(name)).expect("read");
    let signature = author.sign_both(&read("plugin.wasm"), &read("plugin.toml"));
    fs::write(package.join("plugin.wasm.minisig"), signature).expect("written");
}

#[tokio::test]
async fn a_signed_upgrade_that_asks_for_nothing_new_is_active_at_once() {
    let (mut user, package) = user(version("1", "state"));
    let (author, other) = (Author::new(), Author::new());
    user.settings.signatures.signers = vec![author.named("author"), other.named("other")];
    sign(&author, &package);
    let host = user.host().await;
    let installed = host.install(&package).await.expect("installed");
    assert_eq!(installed.plugin.signer, Some(author.named("author")));
    host.grant(all()).await.expect("granted");

    for (number, more, by, outcome) in [
        ("2", "", &author, InstallOutcome::Active),
        ("3", "state", &author, InstallOutcome::PendingGrant),
        ("4", "", &other, InstallOutcome::PendingGrant),
        ("1.9", "", &author, InstallOutcome::Active),
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
    assert!(!grant.needs.contains(&"state".to_owned()), "2 did not ask for it");
}

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

#[tokio::test]
async fn the_ceiling_holds_whatever_is_granted_and_for_plugins_of_cove_too() {
    let (mut user, package) = user(same);
    user.settings.ceiling = Ceiling::new(&["work-disk:other/**".to_owned()]).expect("good");
    let host = user.host().await;
    host.install(&package).await.expect("installed");
    let changed = host.grant(all()).await.expect("granted");
    assert!(
        changed.notes.iter().any(|note| note.contains("`hooks.ceiling` cuts")),
        "{:?}",
        changed.notes
    );
    let error = host.prepare_work_disk(&user.inputs).await.expect_err("above the ceiling");
    assert!(error.to_string().contains("`allowed/file` is not granted"), "{error}");
    let hint = error.hint().expect("why");
    assert_eq!(
        hint,
        "`hooks.ceiling` in the configuration keeps all plugins from `work-disk:allowed/**`"
    );

    let mut user = User::with_standard_plugins();
    user.settings.ceiling = Ceiling::new(&["work-disk".to_owned()]).expect("good");
    let git = user.host().await.prepare_work_disk(&user.inputs).await.expect_err("no git-config");
    assert!(git.hint().is_some_and(|hint| hint.contains("hooks.ceiling")), "{git}");
}

#[tokio::test]
async fn what_came_with_cove_can_be_revoked_and_granted_again() {
    let mut user = User::with_standard_plugins();
    fs::create_dir(user.home.join(".ssh")).expect("made");
    fs::write(user.home.join(".ssh/id.pub"), "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAA me\n")
        .expect("written");
    user.map("ssh-public-keys", &["~/.ssh/*.pub"]);
    user.map("file-sync", &[]);
    user.map("ssh-agent-keys", &[]);
    let host = user.host().await;
    let plugin: PluginId = "ssh-key".parse().expect("an id");
    let word = "host-files.read:ssh-public-keys".to_owned();
    let revoke = RevokeHook { plugin: plugin.clone(), needs: vec![word.clone()] };
    let grant = |needs: Vec<String>| GrantHook { plugin: plugin.clone(), needs, ..all() };

    host.prepare_work_disk(&user.inputs).await.expect("it has what it documents");
    let changed = host.revoke(revoke).await.expect("revoked");
    assert_eq!(changed.plugin.hook.state, HookState::Active);
    let error = host.prepare_work_disk(&user.inputs).await.expect_err("it cannot read");
    let expected =
        "not granted; grant it with `cove hook grant ssh-key host-files.read:ssh-public-keys`";
    assert_eq!(error.hint().as_deref(), Some(expected), "{error}");
    let again = user.host().await;
    assert!(again.prepare_work_disk(&user.inputs).await.is_err(), "after a restart too");
    host.grant(grant(vec![word])).await.expect("granted again");
    host.prepare_work_disk(&user.inputs).await.expect("as before");

    let all = RevokeHook { plugin: plugin.clone(), needs: Vec::new() };
    let changed = host.revoke(all).await.expect("revoked");
    assert_eq!(changed.plugin.hook.state, HookState::PendingGrant);
    let run = host.prepare_work_disk(&user.inputs).await.expect("without it");
    assert!(run.hooks.iter().all(|hook| hook.plugin != plugin), "it does not take part");
    host.grant(grant(Vec::new())).await.expect("all of it");
    let run = host.prepare_work_disk(&user.inputs).await.expect("with it");
    assert!(run.hooks.iter().any(|hook| hook.plugin == plugin));
    assert_eq!(host.remove(&plugin).await.expect_err("it stays").kind(), Kind::Refused);
    let package = user.package("hostile", "ssh-key", same);
    let error = host.install(&package).await.expect_err("its id is taken");
    assert_eq!((error.kind(), error.to_string().contains("came with cove")), (Kind::Refused, true));
}

#[tokio::test]
async fn an_optional_plugin_that_fails_three_times_in_a_row_is_switched_off() {
    let (mut user, package) = user(optional);
    user.set(ID, "misbehaviour", "panic");
    let host = user.host().await;
    let events = Events::default();
    host.tell_to(events.clone());
    host.install(&package).await.expect("installed");
    host.grant(all()).await.expect("granted");
    user.inputs.purpose = Purpose::Look;
    for _ in 0..4 {
        host.prepare_work_disk(&user.inputs).await.expect("optional");
    }
    user.inputs.purpose = Purpose::Act;
    for _ in 0..2 {
        host.prepare_work_disk(&user.inputs).await.expect("optional");
    }
    assert_eq!(listed(&host).await.state, HookState::Active, "looks do not count");
    // The count is on the disk.
    let host = user.host().await;
    host.tell_to(events.clone());
    let run = host.prepare_work_disk(&user.inputs).await.expect("the third time");
    assert!(run.hooks[0].failure.is_some());
    let hook = listed(&host).await;
    assert_eq!(hook.state, HookState::Off);
    assert!(
        hook.problem
            .is_some_and(|problem| problem.contains("again and again in hook `prepare-work-disk`"))
    );
    assert!(host.prepare_work_disk(&user.inputs).await.expect("without it").hooks.is_empty());

    let changed = host.grant(all()).await.expect("switched on");
    assert!(changed.notes[0].contains("is on again"), "{:?}", changed.notes);
    assert_eq!(changed.plugin.hook.state, HookState::Active);
    assert!(changed.plugin.failures.is_empty());
    let told = events.list(&EventQuery::default()).events;
    let kinds: Vec<_> = told.iter().map(|event| kind(&event.what)).collect();
    assert_eq!(kinds, ["installed", "granted", "off", "on", "granted"]);
    let off = told.iter().find_map(|event| match &event.what {
        Happening::HookSwitchedOff { point, .. } => Some(*point),
        _ => None,
    });
    assert_eq!(off, Some(HookPoint::PrepareWorkDisk));
}

#[tokio::test]
async fn a_required_plugin_is_never_switched_off() {
    let (mut user, package) = user(same);
    user.set(ID, "misbehaviour", "panic");
    let host = user.host().await;
    host.install(&package).await.expect("installed");
    host.grant(all()).await.expect("granted");
    for _ in 0..5 {
        host.prepare_work_disk(&user.inputs).await.expect_err("required");
    }
    assert_eq!(listed(&host).await.state, HookState::Active);
}

#[tokio::test]
async fn the_configuration_can_grant_and_then_decides_alone() {
    let (mut user, package) = user(same);
    let component = Digest::of(&fs::read(package.join("plugin.wasm")).expect("read"));
    let needs = BTreeSet::from(["work-disk:allowed/**".to_owned()]);
    let grant = Grant { plugin: id(), component, needs, host_files: BTreeMap::new() };
    user.settings.grants = vec![grant.clone()];
    let host = user.host().await;
    let installed = host.install(&package).await.expect("installed");
    assert_eq!(installed.outcome, InstallOutcome::Active);
    assert_eq!(written(&user, &host).await, [FILE]);
    assert_eq!(host.grant(all()).await.expect_err("not by command").kind(), Kind::Conflict);
    assert_eq!(host.revoke(revoking(&[])).await.expect_err("nor this").kind(), Kind::Conflict);
    drop(host);

    user.settings.grants[0].component = Digest::of(b"another component");
    let error = user.run().await.expect_err("granted to another");
    assert_eq!(error.kind(), Kind::Refused);
    assert!(error.to_string().contains("is not the one that the configuration grants"), "{error}");
    let hint = error.hint().expect("what to do");
    for part in
        ["[hooks.grants.\"io.example.guest\"]", "component = \"", "\"work-disk:allowed/**\""]
    {
        assert!(hint.contains(part), "{hint}");
    }
    user.settings.grants.clear();
    let host = user.host().await;
    assert_eq!(listed(&host).await.state, HookState::PendingGrant, "nobody grants it any more");
    user.settings.grants = vec![grant];
    user.settings.disabled.insert(id());
    let host = user.host().await;
    assert_eq!(listed(&host).await.state, HookState::Disabled);
    assert!(written(&user, &host).await.is_empty());
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
        assert!(error.hint().is_some() && !text.contains('\n'));
        assert!(files(&user.settings.registry_folder).is_empty(), "{fault:?}");
        fs::remove_file(&path).ok();
        fs::write(&path, good).expect("written");
    }
    host.install(&package).await.expect("all is well again");
}

#[tokio::test]
async fn a_plugin_is_its_folder_or_its_manifest_and_can_be_looked_at_before() {
    let (user, package) = user(same);
    let host = user.host().await;
    for (path, expected) in [
        (package.join("plugin.wasm"), "is neither a plugin's folder nor its `plugin.toml`"),
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
    host.install(&package.join("plugin.toml")).await.expect("the manifest's path will do");
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
async fn two_installations_at_once_both_come_to_an_end() {
    let (user, package) = user(same);
    let other = user.package("hostile", "io.example.other", same);
    let newer = user.folder.path().join("newer");
    fs::create_dir(&newer).expect("made");
    fs::copy(package.join("plugin.wasm"), newer.join("plugin.wasm")).expect("copied");
    let manifest = fs::read_to_string(package.join("plugin.toml")).expect("read");
    fs::write(newer.join("plugin.toml"), version("2", "state")(manifest)).expect("written");
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
    for (name, path, expected) in
        [("other", "/x", "asks for no files of that name"), ("readable", "x", "must be absolute")]
    {
        let host_files = BTreeMap::from([(name.to_owned(), vec![path.to_owned()])]);
        let error = host.grant(GrantHook { host_files, ..all() }).await.expect_err(expected);
        assert!(error.to_string().contains(expected), "{error}");
    }
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

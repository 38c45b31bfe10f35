//! What the operator and the daemon decide: ceiling, revocation, switching off, the configuration.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use super::signature::tests::Author;
use super::tests_registry::*;
use super::tests_support::User;
use super::*;
use crate::id::{Digest, PluginId};
use crate::report::{Explain, Kind};
use crate::vm::events::Events;
use crate::wire::rpc::{
    EventQuery, GrantHook, Happening, Hook, HookPoint, HookState, InstallOutcome, RevokeHook,
};

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
async fn a_damaged_record_of_cove_s_own_can_be_removed_and_the_plugin_stays() {
    let mut user = User::new();
    user.install(&user.settings.standard_folder, "hostile", ID, same);
    user.set(ID, "misbehaviour", "write");
    let host = user.host().await;
    host.revoke(revoking(&[])).await.expect("revoked");
    drop(host);
    fs::write(user.settings.registry_folder.join(ID).join("record.json"), "{").expect("written");
    fs::create_dir_all(&user.settings.state_folder).expect("made");
    let remembered = user.settings.state_folder.join(format!("{ID}.json"));
    fs::write(&remembered, "{}").expect("written");

    let host = user.host().await;
    let events = Events::default();
    host.tell_to(events.clone());
    let error = host.check().await.expect_err("nobody knows what was revoked");
    let hint = error.hint().expect("what to do");
    assert!(hint.contains("cove hook remove") && hint.contains("granted again"), "{hint}");
    host.remove(&id()).await.expect("the record is removed");
    assert_eq!(written(&user, &host).await, [FILE], "the plugin is there, with all it asks for");
    assert!(remembered.exists(), "and knows what it knew");
    let told = events.list(&EventQuery::default()).events;
    let kinds: Vec<_> = told.iter().map(|event| kind(&event.what)).collect();
    assert_eq!(kinds, ["granted"]);
    assert_eq!(host.remove(&id()).await.expect_err("it stays").kind(), Kind::Refused);
    assert_eq!(written(&user, &user.host().await).await, [FILE], "after a restart too");
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
    let hook = listed(&host).await;
    assert_eq!(hook.state, HookState::Active, "looks do not count");
    let twice = BTreeMap::from([(HookPoint::PrepareWorkDisk, 2)]);
    assert_eq!(host.failures(&hook), twice);
    let other = Hook { digest: Digest::of(b"another"), ..hook };
    assert!(host.failures(&other).is_empty(), "they are another component's");
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

#[tokio::test]
async fn what_the_configuration_grants_is_only_switched_on_by_command() {
    let (mut user, package) = user(optional);
    let component = Digest::of(&fs::read(package.join("plugin.wasm")).expect("read"));
    let needs = BTreeSet::from(["work-disk:allowed/**".to_owned()]);
    user.settings.grants =
        vec![Grant { plugin: id(), component, needs, host_files: BTreeMap::new() }];
    user.set(ID, "misbehaviour", "panic");
    let host = user.host().await;
    host.install(&package).await.expect("installed");
    for _ in 0..3 {
        host.prepare_work_disk(&user.inputs).await.expect("optional");
    }
    assert_eq!(listed(&host).await.state, HookState::Off);
    let host_files = BTreeMap::from([("readable".to_owned(), vec!["~/notes".to_owned()])]);
    for more in [granting(&["work-disk:allowed/**"]), GrantHook { host_files, ..all() }] {
        let error = host.grant(more).await.expect_err("it would be dropped");
        assert_eq!(error.kind(), Kind::Conflict, "{error}");
        assert_eq!(listed(&host).await.state, HookState::Off);
    }
    let changed = host.grant(all()).await.expect("switched on");
    assert_eq!(changed.plugin.hook.state, HookState::Active);
}

#[tokio::test]
async fn what_the_configuration_says_of_cove_s_own_plugins_stands_in_no_command_s_way() {
    let mut user = User::with_standard_plugins();
    let plugin: PluginId = "ssh-key".parse().expect("an id");
    user.settings.grants = vec![Grant {
        plugin: plugin.clone(),
        component: Digest::of(b"any"),
        needs: BTreeSet::new(),
        host_files: BTreeMap::new(),
    }];
    let host = user.host().await;
    let revoke = RevokeHook { plugin: plugin.clone(), needs: Vec::new() };
    let changed = host.revoke(revoke).await.expect("revoked");
    assert_eq!(changed.plugin.hook.state, HookState::PendingGrant);
    let changed = host.grant(GrantHook { plugin, ..all() }).await.expect("granted again");
    assert_eq!(changed.plugin.hook.state, HookState::Active);
}

const OTHER: &str = "io.example.other";

/// Runs after another plugin.
fn after(other: &'static str) -> impl Fn(String) -> String {
    let rules = format!("[hooks.prepare-work-disk]\nafter = ['{other}']");
    move |manifest| manifest.replace("[hooks.prepare-work-disk]", &rules)
}

#[tokio::test]
async fn a_plugin_that_would_run_in_a_circle_is_not_let_in() {
    let (user, package) = user(after(OTHER));
    let other: PluginId = OTHER.parse().expect("an id");
    let other_package = user.package("hostile", OTHER, after(ID));
    let host = user.host().await;
    host.install(&package).await.expect("installed");
    host.grant(all()).await.expect("alone it can be anywhere");
    let installed = host.install(&other_package).await.expect("it waits");
    assert!(installed.notes.iter().any(|note| note.contains(ID)), "{:?}", installed.notes);
    let grant = || GrantHook { plugin: other.clone(), ..all() };

    let error = host.grant(grant()).await.expect_err("a circle");
    assert_eq!(error.kind(), Kind::Conflict);
    let text = error.to_string();
    assert!(text.contains(&format!("`{ID}` and `{OTHER}` each want to run before")), "{text}");
    let hint = error.hint().expect("what to do");
    assert!(hint.contains(&format!("cove hook revoke {ID}")), "{hint}");
    host.check().await.expect("nothing is in the way of starts");
    assert_eq!(written(&user, &host).await, [FILE]);

    host.revoke(revoking(&[])).await.expect("revoked");
    host.grant(grant()).await.expect("it is alone now");
    let error = host.grant(all()).await.expect_err("and the first one is not let in");
    assert_eq!(error.kind(), Kind::Conflict, "{error}");
    host.check().await.expect("nothing is in the way of starts");
}

#[tokio::test]
async fn a_version_that_would_run_in_a_circle_waits_although_its_grant_would_hold() {
    let (mut user, package) = user(same);
    let author = Author::new();
    user.settings.signatures.signers = vec![author.named("author")];
    sign(&author, &package);
    let other = user.package("hostile", OTHER, after(ID));
    let host = user.host().await;
    host.install(&package).await.expect("installed");
    host.grant(all()).await.expect("granted");
    host.install(&other).await.expect("installed");
    let plugin = OTHER.parse().expect("an id");
    host.grant(GrantHook { plugin, ..all() }).await.expect("granted");

    let newer = |manifest| after(OTHER)(version("2", false)(manifest));
    let package = user.package("hostile", ID, newer);
    sign(&author, &package);
    let installed = host.install(&package).await.expect("installed");
    assert_eq!(installed.outcome, InstallOutcome::PendingGrant);
    let said = |note: &String| note.contains("each want to run before the other");
    assert!(installed.notes.iter().any(said), "{:?}", installed.notes);
    host.check().await.expect("nothing is in the way of starts");
    assert_eq!(listed(&host).await.version, "0.1.0", "the old one goes on");
    drop(host);

    // What the configuration grants would take part at once.
    let component = Digest::of(&fs::read(package.join("plugin.wasm")).expect("read"));
    let (needs, host_files) = (BTreeSet::new(), BTreeMap::new());
    let host = user.host().await;
    host.remove(&id()).await.expect("removed");
    drop(host);
    user.settings.grants = vec![Grant { plugin: id(), component, needs, host_files }];
    let host = user.host().await;
    let error = host.install(&package).await.expect_err("a circle");
    assert_eq!(error.kind(), Kind::Conflict, "{error}");
    assert!(error.hint().is_some_and(|hint| hint.contains(OTHER)));
    host.check().await.expect("nothing is in the way of starts");
}

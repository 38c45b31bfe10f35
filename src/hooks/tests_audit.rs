//! What is written down of runs, through the host's own interface, with real components.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use super::tests_support::User;
use super::*;
use crate::id::{Digest, PluginId};
use crate::report::Explain as _;
use crate::wire::rpc::{
    HookEntry, HookPoint, HookRecord, HookRunEntry, HookRunQuery, ImportedDigest,
};

/// What must never be written down.
const MARKER: &str = "m4rker-of-a-secret";

fn synced(user: &mut User, files: &[(&str, &str)]) {
    let paths = files.iter().map(|(name, text)| {
        fs::write(user.home.join(name), text).expect("written");
        HostPath { path: format!("~/{name}"), guest: Some((*name).to_owned()), mode: None }
    });
    let source = HostFilesSource::Paths(paths.collect());
    user.inputs.host_files.insert("file-sync".to_owned(), source);
}

/// What a plugin does at a hook point.
fn steps(user: &mut User, point: HookPoint, steps: &[&str]) {
    let id: PluginId = "every-hook".parse().expect("an id");
    let steps: Vec<_> = steps.iter().map(|step| toml::Value::from(*step)).collect();
    user.inputs.settings.entry(id).or_default().insert(point.to_string(), steps.into());
}

pub(super) async fn records(host: &HookHost) -> Vec<HookRecord> {
    host.runs(HookRunQuery { limit: Some(1000), ..HookRunQuery::default() })
        .await
        .expect("read")
        .records
}

/// The runs among records, with their numbers.
fn runs(records: &[HookRecord]) -> Vec<(u64, &HookRunEntry)> {
    let found = records.iter().filter_map(|record| match &record.entry {
        HookEntry::Run(run) => Some((record.number, run.as_ref())),
        HookEntry::Imported { .. }
        | HookEntry::Dropped { .. }
        | HookEntry::Cut { .. }
        | HookEntry::Anew => None,
    });
    found.collect()
}

/// Waits for the digests of the files that a run has imported.
async fn imported(host: &HookHost, run: u64) -> Vec<ImportedDigest> {
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        let found = records(host).await.into_iter().find_map(|record| match record.entry {
            HookEntry::Imported { run: of, files, .. } if of == run => Some(files),
            _ => None,
        });
        match found {
            Some(files) => return files,
            None => assert!(Instant::now() < end, "the digests do not come"),
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_record_says_who_did_what_with_which_rights() {
    let mut user = User::with_standard_plugins();
    synced(&mut user, &[("note", "hello"), ("empty", "")]);
    fs::create_dir(user.home.join(".ssh")).expect("made");
    let key =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl me\n";
    fs::write(user.home.join(".ssh/id.pub"), key).expect("written");
    user.map("ssh-public-keys", &["~/.ssh/*.pub"]);
    let host = user.host().await;
    let run = host.prepare_work_disk(&user.inputs).await.expect("they run");
    let all = records(&host).await;
    let written = runs(&all);
    assert_eq!(written.len(), 3);
    for ((_, record), outcome) in written.iter().zip(&run.hooks) {
        assert_eq!(record.plugin, outcome.plugin);
        assert_eq!((&record.version, &record.component), (&outcome.version, &outcome.component));
        assert_eq!((record.point, record.outcome.as_str()), (HookPoint::PrepareWorkDisk, "ok"));
        assert_eq!((record.grant.as_str(), record.purpose.as_str()), ("standard", "act"));
        assert_eq!(record.plan, outcome.plan);
        assert_eq!(record.vm.as_ref(), user.inputs.machine.as_ref().map(|machine| &machine.id));
        assert_eq!(record.used.host_calls, outcome.used.host_calls);
        assert!(record.used.memory > 0 && record.used.wall_us > 0, "{record:?}");
        assert_eq!(record.writes.len(), outcome.steps.len());
    }
    let sync = written.iter().find(|(_, run)| run.plugin.as_str() == "file-sync").expect("it ran");
    let names: Vec<_> =
        sync.1.imports.iter().map(|import| (&*import.file, &*import.path)).collect();
    assert_eq!(names, [("~/note", "note"), ("~/empty", "empty")]);
    assert_eq!((sync.1.used.imported_bytes, sync.1.reads.len()), (5, 0));
    let digests = imported(&host, sync.0).await;
    let expected = [("note", &b"hello"[..]), ("empty", b"")].map(|(path, bytes)| ImportedDigest {
        path: path.to_owned(),
        bytes: bytes.len() as u64,
        sha256: Some(Digest::of(bytes)),
    });
    assert_eq!(digests, expected);
    let keys = written.iter().find(|(_, run)| run.plugin.as_str() == "ssh-key").expect("it ran");
    assert_eq!(keys.1.reads[0].sha256, Digest::of(key.as_bytes()));
    let block = keys.1.writes.iter().find(|write| write.path.contains("authorized_keys"));
    assert_eq!(block.expect("planned").sha256, Some(Digest::of(key.as_bytes())));
    assert_eq!(host.verify_runs().await.expect("read").broken, None);
}

#[tokio::test]
async fn every_end_has_its_class() {
    for (misbehaviour, class) in [
        ("write", "ok"),
        ("error", "returned"),
        ("panic", "panicked"),
        ("loop", "cpu"),
        ("allocate", "memory"),
        ("call-flood", "limit"),
        ("exit", "exited"),
        ("recurse", "trapped"),
        ("other-files", "returned"),
    ] {
        let user = User::with_hostile_plugin(misbehaviour);
        let host = user.host().await;
        drop(host.prepare_work_disk(&user.inputs).await);
        let all = records(&host).await;
        let [(_, record)] = runs(&all)[..] else {
            panic!("{misbehaviour}: {all:?}");
        };
        assert_eq!(record.outcome, class, "{misbehaviour}");
        if misbehaviour == "error" {
            assert_eq!(record.code.as_deref(), Some("out-of-cheese"));
        }
        if misbehaviour == "other-files" {
            assert_eq!(record.denials, ["`host-files:ssh-private-keys` is not granted"]);
        }
    }
}

#[tokio::test]
async fn what_was_not_let_run_and_what_was_dropped_are_there_too() {
    let user = User::with_hostile_plugin("write");
    let folder = user.settings.standard_folder.join("hostile");
    fs::write(folder.join("plugin.wasm"), "no component").expect("written");
    let host = user.host().await;
    host.prepare_work_disk(&user.inputs).await.expect_err("broken");
    let all = records(&host).await;
    assert_eq!(runs(&all)[0].1.outcome, "refused");

    let mut user = User::new();
    for id in ["one", "two"] {
        user.install(&user.settings.standard_folder, "hostile", id, |manifest| manifest);
        user.set(id, "misbehaviour", "write");
    }
    let host = user.host().await;
    let error = host.prepare_work_disk(&user.inputs).await.expect_err("a conflict");
    assert!(error.to_string().contains("both want to"), "{error}");
    let all = records(&host).await;
    assert_eq!(runs(&all).len(), 2);
    assert_eq!(all[2].entry, HookEntry::Dropped { runs: vec![1, 2] });
    user.set("two", "misbehaviour", "panic");
    let host = user.host().await;
    host.prepare_work_disk(&user.inputs).await.expect_err("one fails");
    let last = records(&host).await.pop().expect("written");
    assert_eq!(last.entry, HookEntry::Dropped { runs: vec![4] }, "the chain goes on");
}

/// The paths below a folder whose files have the marker, as it is or in hexadecimal.
fn leaks(folder: &Path, but: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("there") {
        let path = entry.expect("readable").path();
        let name = path.file_name().expect("named").to_string_lossy().into_owned();
        if but.contains(&name.as_str()) {
            continue;
        }
        if path.is_dir() {
            found.extend(leaks(&path, but));
            continue;
        }
        let bytes = fs::read(&path).expect("readable");
        let has = |text: &[u8]| bytes.windows(text.len()).any(|window| window == text);
        if has(MARKER.as_bytes()) || has(crate::id::hex(MARKER.as_bytes()).as_bytes()) {
            found.push(path.display().to_string());
        }
    }
    found
}

/// A guest that says the secret.
struct Talking;

impl GuestPrograms for Talking {
    fn run(
        &self,
        _: GuestProgram,
    ) -> futures_util::future::BoxFuture<'_, Result<GuestOutput, String>> {
        let output = GuestOutput { stdout: MARKER.into(), ..GuestOutput::default() };
        Box::pin(std::future::ready(Ok(output)))
    }
}

#[tokio::test]
async fn no_secret_is_written_down() {
    let mut user = User::with_standard_plugins();
    for id in ["every-hook", "env-file"] {
        user.install(&user.settings.standard_folder, id, id, |manifest| manifest);
    }
    synced(&mut user, &[("secret", MARKER)]);
    fs::write(user.home.join(".env"), format!("TOKEN={MARKER}\n")).expect("written");
    fs::set_permissions(user.home.join(".env"), fs::Permissions::from_mode(0o600)).expect("set");
    user.map("env-file", &["~/.env"]);
    let id: PluginId = "env-file".parse().expect("an id");
    let table = user.inputs.settings.entry(id).or_default();
    table.insert("variables".to_owned(), vec![toml::Value::from("TOKEN")].into());
    let said = format!("say {MARKER}");
    steps(&mut user, HookPoint::Preflight, &[&said]);
    let own = format!("env EVERY_OWN={MARKER}");
    steps(&mut user, HookPoint::ConfigureMachine, &[&own]);
    let (write, keep) = (format!("write every-hook/x={MARKER}"), format!("remember key={MARKER}"));
    steps(&mut user, HookPoint::PrepareWorkDisk, &[&write, &keep]);
    steps(&mut user, HookPoint::PostStart, &["shell true"]);
    let fail = format!("fail {MARKER}");
    steps(&mut user, HookPoint::PreStop, &[&fail]);
    let panic = format!("panic {MARKER}");
    steps(&mut user, HookPoint::Cleanup, &[&panic]);
    let host = user.host().await;
    host.preflight(&user.inputs).await.expect("they run");
    let (asked, _) = host.configure_machine(&user.inputs).await.expect("they run");
    assert!(asked.env.values().all(|value| value == MARKER) && asked.env.len() == 2, "{asked:?}");
    host.prepare_work_disk(&user.inputs).await.expect("they run");
    host.post_start(&user.inputs, std::sync::Arc::new(Talking)).await.expect("they run");
    host.pre_stop(&user.inputs).await.expect("it is told");
    host.cleanup(&user.inputs).await.expect("it is told");
    let all = records(&host).await;
    let points: std::collections::BTreeSet<_> =
        runs(&all).iter().map(|(_, run)| run.point).collect();
    assert_eq!(points.len(), 6, "{all:?}");
    let sync = runs(&all).into_iter().find(|(_, run)| run.plugin.as_str() == "file-sync");
    imported(&host, sync.expect("it ran").0).await;
    // The secret is where it belongs: in the home, and in what the plugin remembers.
    assert_eq!(leaks(user.folder.path(), &[]).len(), 3);
    assert_eq!(leaks(user.folder.path(), &["home", "state"]), [""; 0]);
    let told = serde_json::to_string(&records(&host).await).expect("plain data");
    assert!(!told.contains(MARKER), "{told}");
}

#[tokio::test]
async fn what_cannot_be_written_down_does_not_happen() {
    let mut user = User::new();
    user.install(&user.settings.standard_folder, "every-hook", "every-hook", |manifest| manifest);
    steps(&mut user, HookPoint::PrepareWorkDisk, &["remember key=value"]);
    steps(&mut user, HookPoint::Cleanup, &["remember gone=yes"]);
    let host = user.host().await;
    let full = fs::File::options().write(true).open("/dev/full").expect("there");
    host.audit.replace_file(full);
    let error = host.prepare_work_disk(&user.inputs).await.expect_err("nothing goes in");
    let text = error.to_string();
    assert!(text.contains("hooks.jsonl`, where it is written down what hooks do"), "{text}");
    assert!(error.hint().expect("what to do").contains("make room"));
    let source = std::error::Error::source(&error).expect("the cause").to_string();
    assert!(source.contains("No space left"), "{source}");
    let remembered = user.settings.state_folder.join("every-hook.json");
    assert!(!remembered.exists(), "nothing was kept");
    host.cleanup(&user.inputs).await.expect("a machine goes all the same");
    assert!(remembered.exists());
}

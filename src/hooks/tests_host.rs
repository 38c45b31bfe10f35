//! Folders, grants, order and the cache, through the host's own interface.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::tests_registry::{id, revoking, user};
use super::tests_support::User;
use super::*;
use crate::report::{Explain, Kind};
use crate::wire::rpc::InspectHook;

const MANIFEST: &str = "[plugin]\nid = 'broken'\nversion = '1'\napi = 'cove:hooks@0.2'\ncomponent = 'plugin.wasm'\n[hooks.prepare-work-disk]\n";

/// A plugin whose component is these bytes.
fn broken(user: &User, component: &[u8]) {
    let folder = user.settings.standard_folder.join("broken");
    fs::create_dir_all(&folder).expect("made");
    fs::write(folder.join("plugin.toml"), MANIFEST).expect("written");
    fs::write(folder.join("plugin.wasm"), component).expect("written");
}

fn assembled(wat: &str) -> Vec<u8> {
    wat::parse_str(wat).expect("it is WebAssembly")
}

/// Files that are no plugin's component, with a part of what is said about them.
fn no_components(good: &[u8]) -> Vec<(Vec<u8>, &'static str)> {
    let mut random = vec![0; 4096];
    getrandom::fill(&mut random).expect("random");
    random[0] = 1;
    let elf = fs::read("/proc/self/exe").map(|bytes| bytes[..4096].to_vec()).expect("there");
    let preview3 = "(component (import \"wasi:clocks/types@0.3.0\" (instance)) (import \"evil:thing/all\" (func)))";
    let wrong_type = "(component (import \"cove:hooks/log@0.2.0\" (instance (export \"log\" (func)))) (instance $i) (export \"cove:hooks/prepare-work-disk@0.2.0\" (instance $i)))";
    vec![
        (Vec::new(), "is not a WebAssembly component: it is empty"),
        (b"#!/bin/sh\n".to_vec(), "it is text"),
        (b"(component)".to_vec(), "it is text"),
        (random, "it is data of an unknown format"),
        (elf, "it is machine code"),
        (assembled("(module)"), "it is a core module"),
        (good[..good.len() / 2].to_vec(), "cannot be compiled"),
        (
            vec![
                0;
                usize::try_from(limits::Class::Small.ceilings().component_bytes).expect("fits") + 1
            ],
            "is larger than",
        ),
        (assembled("(component)"), "it does not export `cove:hooks/prepare-work-disk@0.2.0`"),
        (assembled(preview3), "imports `wasi:clocks/types@0.3.0` and `evil:thing/all`, which"),
        (assembled(wrong_type), "does not fit the contract"),
    ]
}

#[tokio::test]
async fn a_broken_component_is_one_sentence_with_plugin_file_and_advice() {
    let user = User::new();
    let host = user.host().await;
    let good = fs::read(tests_support::built("ssh-key").join("plugin.wasm")).expect("built");
    let mut bits = good.clone();
    bits[good.len() / 2] ^= 0x55;
    for (component, expected) in no_components(&good) {
        broken(&user, &component);
        let error = host.check().await.expect_err(expected);
        let text = error.to_string();
        assert!(text.starts_with("plugin `broken` cannot be used: `"), "{text}");
        assert!(text.contains("plugin.wasm`") && text.contains(expected), "{text}");
        assert!(!text.contains('\n') && error.hint().is_some(), "{text}");
        assert_eq!(error.kind(), Kind::Invalid);
        let run = host.prepare_work_disk(&user.inputs).await.expect_err("refused, too");
        assert_eq!(run.to_string(), text);
        let listed = host.list().await.expect("listed");
        assert!(listed[0].problem.as_ref().is_some_and(|problem| problem.starts_with(&text)));
    }
    // Refused or not, as the bit may be in a message or in code: the host goes on either way.
    broken(&user, &bits);
    drop(host.prepare_work_disk(&user.inputs).await);
    assert_eq!(host.list().await.expect("listed").len(), 1);
}

#[tokio::test]
async fn broken_folders_are_named_too() {
    let user = User::new();
    let standard = &user.settings.standard_folder;
    let host = user.host().await;
    let loose = standard.join("loose.wasm");
    fs::write(&loose, assembled("(component)")).expect("written");
    fs::write(standard.join("README.md"), "hello").expect("written");
    let text = host.check().await.expect_err("loose").to_string();
    assert!(text.contains("loose.wasm` lies loose in the folder"), "{text}");
    fs::remove_file(loose).expect("removed");
    host.check().await.expect("a read-me file does not matter");

    for (name, manifest, expected) in [
        ("No Id", Some(MANIFEST), "is not named by a plugin id"),
        ("other", Some(MANIFEST), "its id is `broken`, and its folder is `other`"),
        ("broken", None, "plugin.toml` cannot be read"),
        ("broken", Some(MANIFEST), "plugin.wasm` cannot be read"),
        ("broken", Some("[plugin"), "plugin.toml`: line 1: "),
    ] {
        let folder = standard.join(name);
        fs::create_dir(&folder).expect("made");
        if let Some(manifest) = manifest {
            fs::write(folder.join("plugin.toml"), manifest).expect("written");
        }
        let error = host.check().await.expect_err(expected);
        assert!(error.to_string().contains(expected), "{error}");
        assert!(!host.list().await.expect("listed")[0].plugin.as_str().is_empty());
        fs::remove_dir_all(folder).expect("removed");
    }
    let folder = standard.join("broken");
    fs::create_dir(&folder).expect("made");
    let huge = " ".repeat(usize::try_from(limits::MANIFEST_BYTES).expect("fits") + 1);
    fs::write(folder.join("plugin.toml"), huge).expect("written");
    assert!(host.check().await.expect_err("huge").to_string().contains("is larger than"));
    for number in 0..limits::PLUGINS {
        fs::create_dir(standard.join(format!("p{number}"))).expect("made");
    }
    assert!(matches!(host.check().await, Err(HookError::Folder { .. })));
}

#[tokio::test]
#[expect(clippy::print_stderr, reason = "a test that cannot run says so")]
async fn a_folder_of_one_plugin_that_cannot_be_looked_into_is_that_plugin_s_problem() {
    if nix::unistd::geteuid().is_root() {
        eprintln!("SKIPPED: root can look into every folder");
        return;
    }
    let user = User::new();
    let folder = user.settings.standard_folder.join("broken");
    fs::create_dir(&folder).expect("made");
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o000)).expect("set");
    let host = user.host().await;
    let error = host.check().await.expect_err("it is in the way of starts");
    assert!(error.to_string().starts_with("plugin `broken` cannot be used"), "{error}");
}

#[tokio::test]
async fn two_plugins_on_one_path_are_a_conflict_unless_their_order_is_said() {
    let mut user = User::new();
    let folder = user.settings.standard_folder.clone();
    for id in ["one", "two"] {
        user.install(&folder, "hostile", id, |manifest| manifest);
        user.set(id, "misbehaviour", "write");
    }
    let error = user.run().await.expect_err("a conflict");
    let text = error.to_string();
    assert_eq!(text, "plugins `one` and `two` both want to write `allowed/file`");
    assert!(error.hint().is_some_and(
        |hint| hint.contains("after = [\"one\"]") && hint.contains("`hooks.disabled`")
    ));
    let after = |other: &'static str| {
        move |manifest: String| {
            let table = format!("[hooks.prepare-work-disk]\nafter = ['{other}']");
            manifest.replace("[hooks.prepare-work-disk]", &table)
        }
    };
    user.install(&folder, "hostile", "one", after("two"));
    let run = user.run().await.expect("declared");
    let order: Vec<_> = run.hooks.iter().map(|hook| hook.plugin.as_str()).collect();
    assert_eq!(order, ["two", "one"]);

    user.install(&folder, "hostile", "two", after("one"));
    let error = user.run().await.expect_err("a circle");
    assert!(error.to_string().contains("`one` and `two` each want to run before"), "{error}");
    let listed = user.host().await.list().await.expect("listed");
    assert!(listed.iter().all(|hook| hook.problem.is_some()));
}

#[tokio::test]
async fn settings_must_fit_the_manifest() {
    let mut user = User::with_hostile_plugin("write");
    user.set("hostile", "pth", "x");
    let error = user.run().await.expect_err("unknown");
    assert_eq!(error.kind(), Kind::Invalid);
    assert!(
        error.to_string().contains("`pth` is unknown; there is `hook`, `misbehaviour`, `path`")
    );
    assert!(error.hint().is_some_and(|hint| hint.contains("[hooks.settings.hostile]")));
}

fn compiled(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("there");
    let paths = entries.map(|entry| entry.expect("read").path());
    paths.filter(|path| path.extension().is_some_and(|end| end == "compiled")).collect()
}

#[tokio::test]
async fn a_damaged_cache_is_compiled_again_and_a_changed_plugin_is_noticed() {
    let mut user = User::new();
    let folder = user.settings.standard_folder.clone();
    user.install(&folder, "git-identity", "git-identity", |manifest| manifest);
    user.settings.cache_folder = user.folder.path().join("cache");
    let host = user.host().await;
    host.check().await.expect("compiled");
    let files = compiled(&user.settings.cache_folder);
    assert_eq!(files.len(), 1);
    fs::write(&files[0], b"cove-compiled-1\nnot what it was").expect("written");
    user.host().await.check().await.expect("compiled again");
    assert!(fs::metadata(&files[0]).expect("there").len() > 10_000, "and kept again");

    // With a good cache no compiler is needed.
    user.settings.compiler = "/no/such/compiler".into();
    user.host().await.check().await.expect("from the cache");
    fs::remove_file(&files[0]).expect("removed");
    let error = user.host().await.check().await.expect_err("nothing to compile with");
    assert!(error.to_string().contains("/no/such/compiler"), "{error}");

    // The running host goes on with what it has, and sees a change.
    host.check().await.expect("loaded");
    fs::write(folder.join("git-identity/plugin.wasm"), b"changed").expect("written");
    assert!(host.check().await.is_err());
    fs::remove_dir_all(folder.join("git-identity")).expect("removed");
    assert!(host.list().await.expect("listed").is_empty());
}

#[tokio::test]
async fn a_problem_that_passes_is_gone_without_another_daemon() {
    let mut user = User::new();
    user.settings.cache_folder = user.folder.path().join("cache");
    user.install(&user.settings.standard_folder, "git-identity", "git-identity", |text| text);
    fs::create_dir(&user.settings.cache_folder).expect("made");
    let mode = |mode| {
        let mode = fs::Permissions::from_mode(mode);
        fs::set_permissions(&user.settings.cache_folder, mode).expect("set");
    };
    mode(0o770);
    let host = user.host().await;
    let error = host.check().await.expect_err("others may write to it");
    assert!(error.hint().is_some_and(|hint| hint.contains("mode 0700")), "{error}");
    mode(0o700);
    host.check().await.expect("what the hint says helps");
}

/// A compiler that says into one pipe that it runs, and goes on when something comes from another.
fn halting(user: &mut User) -> (PathBuf, PathBuf) {
    let pipe = |name: &str| {
        let pipe = user.folder.path().join(name);
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).expect("made");
        pipe
    };
    let (runs, goes_on) = (pipe("runs"), pipe("goes-on"));
    let (compiler, slow) = (&user.settings.compiler, user.folder.path().join("slow"));
    let script = format!(
        "#!/bin/sh\necho x > '{}'\nread x < '{}'\nexec '{}' \"$@\"\n",
        runs.display(),
        goes_on.display(),
        compiler.display()
    );
    fs::write(&slow, script).expect("written");
    fs::set_permissions(&slow, fs::Permissions::from_mode(0o755)).expect("executable");
    user.settings.compiler = slow;
    (runs, goes_on)
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_waits_for_the_compilation_of_a_plugin_that_is_not_wanted() {
    const DEADLINE: Duration = Duration::from_secs(60);
    let (mut user, package) = user(|manifest| manifest);
    user.settings.cache_folder = user.folder.path().join("cache");
    user.host().await.install(&package).await.expect("compiled");
    let (runs, goes_on) = halting(&mut user);
    let host = user.host().await;
    let standard = &user.settings.standard_folder;
    user.install(standard, "git-identity", "git-identity", |manifest| manifest);

    let begun = tokio::task::spawn_blocking(move || fs::read_to_string(runs));
    let both = async { tokio::join!(host.list(), host.list()) };
    let beside = async {
        let begun = tokio::time::timeout(DEADLINE, begun).await.expect("it runs");
        assert_eq!(begun.expect("no panic").expect("read"), "x\n");
        // It compiles, and does not end before it is told to.
        let plugin = InspectHook { plugin: Some(id()), path: None };
        let inspected = tokio::time::timeout(DEADLINE, host.inspect(plugin)).await;
        inspected.expect("it does not wait").expect("it is there");
        let granted = tokio::time::timeout(DEADLINE, host.revoke(revoking(&[]))).await;
        granted.expect("it does not wait").expect("nothing to revoke");
        let go_on = tokio::task::spawn_blocking(move || fs::write(goes_on, "x\n"));
        tokio::time::timeout(DEADLINE, go_on)
            .await
            .expect("read")
            .expect("no panic")
            .expect("written");
    };
    // One compiler runs for both lists: a second one would wait for ever.
    let lists = async { tokio::time::timeout(DEADLINE, both).await.expect("they end") };
    let ((one, two), ()) = tokio::join!(lists, beside);
    assert_eq!((one.expect("listed").len(), two.expect("listed").len()), (2, 2));
}

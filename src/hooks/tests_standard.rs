//! The three standard plugins, as components, against a real home.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::time::Instant;

use super::tests_support::{User, lines};
use super::*;
use crate::report::Explain;
use crate::wire::guest::{BlockPlace, PlanStep};

const ED25519: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl";
const RSA: &str = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABAQ==";

fn sync_source(entries: &[(&str, &str, Option<u32>)]) -> HostFilesSource {
    let paths = entries.iter().map(|(path, guest, mode)| HostPath {
        path: (*path).to_owned(),
        guest: Some((*guest).to_owned()),
        mode: *mode,
    });
    HostFilesSource::Paths(paths.collect())
}

fn outcome<'a>(run: &'a HookRun, plugin: &str) -> &'a HookOutcome {
    run.hooks.iter().find(|hook| hook.plugin.as_str() == plugin).expect("it ran")
}

#[tokio::test]
async fn public_keys_go_into_a_block_of_their_own_and_nothing_else_does() {
    let mut user = User::with_standard_plugins();
    let ssh = user.home.join(".ssh");
    fs::create_dir(&ssh).expect("made");
    fs::write(ssh.join("id_ed25519.pub"), format!("{ED25519} me@host\n")).expect("written");
    let other = format!("# mine\n{RSA}\n{ED25519} again\ncommand=\"sh\" {RSA}\n");
    fs::write(ssh.join("other.pub"), other).expect("written");
    let private = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXk=\n";
    fs::write(ssh.join("mistake.pub"), private).expect("written");
    fs::write(ssh.join("id_ed25519"), private).expect("written");
    user.map("ssh-public-keys", &["~/.ssh/*.pub"]);
    let agent = VirtualFile { name: "ssh-add -L".into(), bytes: format!("{RSA} agent\n").into() };
    user.inputs.host_files.insert("ssh-agent-keys".into(), HostFilesSource::Virtual(vec![agent]));

    let run = user.run().await.expect("it works");
    let steps = lines(&run.plan.steps);
    let content = format!("{ED25519} me@host\n{RSA}\n");
    assert!(steps.contains(&"make_directory .ssh 700".to_owned()), "{steps:?}");
    assert!(
        steps.contains(&format!("ensure_block .ssh/authorized_keys 600 {content:?}")),
        "{steps:?}"
    );
    let block = run.plan.steps.iter().find(|step| step.step.path().contains("authorized"));
    let PlanStep::EnsureBlock { at, marker, .. } = &block.expect("there").step else {
        panic!("{steps:?}");
    };
    assert_eq!((*at, marker.as_str()), (BlockPlace::End, "cove ssh-key"));
    let warnings = outcome(&run, "ssh-key").for_user().join("\n");
    assert!(warnings.contains("mistake.pub") && warnings.contains("other.pub"), "{warnings}");
    assert!(!format!("{:?}", run.plan).contains("PRIVATE"));
}

#[tokio::test]
async fn without_keys_there_is_a_warning_and_the_block_goes_away() {
    let mut user = User::with_standard_plugins();
    user.map("ssh-public-keys", &["~/.ssh/*.pub"]);
    let run = user.run().await.expect("no keys are no error");
    let steps = lines(&run.plan.steps);
    assert!(steps.contains(&"ensure_block .ssh/authorized_keys 600 \"\"".to_owned()), "{steps:?}");
    let warnings = outcome(&run, "ssh-key").for_user();
    assert!(warnings.iter().any(|line| line.contains("no public key")), "{warnings:?}");
}

/// What git reads from the block is what git had on the host.
#[tokio::test]
async fn the_identity_survives_every_character() {
    let mut user = User::with_standard_plugins();
    let name = "Ada \"the\" \\Countess; # of\tLovelace  ";
    let list = format!(
        "user.name\nOld\0user.name\n{name}\0user.email\nada@example.com\0credential.helper\nsecret\0url.git@Ex\"ample:.insteadof\nhttps://example.com/\0core.editor\0"
    );
    user.inputs.git = GitValues::from_list(list.as_bytes());
    let keys = ["core.editor", "url.git@Ex\"ample:.insteadOf", "absent.key"];
    let keys = keys.map(|key| toml::Value::String(key.to_owned())).to_vec();
    let settings = toml::Table::from_iter([("keys".to_owned(), toml::Value::Array(keys))]);
    user.inputs.settings.insert("git-identity".parse().expect("an id"), settings);

    let run = user.run().await.expect("it works");
    let step = run.plan.steps.iter().find(|step| step.step.path() == ".gitconfig");
    let step = step.expect("planned");
    assert!(matches!(&step.step, PlanStep::EnsureBlock { at: BlockPlace::Start, mode: 0o644, .. }));
    let mut block = vec![0; 4096];
    let read = step.content.read_at(0, &mut block).expect("there");
    let file = user.home.join("block");
    fs::write(&file, &block[..read]).expect("written");
    for (key, expected) in [
        ("user.name", Some(name)),
        ("user.email", Some("ada@example.com")),
        ("core.editor", Some("true")),
        ("url.git@Ex\"ample:.insteadof", Some("https://example.com/")),
        ("credential.helper", None),
    ] {
        let git = crate::process::Tool::new("git").args(["config", "--null", "--file"]);
        let value = git.arg(&file).args(["--get", key]).run().await;
        let value = value.ok().map(|bytes| String::from_utf8(bytes).expect("text"));
        assert_eq!(value.as_deref().map(|text| text.trim_end_matches('\0')), expected, "{key}");
    }
}

#[tokio::test]
async fn files_and_folders_are_synced_and_links_inside_are_not() {
    let mut user = User::with_standard_plugins();
    let config = user.home.join(".config/tool");
    fs::create_dir_all(config.join("sub")).expect("made");
    fs::write(config.join("run"), "#!/bin/sh\n").expect("written");
    fs::set_permissions(config.join("run"), Permissions::from_mode(0o755)).expect("set");
    fs::write(config.join("sub/note"), "note").expect("written");
    fs::set_permissions(config.join("sub/note"), Permissions::from_mode(0o4640)).expect("set");
    fs::set_permissions(config.join("sub"), Permissions::from_mode(0o750)).expect("set");
    fs::set_permissions(&config, Permissions::from_mode(0o755)).expect("set");
    symlink("/etc/shadow", config.join("escape")).expect("linked");
    symlink("/etc", config.join("etc")).expect("linked");
    rustix::fs::mkfifoat(rustix::fs::CWD, config.join("pipe"), 0o600.into()).expect("made");
    fs::write(user.home.join("dotfile"), "linked").expect("written");
    symlink("dotfile", user.home.join(".linked")).expect("linked");
    fs::create_dir(user.home.join(".aws")).expect("made");
    fs::write(user.home.join(".aws/credentials"), "key").expect("written");
    let source = sync_source(&[
        ("~/.linked", ".linked", None),
        ("~/.config/tool", ".config/tool", None),
        ("~/.aws", ".aws", Some(0o640)),
        ("~/.absent", ".absent", None),
    ]);
    user.inputs.host_files.insert("file-sync".into(), source);

    let run = user.run().await.expect("it works");
    let steps: Vec<_> = lines(&run.plan.steps);
    let steps: Vec<_> = steps.iter().filter(|line| !line.contains("cove")).take(7).collect();
    assert_eq!(
        steps,
        [
            "write_file .linked 600 \"linked\"",
            "make_directory .config/tool 755",
            "write_file .config/tool/run 755 \"#!/bin/sh\\n\"",
            "make_directory .config/tool/sub 750",
            "write_file .config/tool/sub/note 640 \"note\"",
            "make_directory .aws 750",
            "write_file .aws/credentials 640 \"key\"",
        ]
    );
    let warnings = outcome(&run, "file-sync").for_user();
    for left_out in ["escape`", "etc`", "pipe`", "~/.absent`"] {
        assert!(warnings.iter().any(|line| line.contains(left_out)), "{left_out}: {warnings:?}");
    }
    assert_eq!(warnings.len(), 4, "{warnings:?}");
}

#[tokio::test]
async fn what_is_wrong_with_a_synced_file_stops_the_start() {
    for (guest, expected) in [
        ("../../etc/shadow", "`../../etc/shadow` is refused"),
        ("/etc/shadow", "relative to the home"),
        ("", "it is empty"),
    ] {
        let mut user = User::with_standard_plugins();
        fs::write(user.home.join("file"), "x").expect("written");
        let source = sync_source(&[("~/file", guest, None)]);
        user.inputs.host_files.insert("file-sync".into(), source);
        let error = user.run().await.expect_err("refused");
        let text = error.to_string();
        assert!(text.contains("file-sync") && text.contains(expected), "{text}");
        assert!(error.hint().is_some());
    }
    let mut user = User::with_standard_plugins();
    fs::write(user.home.join("file"), "x").expect("written");
    let source = sync_source(&[("~/file", "same", None), ("~/file", "same", None)]);
    user.inputs.host_files.insert("file-sync".into(), source);
    assert!(user.failure().await.contains("`same` is already planned"));
}

#[tokio::test]
async fn a_synced_gitconfig_is_written_before_the_identity_goes_into_it() {
    let mut user = User::with_standard_plugins();
    fs::write(user.home.join(".gitconfig"), "[alias]\n").expect("written");
    let source = sync_source(&[("~/.gitconfig", ".gitconfig", Some(0o644))]);
    user.inputs.host_files.insert("file-sync".into(), source);
    let run = user.run().await.expect("declared order makes it no conflict");
    let kinds: Vec<_> = run.plan.steps.iter().filter(|s| s.step.path() == ".gitconfig").collect();
    assert!(matches!(kinds[0].step, PlanStep::WriteFile { .. }));
    assert!(matches!(kinds[1].step, PlanStep::EnsureBlock { .. }));
}

#[tokio::test]
async fn two_runs_make_the_same_plan_in_the_standard_order() {
    let mut user = User::with_standard_plugins();
    fs::create_dir(user.home.join(".ssh")).expect("made");
    fs::write(user.home.join(".ssh/id.pub"), ED25519).expect("written");
    user.map("ssh-public-keys", &["~/.ssh/*.pub"]);
    user.inputs.git = GitValues::from_list(b"user.name\nAda\0user.email\nada@example.com\0");
    let source = sync_source(&[("~/.ssh/id.pub", "key", None)]);
    user.inputs.host_files.insert("file-sync".into(), source);
    let host = user.host().await;
    let digests = |run: HookRun| {
        run.hooks
            .iter()
            .map(|hook| (hook.plugin.to_string(), hook.plan.clone()))
            .collect::<Vec<_>>()
    };
    let one = digests(host.prepare_work_disk(&user.inputs).await.expect("works"));
    user.rename("ba9876543210");
    let two = digests(host.prepare_work_disk(&user.inputs).await.expect("works"));
    assert_eq!(one, two, "another seed, the same plan");
    let names: Vec<_> = one.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["file-sync", "git-identity", "ssh-key"]);
    let listed = host.list().await.expect("listed");
    assert!(listed.iter().all(|hook| hook.problem.is_none() && hook.standard));
    assert!(listed.iter().flat_map(|hook| &hook.needs).all(|need| need.granted));
    let names: Vec<_> = listed.iter().map(|hook| hook.plugin.as_str()).collect();
    assert_eq!(names, ["file-sync", "git-identity", "ssh-key"]);
}

fn resident_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("there");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().split(' ').next()?.parse().ok()).expect("a number")
}

/// Prints, asserts only that it works: numbers of a debug build on a busy machine prove nothing.
#[tokio::test]
#[expect(clippy::print_stderr, reason = "the numbers are for the reader of the test's output")]
async fn how_long_three_hooks_take_and_how_much_memory() {
    let mut user = User::with_standard_plugins();
    fs::create_dir(user.home.join(".ssh")).expect("made");
    fs::write(user.home.join(".ssh/id.pub"), ED25519).expect("written");
    user.map("ssh-public-keys", &["~/.ssh/*.pub"]);
    let before = resident_kib();
    drop(user.host().await);
    let first = resident_kib();
    let began = Instant::now();
    let host = user.host().await;
    let opened = began.elapsed();
    let loaded = resident_kib();
    let mut times: Vec<_> = Vec::new();
    for _ in 0..50 {
        let began = Instant::now();
        let run = host.prepare_work_disk(&user.inputs).await.expect("works");
        assert_eq!(run.hooks.len(), 3);
        times.push(began.elapsed());
    }
    times.sort();
    let (median, worst) = (times[times.len() / 2], times[times.len() - 1]);
    let after = resident_kib();
    eprintln!(
        "three hooks: open {opened:?}, run median {median:?}, worst {worst:?}; resident: {before} KiB before, +{} KiB with an engine and three plugins, +{} KiB with a second one, +{} KiB after 50 runs",
        first.saturating_sub(before),
        loaded.saturating_sub(before),
        after.saturating_sub(before)
    );
}

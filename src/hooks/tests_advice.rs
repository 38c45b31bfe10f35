//! What a plugin and its user are told when it is refused something: which need it is, who keeps it from the
//! plugin, and how that is changed.

use super::tests_programs::Guest;
use super::tests_support::User;
use super::*;
use crate::report::Explain;
use crate::wire::rpc::{HookPoint, RevokeHook};

/// Needs of every kind that the plugin does not have by itself.
const MORE: &str = "
[[need]]
kind = 'git-config'
name = 'credential.helper'
reason = 'a test'

[[need]]
kind = 'machine.label'
name = 'other'
reason = 'a test'

[[need]]
kind = 'machine.forward'
name = '22'
reason = 'a test'

[[need]]
kind = 'machine.egress'
name = 'example.org'
reason = 'a test'
";

/// Each kind of need: where it is used, by which misbehaviour with which path, and its word.
const KINDS: [(HookPoint, &str, &str, &str); 10] = [
    (HookPoint::PrepareWorkDisk, "write", "allowed/file", "work-disk:allowed/**"),
    (HookPoint::PrepareWorkDisk, "import-reads", "", "host-files.read:readable"),
    (HookPoint::PrepareWorkDisk, "import", "", "host-files.import:importable"),
    (HookPoint::PrepareWorkDisk, "other-git", "", "git-config:credential.helper"),
    (HookPoint::ConfigureMachine, "env", "HOSTILE", "machine.env:HOSTILE*"),
    (HookPoint::ConfigureMachine, "label", "other", "machine.label:other"),
    (HookPoint::ConfigureMachine, "forward", "", "machine.forward:22"),
    (HookPoint::ConfigureMachine, "egress", "", "machine.egress:example.org"),
    (HookPoint::PostStart, "program", "true", "guest.run:true"),
    (HookPoint::PrepareWorkDisk, "remember", "", "state"),
];

/// A user with the plugin, which misbehaves so at a point, its manifest edited.
fn user(
    (point, misbehaviour, path): (HookPoint, &str, &str),
    edit: impl Fn(String) -> String,
) -> User {
    let mut user = User::new();
    user.install(&user.settings.standard_folder, "hostile", "hostile", edit);
    user.set("hostile", "hook", &point.to_string());
    user.set("hostile", "misbehaviour", misbehaviour);
    user.set("hostile", "path", path);
    user
}

/// The manifest with lines before its settings.
fn with(lines: &str) -> impl Fn(String) -> String {
    let lines = format!("{lines}\n[settings.hook]");
    move |manifest| manifest.replace("\n[settings.hook]", &lines)
}

/// How the hook fails: the code, the message, and the hint; none when it does not.
async fn refused(
    user: &User,
    host: &HookHost,
    point: HookPoint,
) -> Option<(String, String, String)> {
    let ran = match point {
        HookPoint::ConfigureMachine => host.configure_machine(&user.inputs).await.map(drop),
        HookPoint::PostStart => {
            let guest = std::sync::Arc::new(Guest::default());
            host.post_start(&user.inputs, guest).await.map(drop)
        }
        _ => host.prepare_work_disk(&user.inputs).await.map(drop),
    };
    let error = ran.err()?;
    let hint = error.hint().expect("what to do");
    match error {
        HookError::Failed { failure: Failure::Returned { code, message }, .. } => {
            Some((code, message, hint))
        }
        other => panic!("it must return an error, and does not: {other}"),
    }
}

#[tokio::test]
async fn each_need_that_is_withheld_is_named_to_the_plugin_and_to_the_user() {
    for (point, misbehaviour, path, word) in KINDS {
        let user = user((point, misbehaviour, path), with(MORE));
        let host = user.host().await;
        let before = refused(&user, &host, point).await;
        let code = before.map(|(code, ..)| code).unwrap_or_default();
        assert_ne!(code, "not-granted", "{word} is granted");
        let plugin = "hostile".parse().expect("an id");
        let revoke = RevokeHook { plugin, needs: vec![word.to_owned()] };
        host.revoke(revoke).await.expect("revoked");
        let (code, message, hint) = refused(&user, &host, point).await.expect(word);
        assert_eq!(code, "not-granted", "{word}: {message}");
        assert!(hint.contains("`cove hook grant hostile ") && hint.contains(word), "{hint}");
    }
}

#[tokio::test]
async fn who_keeps_something_from_a_plugin_is_told_rightly() {
    let env = (HookPoint::ConfigureMachine, "env");
    let disk = HookPoint::PrepareWorkDisk;
    let listed = "\n[settings.variables]\ntype = 'texts'\ndescription = 'names'\n";
    let git = "\n[[need]]\nkind = 'git-config'\nname = '@variables'\nreason = 'a test'\n";
    let setting = "means what a setting lists: add `HOSTILE` to `variables` in `[hooks.settings.hostile]` in the configuration";
    let lists = |manifest: String| with(listed)(manifest.replace("HOSTILE*", "@variables"));
    let all = |manifest: String| manifest.replace("HOSTILE*", "*");
    let keys = |manifest: String| with(listed)(with(git)(manifest));
    let folder = |manifest: String| {
        manifest.replace("\"allowed/**\"", "\"allowed/link\", \"allowed/folder\"")
    };
    type Edit<'a> = &'a dyn Fn(String) -> String;
    let cases: [(_, Edit<'_>, &[&str], &str, &str); 5] = [
        ((env.0, env.1, "PATH"), &all, &[], "no plugin may set `PATH`", "logged nothing"),
        ((env.0, env.1, "HOSTILE"), &lists, &[], "`machine.env:HOSTILE` is not granted", setting),
        (
            (env.0, env.1, "HOSTILE"),
            &lists,
            &["machine.env:OTHER", "state"],
            "`machine.env:HOSTILE` is not granted",
            "`hooks.ceiling` in the configuration keeps all plugins from `machine.env:@variables`",
        ),
        (
            (disk, "other-git", ""),
            &keys,
            &[],
            "`git-config:credential.helper` is not granted",
            "add `credential.helper` to `variables` in `[hooks.settings.hostile]`",
        ),
        (
            (disk, "link", "folder"),
            &folder,
            &[],
            "`allowed/folder/*` is not granted",
            "the manifest of `hostile` does not ask for `allowed/folder/*`: only its author",
        ),
    ];
    for (does, edit, ceiling, told, advised) in cases {
        let mut user = user(does, edit);
        if !ceiling.is_empty() {
            let words: Vec<_> = ceiling.iter().map(ToString::to_string).collect();
            user.settings.ceiling = Ceiling::new(&words).expect("words");
        }
        let other = vec![toml::Value::from("OTHER")];
        let table = user.inputs.settings.values_mut().next().expect("there is one");
        if edit("HOSTILE*\n[settings.hook]".to_owned()).contains("settings.variables") {
            table.insert("variables".to_owned(), other.into());
        }
        let host = user.host().await;
        let (code, message, hint) = refused(&user, &host, does.0).await.expect(told);
        assert!(message.contains(told), "{message}");
        assert!(hint.contains(advised), "{hint}");
        let expected = if told.starts_with("no plugin") { "bad-argument" } else { "not-granted" };
        assert_eq!(code, expected);
    }
}

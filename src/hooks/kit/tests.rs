//! The kit on real components: good ones pass, bad ones are found out.

use std::fs;

use super::*;
use crate::hooks::compiler;
use crate::hooks::tests_support::built;

/// A copy of a built plugin with a `test.toml`.
fn copy(name: &str, test: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("tempdir");
    for file in ["plugin.toml", "plugin.wasm"] {
        fs::copy(built(name).join(file), folder.path().join(file)).expect("copied");
    }
    fs::write(folder.path().join("test.toml"), test).expect("written");
    folder
}

async fn tested(folder: &Path, golden: Option<&Path>, update: bool) -> KitReport {
    let options = KitOptions {
        plugin: folder.to_owned(),
        compiler: compiler::tests::program(folder),
        golden: golden.map(Path::to_owned),
        update,
        scratch: folder.join("scratch"),
    };
    test(&options).await.expect("it can be tested")
}

fn failures(report: &KitReport) -> Vec<String> {
    let failures = report.cases.iter().filter_map(|case| match &case.verdict {
        KitVerdict::Failed(reason) => Some(format!("{}: {reason}", case.name)),
        KitVerdict::Passed(_) => None,
    });
    failures.collect()
}

fn case<'a>(report: &'a KitReport, name: &str) -> &'a KitCase {
    report.cases.iter().find(|case| case.name == name).expect(name)
}

const KEY: &str = "[[file]]\nname = 'ssh-public-keys'\npath = '.ssh/id_ed25519.pub'\ntext = 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl me@host'\n";
const VARIABLES: &str = "[settings]\nvariables = ['TOKEN']\n[[file]]\nname = 'env-file'\npath = '.env'\ntext = 'TOKEN=abc'\nmode = '0600'\n";

#[tokio::test]
async fn our_own_plugins_pass() {
    let dotfiles = fs::read_to_string("plugins/dotfiles/test.toml").expect("there");
    let mise = fs::read_to_string("plugins/mise/test.toml").expect("there");
    for (name, test) in [
        ("dotfiles", dotfiles.as_str()),
        ("ssh-key", KEY),
        ("ssh-key", ""),
        ("git-identity", ""),
        ("file-sync", ""),
        ("env-file", VARIABLES),
        ("mise", mise.as_str()),
    ] {
        let folder = copy(name, test);
        let report = tested(folder.path(), None, false).await;
        assert_eq!(failures(&report), [""; 0], "{name}");
        assert_eq!(report.plugin, name);
        assert!(case(&report, "runs").point.is_some() && report.cases.len() > 6, "{report:?}");
        let calls = &case(&report, "every call of the host fails once").verdict;
        assert!(
            !matches!(calls, KitVerdict::Passed(Some(calls)) if calls == "0 calls"),
            "{calls:?}"
        );
    }
}

#[tokio::test]
async fn what_a_plugin_does_is_compared_with_what_it_did() {
    let folder = copy("ssh-key", KEY);
    let golden = folder.path().join("golden.json");
    let report = tested(folder.path(), Some(&golden), true).await;
    assert_eq!(failures(&report), [""; 0]);
    let text = fs::read_to_string(&golden).expect("written");
    assert!(text.contains("prepare-work-disk") && text.contains("me@host"), "{text}");
    let report = tested(folder.path(), Some(&golden), false).await;
    assert_eq!(failures(&report), [""; 0]);
    fs::write(&golden, text.replace("me@host", "you@host")).expect("written");
    let found = failures(&tested(folder.path(), Some(&golden), false).await);
    assert!(matches!(&found[..], [one] if one.starts_with("golden plan: line ")), "{found:?}");
}

#[tokio::test]
async fn bad_plugins_are_found_out() {
    for (misbehaviour, expected) in [
        ("panic", "runs: it panicked: "),
        ("loop", "runs: it used more than"),
        ("error", "runs: redo from start"),
        ("log-flood", "log: it logs too much"),
        ("random", "another clock and seed: with another clock and seed the plan is another one"),
    ] {
        let test = format!("[settings]\nmisbehaviour = '{misbehaviour}'\n");
        let folder = copy("hostile", &test);
        let found = failures(&tested(folder.path(), None, false).await);
        assert!(
            found.iter().any(|failure| failure.starts_with(expected)),
            "{misbehaviour}: {found:?}"
        );
    }
}

#[tokio::test]
async fn what_is_no_plugin_is_one_failure_or_an_error() {
    let folder = copy("ssh-key", "");
    fs::write(folder.path().join("plugin.wasm"), b"\0asm\x0d\0\x01\0garbage").expect("written");
    let report = tested(folder.path(), None, false).await;
    assert_eq!((report.cases.len(), report.failures()), (1, 1));
    fs::write(folder.path().join("test.toml"), "unheard = 1").expect("written");
    let folder = copy("ssh-key", "unheard-of = 1");
    let options = KitOptions {
        plugin: folder.path().join("plugin.wasm"),
        compiler: compiler::tests::program(folder.path()),
        golden: None,
        update: false,
        scratch: folder.path().join("scratch"),
    };
    let error = test(&options).await.expect_err("wrong inputs").to_string();
    assert!(error.contains("test.toml") && error.contains("unheard-of"), "{error}");
    let options = KitOptions { plugin: "/no/such/plugin".into(), ..options };
    assert_eq!(test(&options).await.expect_err("not there").kind(), Kind::NotFound);
}

/// What is refused when it is installed does not pass before.
#[tokio::test]
async fn links_are_not_followed() {
    for file in ["plugin.toml", "plugin.wasm"] {
        let folder = copy("ssh-key", "");
        fs::rename(folder.path().join(file), folder.path().join("elsewhere")).expect("renamed");
        std::os::unix::fs::symlink("elsewhere", folder.path().join(file)).expect("linked");
        let report = tested(folder.path(), None, false).await;
        let [failure] = &failures(&report)[..] else { panic!("{report:?}") };
        assert!(failure.contains(file) && failure.contains("it is a symbolic link"), "{failure}");
        let (plugin, version) = (report.plugin.as_str(), report.version.as_str());
        match file {
            "plugin.wasm" => assert_eq!((plugin, version), ("ssh-key", "0.1.0")),
            _ => assert_eq!(version, "?"),
        }
    }
}

#[tokio::test]
async fn only_a_need_that_was_missed_has_been_tried_without() {
    let folder = copy(
        "every-hook",
        "[settings]\nprepare-work-disk = ['write every-hook/a=b', 'say hello']\n",
    );
    let report = tested(folder.path(), None, false).await;
    let withheld = |word: &str| &case(&report, &format!("`{word}` withheld")).verdict;
    let said = |word| match withheld(word) {
        KitVerdict::Passed(Some(said)) => said.clone(),
        verdict => panic!("{word}: {verdict:?}"),
    };
    assert_eq!(said("state"), "not exercised");
    let of_disk = report.cases.iter().filter(|case| {
        case.name == "`work-disk:every-hook/**` withheld"
            && case.point == Some(HookPoint::PrepareWorkDisk)
    });
    let of_disk: Vec<_> = of_disk.map(|case| &case.verdict).collect();
    assert!(
        matches!(&of_disk[..], [KitVerdict::Passed(Some(said))] if said.starts_with("returns `")),
        "{of_disk:?}"
    );
    let all = |case: &KitCase| case.name == "runs" && case.log == ["hello"];
    assert!(report.cases.iter().any(all), "what it logs is in the report: {report:?}");
}

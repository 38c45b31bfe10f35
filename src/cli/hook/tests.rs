//! What the user reads of plugins, by snapshot.

use std::time::Duration;

use serde_json::json;

use super::{grant, inspect, list, plan, runs, test};
use crate::hooks::kit::{KitCase, KitReport, KitVerdict};
use crate::id::Digest;
use crate::wire::rpc::{
    Hook, HookChanged, HookDetails, HookGrantShown, HookLimits, HookNeed, HookPlans, HookPoint,
    HookRecord, HookRelease, HookSigner, HookState,
};

#[test]
fn hooks_are_listed_with_what_they_ask_for() {
    let hook = Hook {
        plugin: "ssh-key".parse().expect("an id"),
        version: "0.1.0".to_owned(),
        state: HookState::Broken,
        hooks: vec![HookPoint::PrepareWorkDisk],
        digest: Digest::of(b"component"),
        standard: true,
        needs: vec![HookNeed {
            kind: "host-files.import".to_owned(),
            what: vec!["~/.ssh/*.pub".to_owned()],
            reason: "your \u{1b}[8mkeys".to_owned(),
            granted: true,
            missing: Vec::new(),
            above_ceiling: Vec::new(),
        }],
        pending: None,
        problem: Some("not a component".to_owned()),
    };
    insta::assert_snapshot!(list::render(&[hook]), @r#"
    PLUGIN   VERSION  STATE   HOOKS              FROM  DIGEST
    ssh-key  0.1.0    broken  prepare-work-disk  cove  6985ca1f4daa
      needs host-files.import: ~/.ssh/*.pub (granted): your \u{1b}[8mkeys
      problem: not a component
    "#);
}

#[test]
fn all_about_a_plugin_is_shown_and_cannot_lie() {
    let digest = |text: &str| Digest::of(text.as_bytes());
    let signer = || HookSigner { name: "me".to_owned(), key: "RWQ".to_owned() };
    let details = HookDetails {
        hook: Hook {
            plugin: "io.example.notes".parse().expect("an id"),
            version: "1".to_owned(),
            state: HookState::Active,
            hooks: vec![HookPoint::ConfigureMachine, HookPoint::PrepareWorkDisk],
            digest: digest("component"),
            standard: false,
            needs: vec![HookNeed {
                kind: "work-disk".to_owned(),
                what: vec!["notes".to_owned(), "notes/**".to_owned()],
                reason: "your\nnotes".to_owned(),
                granted: false,
                missing: vec!["work-disk:notes/**".to_owned()],
                above_ceiling: vec!["work-disk:notes/**".to_owned()],
            }],
            problem: None,
            pending: Some("2".to_owned()),
        },
        api: "0.2".to_owned(),
        class: "small".to_owned(),
        limits: HookLimits {
            memory_bytes: 64 << 20,
            cpu_ms: 1000,
            output_bytes: 16 << 20,
            output_steps: 2048,
        },
        imports: vec!["cove:hooks/log@0.2.0".to_owned()],
        exports: vec!["cove:hooks/prepare-work-disk@0.2.0".to_owned()],
        manifest: Some(digest("manifest")),
        needs_digest: digest("needs"),
        release: Some(digest("release")),
        signer: Some(signer()),
        grant: Some(HookGrantShown {
            needs: vec!["work-disk:notes".to_owned()],
            host_files: [("notes".to_owned(), vec!["~/\u{1b}[2Jnotes".to_owned()])].into(),
            by: "user 1000".to_owned(),
            at: Some("2026-11-25T12:00:00Z".to_owned()),
        }),
        releases: vec![HookRelease {
            release: digest("other"),
            version: "2".to_owned(),
            component: digest("component"),
            pending: true,
            installed_at: "2026-11-25T12:00:00Z".to_owned(),
            from: "/home/u/notes".to_owned(),
            signer: Some(signer()),
        }],
        failures: [(HookPoint::Doctor, 2)].into(),
        asks_anew: vec!["state".to_owned()],
    };
    insta::assert_snapshot!(inspect::render(&details));
}

/// A version that turns the text after it around.
const TURNING: &str = "1\u{202e}";

/// None of the texts has it as it is.
fn assert_escaped(texts: &[String]) {
    for text in texts {
        assert!(!text.contains('\u{202e}') && text.contains("1\\u{202e}"), "{text}");
    }
}

#[test]
fn versions_cannot_turn_a_line_around() {
    let plans: HookPlans = from(json!({"name": "web", "plugins": [{
        "plugin": "one", "version": TURNING, "component": "0".repeat(64), "plan": "0".repeat(64),
        "steps": [], "left_out": 3, "log": ["it ran"],
    }]}));
    let run: HookRecord = from(json!({
        "number": 1, "time": "now", "previous": "0".repeat(64), "entry": {
            "kind": "run", "point": "doctor", "plugin": "one", "version": TURNING,
            "component": "0".repeat(64), "grant": "none", "purpose": "act", "outcome": "ok",
            "plan": "0".repeat(64), "left_out": 4,
            "used": {"cpu_us": 1, "ticks": 0, "wall_us": 1, "memory": 1, "host_calls": 0,
                     "staged_bytes": 0, "imported_bytes": 0, "log_dropped": 0},
        },
    }));
    let changed: HookChanged = from(json!({"notes": [], "plugin": {
        "plugin": "one", "version": "1", "state": "active", "hooks": [], "needs": [],
        "digest": "0".repeat(64), "standard": false, "pending": TURNING, "api": "0.2",
        "class": "small", "imports": [], "exports": [], "releases": [], "needs_digest": "0".repeat(64),
        "limits": {"memory_bytes": 1, "cpu_ms": 1, "output_bytes": 1, "output_steps": 1},
    }}));
    let planned = plan::render(&plans);
    assert!(planned.contains("… and 3 more steps") && planned.contains("log: it ran"), "{planned}");
    let row = runs::row(&run);
    assert!(row.ends_with("4 more"), "{row}");
    assert_escaped(&[planned, row, runs::render(&[run]), grant::render(&changed)]);
}

fn from<T: serde::de::DeserializeOwned>(value: serde_json::Value) -> T {
    serde_json::from_value(value).expect("it is one")
}

#[test]
fn what_a_plugin_logged_stands_below_its_cases() {
    let case = |name: &str, log: &[&str]| KitCase {
        name: name.to_owned(),
        point: Some(HookPoint::Doctor),
        verdict: KitVerdict::Passed(None),
        took: Duration::ZERO,
        log: log.iter().map(|line| (*line).to_owned()).collect(),
    };
    let report = KitReport {
        plugin: "one".to_owned(),
        version: TURNING.to_owned(),
        component: None,
        cases: vec![case("runs", &["first\nline", "second"]), case("log", &[])],
    };
    insta::assert_snapshot!(test::render(&report), @r"
          HOOK    CASE  FOUND
    PASS  doctor  runs
    PASS  doctor  log

    doctor logged:
      first\nline
      second

    one 1\u{202e}: 2 of 2 cases passed
    ");
    let junit = String::from_utf8(test::junit(&report).expect("written")).expect("a text");
    assert!(junit.contains("<system-out>first\\nline\nsecond</system-out>"), "{junit}");
}

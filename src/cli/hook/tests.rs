//! What the user reads of plugins, by snapshot.

use super::{inspect, list};
use crate::id::Digest;
use crate::wire::rpc::{
    Hook, HookDetails, HookGrantShown, HookLimits, HookNeed, HookPoint, HookRelease, HookSigner,
    HookState,
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

//! A registry of one plugin that is whatever it is asked to be.

use async_trait::async_trait;

use crate::id::{Digest, PluginId};
use crate::report::Report;
use crate::rpc::server::Plugins;
use crate::wire::rpc::{
    GrantHook, Hook, HookChanged, HookDetails, HookGrantShown, HookInstalled, HookLimits, HookNeed,
    HookPoint, HookRelease, HookSigner, HookState, InspectHook, InstallOutcome, RevokeHook,
};

/// The registry.
pub(super) struct Fake;

fn hook() -> Hook {
    Hook {
        plugin: "notes".parse().expect("an id"),
        version: "1".to_owned(),
        state: HookState::Active,
        hooks: vec![HookPoint::PrepareWorkDisk],
        digest: Digest::of(b"component"),
        standard: false,
        needs: vec![HookNeed {
            kind: "work-disk".to_owned(),
            what: vec!["notes".to_owned()],
            reason: "notes".to_owned(),
            granted: false,
            missing: vec!["work-disk:notes".to_owned()],
            above_ceiling: Vec::new(),
        }],
        problem: None,
        pending: Some("2".to_owned()),
    }
}

fn details() -> HookDetails {
    let signer = || Some(HookSigner { name: "me".to_owned(), key: "RW".to_owned() });
    HookDetails {
        hook: hook(),
        api: "0.2".to_owned(),
        class: "small".to_owned(),
        limits: HookLimits { memory_bytes: 1, cpu_ms: 1, output_bytes: 1, output_steps: 1 },
        imports: vec!["cove:hooks/log@0.2.0".to_owned()],
        exports: vec!["cove:hooks/prepare-work-disk@0.2.0".to_owned()],
        manifest: Some(Digest::of(b"manifest")),
        needs_digest: Digest::of(b"needs"),
        release: Some(Digest::of(b"release")),
        signer: signer(),
        grant: Some(HookGrantShown {
            needs: Vec::new(),
            host_files: [("notes".to_owned(), vec!["~/notes".to_owned()])].into(),
            by: "user 1000".to_owned(),
            at: Some("2026-11-25T12:00:00Z".to_owned()),
        }),
        releases: vec![HookRelease {
            release: Digest::of(b"release"),
            version: "1".to_owned(),
            component: Digest::of(b"component"),
            pending: false,
            installed_at: "2026-11-25T12:00:00Z".to_owned(),
            from: "/plugin".to_owned(),
            signer: signer(),
        }],
        failures: [(HookPoint::Doctor, 1)].into(),
        asks_anew: vec!["state".to_owned()],
    }
}

fn changed() -> HookChanged {
    HookChanged { plugin: details(), notes: vec!["it is".to_owned()] }
}

#[async_trait]
impl Plugins for Fake {
    async fn list(&self) -> Result<Vec<Hook>, Report> {
        Ok(vec![hook()])
    }
    async fn inspect(&self, _: InspectHook) -> Result<HookDetails, Report> {
        Ok(details())
    }
    async fn install(&self, _: &str) -> Result<HookInstalled, Report> {
        let (plugin, outcome) = (details(), InstallOutcome::PendingGrant);
        Ok(HookInstalled { plugin, version: "2".to_owned(), outcome, notes: Vec::new() })
    }
    async fn grant(&self, _: GrantHook) -> Result<HookChanged, Report> {
        Ok(changed())
    }
    async fn revoke(&self, _: RevokeHook) -> Result<HookChanged, Report> {
        Ok(changed())
    }
    async fn remove(&self, _: &PluginId) -> Result<(), Report> {
        Ok(())
    }
}
